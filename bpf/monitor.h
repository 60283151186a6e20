/* SPDX-License-Identifier: GPL-2.0 */
/* What crosses from bpf/monitor.bpf.c to chimneyctl. */
#ifndef CHIMNEY_MONITOR_H
#define CHIMNEY_MONITOR_H

/**
 * struct monitor_record - something has become of a flow
 * @ns: when (CLOCK_BOOTTIME)
 * @event: what
 */
struct monitor_record {
	__u64 ns;
	struct chimney_event event;
};

#endif /* CHIMNEY_MONITOR_H */
