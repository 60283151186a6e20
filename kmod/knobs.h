/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHIMNEY_KNOBS_H
#define CHIMNEY_KNOBS_H

#include <linux/atomic.h>
#include <linux/bitops.h>

#include "uapi.h"

/**
 * enum chimney_mode - value of /sys/kernel/chimney/mode
 * @CHIMNEY_MODE_DISABLED: every flow stays in the host
 * @CHIMNEY_MODE_ENABLED: every eligible flow is offloaded
 * @CHIMNEY_MODE_AUTOMATIC: eligible flows that pass the three thresholds are
 */
enum chimney_mode {
	CHIMNEY_MODE_DISABLED,
	CHIMNEY_MODE_ENABLED,
	CHIMNEY_MODE_AUTOMATIC,
};

extern unsigned int chimney_mode;
extern unsigned int chimney_max_flows;
extern unsigned int chimney_automatic_speed;
extern unsigned int chimney_automatic_rtt;
extern unsigned int chimney_automatic_bytes;
extern unsigned int chimney_holddown_min;
extern unsigned int chimney_holddown_max;

extern atomic64_t chimney_reason_count[CHIMNEY_REASON_MAX];

/**
 * chimney_count() - count an upload or refusal
 * @reason: why
 */
static inline void chimney_count(enum chimney_reason reason)
{
	atomic64_inc(&chimney_reason_count[reason]);
}

/**
 * chimney_count_mask() - count a judgement
 * @reasons: mask of all that was found
 */
static inline void chimney_count_mask(u64 reasons)
{
	unsigned long mask = reasons;
	unsigned int reason;

	for_each_set_bit(reason, &mask, CHIMNEY_REASON_MAX)
		chimney_count(reason);
}

int chimney_knobs_init(void);
void chimney_knobs_exit(void);

#endif /* CHIMNEY_KNOBS_H */
