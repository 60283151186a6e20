/* SPDX-License-Identifier: GPL-2.0 */
/* The two ends of the path, each in a file of its own name. */
#ifndef CHIMNEY_PATH_H
#define CHIMNEY_PATH_H

#include <linux/netfilter.h>

struct flowi;
struct sk_buff;
struct sock;

int chimney_transmit(struct sock *sk, struct sk_buff *skb, struct flowi *fl);
unsigned int chimney_receive(void *priv, struct sk_buff *skb,
			     const struct nf_hook_state *state);

#endif /* CHIMNEY_PATH_H */
