/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHIMNEY_NETNS_H
#define CHIMNEY_NETNS_H

#include <linux/hash.h>
#include <linux/netfilter.h>
#include <linux/rhashtable.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>

#include "uapi.h"

/* IPv4 and IPv6, POST_ROUTING and LOCAL_IN */
#define CHIMNEY_JUDGE_HOOKS 4

#define CHIMNEY_PORTS_BITS 10

/**
 * struct chimney_net - what chimney keeps for one network namespace
 * @net: the namespace
 * @node: in chimney_nets; changed under chimney_mutex, read under RCU
 * @table: offloaded flows by tuple, read for every packet received
 * @flows: every installed flow, also while it is uploading; changed under
 *	@lock, read under RCU
 * @lock: protects changes of @flows and @epoch; taken with bottom halves off
 * @nr_flows: flows that are offloading, offloaded or uploading
 * @nr_offloaded: entries of @table
 * @ports: how many entries of @table have a pair of ports with this hash
 * @epoch: version of the policy in force; a verdict given in another epoch
 *	is void
 * @epoch_gp: RCU grace period that has to end before packets are judged in
 *	@epoch: one that is judged now may have passed the rules of the last
 * @moment: when @epoch began or a flow was sent back to the host, jiffies
 * @revoked: whose verdicts became void when it began, by @lock
 * @revoked_for: why
 * @raw4: bucket in which IPv4 raw sockets on TCP would be found
 * @raw6: the same for IPv6
 * @hooks: the judging hooks
 * @hooked: @hooks are registered; under chimney_mutex
 */
struct chimney_net {
	struct net *net;
	struct list_head node;
	struct rhashtable table;
	struct list_head flows;
	spinlock_t lock; /* changes of @flows and @epoch */
	atomic_t nr_flows;
	atomic_t nr_offloaded;
	atomic_t ports[1 << CHIMNEY_PORTS_BITS];
	atomic64_t epoch;
	unsigned long epoch_gp;
	unsigned long moment;
	struct chimney_selector revoked;
	enum chimney_reason revoked_for;
	struct hlist_head *raw4;
	struct hlist_head *raw6;
	struct nf_hook_ops hooks[CHIMNEY_JUDGE_HOOKS];
	bool hooked;
};

extern unsigned int chimney_net_id;
extern struct list_head chimney_nets;

/* Order of locks: rtnl, then chimney_mutex, then whatever netfilter takes. */
extern struct mutex chimney_mutex;

/**
 * chimney_pernet() - chimney's part of a network namespace
 * @net: the namespace
 */
static inline struct chimney_net *chimney_pernet(const struct net *net)
{
	return net_generic(net, chimney_net_id);
}

/**
 * chimney_ports_hash() - index in chimney_net.ports
 * @ports: source and destination as a received TCP header has them
 */
static __always_inline u32 chimney_ports_hash(u32 ports)
{
	return hash_32(ports, CHIMNEY_PORTS_BITS);
}

void chimney_net_rearm(void);
int chimney_netns_init(void);
void chimney_netns_exit(void);

#endif /* CHIMNEY_NETNS_H */
