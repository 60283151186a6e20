/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a site may say about its flows without writing a gate of its own.  It
 * implements the one function here, and links that with gate.bpf.o:
 *
 *	bpftool gen object my_gate.bpf.o gate.bpf.o my_rules.bpf.o
 *	chimneyctl gate replace my_gate.bpf.o
 *
 * Everything else that the gate looks at it goes on looking at: a site can keep
 * more flows in the host, and cannot get one out of there.  examples/ has one.
 * Include vmlinux.h and bpf/bpf_helpers.h before.
 */
#ifndef CHIMNEY_BPF_SITE_H
#define CHIMNEY_BPF_SITE_H

/* macros are not in BTF */
#define CHIMNEY_MASK(id) (1ULL << CHIMNEY_##id)

/**
 * site_judge() - a site's own rules about a flow
 * @sk: the flow's socket, not locked
 * @flow: its addresses and ports, IPv4 as v4-mapped IPv6, ports in host order
 *
 * Called for some packets of a flow that is in the host, in both directions,
 * whenever it is judged afresh.  An answer is good until the policy changes:
 * who decides by what may change calls chimney_revoke() when it does.
 *
 * Context: softirq or process, RCU read side.
 * Return: mask of enum chimney_reason, CHIMNEY_MASK(SITE) for want of a better
 * one, or 0: it may be offloaded.
 */
u64 site_judge(struct sock *sk __arg_trusted,
	       const struct chimney_tuple *flow __arg_nonnull);

#endif /* CHIMNEY_BPF_SITE_H */
