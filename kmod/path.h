/* SPDX-License-Identifier: GPL-2.0 */
/* The two ends of the path, each in a file of its own name. */
#ifndef CHIMNEY_PATH_H
#define CHIMNEY_PATH_H

#include <linux/netfilter.h>

#include <net/checksum.h>
#include <net/ip.h>

struct flowi;
struct sk_buff;
struct sock;

/**
 * chimney_ip4_sum() - the sum of an IPv4 header's words
 * @iph: a header without options
 *
 * 2^16 is 1 modulo 0xffff, which is what the header's checksum counts in: so
 * words of 32 bits do, and nothing need be carried.
 *
 * Return: a multiple of 0xffff if the checksum in the header is right.
 */
static inline u64 chimney_ip4_sum(const struct iphdr *iph)
{
	const u32 *word = (const u32 *)iph;

	return (u64)word[0] + word[1] + word[2] + word[3] + word[4];
}

int chimney_transmit(struct sock *sk, struct sk_buff *skb, struct flowi *fl);
int chimney_transmit6(struct sock *sk, struct sk_buff *skb, struct flowi *fl);
unsigned int chimney_receive(void *priv, struct sk_buff *skb,
			     const struct nf_hook_state *state);

#endif /* CHIMNEY_PATH_H */
