// SPDX-License-Identifier: GPL-2.0
/*
 * Makes a moment last until a route has changed: that in which the gate has
 * offered a flow, and it is yet to be installed.  Of flows with a local port
 * from 30000 on: who answers them is to have a processor meanwhile.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define PORT_FROM	30000
#define MOST_NS		20000000000ULL
#define AFTER_NS	500000000ULL	/* for TCP to find the new route, not to forget it */
#define MOST_TURNS	0x800000	/* of bpf_loop() */

/* what is used of them */
struct netns_ipv4 {
	struct {
		int counter;
	} rt_genid;
} __attribute__((preserve_access_index));

struct net {
	struct netns_ipv4 ipv4;
} __attribute__((preserve_access_index));

struct sock_common {
	unsigned short skc_num;
	struct {
		struct net *net;
	} skc_net;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

struct work_struct {
	long data;
} __attribute__((preserve_access_index));

struct chimney_flow {
	struct sock *sk;
	struct work_struct offload_work;
} __attribute__((preserve_access_index));

struct moment {
	struct net *net;
	__u64 end;
};

static int genid;	/* of the first flow's routes when it was offered */

static int routes(const struct net *net)
{
	return BPF_CORE_READ(net, ipv4.rt_genid.counter);
}

static long is_over(__u64 turn, void *ctx)
{
	struct moment *moment = ctx;
	__u64 now = bpf_ktime_get_ns();

	if (moment->net && routes(moment->net) != genid) {
		moment->net = NULL;
		moment->end = now + AFTER_NS;
	}
	return now >= moment->end;
}

SEC("fentry/flow_offload_work")
int BPF_PROG(slow_offer, struct work_struct *work)
{
	const __u32 offset = bpf_core_field_offset(struct chimney_flow, offload_work);
	struct chimney_flow *flow = (void *)work - offset;
	struct sock *sk = BPF_CORE_READ(flow, sk);
	struct moment moment = {
		.net = BPF_CORE_READ(sk, __sk_common.skc_net.net),
		.end = bpf_ktime_get_ns() + MOST_NS,
	};
	int port = BPF_CORE_READ(sk, __sk_common.skc_num);

	if (port < PORT_FROM)
		return 0;
	if (!genid)
		genid = routes(moment.net);
	bpf_printk("a moment lasts: %d", port);
	/* one time may not be enough on a fast machine */
	bpf_loop(MOST_TURNS, is_over, &moment, 0);
	bpf_loop(MOST_TURNS, is_over, &moment, 0);
	return 0;
}

char _license[] SEC("license") = "GPL";
