// SPDX-License-Identifier: GPL-2.0
/*
 * A netfilter hook of somebody's own: counts TCP packets and lets them pass, so
 * that none of them shows that it was seen.  hook.py attaches it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} packets SEC(".maps");

SEC("netfilter")
int count_packet(void *ctx)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&packets, &zero);

	if (n)
		__sync_fetch_and_add(n, 1);
	return 1; /* NF_ACCEPT */
}

char _license[] SEC("license") = "GPL";
