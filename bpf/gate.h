/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the gate's files share.  Each feature of the compatibility table has one
 * file: how a packet shows it (FEATURE_judge), and the events that change it
 * (programs that revoke flows).
 */
#ifndef CHIMNEY_BPF_GATE_H
#define CHIMNEY_BPF_GATE_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "site.h"

/* macros are not in BTF */
#define CHIMNEY_NAMED 4
#define CHIMNEY_HOOK_NAME_LEN 64
#define CHIMNEY_GATE_VERSION 2
#define AF_INET 2
#define AF_INET6 10
#define AF_PACKET 17
#define ETH_P_ALL 0x0003
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define BPF_K 0x00
#define BPF_RET 0x06

/* the compiler is to keep the order */
#define NOW(x) (*(volatile typeof(x) *)&(x))

/* kmod/gate.c */
int chimney_offer(struct sk_buff *skb, struct sock *sk,
		  const struct chimney_packet *packet, u32 blind_taps) __ksym;
u64 chimney_hold_down(u64 flaps) __ksym;
int chimney_revoke(const struct chimney_selector *selector, u32 reason) __ksym;
void chimney_rules_changed(u64 net) __ksym;

/*
 * A tracing program that is preempted by another task in the same program on
 * the same CPU would make that one's run be skipped: an event would be lost.
 */
void bpf_preempt_disable(void) __ksym;
void bpf_preempt_enable(void) __ksym;

static __always_inline void revoke(const struct chimney_selector *selector,
				   u32 reason)
{
	bpf_preempt_disable();
	chimney_revoke(selector, reason);
	bpf_preempt_enable();
}

/* Cookie of a namespace; 0, which stands for all of them, for none. */
static __always_inline u64 netns_cookie(const struct net *net)
{
	return net ? BPF_CORE_READ(net, net_cookie) : 0;
}

static __always_inline const struct net *socket_net(const struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_net.net);
}

static __always_inline u64 socket_netns(const struct sock *sk)
{
	return netns_cookie(socket_net(sk));
}

static __always_inline void revoke_netns(u64 netns, u32 reason)
{
	struct chimney_selector selector = { .netns = netns };

	revoke(&selector, reason);
}

#endif /* CHIMNEY_BPF_GATE_H */
