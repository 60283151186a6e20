// SPDX-License-Identifier: GPL-2.0
/*
 * Makes a moment last for seconds: that in which a flow has been found fit, and
 * is not yet offloaded.  Of flows with a local port from 30000 on: who answers
 * them is to have a processor meanwhile.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define PORT_FROM	30000
#define LAST_NS		3000000000ULL
#define MOST_TURNS	0x800000	/* of bpf_loop() */

/* what is used of them */
struct sock_common {
	unsigned short skc_num;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct chimney_flow {
	struct sock *sk;
} __attribute__((preserve_access_index));

static long is_over(__u64 turn, void *end)
{
	return bpf_ktime_get_ns() >= *(__u64 *)end;
}

SEC("raw_tp/chimney_offload")
int slow_install(struct bpf_raw_tracepoint_args *ctx)
{
	struct chimney_flow *flow = (void *)ctx->args[0];
	__u64 end = bpf_ktime_get_ns() + LAST_NS;

	if (BPF_CORE_READ(flow, sk, __sk_common.skc_num) >= PORT_FROM)
		bpf_loop(MOST_TURNS, is_over, &end, 0);
	return 0;
}

char _license[] SEC("license") = "GPL";
