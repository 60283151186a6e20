// SPDX-License-Identifier: GPL-2.0
/*
 * Why this exists: to see what becomes of flows as it happens.  The module
 * tells the gate of every change in one function, and this program, which is
 * there only while someone listens, listens to that as well.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "monitor.h"

#define MONITOR_ROOM 1048576 /* bytes */

char LICENSE[] SEC("license") = "GPL";

/* cookie of the network namespace that is listened to */
const volatile __u64 netns;

/* events for which there was no room */
__u64 lost;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, MONITOR_ROOM);
} records SEC(".maps");

SEC("fentry/chimney:chimney_gate_changed")
int BPF_PROG(record_change, const struct chimney_event *event)
{
	struct monitor_record *record;

	if (event->flow.netns != netns)
		return 0;
	record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
	if (!record) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	record->ns = bpf_ktime_get_boot_ns();
	bpf_probe_read_kernel(&record->event, sizeof(record->event), event);
	bpf_ringbuf_submit(record, 0);
	return 0;
}
