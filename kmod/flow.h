/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHIMNEY_FLOW_H
#define CHIMNEY_FLOW_H

#include <linux/bpf-cgroup.h>
#include <linux/hash.h>
#include <linux/rhashtable.h>
#include <linux/workqueue.h>
#include <net/inet_connection_sock.h>
#include <net/route.h>
#include <net/tcp.h>

#include "conntrack.h"
#include "device.h"
#include "netns.h"
#include "uapi.h"

/**
 * struct chimney_addr - an address in two words
 * @hi: first half of an IPv6 address; 0 for IPv4
 * @lo: second half of an IPv6 address, or an IPv4 address; either in the byte
 *	order of the network
 *
 * Words and no array, which would have every packet pay for a stack protector.
 */
struct chimney_addr {
	u64 hi;
	u64 lo;
};

/**
 * struct chimney_key - finds a flow from a packet received
 * @rport: remote port
 * @lport: local port
 * @ports: both, as a packet received has them
 * @family: AF_INET or AF_INET6, of its packets
 * @local: local address
 * @remote: remote address
 */
struct chimney_key {
	union {
		struct {
			__be16 rport;
			__be16 lport;
		};
		u32 ports;
	};
	u32 family;
	struct chimney_addr local;
	struct chimney_addr remote;
};

static __always_inline struct chimney_addr chimney_addr4(__be32 addr)
{
	return (struct chimney_addr) { .lo = (__force u32)addr };
}

static __always_inline struct chimney_addr
chimney_addr6(const struct in6_addr *addr)
{
	struct chimney_addr words;

	BUILD_BUG_ON(sizeof(words) != sizeof(*addr));
	memcpy(&words, addr, sizeof(words));
	return words;
}

static __always_inline bool chimney_addr_equal(const struct chimney_addr *a,
					       const struct chimney_addr *b)
{
	return !((a->hi ^ b->hi) | (a->lo ^ b->lo));
}

/**
 * struct chimney_flow - a connection that takes the path
 * @node: in chimney_net.table while CHIMNEY_OFFLOADED
 * @key: its tuple
 * @state: enum chimney_state
 * @portpair: the socket's ports, while it is that of this connection
 * @addrpair: likewise its IPv4 addresses
 * @sk: the socket; not a reference: it is good to look at only after
 *	chimney_flow_get_sk()
 * @cnet: its namespace
 * @cdev: its device; a reference
 * @dscp: TOS or traffic class without ECN that the gate has judged
 * @blind_taps: how many taps of its device the gate has found not to want its
 *	packets, less those that are gone
 * @ifindex: of the device that the gate has judged it on
 * @mark: socket mark that the gate has judged
 * @priority: socket priority that the gate has judged
 * @epoch: policy epoch of the verdict
 * @dst: its route; a reference, changed under the socket's lock
 * @neigh: next hop, or NULL; a reference, dropped when the flow is uploaded or
 *	has been silent for a while, so that it does not keep the neighbour
 *	from being recycled; exchanged, read under RCU
 * @ct: its conntrack entry
 * @tx_packets: sent by the path; under the socket's lock
 * @tx_bytes: likewise, IP header included
 * @swept: packets by the path, sent and received, at the last sweep
 * @rx_packets: received by the path
 * @rx_bytes: likewise, IP header included
 * @ops: the socket's operations meanwhile
 * @host_ops: the socket's own operations
 * @host_destruct: the socket's own destructor
 * @list: in chimney_net.flows
 * @installed: @ops are the socket's; under the socket's lock
 * @pinned: someone has put a destructor over ours, which now has to stay
 * @ref: one while installed, one for each queued work
 * @offload_work: installs it
 * @upload_work: gives the socket its own operations back
 * @rcu: frees it
 *
 * Nothing here keeps the socket alive.  The socket's destructor is ours while
 * installed, so that it cannot go without the flow noticing.
 */
struct chimney_flow {
	struct rhash_head node;
	struct chimney_key key;
	int state;
	__portpair portpair;
	__addrpair addrpair;
	struct sock *sk;
	struct chimney_net *cnet;
	struct chimney_dev *cdev;
	u8 dscp;
	u8 blind_taps;
	u32 ifindex;
	u32 mark;
	u32 priority;
	u64 epoch;
	struct dst_entry *dst;
	struct neighbour *neigh;
	struct chimney_ct ct;
	u64 tx_packets;
	u64 tx_bytes;
	u64 swept;
	atomic64_t rx_packets;
	atomic64_t rx_bytes;

	struct inet_connection_sock_af_ops ops;
	const struct inet_connection_sock_af_ops *host_ops;
	void (*host_destruct)(struct sock *sk);

	struct list_head list;
	bool installed;
	bool pinned;
	refcount_t ref;
	struct work_struct offload_work;
	struct work_struct upload_work;
	struct rcu_head rcu;
};

static __always_inline u64 chimney_mix(u64 sum, u64 word)
{
	sum = (sum ^ word) * GOLDEN_RATIO_64;
	return sum ^ sum >> 32;
}

/* A third of what jhash_3words() costs, and every packet pays it. */
static __always_inline u32 chimney_key_hash(const void *data, u32 len, u32 seed)
{
	const struct chimney_key *key = data;
	u64 sum;

	if (key->family == AF_INET) {
		sum = chimney_mix(seed, (u64)key->ports << 32 | key->remote.lo);
		return chimney_mix(sum, key->local.lo);
	}
	sum = chimney_mix(seed, key->ports);
	sum = chimney_mix(sum, key->remote.hi);
	sum = chimney_mix(sum, key->remote.lo);
	sum = chimney_mix(sum, key->local.hi);
	return chimney_mix(sum, key->local.lo);
}

static __always_inline int chimney_key_cmp(struct rhashtable_compare_arg *arg,
					   const void *obj)
{
	const struct chimney_key *a = arg->key;
	const struct chimney_key *b = &((const struct chimney_flow *)obj)->key;

	if (a->ports != b->ports || a->family != b->family)
		return 1;
	if (a->family == AF_INET)
		return a->remote.lo != b->remote.lo || a->local.lo != b->local.lo;
	return !chimney_addr_equal(&a->remote, &b->remote) ||
	       !chimney_addr_equal(&a->local, &b->local);
}

static const struct rhashtable_params chimney_flow_params = {
	.key_len = sizeof(struct chimney_key),
	.key_offset = offsetof(struct chimney_flow, key),
	.head_offset = offsetof(struct chimney_flow, node),
	.hashfn = chimney_key_hash,
	.obj_cmpfn = chimney_key_cmp,
	.automatic_shrinking = true,
};

/**
 * chimney_dst_valid() - dst_check(), without a call for IPv4
 * @dst: a route, or NULL
 * @cookie: for dst_check()
 * @v6: it is an IPv6 route
 *
 * Follows ipv4_dst_check() (net/ipv4/route.c).
 *
 * Context: RCU read side.
 */
static __always_inline bool chimney_dst_valid(struct dst_entry *dst, u32 cookie,
					      bool v6)
{
	if (unlikely(!dst))
		return false;
	if (v6)
		return dst_check(dst, cookie);
	return dst->obsolete == DST_OBSOLETE_FORCE_CHK &&
	       dst_rtable(dst)->rt_genid == rt_genid_ipv4(dev_net_rcu(dst->dev));
}

/**
 * chimney_early_demux() - are packets received by their socket's route?
 * @net: the namespace
 *
 * If not, the host path routes each of them by itself, and may drop it for its
 * source (rp_filter).  Follows ip_rcv_finish_core() (net/ipv4/ip_input.c) and
 * ip6_rcv_finish_core(), which goes by the same settings.
 */
static inline bool chimney_early_demux(const struct net *net)
{
	return READ_ONCE(net->ipv4.sysctl_ip_early_demux) &&
	       READ_ONCE(net->ipv4.sysctl_tcp_early_demux);
}

/**
 * chimney_flow_of() - the flow whose operations a socket has
 * @ops: the socket's icsk_af_ops, known to be a flow's
 */
static inline struct chimney_flow *
chimney_flow_of(const struct inet_connection_sock_af_ops *ops)
{
	return container_of(ops, struct chimney_flow, ops);
}

/**
 * chimney_flow_get_sk() - a reference to a flow's socket
 * @flow: the flow
 *
 * TCP sockets are SLAB_TYPESAFE_BY_RCU: the memory may be another connection's
 * by now.  Only ours has this flow's operations.
 *
 * Context: RCU read side.
 * Return: true with a reference to flow->sk, which the caller has to drop.
 */
static __always_inline bool chimney_flow_get_sk(const struct chimney_flow *flow)
{
	struct sock *sk = flow->sk;

	if (unlikely(!refcount_inc_not_zero(&sk->sk_refcnt)))
		return false;
	if (likely(READ_ONCE(inet_csk(sk)->icsk_af_ops) == &flow->ops))
		return true;
	sock_gen_put(sk);
	return false;
}

/**
 * chimney_flow_is_of() - is a flow still that of its socket?
 * @flow: the flow
 * @sk: its socket
 * @v6: its packets are IPv6
 *
 * connect() can make a socket another connection's without a packet in between
 * (TCP_REPAIR), maybe one that differs in the local port alone.
 */
static __always_inline bool chimney_flow_is_of(const struct chimney_flow *flow,
					       const struct sock *sk, bool v6)
{
	const struct chimney_addr local = chimney_addr6(&sk->sk_v6_rcv_saddr);
	const struct chimney_addr remote = chimney_addr6(&sk->sk_v6_daddr);

	if (sk->sk_portpair != flow->portpair)
		return false;
	if (v6)
		return chimney_addr_equal(&remote, &flow->key.remote) &&
		       chimney_addr_equal(&local, &flow->key.local);
	return sk->sk_addrpair == flow->addrpair;
}

/**
 * chimney_sock_has_ip_options() - do a socket's packets carry IP options?
 * @sk: the socket
 *
 * IPv4's are there, but empty, when they have been taken away again.
 *
 * Context: RCU read side.
 */
static __always_inline bool chimney_sock_has_ip_options(const struct sock *sk)
{
	const struct ip_options_rcu *opt = rcu_dereference(inet_sk(sk)->inet_opt);

	return (unlikely(opt) && opt->opt.optlen) ||
	       (sk->sk_family == AF_INET6 &&
		rcu_access_pointer(inet6_sk(sk)->opt));
}

/**
 * chimney_sock_cgroup_egress() - does a program see what a socket's cgroup sends?
 * @sk: the socket
 */
static __always_inline bool chimney_sock_cgroup_egress(const struct sock *sk)
{
#ifdef CONFIG_CGROUP_BPF
	return cgroup_bpf_enabled(CGROUP_INET_EGRESS) &&
	       cgroup_bpf_sock_enabled((struct sock *)sk, CGROUP_INET_EGRESS);
#else
	return false;
#endif
}

/**
 * chimney_flow_lookup() - the offloaded flow that a received packet belongs to
 * @cnet: namespace of the device
 * @key: the packet's tuple
 *
 * Context: RCU read side.
 */
static __always_inline struct chimney_flow *
chimney_flow_lookup(struct chimney_net *cnet, const struct chimney_key *key)
{
	return rhashtable_lookup(&cnet->table, key, chimney_flow_params);
}

u64 chimney_sock_reasons(const struct sock *sk);
void chimney_flow_info(struct sock *sk, struct chimney_sock_info *info);
void chimney_key_tuple(const struct chimney_key *key, const struct net *net,
		       struct chimney_tuple *tuple);
void chimney_sock_tuple(const struct sock *sk, struct chimney_tuple *tuple);
enum chimney_reason chimney_flow_route(struct chimney_flow *flow,
				       struct dst_entry *dst);
enum chimney_reason chimney_flow_offer(struct sock *sk, struct sk_buff *skb,
				       const struct chimney_packet *packet,
				       u8 blind_taps);
void chimney_flow_set_neigh(struct chimney_flow *flow,
			    struct neighbour *neigh);
bool chimney_flow_upload(struct chimney_flow *flow, struct sock *sk,
			 enum chimney_reason reason);
void chimney_sock_upload(struct sock *sk, enum chimney_reason reason);
void chimney_flow_finish(struct chimney_flow *flow, struct sock *sk);
u32 chimney_flows_revoke(const struct chimney_selector *sel,
			 enum chimney_reason reason);
void chimney_flows_revoke_all(enum chimney_reason reason);
u32 chimney_flows_revoke_dev(const struct net_device *dev,
			     enum chimney_reason reason);
int chimney_flows_init(void);
void chimney_flows_drain(void);
void chimney_flows_exit(void);

#endif /* CHIMNEY_FLOW_H */
