/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The words that every part of chimney shares: the states of a flow, the
 * reasons that keep it in the host, and the records that cross the border
 * between the module, the gate's BPF programs and chimneyctl.  There is one
 * list of reasons; whoever prints one takes its name from here.
 */
#ifndef CHIMNEY_UAPI_H
#define CHIMNEY_UAPI_H

/* of all that is built from this source: module, gate, chimneyctl, packages */
#define CHIMNEY_VERSION "0.1"

/* of a gate's name, with the final zero */
#define CHIMNEY_GATE_NAME_LEN 16

/* BPF programs get the types from vmlinux.h */
#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

/**
 * enum chimney_state - life of a flow, as Windows' "netstat -t" named it
 * @CHIMNEY_IN_HOST: every packet takes IP, netfilter and routing
 * @CHIMNEY_OFFLOADING: the gate has offered it, the module has yet to install
 * @CHIMNEY_OFFLOADED: its packets take the path
 * @CHIMNEY_UPLOADING: no packet takes the path any more; the socket still has
 *	to be given its own operations back
 */
enum chimney_state {
	CHIMNEY_IN_HOST,
	CHIMNEY_OFFLOADING,
	CHIMNEY_OFFLOADED,
	CHIMNEY_UPLOADING,
};

#define CHIMNEY_STATES(X)		\
	X(IN_HOST, "in-host")		\
	X(OFFLOADING, "offloading")	\
	X(OFFLOADED, "offloaded")	\
	X(UPLOADING, "uploading")

/*
 * X(enumerator, name, words): why a flow is not offloaded, or was uploaded.
 * Masks of reasons are (1ULL << CHIMNEY_enumerator).
 */
#define CHIMNEY_REASONS(X)						       \
	X(NONE, "none", "nothing keeps it from the path")		       \
	X(NO_GATE, "no-gate", "no gate is attached")			       \
	X(MODE, "mode", "mode is disabled, or was changed a moment ago")       \
	X(DEVICE, "device",						       \
	  "chimney is off on its device, or does not serve that kind")	       \
	X(RX_HANDLER, "rx-handler",					       \
	  "another device takes what its device receives (bridge, bond, tap ...)") \
	X(PORTS, "ports",						       \
	  "its ports are not of those chosen (local_ports, remote_ports)")     \
	X(CGROUP, "cgroup",						       \
	  "the cgroup of its socket is not of those chosen (cgroups)")	       \
	X(NOT_ESTABLISHED, "not-established", "it is not ESTABLISHED")	       \
	X(NOT_JUDGED, "not-judged",					       \
	  "the gate has yet to judge segments of both directions")	       \
	X(TABLE_FULL, "table-full", "the flow table is full (max_flows)")      \
	X(NO_MEMORY, "no-memory", "memory for the flow was not available")     \
	X(SPEED, "speed",						       \
	  "automatic mode: its device is slower than automatic_speed")	       \
	X(RTT, "rtt", "automatic mode: its round trip exceeds automatic_rtt")  \
	X(BYTES, "bytes",						       \
	  "automatic mode: it has not yet carried automatic_bytes")	       \
	X(MPTCP, "mptcp", "it is an MPTCP subflow")			       \
	X(ULP, "ulp", "kTLS by the NIC, or another protocol above TCP")	       \
	X(REPAIR, "repair", "it is in TCP_REPAIR mode")			       \
	X(SIGNED, "signed", "its segments are signed (TCP MD5 or AO)")	       \
	X(KERNEL_SOCKET, "kernel-socket", "the kernel itself owns the socket") \
	X(IP_OPTIONS, "ip-options", "its packets carry IP options")	       \
	X(ROUTE, "route",						       \
	  "its route is gone, local or leads elsewhere, or early demux is off") \
	X(TUNNEL, "tunnel", "its route encapsulates (lightweight tunnel)")     \
	X(VRF, "vrf", "its device belongs to a VRF")			       \
	X(IPSEC, "ipsec", "an IPsec (xfrm) policy covers it")		       \
	X(NAT, "nat", "NAT translates it")				       \
	X(IPVS, "ipvs", "IPVS balances it")				       \
	X(CAPTURE, "capture", "a capture socket can see its packets")	       \
	X(RAW_SOCKET, "raw-socket", "a raw TCP socket can see its packets")    \
	X(CONNTRACK, "conntrack",					       \
	  "conntrack does not hold it as a plain established connection")      \
	X(REWRITTEN, "rewritten",					       \
	  "a rule rewrites or marks its packets")			       \
	X(EACH_PACKET, "each-packet",					       \
	  "a rule has to see each of its packets (limit, quota, log, queue ...)") \
	X(PACKET_RULES, "packet-rules",					       \
	  "a rule tells its packets apart (length, TCP flags ...), or a set times out") \
	X(UNKNOWN_RULES, "unknown-rules",				       \
	  "a kind of rule that the gate cannot watch was loaded (see gate status)") \
	X(UNKNOWN_HOOK, "unknown-hook",					       \
	  "a netfilter hook that is not known sees its packets (a BPF program's ...)") \
	X(LATE_RULES, "late-rules",					       \
	  "rules at the last priority are older than chimney's hooks: load them anew") \
	X(CGROUP_BPF, "cgroup-bpf", "a BPF program on its cgroup sees egress") \
	X(RULES, "rules", "the firewall's rules changed")		       \
	X(SOCKET, "socket", "the socket's mark, TOS or priority changed")      \
	X(CLOSING, "closing", "FIN or RST was seen")			       \
	X(CLOSED, "closed", "the socket is gone")			       \
	X(SITE, "site", "rules of the site's own, linked with the gate")	       \
	X(HOLD_DOWN, "hold-down",					       \
	  "it left the path a moment ago (holddown_min, holddown_max)")	       \
	X(IDLE, "idle", "it was idle until conntrack was about to expire it")  \
	X(ADDRESS, "address", "its local address has left the host")	       \
	X(LINK, "link", "its device went down, changed or disappeared")	       \
	X(UNLOAD, "unload", "the module is being unloaded")

enum chimney_reason {
#define CHIMNEY_REASON_ENUM(id, name, words) CHIMNEY_##id,
	CHIMNEY_REASONS(CHIMNEY_REASON_ENUM)
#undef CHIMNEY_REASON_ENUM
	CHIMNEY_REASON_MAX,
};

#define CHIMNEY_MASK(id) (1ULL << CHIMNEY_##id)

/**
 * enum chimney_dir - direction of a packet as the socket sees it
 * @CHIMNEY_OUT: sent by the socket
 * @CHIMNEY_IN: received by it
 */
enum chimney_dir {
	CHIMNEY_OUT,
	CHIMNEY_IN,
	CHIMNEY_DIR_MAX,
};

/**
 * struct chimney_tuple - names one TCP connection as its socket sees it
 * @netns: cookie of the network namespace (SO_NETNS_COOKIE)
 * @local: local address; IPv4 as v4-mapped IPv6 (::ffff:a.b.c.d)
 * @remote: remote address, likewise
 * @lport: local port, host order
 * @rport: remote port, host order
 * @family: AF_INET or AF_INET6, of the packets (not of the socket)
 * @pad: zero
 *
 * Key of the gate's "flows" map.
 */
struct chimney_tuple {
	__u64 netns;
	__u8 local[16];
	__u8 remote[16];
	__u16 lport;
	__u16 rport;
	__u16 family;
	__u16 pad;
};

/**
 * struct chimney_packet - what the gate is shown of a packet
 * @flow: the connection, from the socket
 * @seen: the same, but from the packet's headers as they are when it is about
 *	to leave to (or has come from) the device
 * @epoch: the netns' policy epoch; an offer must carry the one it judged in
 * @mark: skb mark
 * @priority: skb priority
 * @sock_mark: mark that the socket gave it (CHIMNEY_OUT), or 0
 * @sock_priority: priority that the socket gave it (CHIMNEY_OUT), or @priority
 * @ifindex: device it leaves by or came in on
 * @dir: enum chimney_dir
 * @tos: TOS or traffic class, with ECN bits
 * @ttl: TTL or hop limit
 * @sock_tos: TOS that the socket gave it (CHIMNEY_OUT), or @tos
 * @sock_ttl: TTL that the socket gave it (CHIMNEY_OUT), or @ttl
 * @xfrm_refuses: TCP is going to drop it, because an inbound IPsec policy wants
 *	it protected (CHIMNEY_IN)
 * @pad: zero
 *
 * What differs between the socket's side and the packet's is the work of some
 * rule, whatever tool wrote it.
 */
struct chimney_packet {
	struct chimney_tuple flow;
	struct chimney_tuple seen;
	__u64 epoch;
	__u32 mark;
	__u32 priority;
	__u32 sock_mark;
	__u32 sock_priority;
	__u32 ifindex;
	__u8 dir;
	__u8 tos;
	__u8 ttl;
	__u8 sock_tos;
	__u8 sock_ttl;
	__u8 xfrm_refuses;
	__u8 pad[6];
};

/**
 * struct chimney_event - a flow has changed its state
 * @flow: which
 * @from: enum chimney_state before; the same as @to after an offer of a flow that
 *	was offered already
 * @to: enum chimney_state now
 * @reason: enum chimney_reason, for uploads and refused offers
 * @ifindex: device
 * @tx_packets: sent by the path since it was offloaded (GSO counts once)
 * @tx_bytes: the same in bytes, IP header included
 * @rx_packets: received by the path since it was offloaded (GRO counts once)
 * @rx_bytes: the same in bytes, IP header included
 */
struct chimney_event {
	struct chimney_tuple flow;
	__u32 from;
	__u32 to;
	__u32 reason;
	__u32 ifindex;
	__u64 tx_packets;
	__u64 tx_bytes;
	__u64 rx_packets;
	__u64 rx_bytes;
};

/**
 * struct chimney_selector - which flows to revoke; zero matches all
 * @netns: cookie, or 0 for every netns
 * @ifindex: device, or 0 for every device
 * @family: AF_INET, AF_INET6, or 0 for both (then no addresses are compared)
 * @local_plen: leading bits of @local to compare: 0 to 32 or 128
 * @remote_plen: leading bits of @remote to compare
 * @local: local address; IPv4 as v4-mapped IPv6
 * @remote: remote address, likewise
 * @lport: local port, host order
 * @lport_mask: bits of @lport to compare
 * @rport: remote port, host order
 * @rport_mask: bits of @rport to compare
 */
struct chimney_selector {
	__u64 netns;
	__u32 ifindex;
	__u16 family;
	__u8 local_plen;
	__u8 remote_plen;
	__u8 local[16];
	__u8 remote[16];
	__u16 lport;
	__u16 lport_mask;
	__u16 rport;
	__u16 rport_mask;
};

/**
 * struct chimney_sock_info - what the module knows of a TCP socket
 * @flow: the connection
 * @reasons: mask of what the module itself holds against it now
 * @state: enum chimney_state
 * @tcp_state: TCP_ESTABLISHED ... (include/net/tcp_states.h)
 * @ifindex: device of its route, 0 if none
 * @pad: zero
 * @tx_packets: by the path since it was last offloaded, 0 when it is not
 * @tx_bytes: likewise, IP header included
 * @rx_packets: likewise
 * @rx_bytes: likewise
 */
struct chimney_sock_info {
	struct chimney_tuple flow;
	__u64 reasons;
	__u32 state;
	__u32 tcp_state;
	__u32 ifindex;
	__u32 pad;
	__u64 tx_packets;
	__u64 tx_bytes;
	__u64 rx_packets;
	__u64 rx_bytes;
};

/* how many reasons a verdict spells out by name for each direction */
#define CHIMNEY_NAMED 4

/**
 * struct chimney_verdict - value of the gate's "flows" map
 * @state: as of the last change
 * @uploaded: why it was last uploaded or its offer refused
 * @out: first reasons found against what it sends (CHIMNEY_NONE: no more)
 * @in: first reasons found against what it receives
 * @reasons: all of them, as masks by enum chimney_dir
 * @epoch: policy epoch in which each direction was judged, 0 for never
 * @judged_ns: when each direction was last judged (CLOCK_MONOTONIC)
 * @each_ns: when a rule last looked at one of its packets for itself, by
 *	enum chimney_dir
 * @each_epoch: policy epoch in which the direction had been judged then
 * @offloads: how often it was offloaded
 * @offloaded_ns: when it was last offloaded (CLOCK_MONOTONIC)
 * @uploaded_ns: when it last left the path
 * @flaps: how often it left the path without having stayed there for long
 * @tx_packets: by the path, over all times it was offloaded and is no more
 * @tx_bytes: likewise, IP header included
 * @rx_packets: likewise
 * @rx_bytes: likewise
 */
struct chimney_verdict {
	enum chimney_state state;
	enum chimney_reason uploaded;
	enum chimney_reason out[CHIMNEY_NAMED];
	enum chimney_reason in[CHIMNEY_NAMED];
	__u64 reasons[2];
	__u64 epoch[2];
	__u64 judged_ns[2];
	__u64 each_ns[2];
	__u64 each_epoch[2];
	__u64 offloads;
	__u64 offloaded_ns;
	__u64 uploaded_ns;
	__u64 flaps;
	__u64 tx_packets;
	__u64 tx_bytes;
	__u64 rx_packets;
	__u64 rx_bytes;
};

/**
 * struct chimney_rule_change - the last change of a network namespace's rules
 * @ns: when, as CLOCK_MONOTONIC tells it, in nanoseconds
 * @pid: process that has changed them, in the first pid namespace
 * @pad: zero
 * @comm: its name
 * @table: first table of nftables that was changed, "" if it was none of these
 *
 * Value of the map "rule_changes", whose key is the namespace's cookie.
 */
struct chimney_rule_change {
	__u64 ns;
	__u32 pid;
	__u32 pad;
	char comm[16];
	char table[64];
};

/* room for the name of a netfilter hook's function, as a text */
#define CHIMNEY_HOOK_NAME_LEN	64

/**
 * struct chimney_rule_walks - what reading a namespace's rules has found
 * @begun: how often that has begun
 * @clean: number of the last time that no rule was found for which all flows
 *	have to stay in the host
 * @known: number of the last time that every netfilter hook was known
 * @hook: function of one that was not; it may be gone
 * @clean_established: as @clean, but for flows that conntrack does not hold as
 *	established
 *
 * Only what was found the last time counts.  Value of the map "rule_walks",
 * whose key is the namespace's cookie.
 */
struct chimney_rule_walks {
	__u64 begun;
	__u64 clean;
	__u64 known;
	char hook[CHIMNEY_HOOK_NAME_LEN];
	__u64 clean_established;
};

/**
 * struct chimney_flow_record - one TCP connection, as bpf/flows.bpf.c tells it
 * @info: what the module knows; its counters already include @verdict's
 * @verdict: what the gate knows; all zero if it has not judged the flow
 * @sent: payload that the socket has sent so far, in bytes, by path and host
 * @received: payload that it has received
 * @cgroup: id of the cgroup (v2) of the socket, 0 if that is not known
 * @judged: 1 if @verdict is there
 * @pad: zero
 */
struct chimney_flow_record {
	struct chimney_sock_info info;
	struct chimney_verdict verdict;
	__u64 sent;
	__u64 received;
	__u64 cgroup;
	__u32 judged;
	__u32 pad;
};

#endif /* CHIMNEY_UAPI_H */
