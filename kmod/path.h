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
 * chimney_ip4_csum() - ip_fast_csum() of a header without options
 * @iph: the header
 *
 * Five words, no loop.
 *
 * Return: the checksum, or 0 if the one in the header is right.
 */
static __always_inline __sum16 chimney_ip4_csum(const struct iphdr *iph)
{
	const u32 *word = (const u32 *)iph;
	u64 sum = (u64)word[0] + word[1] + word[2] + word[3] + word[4];

	return csum_fold(csum_add((__force __wsum)(u32)sum,
				  (__force __wsum)(u32)(sum >> 32)));
}

int chimney_transmit(struct sock *sk, struct sk_buff *skb, struct flowi *fl);
unsigned int chimney_receive(void *priv, struct sk_buff *skb,
			     const struct nf_hook_state *state);

#endif /* CHIMNEY_PATH_H */
