/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who else sees packets?  The gate knows of captures from the calls that start
 * and end them.  These are the guards behind it: they cost a load or two for
 * each packet and depend on nobody.
 */
#ifndef CHIMNEY_CAPTURE_H
#define CHIMNEY_CAPTURE_H

#include <linux/netdevice.h>
#include <net/inet_sock.h>

#include "compat.h"

/* Taps on all devices may be in one list for all namespaces. */
static inline unsigned int chimney_capture_taps(const struct net_device *dev,
						const struct net *net)
{
	const struct packet_type *pt;
	unsigned int n = 0;

	list_for_each_entry_rcu(pt, &dev->ptype_all, list)
		n++;
	list_for_each_entry_rcu(pt, chimney_taps(net), list)
		if (!pt->af_packet_net || net_eq(pt->af_packet_net, net))
			n++;
	return n;
}

/* One of these sees nothing but packets of its own EtherType. */
static inline bool chimney_capture_specific(const struct net_device *dev,
					    __be16 ethertype)
{
	const struct packet_type *pt;

	list_for_each_entry_rcu(pt, &dev->ptype_specific, list)
		if (pt->type == ethertype)
			return true;
	return false;
}

/**
 * chimney_capture_active() - is there a packet tap that sees a device?
 * @dev: the device
 * @net: its namespace
 * @ethertype: of the packets that matter
 * @blind: how many taps for all EtherTypes are known not to want them; lowered
 *	when there are fewer
 *
 * Context: RCU read side.
 */
static inline bool chimney_capture_active(const struct net_device *dev,
					  const struct net *net,
					  __be16 ethertype, u8 *blind)
{
	unsigned int taps = 0, known = READ_ONCE(*blind);

	if (unlikely(!list_empty(&dev->ptype_specific)) &&
	    chimney_capture_specific(dev, ethertype))
		return true;
	if (unlikely(!list_empty(&dev->ptype_all) ||
		     !list_empty(chimney_taps(net))))
		taps = chimney_capture_taps(dev, net);
	if (unlikely(taps < known))
		WRITE_ONCE(*blind, taps);
	return unlikely(taps > known);
}

static inline int chimney_capture_lower_dev(struct net_device *dev,
					    struct netdev_nested_priv *priv)
{
	return chimney_capture_specific(dev, *(__be16 *)priv->data);
}

/**
 * chimney_capture_lower() - does a tap on a lower device miss what is stolen?
 * @dev: device of a flow
 * @ethertype: of its packets
 *
 * A tap that is bound to one EtherType gets a packet after the devices above
 * its own have had it.
 *
 * Context: RCU read side.
 */
static inline bool chimney_capture_lower(struct net_device *dev,
					 __be16 ethertype)
{
	struct netdev_nested_priv priv = { .data = &ethertype };

	return netdev_walk_all_lower_dev_rcu(dev, chimney_capture_lower_dev,
					     &priv);
}

/**
 * chimney_raw_active() - is there a raw socket that is given TCP packets?
 * @bucket: where it would be
 * @net: its namespace
 *
 * Context: RCU read side.
 */
static inline bool chimney_raw_active(const struct hlist_head *bucket,
				      const struct net *net)
{
	const struct sock *sk;

	if (likely(hlist_empty(bucket)))
		return false;
	sk_for_each_rcu(sk, bucket)
		if (net_eq(sock_net(sk), net) &&
		    inet_sk(sk)->inet_num == IPPROTO_TCP)
			return true;
	return false;
}

#endif /* CHIMNEY_CAPTURE_H */
