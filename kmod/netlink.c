// SPDX-License-Identifier: GPL-2.0
/*
 * Generic netlink, for programs that want to know what chimney does and have no
 * use for BPF: flows and what becomes of them, devices, reasons.  What there is
 * to ask for is in Documentation/netlink/specs/chimney.yaml, of which the kernel's
 * generator has made netlink-gen.c; here are the answers.
 *
 * Of the connections that are in the host only their sockets and the gate know:
 * chimneyctl flows shows those, too.
 */
#include <linux/rhashtable.h>
#include <net/genetlink.h>
#include <net/sock.h>

#include "device.h"
#include "flow.h"
#include "knobs.h"
#include "netlink.h"
#include "netlink-gen.h"
#include "netns.h"

/* of a state or a reason, with the final zero */
#define NAME_LEN 16

#define NAME(id, name, ...)						\
	[CHIMNEY_##id] = name,
static const char * const states[] = { CHIMNEY_STATES(NAME) };
static const char * const reasons[] = { CHIMNEY_REASONS(NAME) };
#undef NAME

#define WORDS(id, name, words)						\
	[CHIMNEY_##id] = words,
static const char * const reason_words[] = { CHIMNEY_REASONS(WORDS) };
#undef WORDS

/* as generated, and who may listen */
static const struct genl_multicast_group chimney_groups[] = {
	[CHIMNEY_NLGRP_EVENTS] = {
		.name = CHIMNEY_MCGRP_EVENTS,
		.flags = GENL_MCAST_CAP_NET_ADMIN,
	},
};

static struct genl_family chimney_family __ro_after_init = {
	.name = CHIMNEY_FAMILY_NAME,
	.version = CHIMNEY_FAMILY_VERSION,
	.netnsok = true,
	.parallel_ops = true,
	.module = THIS_MODULE,
	.split_ops = chimney_nl_ops,
	.n_split_ops = ARRAY_SIZE(chimney_nl_ops),
	.mcgrps = chimney_groups,
	.n_mcgrps = ARRAY_SIZE(chimney_groups),
};

/* Where a dump has got to. */
union progress {
	struct rhashtable_iter *flow;
	unsigned long ifindex;
	unsigned int reason;
};

static union progress *progress_of(struct netlink_callback *cb)
{
	BUILD_BUG_ON(sizeof(union progress) > sizeof(cb->ctx));
	return (union progress *)cb->ctx;
}

static int put_ends(struct sk_buff *skb, const struct chimney_tuple *flow)
{
	const struct in6_addr *local = (const struct in6_addr *)flow->local;
	const struct in6_addr *remote = (const struct in6_addr *)flow->remote;

	if (flow->family == AF_INET6)
		return nla_put_in6_addr(skb, CHIMNEY_A_FLOW_LOCAL6, local) ?:
		       nla_put_in6_addr(skb, CHIMNEY_A_FLOW_REMOTE6, remote);
	return nla_put_in_addr(skb, CHIMNEY_A_FLOW_LOCAL4,
			       local->s6_addr32[3]) ?:
	       nla_put_in_addr(skb, CHIMNEY_A_FLOW_REMOTE4,
			       remote->s6_addr32[3]);
}

/* What a dump and an event tell alike. */
static int put_flow(struct sk_buff *skb, const struct chimney_event *event)
{
	const struct chimney_tuple *flow = &event->flow;

	return put_ends(skb, flow) ?:
	       nla_put_u16(skb, CHIMNEY_A_FLOW_LOCAL_PORT, flow->lport) ?:
	       nla_put_u16(skb, CHIMNEY_A_FLOW_REMOTE_PORT, flow->rport) ?:
	       (event->ifindex ? nla_put_u32(skb, CHIMNEY_A_FLOW_IFINDEX,
					     event->ifindex) : 0) ?:
	       nla_put_string(skb, CHIMNEY_A_FLOW_STATE, states[event->to]) ?:
	       nla_put_uint(skb, CHIMNEY_A_FLOW_TX_PACKETS,
			    event->tx_packets) ?:
	       nla_put_uint(skb, CHIMNEY_A_FLOW_TX_BYTES, event->tx_bytes) ?:
	       nla_put_uint(skb, CHIMNEY_A_FLOW_RX_PACKETS,
			    event->rx_packets) ?:
	       nla_put_uint(skb, CHIMNEY_A_FLOW_RX_BYTES, event->rx_bytes);
}

static int tell_flow(struct sk_buff *skb, const struct genl_info *info,
		     const struct chimney_flow *flow)
{
	struct chimney_event now = {
		.to = CHIMNEY_OFFLOADED,
		.ifindex = flow->cdev->ifindex,
		.tx_packets = READ_ONCE(flow->tx_packets),
		.tx_bytes = READ_ONCE(flow->tx_bytes),
		.rx_packets = atomic64_read(&flow->rx_packets),
		.rx_bytes = atomic64_read(&flow->rx_bytes),
	};
	void *msg;

	/* just about to be, or no more */
	if (READ_ONCE(flow->state) != CHIMNEY_OFFLOADED)
		return 0;
	msg = genlmsg_iput(skb, info);
	if (!msg)
		return -EMSGSIZE;
	chimney_key_tuple(&flow->key, flow->cnet->net, &now.flow);
	if (put_flow(skb, &now)) {
		genlmsg_cancel(skb, msg);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, msg);
	return 0;
}

/**
 * chimney_nl_flow_get_start() - begin a dump of the flows of a namespace
 * @cb: the dump
 *
 * Return: 0 or -ENOMEM.
 */
int chimney_nl_flow_get_start(struct netlink_callback *cb)
{
	struct chimney_net *cnet = chimney_pernet(sock_net(cb->skb->sk));
	struct rhashtable_iter *iter = kmalloc(sizeof(*iter), GFP_KERNEL);

	if (!iter)
		return -ENOMEM;
	rhashtable_walk_enter(&cnet->table, iter);
	progress_of(cb)->flow = iter;
	return 0;
}

/**
 * chimney_nl_flow_get_done() - end a dump of flows
 * @cb: the dump
 *
 * Return: 0.
 */
int chimney_nl_flow_get_done(struct netlink_callback *cb)
{
	struct rhashtable_iter *iter = progress_of(cb)->flow;

	rhashtable_walk_exit(iter);
	kfree(iter);
	return 0;
}

/**
 * chimney_nl_flow_get_dumpit() - as many flows as find room in a message
 * @skb: the message
 * @cb: the dump
 *
 * Return: 0 at the end, -EMSGSIZE if there are more.
 */
int chimney_nl_flow_get_dumpit(struct sk_buff *skb,
			       struct netlink_callback *cb)
{
	struct rhashtable_iter *iter = progress_of(cb)->flow;
	struct chimney_flow *flow;
	int err = 0;

	rhashtable_walk_start(iter);
	/* the one that found no room in the message before */
	flow = rhashtable_walk_peek(iter);
	while (flow && !err) {
		/* else the table has grown, and the walk begins anew */
		if (!IS_ERR(flow))
			err = tell_flow(skb, genl_info_dump(cb), flow);
		if (!err)
			flow = rhashtable_walk_next(iter);
	}
	rhashtable_walk_stop(iter);
	return err;
}

static int tell_dev(struct sk_buff *skb, const struct genl_info *info,
		    const struct chimney_dev *cdev)
{
	void *msg = genlmsg_iput(skb, info);
	struct chimney_dev_stats sum;

	if (!msg)
		return -EMSGSIZE;
	chimney_dev_sum(cdev, &sum);
	if (nla_put_u32(skb, CHIMNEY_A_DEV_IFINDEX, cdev->ifindex) ||
	    nla_put_string(skb, CHIMNEY_A_DEV_DRIVER, cdev->driver) ||
	    nla_put_u8(skb, CHIMNEY_A_DEV_ENABLE, READ_ONCE(cdev->enable)) ||
	    nla_put_uint(skb, CHIMNEY_A_DEV_TX_PACKETS, sum.tx_packets) ||
	    nla_put_uint(skb, CHIMNEY_A_DEV_TX_BYTES, sum.tx_bytes) ||
	    nla_put_uint(skb, CHIMNEY_A_DEV_RX_PACKETS, sum.rx_packets) ||
	    nla_put_uint(skb, CHIMNEY_A_DEV_RX_BYTES, sum.rx_bytes) ||
	    nla_put_uint(skb, CHIMNEY_A_DEV_OFFLOADS, sum.offloads) ||
	    nla_put_uint(skb, CHIMNEY_A_DEV_UPLOADS, sum.uploads) ||
	    nla_put_uint(skb, CHIMNEY_A_DEV_FALLBACKS, sum.fallbacks)) {
		genlmsg_cancel(skb, msg);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, msg);
	return 0;
}

/**
 * chimney_nl_dev_get_doit() - one device
 * @skb: the request
 * @info: the same, with its attributes
 *
 * Return: 0 or a negative errno.
 */
int chimney_nl_dev_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct chimney_dev *cdev;
	struct net_device *dev;
	struct sk_buff *reply;
	int err = -ENODEV;
	u32 ifindex;

	if (GENL_REQ_ATTR_CHECK(info, CHIMNEY_A_DEV_IFINDEX))
		return -EINVAL;
	ifindex = nla_get_u32(info->attrs[CHIMNEY_A_DEV_IFINDEX]);
	reply = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!reply)
		return -ENOMEM;

	rcu_read_lock();
	dev = dev_get_by_index_rcu(genl_info_net(info), ifindex);
	cdev = dev ? chimney_dev_find(dev) : NULL;
	if (cdev)
		err = tell_dev(reply, info, cdev);
	rcu_read_unlock();
	if (!err)
		return genlmsg_reply(reply, info);

	if (err == -ENODEV)
		NL_SET_ERR_MSG_ATTR(info->extack,
				    info->attrs[CHIMNEY_A_DEV_IFINDEX],
				    "no such device in this network namespace");
	nlmsg_free(reply);
	return err;
}

/**
 * chimney_nl_dev_get_dumpit() - as many devices as find room in a message
 * @skb: the message
 * @cb: the dump
 *
 * Return: 0 at the end, -EMSGSIZE if there are more.
 */
int chimney_nl_dev_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb)
{
	union progress *progress = progress_of(cb);
	struct chimney_dev *cdev;
	struct net_device *dev;
	int err = 0;

	rcu_read_lock();
	for_each_netdev_dump(sock_net(skb->sk), dev, progress->ifindex) {
		cdev = chimney_dev_find(dev);
		if (cdev)
			err = tell_dev(skb, genl_info_dump(cb), cdev);
		if (err)
			break;
	}
	rcu_read_unlock();
	return err;
}

/**
 * chimney_nl_reason_get_dumpit() - as many reasons as find room in a message
 * @skb: the message
 * @cb: the dump
 *
 * Return: 0 at the end, -EMSGSIZE if there are more.
 */
int chimney_nl_reason_get_dumpit(struct sk_buff *skb,
				 struct netlink_callback *cb)
{
	union progress *progress = progress_of(cb);
	unsigned int reason;
	void *msg;

	/* all but "none" */
	for (; progress->reason < CHIMNEY_REASON_MAX - 1; progress->reason++) {
		reason = progress->reason + 1;
		msg = genlmsg_iput(skb, genl_info_dump(cb));
		if (!msg)
			return -EMSGSIZE;
		if (nla_put_string(skb, CHIMNEY_A_REASON_NAME, reasons[reason]) ||
		    nla_put_string(skb, CHIMNEY_A_REASON_WORDS,
				   reason_words[reason]) ||
		    nla_put_uint(skb, CHIMNEY_A_REASON_COUNT,
				 atomic64_read(&chimney_reason_count[reason]))) {
			genlmsg_cancel(skb, msg);
			return -EMSGSIZE;
		}
		genlmsg_end(skb, msg);
	}
	return 0;
}

static size_t event_size(void)
{
#define FITS(id, name, ...) BUILD_BUG_ON_ZERO(sizeof(name) > NAME_LEN) +
	return CHIMNEY_STATES(FITS) CHIMNEY_REASONS(FITS)
#undef FITS
	       2 * nla_total_size(sizeof(struct in6_addr)) +
	       2 * nla_total_size(sizeof(u16)) + nla_total_size(sizeof(u32)) +
	       3 * nla_total_size(NAME_LEN) + 4 * nla_total_size(sizeof(u64));
}

static struct sk_buff *event_message(const struct chimney_event *event)
{
	struct sk_buff *skb;
	void *msg;

	skb = genlmsg_new(event_size(), GFP_ATOMIC | __GFP_NOWARN);
	if (!skb)
		return NULL;
	msg = genlmsg_put(skb, 0, 0, &chimney_family, 0,
			  CHIMNEY_CMD_FLOW_CHANGE_NTF);
	if (!msg || put_flow(skb, event) ||
	    nla_put_string(skb, CHIMNEY_A_FLOW_FROM, states[event->from]) ||
	    nla_put_string(skb, CHIMNEY_A_FLOW_REASON, reasons[event->reason])) {
		nlmsg_free(skb);
		return NULL;
	}
	genlmsg_end(skb, msg);
	return skb;
}

/**
 * chimney_netlink_event() - tell those who listen that a flow has changed
 * @net: its namespace
 * @event: what has happened
 *
 * Who could not be told finds out by ENOBUFS from recv().
 *
 * Context: any but hard interrupts.
 */
void chimney_netlink_event(struct net *net, const struct chimney_event *event)
{
	struct sk_buff *skb;

	if (!genl_has_listeners(&chimney_family, net, CHIMNEY_NLGRP_EVENTS))
		return;
	skb = event_message(event);
	if (skb)
		genlmsg_multicast_netns(&chimney_family, net, skb, 0,
					CHIMNEY_NLGRP_EVENTS, GFP_ATOMIC);
	else
		genl_set_err(&chimney_family, net, 0, CHIMNEY_NLGRP_EVENTS,
			     -ENOBUFS);
}

/**
 * chimney_netlink_init() - make the family known
 *
 * Return: 0 or a negative errno.
 */
int chimney_netlink_init(void)
{
	return genl_register_family(&chimney_family);
}

/**
 * chimney_netlink_exit() - the reverse
 *
 * Context: process; all flows are gone.
 */
void chimney_netlink_exit(void)
{
	genl_unregister_family(&chimney_family);
}
