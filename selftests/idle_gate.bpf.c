// SPDX-License-Identifier: GPL-2.0
/*
 * A gate that offers nothing, the least there can be: quick to attach where a
 * test is not about what a gate knows.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct sk_buff;
struct sock;
struct chimney_packet;

/* what is used of it (kmod/gate.h) */
struct chimney_gate {
	__u64 (*judge)(struct sk_buff *skb, struct sock *sk,
		       const struct chimney_packet *packet);
	char name[16];
	__u32 version;
};

SEC("struct_ops/judge")
__u64 BPF_PROG(judge, struct sk_buff *skb, struct sock *sk,
	       const struct chimney_packet *packet)
{
	return 0;
}

SEC(".struct_ops.link")
struct chimney_gate idle = {
	.judge = (void *)judge,
	.name = "idle",
	.version = 2,
};

char _license[] SEC("license") = "GPL";
