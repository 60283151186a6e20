/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints (events/chimney/ in tracefs):
 *   chimney_offload   a flow has been offloaded
 *   chimney_upload    a flow has been uploaded, and why
 *   chimney_fallback  a packet of an offloaded flow takes the host path
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM chimney

#if !defined(CHIMNEY_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define CHIMNEY_TRACE_H

#include <linux/tracepoint.h>

#include "flow.h"

#ifndef CHIMNEY_TRACE_REASONS
#define CHIMNEY_TRACE_REASON(id, name, words) { CHIMNEY_##id, name },
#define CHIMNEY_TRACE_REASONS \
	CHIMNEY_REASONS(CHIMNEY_TRACE_REASON) { CHIMNEY_REASON_MAX, "?" }
#endif

DECLARE_EVENT_CLASS(chimney_flow_class,
	TP_PROTO(const struct chimney_flow *flow, u32 what),
	TP_ARGS(flow, what),
	TP_STRUCT__entry(
		__array(__u8, local, sizeof(struct in6_addr))
		__array(__u8, remote, sizeof(struct in6_addr))
		__field(__u64, netns)
		__field(__u16, lport)
		__field(__u16, rport)
		__field(__u32, what)
	),
	TP_fast_assign(
		struct chimney_tuple tuple;

		chimney_key_tuple(&flow->key, flow->cnet->net, &tuple);
		memcpy(__entry->local, tuple.local, sizeof(tuple.local));
		memcpy(__entry->remote, tuple.remote, sizeof(tuple.remote));
		__entry->netns = tuple.netns;
		__entry->lport = tuple.lport;
		__entry->rport = tuple.rport;
		__entry->what = what;
	),
	TP_printk("netns=%llu local=[%pI6c]:%u remote=[%pI6c]:%u reason=%s",
		  __entry->netns, __entry->local, __entry->lport,
		  __entry->remote, __entry->rport,
		  __print_symbolic(__entry->what, CHIMNEY_TRACE_REASONS))
);

DEFINE_EVENT(chimney_flow_class, chimney_offload,
	TP_PROTO(const struct chimney_flow *flow, u32 what),
	TP_ARGS(flow, what)
);

DEFINE_EVENT(chimney_flow_class, chimney_upload,
	TP_PROTO(const struct chimney_flow *flow, u32 what),
	TP_ARGS(flow, what)
);

DEFINE_EVENT(chimney_flow_class, chimney_fallback,
	TP_PROTO(const struct chimney_flow *flow, u32 what),
	TP_ARGS(flow, what)
);

#endif /* CHIMNEY_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
