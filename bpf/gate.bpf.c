// SPDX-License-Identifier: GPL-2.0
/*
 * The gate: decides which flows may leave the host path.  The module shows it
 * packets of flows that are in the host (judge) and tells it what became of
 * flows (changed); it keeps one verdict for each connection in the map "flows".
 *
 * A flow is offered when both of its directions were found clean under one and
 * the same policy (epoch).  Nothing found means: no feature of the files below.
 */
#include "gate.h"

#define ENOENT 2
#define ENXIO 6
#define E2BIG 7

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1); /* as many as chimneyctl finds right */
	__type(key, struct chimney_tuple);
	__type(value, struct chimney_verdict);
} flows SEC(".maps");

#include "capture.h"
#include "conntrack.h"
#include "each_packet.h"
#include "ipsec.h"
#include "ipvs.h"
#include "packet_rules.h"
#include "rewritten.h"
#include "rules.h"

static const struct chimney_verdict no_verdict;

/* The first reasons of a mask by name, for people who dump the map. */
static __always_inline void name_reasons(enum chimney_reason *named, u64 mask)
{
	int i, n = 0;

	for (i = 0; i < CHIMNEY_NAMED; i++)
		named[i] = CHIMNEY_NONE;
	bpf_for(i, 1, CHIMNEY_REASON_MAX) {
		if (!(mask & (1ULL << i)))
			continue;
		if (n < 0 || n >= CHIMNEY_NAMED)
			break;
		named[n++] = i;
	}
}

/*
 * A flow's verdict.  Entries are made on what a flow sends, when its socket is
 * locked and cannot close at the same time.
 */
static __always_inline struct chimney_verdict *
verdict_of(const struct chimney_tuple *key, u8 dir)
{
	struct chimney_verdict *verdict = bpf_map_lookup_elem(&flows, key);

	if (verdict || dir != CHIMNEY_OUT)
		return verdict;
	bpf_map_update_elem(&flows, key, &no_verdict, BPF_NOEXIST);
	return bpf_map_lookup_elem(&flows, key);
}

/* Flows that flap wait before they are offered again, ever longer. */
static __always_inline u64 hold_down(const struct chimney_verdict *verdict)
{
	if (verdict->state == CHIMNEY_IN_HOST && verdict->flaps &&
	    bpf_ktime_get_ns() - verdict->uploaded_ns <
		    chimney_hold_down(verdict->flaps - 1))
		return CHIMNEY_MASK(HOLD_DOWN);
	return 0;
}

static __always_inline void count_flap(struct chimney_verdict *verdict)
{
	u64 now = bpf_ktime_get_ns();

	if (now - verdict->offloaded_ns > chimney_hold_down(~0ULL))
		verdict->flaps = 0;
	verdict->uploaded_ns = now;
	verdict->flaps++;
}

/*
 * Adds what the verdict itself has against the flow, notes all of it and returns
 * it.  Not static: the verifier then looks at this once, and not again for each
 * set of reasons that judge() may come with.
 */
__noinline u64 verdict_set(struct chimney_verdict *verdict, u64 reasons,
			   u64 epoch, u32 dir)
{
	if (!verdict || dir > CHIMNEY_IN)
		return reasons;

	reasons |= each_packet_judge(verdict, dir, epoch);
	if (dir == CHIMNEY_OUT)
		reasons |= hold_down(verdict);
	if (verdict->reasons[dir] != reasons)
		name_reasons(dir == CHIMNEY_OUT ? verdict->out : verdict->in,
			     reasons);
	/* who sees an epoch here sees the reasons found in it, or worse */
	NOW(verdict->epoch[dir]) = 0;
	NOW(verdict->reasons[dir]) = reasons;
	NOW(verdict->judged_ns[dir]) = bpf_ktime_get_ns();
	NOW(verdict->epoch[dir]) = epoch;
	return reasons;
}

/* Whatever a site has linked with this comes in its place (site.h). */
__weak u64 site_judge(struct sock *sk __arg_trusted,
		      const struct chimney_tuple *flow __arg_nonnull)
{
	return 0;
}

SEC("struct_ops/judge")
u64 BPF_PROG(judge, struct sk_buff *skb, struct sock *sk,
	     const struct chimney_packet *packet)
{
	struct chimney_verdict *verdict;
	u64 epoch = packet->epoch;
	struct chimney_tuple key;
	u8 dir = packet->dir;
	u32 blind_taps;
	u64 reasons;

	bpf_probe_read_kernel(&key, sizeof(key), &packet->flow);
	reasons = ipsec_judge(skb, packet) | conntrack_judge(skb) |
		  ipvs_judge(skb) |
		  capture_judge(skb, packet, &key, &blind_taps) |
		  packet_rules_judge(skb, packet) |
		  rewritten_judge(packet, &key) | site_judge(sk, &key);

	verdict = verdict_of(&key, dir);
	if (!verdict)
		return reasons;
	reasons = verdict_set(verdict, reasons, epoch, dir);
	if (dir == CHIMNEY_OUT && !reasons &&
	    NOW(verdict->epoch[CHIMNEY_IN]) == epoch &&
	    !NOW(verdict->reasons[CHIMNEY_IN]) &&
	    /* it may have been judged without its first stamp */
	    !each_packet_judge(verdict, CHIMNEY_IN, epoch))
		chimney_offer(skb, sk, packet, blind_taps);
	return reasons;
}

SEC("struct_ops/changed")
void BPF_PROG(changed, const struct chimney_event *event)
{
	struct chimney_verdict *verdict;
	struct chimney_tuple key;

	bpf_probe_read_kernel(&key, sizeof(key), &event->flow);
	verdict = bpf_map_lookup_elem(&flows, &key);
	if (!verdict)
		return;
	verdict->state = event->to;
	if (event->reason)
		verdict->uploaded = event->reason;
	if (event->from == event->to)
		return;
	if (event->to == CHIMNEY_OFFLOADED) {
		verdict->offloads++;
		verdict->offloaded_ns = bpf_ktime_get_ns();
	}
	if (event->from == CHIMNEY_UPLOADING) {
		verdict->tx_packets += event->tx_packets;
		verdict->tx_bytes += event->tx_bytes;
		verdict->rx_packets += event->rx_packets;
		verdict->rx_bytes += event->rx_bytes;
		count_flap(verdict);
	}
}

/*
 * A verdict that was evicted does not stand any more.  Being asked after keeps
 * those of offloaded flows that are busy from being the first to go.
 */
SEC("struct_ops/stands")
bool BPF_PROG(stands, const struct chimney_tuple *flow)
{
	struct chimney_tuple key;

	bpf_probe_read_kernel(&key, sizeof(key), flow);
	return bpf_map_lookup_elem(&flows, &key);
}

/* A verdict goes with its connection. */
static __always_inline void verdict_forget(struct sock *sk)
{
	const struct tcp_sock *tp = bpf_core_cast(sk, struct tcp_sock);
	struct inet_sock *inet = (struct inet_sock *)sk;
	struct chimney_tuple key = {};

	/* the module judges what a flow sends from its 8th segment on */
	if (sk->sk_protocol != IPPROTO_TCP || tp->segs_out < 8)
		return;

	key.netns = netns_cookie(sk->__sk_common.skc_net.net);
	key.lport = bpf_ntohs(BPF_CORE_READ(inet, inet_sport));
	key.rport = bpf_ntohs(sk->__sk_common.skc_dport);
	key.family = AF_INET6;
	if (sk->__sk_common.skc_family == AF_INET6) {
		BPF_CORE_READ_INTO(&key.local, inet, pinet6, saddr);
		BPF_CORE_READ_INTO(&key.remote, sk, __sk_common.skc_v6_daddr);
	}
	if (sk->__sk_common.skc_family == AF_INET ||
	    (!*(u64 *)key.remote &&
	     *(u32 *)(key.remote + 8) == bpf_htonl(0xffff))) {
		key.family = AF_INET;
		*(u16 *)(key.local + 10) = 0xffff;
		*(u16 *)(key.remote + 10) = 0xffff;
		*(u32 *)(key.local + 12) = BPF_CORE_READ(inet, inet_saddr);
		*(u32 *)(key.remote + 12) = sk->__sk_common.skc_daddr;
	}
	bpf_map_delete_elem(&flows, &key);
}

/*
 * Twice: while a program runs, its calls by a softirq that has interrupted it
 * are lost.  The other one is not running then.
 */
SEC("fentry/inet_csk_destroy_sock")
int BPF_PROG(verdict_close, struct sock *sk)
{
	verdict_forget(sk);
	return 0;
}

SEC("fentry/inet_csk_destroy_sock")
int BPF_PROG(verdict_close_again, struct sock *sk)
{
	verdict_forget(sk);
	return 0;
}

/*
 * A socket that is used again, or closed by RST, has no addresses any more when
 * it is destroyed.  No softirq disconnects one.
 */
SEC("fentry/tcp_disconnect")
int BPF_PROG(verdict_disconnect, struct sock *sk)
{
	verdict_forget(sk);
	return 0;
}

SEC(".struct_ops.link")
struct chimney_gate gate = {
	.judge = (void *)judge,
	.changed = (void *)changed,
	.stands = (void *)stands,
	.name = "chimney",
	.version = CHIMNEY_GATE_VERSION,
};

char _license[] SEC("license") = "GPL";
