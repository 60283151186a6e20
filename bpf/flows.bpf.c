// SPDX-License-Identifier: GPL-2.0
/*
 * Why this exists: for any TCP connection a person may ask "why is this not
 * offloaded?".  The module knows one half of the answer and the gate's map the
 * other; only the kernel can read both for one socket at one moment.  This
 * iterator joins them, one struct chimney_flow_record a socket, for chimneyctl.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

/* The gate's map; with no gate, chimneyctl lets an empty one stand in. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct chimney_tuple);
	__type(value, struct chimney_verdict);
} flows SEC(".maps");

extern int chimney_sock_info(struct sock_common *skc,
			     struct chimney_sock_info *info) __ksym;
extern u64 chimney_hold_down(u64 flaps) __ksym;

/* What only the socket knows; one that has yet to be accepted knows nothing. */
static void tell_socket(struct sock_common *skc, struct chimney_flow_record *rec)
{
	const struct tcp_sock *tp = bpf_skc_to_tcp_sock(skc);
	const struct cgroup *cgrp;

	if (!tp)
		return;
	rec->sent = tp->bytes_sent;
	rec->received = tp->bytes_received;
	cgrp = tp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup;
	rec->cgroup = cgrp ? cgrp->kn->id : 0;
}

/*
 * Hold-down ends with time.  A flow none of whose packets has come as far as the
 * gate since then still has it in its verdict, but something else stops it.
 */
static void forget_hold_down(struct chimney_verdict *verdict)
{
	if (verdict->flaps && bpf_ktime_get_ns() - verdict->uploaded_ns >=
				      chimney_hold_down(verdict->flaps - 1))
		verdict->reasons[CHIMNEY_OUT] &= ~(1ULL << CHIMNEY_HOLD_DOWN);
}

SEC("iter/tcp")
int tell_flow(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct chimney_flow_record rec = {};
	struct chimney_verdict *verdict;

	/* it refuses what is no connection in full: LISTEN, TIME_WAIT ... */
	if (!skc || chimney_sock_info(skc, &rec.info))
		return 0;
	tell_socket(skc, &rec);

	verdict = bpf_map_lookup_elem(&flows, &rec.info.flow);
	if (verdict) {
		rec.verdict = *verdict;
		rec.judged = 1;
		forget_hold_down(&rec.verdict);
		rec.info.tx_packets += verdict->tx_packets;
		rec.info.tx_bytes += verdict->tx_bytes;
		rec.info.rx_packets += verdict->rx_packets;
		rec.info.rx_bytes += verdict->rx_bytes;
	}

	/* a record that finds no room is asked for again by the kernel itself */
	bpf_seq_write(ctx->meta->seq, &rec, sizeof(rec));
	return 0;
}
