// SPDX-License-Identifier: GPL-2.0
/* BPF programs that see what a socket sends and receives, and count how often. */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PORT 7100	/* of ends.py */

enum { MESSAGES, SEGMENTS, ROUND_TRIPS, COUNTERS };

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

static void count(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&seen, &what);

	if (counter)
		__sync_fetch_and_add(counter, 1);
}

SEC("sk_msg")
int message(struct sk_msg_md *msg)
{
	count(MESSAGES);
	return SK_PASS;
}

SEC("sk_skb/stream_verdict")
int segment(struct __sk_buff *skb)
{
	count(SEGMENTS);
	return SK_PASS;
}

/* Puts a socket that connects to PORT into the map, and counts measurements of its round trip. */
SEC("sockops")
int round_trip(struct bpf_sock_ops *ops)
{
	__u32 key = 0;

	switch (ops->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		if (ops->remote_port != bpf_htonl(PORT))
			break;
		bpf_sock_map_update(ops, &sockets, &key, BPF_ANY);
		bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_RTT_CB_FLAG);
		break;
	case BPF_SOCK_OPS_RTT_CB:
		count(ROUND_TRIPS);
		break;
	}
	return 1;
}

/* Of a cgroup; has nothing against any packet. */
SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	return 1;
}

char _license[] SEC("license") = "GPL";
