// SPDX-License-Identifier: GPL-2.0
/*
 * Network namespaces.  Each has a flow table, a policy epoch and, while a gate
 * is attached, hooks of its own, from the moment it is made: a container that
 * starts later is covered without anyone doing anything.  (A bpf netfilter
 * link per namespace would keep the namespace alive after "ip netns del".)
 */
#include <linux/module.h>
#include <net/raw.h>
#include <net/rawv6.h>

#include "flow.h"
#include "gate.h"
#include "judge.h"
#include "netns.h"

unsigned int chimney_net_id __read_mostly;
LIST_HEAD(chimney_nets);
/* chimney_nets, the table of devices, and which hooks are registered */
DEFINE_MUTEX(chimney_mutex);

static void chimney_net_hook(struct chimney_net *cnet, bool on)
{
	if (on == cnet->hooked)
		return;
	if (on)
		cnet->hooked = !chimney_judge_register(cnet);
	else
		chimney_judge_unregister(cnet);
	if (!on)
		cnet->hooked = false;
}

/**
 * chimney_net_rearm() - hook or unhook every namespace
 *
 * Brings the judging hooks in line with chimney_gate_armed().  Where hooking
 * fails, flows are never judged and stay in the host.
 *
 * Context: process, chimney_mutex held.
 */
void chimney_net_rearm(void)
{
	struct chimney_net *cnet;

	lockdep_assert_held(&chimney_mutex);
	list_for_each_entry(cnet, &chimney_nets, node)
		chimney_net_hook(cnet, chimney_gate_armed());
}

static int __net_init chimney_net_init(struct net *net)
{
	struct chimney_net *cnet = chimney_pernet(net);
	int err;

	cnet->net = net;
	INIT_LIST_HEAD(&cnet->flows);
	spin_lock_init(&cnet->lock);
	atomic64_set(&cnet->epoch, 1);
	cnet->epoch_gp = start_poll_synchronize_rcu();
	cnet->raw4 = &raw_v4_hashinfo.ht[raw_hashfunc(net, IPPROTO_TCP)];
	cnet->raw6 = &raw_v6_hashinfo.ht[raw_hashfunc(net, IPPROTO_TCP)];

	err = rhashtable_init(&cnet->table, &chimney_flow_params);
	if (err)
		return err;

	mutex_lock(&chimney_mutex);
	list_add_tail_rcu(&cnet->node, &chimney_nets);
	chimney_net_hook(cnet, chimney_gate_armed());
	mutex_unlock(&chimney_mutex);
	return 0;
}

/* The core waits for an RCU grace period between this and the next. */
static void __net_exit chimney_net_pre_exit(struct net *net)
{
	struct chimney_net *cnet = chimney_pernet(net);

	mutex_lock(&chimney_mutex);
	chimney_net_hook(cnet, false);
	list_del_rcu(&cnet->node);
	mutex_unlock(&chimney_mutex);
}

/*
 * Sockets hold their namespace until they are destroyed (those that do not,
 * the kernel's own, are never offloaded), so no flow is left by now.  When the
 * module goes, chimney_flows_drain() has seen to that.
 */
static void __net_exit chimney_net_exit(struct net *net)
{
	struct chimney_net *cnet = chimney_pernet(net);

	WARN_ON_ONCE(!list_empty(&cnet->flows));
	rhashtable_destroy(&cnet->table);
}

static struct pernet_operations chimney_net_ops = {
	.init = chimney_net_init,
	.pre_exit = chimney_net_pre_exit,
	.exit = chimney_net_exit,
	.id = &chimney_net_id,
	.size = sizeof(struct chimney_net),
};

/**
 * chimney_netns_init() - start to keep state for every namespace
 *
 * Return: 0 or a negative errno.
 */
int chimney_netns_init(void)
{
	return register_pernet_subsys(&chimney_net_ops);
}

/**
 * chimney_netns_exit() - the reverse; all flows must be gone
 */
void chimney_netns_exit(void)
{
	unregister_pernet_subsys(&chimney_net_ops);
}
