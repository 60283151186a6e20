/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHIMNEY_GATE_H
#define CHIMNEY_GATE_H

#include <linux/types.h>

#include "uapi.h"

struct sk_buff;
struct sock;
struct sock_common;

#define CHIMNEY_GATE_VERSION 2

/**
 * struct chimney_gate - the contract: what a gate's BPF programs implement
 * @judge: shown a packet of an established flow that takes the host path, late
 *	in POST_ROUTING (sent) or LOCAL_IN (received); returns a mask of the
 *	reasons that it found against the flow, 0 for none.  A gate that finds
 *	both directions clean in one epoch calls the kfunc chimney_offer() from
 *	here.  @sk is the flow's socket, not locked.
 *	Not every packet is shown: of a direction that has had N segments every
 *	(N / 2)th, but at least every 2048th, and every 8th while N or the epoch
 *	is young and when a flow has just been sent back to the host.
 * @changed: told that a flow has changed its state; may be NULL
 * @stands: asked once a second about every offloaded flow that has had packets
 *	since: does the verdict still stand?  If not, the flow is uploaded.  May
 *	be NULL: yes
 * @name: what the gate calls itself, for people
 * @version: CHIMNEY_GATE_VERSION, or attaching fails with -EINVAL
 *
 * Without an attached gate no flow is offloaded.  When it is detached or
 * replaced, every flow is uploaded.
 */
struct chimney_gate {
	u64 (*judge)(struct sk_buff *skb, struct sock *sk,
		     const struct chimney_packet *packet);
	void (*changed)(const struct chimney_event *event);
	bool (*stands)(const struct chimney_tuple *flow);
	char name[CHIMNEY_GATE_NAME_LEN];
	u32 version;
};

bool chimney_gate_armed(void);
bool chimney_gate_attached(void);
void chimney_gate_rearm(void);
int chimney_gate_show(char *buf);
u64 chimney_gate_judge(struct sk_buff *skb, struct sock *sk,
		       const struct chimney_packet *packet);
void chimney_gate_changed(const struct chimney_event *event);
bool chimney_gate_stands(const struct chimney_tuple *flow);
int chimney_gate_init(void);

/* kfuncs for the gate's programs */
int chimney_offer(struct sk_buff *skb, struct sock *sk,
		  const struct chimney_packet *packet, u32 blind_taps);
u64 chimney_hold_down(u64 flaps);
int chimney_revoke(const struct chimney_selector *selector, u32 reason);
void chimney_rules_changed(u64 net__ign);
int chimney_sock_info(struct sock_common *skc, struct chimney_sock_info *info);

#endif /* CHIMNEY_GATE_H */
