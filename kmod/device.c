// SPDX-License-Identifier: GPL-2.0
/*
 * Network devices: the switch, the counters, and the ingress hook that takes
 * received packets off to chimney_receive().
 *
 * The hook is the one that nf_flow_table uses: it comes after GRO, packet taps,
 * XDP and tc, it is not exclusive, and every kind of device has it.  It runs
 * last of all ingress hooks, so that nftables' netdev chains still decide.
 */
#include <linux/hashtable.h>
#include <linux/if_macvlan.h>
#include <linux/module.h>
#include <linux/rtnetlink.h>

#include "compat.h"
#include "device.h"
#include "drivers.h"
#include "flow.h"
#include "gate.h"
#include "netns.h"
#include "path.h"

static DEFINE_HASHTABLE(chimney_devs, 8);

static bool chimney_dev_served(const struct net_device *dev)
{
	return dev->type == ARPHRD_ETHER && !(dev->flags & IFF_LOOPBACK);
}

static const char *chimney_dev_driver(const struct net_device *dev)
{
	const struct device *parent = dev->dev.parent;

	if (dev->rtnl_link_ops)
		return dev->rtnl_link_ops->kind;
	return parent && parent->driver ? parent->driver->name : "";
}

/**
 * chimney_dev_find() - chimney's part of a device
 * @dev: the device
 *
 * Context: RCU read side or chimney_mutex held.
 * Return: NULL if there is none.
 */
struct chimney_dev *chimney_dev_find(const struct net_device *dev)
{
	struct chimney_dev *cdev;

	hash_for_each_possible_rcu(chimney_devs, cdev, node,
				   (unsigned long)dev,
				   lockdep_is_held(&chimney_mutex))
		if (cdev->dev == dev)
			return cdev;
	return NULL;
}

/**
 * chimney_dev_get() - the same with a reference, if the device is switched on
 * @dev: the device
 *
 * Return: NULL if flows on @dev are to stay in the host.
 */
struct chimney_dev *chimney_dev_get(const struct net_device *dev)
{
	struct chimney_dev *cdev;

	rcu_read_lock();
	cdev = chimney_dev_find(dev);
	if (cdev && (!READ_ONCE(cdev->hooked) ||
		     !refcount_inc_not_zero(&cdev->ref)))
		cdev = NULL;
	rcu_read_unlock();
	return cdev;
}

static bool chimney_dev_is_kind(const struct net_device *dev, const char *kind)
{
	return dev->rtnl_link_ops && !strcmp(dev->rtnl_link_ops->kind, kind);
}

static int chimney_dev_l3_handler(struct net_device *lower,
				  struct netdev_nested_priv *priv)
{
	return netif_has_l3_rx_handler(lower);
}

/**
 * chimney_dev_passed_by() - does what a device receives pass its hook by?
 * @dev: the device
 *
 * ipvlan in mode l3s: the device below takes it through IP and netfilter in its
 * own namespace and hands it over as the last thing.
 *
 * Context: RCU read side.
 */
bool chimney_dev_passed_by(struct net_device *dev)
{
	struct netdev_nested_priv priv = {};

	return chimney_dev_is_kind(dev, "ipvlan") &&
	       netdev_walk_all_lower_dev_rcu(dev, chimney_dev_l3_handler,
					     &priv);
}

/**
 * chimney_dev_taken() - does another device take what this one receives?
 * @dev: the device
 *
 * A bridge, bond or team of which it is a port, a macvtap's reader, MACsec: each
 * has an rx_handler, which comes after the hook and may take the packet, or a
 * copy, to where other rules wait for it.  Some masters are linked before they
 * have theirs.  The handlers of macvlan and ipvlan take what is for the devices
 * above and leave the rest, but for macvlan's modes passthru, which takes all,
 * and source, which goes by the sender.
 *
 * Context: RCU read side.
 */
bool chimney_dev_taken(struct net_device *dev)
{
	bool leaves_rest = false;
	struct list_head *iter;
	struct net_device *upper;
	enum macvlan_mode mode;

	if (netdev_master_upper_dev_get_rcu(dev))
		return true;
	if (!rcu_access_pointer(dev->rx_handler))
		return false;
	netdev_for_each_upper_dev_rcu(dev, upper, iter) {
		if (netif_is_macvlan(upper)) {
			mode = READ_ONCE(((struct macvlan_dev *)
					  netdev_priv(upper))->mode);
			if (mode == MACVLAN_MODE_PASSTHRU ||
			    mode == MACVLAN_MODE_SOURCE)
				return true;
			leaves_rest = true;
		} else if (chimney_dev_is_kind(upper, "ipvlan") ||
			   chimney_dev_is_kind(upper, "ipvtap")) {
			leaves_rest = true;
		}
	}
	return !leaves_rest;
}

static void chimney_dev_free(struct rcu_head *rcu)
{
	struct chimney_dev *cdev = container_of(rcu, struct chimney_dev, rcu);

	free_percpu(cdev->stats);
	kfree(cdev);
}

/**
 * chimney_dev_put() - drop a reference
 * @cdev: the device's part
 */
void chimney_dev_put(struct chimney_dev *cdev)
{
	if (refcount_dec_and_test(&cdev->ref))
		call_rcu(&cdev->rcu, chimney_dev_free);
}

/* Bring the ingress hook in line with the switches. */
static void chimney_dev_hook(struct chimney_dev *cdev)
{
	bool on = cdev->enable && chimney_gate_armed();
	struct net *net = dev_net(cdev->dev);

	lockdep_assert_held(&chimney_mutex);
	if (on == cdev->hooked)
		return;
	if (on) {
		WRITE_ONCE(cdev->hooked,
			   !nf_register_net_hook(net, &cdev->hook));
		return;
	}
	WRITE_ONCE(cdev->hooked, false);
	chimney_flows_revoke_dev(cdev->dev, CHIMNEY_DEVICE);
	nf_unregister_net_hook(net, &cdev->hook);
}

/**
 * chimney_dev_rearm() - hook or unhook every device
 *
 * Context: process, chimney_mutex held.
 */
void chimney_dev_rearm(void)
{
	struct chimney_dev *cdev;
	int bkt;

	hash_for_each(chimney_devs, bkt, cdev, node)
		chimney_dev_hook(cdev);
}

/**
 * chimney_driver_enable() - switch all devices of a driver
 * @driver: its name
 * @enable: on or off
 *
 * Context: process, chimney_mutex held.
 */
void chimney_driver_enable(const char *driver, bool enable)
{
	struct chimney_dev *cdev;
	int bkt;

	hash_for_each(chimney_devs, bkt, cdev, node) {
		if (strcmp(cdev->driver, driver))
			continue;
		cdev->enable = enable && chimney_dev_served(cdev->dev);
		chimney_dev_hook(cdev);
	}
}

static ssize_t enable_show(struct device *dev, struct device_attribute *attr,
			   char *buf)
{
	struct chimney_dev *cdev;
	bool enable = false;

	rcu_read_lock();
	cdev = chimney_dev_find(to_net_dev(dev));
	if (cdev)
		enable = cdev->enable;
	rcu_read_unlock();
	return sysfs_emit(buf, "%d\n", enable);
}

static ssize_t enable_store(struct device *dev, struct device_attribute *attr,
			    const char *buf, size_t len)
{
	struct net_device *netdev = to_net_dev(dev);
	struct chimney_dev *cdev;
	bool enable;

	/* a user namespace may own the device, but not what carries its flows */
	if (!capable(CAP_NET_ADMIN))
		return -EPERM;
	if (kstrtobool(buf, &enable)) {
		netdev_warn(netdev,
			    "chimney/enable: \"%.*s\" is not allowed: 0 or 1\n",
			    (int)strcspn(buf, "\n"), buf);
		return -EINVAL;
	}
	if (enable && !chimney_dev_served(netdev)) {
		netdev_warn(netdev,
			    "chimney/enable: only Ethernet devices are served\n");
		return -EOPNOTSUPP;
	}

	mutex_lock(&chimney_mutex);
	cdev = chimney_dev_find(netdev);
	if (cdev) {
		cdev->enable = enable;
		chimney_dev_hook(cdev);
	}
	mutex_unlock(&chimney_mutex);
	return cdev ? len : -ENODEV;
}
static DEVICE_ATTR_RW(enable);

/**
 * chimney_dev_sum() - a device's counters
 * @cdev: the device's part
 * @sum: gets what all CPUs have counted
 */
void chimney_dev_sum(const struct chimney_dev *cdev,
		     struct chimney_dev_stats *sum)
{
	const struct chimney_dev_stats *stats;
	int cpu;

	memset(sum, 0, sizeof(*sum));
	for_each_possible_cpu(cpu) {
		stats = per_cpu_ptr(cdev->stats, cpu);
		sum->tx_packets += READ_ONCE(stats->tx_packets);
		sum->tx_bytes += READ_ONCE(stats->tx_bytes);
		sum->rx_packets += READ_ONCE(stats->rx_packets);
		sum->rx_bytes += READ_ONCE(stats->rx_bytes);
		sum->offloads += READ_ONCE(stats->offloads);
		sum->uploads += READ_ONCE(stats->uploads);
		sum->fallbacks += READ_ONCE(stats->fallbacks);
	}
}

static ssize_t stat_show(const struct device *dev, char *buf, size_t offset)
{
	struct chimney_dev_stats sum = {};
	struct chimney_dev *cdev;

	rcu_read_lock();
	cdev = chimney_dev_find(to_net_dev(dev));
	if (cdev)
		chimney_dev_sum(cdev, &sum);
	rcu_read_unlock();
	return sysfs_emit(buf, "%llu\n", *(u64 *)((char *)&sum + offset));
}

#define CHIMNEY_DEV_STAT(name)						       \
static ssize_t name##_show(struct device *dev, struct device_attribute *attr,  \
			   char *buf)					       \
{									       \
	return stat_show(dev, buf, offsetof(struct chimney_dev_stats, name));  \
}									       \
static DEVICE_ATTR_RO(name)

CHIMNEY_DEV_STAT(tx_packets);
CHIMNEY_DEV_STAT(tx_bytes);
CHIMNEY_DEV_STAT(rx_packets);
CHIMNEY_DEV_STAT(rx_bytes);
CHIMNEY_DEV_STAT(offloads);
CHIMNEY_DEV_STAT(uploads);
CHIMNEY_DEV_STAT(fallbacks);

static struct attribute *chimney_dev_attrs[] = {
	&dev_attr_enable.attr,
	&dev_attr_tx_packets.attr,
	&dev_attr_tx_bytes.attr,
	&dev_attr_rx_packets.attr,
	&dev_attr_rx_bytes.attr,
	&dev_attr_offloads.attr,
	&dev_attr_uploads.attr,
	&dev_attr_fallbacks.attr,
	NULL,
};

static const struct attribute_group chimney_dev_group = {
	.name = "chimney",
	.attrs = chimney_dev_attrs,
};

static void chimney_dev_speed(struct chimney_dev *cdev)
{
	struct ethtool_link_ksettings link;
	u32 speed = 0;

	ASSERT_RTNL();
	if (!chimney_link_settings(cdev->dev, &link) &&
	    link.base.speed != SPEED_UNKNOWN)
		speed = link.base.speed;
	WRITE_ONCE(cdev->speed, speed);
}

/*
 * Rules may go by the group of a device.  Of one that is written to sysfs nobody
 * is told.
 */
static void chimney_dev_regrouped(struct chimney_dev *cdev)
{
	const struct net_device *dev = cdev->dev;

	ASSERT_RTNL();
	if (cdev->group == dev->group)
		return;
	cdev->group = dev->group;
	chimney_flows_revoke_dev(dev, CHIMNEY_LINK);
}

static void chimney_dev_add(struct net_device *dev)
{
	struct chimney_dev *cdev;

	cdev = kzalloc(sizeof(*cdev), GFP_KERNEL);
	if (!cdev)
		return;
	cdev->stats = alloc_percpu(struct chimney_dev_stats);
	if (!cdev->stats) {
		kfree(cdev);
		return;
	}
	cdev->dev = dev;
	cdev->ifindex = dev->ifindex;
	cdev->group = dev->group;
	cdev->cnet = chimney_pernet(dev_net(dev));
	cdev->driver = chimney_dev_driver(dev);
	refcount_set(&cdev->ref, 1);
	cdev->hook.hook = chimney_receive;
	cdev->hook.priv = cdev;
	cdev->hook.dev = dev;
	cdev->hook.pf = NFPROTO_NETDEV;
	cdev->hook.hooknum = NF_NETDEV_INGRESS;
	cdev->hook.priority = INT_MAX;

	cdev->files = !sysfs_create_group(&dev->dev.kobj, &chimney_dev_group);
	if (!cdev->files)
		netdev_warn(dev, "chimney: no sysfs files\n");
	mutex_lock(&chimney_mutex);
	cdev->enable = chimney_dev_served(dev) &&
		       chimney_driver_listed(cdev->driver);
	hash_add_rcu(chimney_devs, &cdev->node, (unsigned long)dev);
	chimney_dev_hook(cdev);
	mutex_unlock(&chimney_mutex);
}

static void chimney_dev_del(struct net_device *dev)
{
	struct chimney_dev *cdev;
	bool files;

	rcu_read_lock();
	cdev = chimney_dev_find(dev);
	files = cdev && cdev->files;
	rcu_read_unlock();
	/* waits for readers of the files, who may wait for the mutex */
	if (files)
		sysfs_remove_group(&dev->dev.kobj, &chimney_dev_group);

	mutex_lock(&chimney_mutex);
	cdev = chimney_dev_find(dev);
	if (cdev) {
		cdev->enable = false;
		chimney_dev_hook(cdev);
		hash_del_rcu(&cdev->node);
		chimney_dev_put(cdev);
	}
	mutex_unlock(&chimney_mutex);
}

/*
 * A device may have changed its mode, and with it what it takes of that below
 * and whether others of its kind are passed by.  Flows leave the path when what
 * they receive is another's by now; a port has none.
 */
static void chimney_dev_mode_changed(struct net_device *dev)
{
	struct list_head *lower_iter, *upper_iter;
	struct net_device *lower, *upper;

	ASSERT_RTNL();
	rcu_read_lock();
	netdev_for_each_lower_dev(dev, lower, lower_iter) {
		if (!netdev_master_upper_dev_get_rcu(lower) &&
		    chimney_dev_taken(lower))
			chimney_flows_revoke_dev(lower, CHIMNEY_RX_HANDLER);
		netdev_for_each_upper_dev_rcu(lower, upper, upper_iter)
			if (chimney_dev_passed_by(upper))
				chimney_flows_revoke_dev(upper, CHIMNEY_DEVICE);
	}
	rcu_read_unlock();
}

static int chimney_dev_event(struct notifier_block *nb, unsigned long event,
			     void *ptr)
{
	struct net_device *dev = netdev_notifier_info_to_dev(ptr);
	struct chimney_dev *cdev;

	switch (event) {
	case NETDEV_REGISTER:
		chimney_dev_add(dev);
		break;
	case NETDEV_UNREGISTER:
		chimney_dev_del(dev);
		break;
	case NETDEV_UP:
	case NETDEV_CHANGE:
		rcu_read_lock();
		cdev = chimney_dev_find(dev);
		rcu_read_unlock();
		/* the RTNL keeps it */
		if (cdev) {
			chimney_dev_speed(cdev);
			chimney_dev_regrouped(cdev);
		}
		chimney_dev_mode_changed(dev);
		break;
	case NETDEV_GOING_DOWN:
	case NETDEV_DOWN:
	case NETDEV_CHANGEADDR:
	case NETDEV_CHANGEUPPER:
	case NETDEV_CHANGEMTU:
	/* rules may go by it */
	case NETDEV_CHANGENAME:
		chimney_flows_revoke_dev(dev, CHIMNEY_LINK);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block chimney_dev_notifier = {
	.notifier_call = chimney_dev_event,
};

/**
 * chimney_devices_init() - follow all devices, those that exist included
 *
 * Return: 0 or a negative errno.
 */
int chimney_devices_init(void)
{
	return register_netdevice_notifier(&chimney_dev_notifier);
}

/**
 * chimney_devices_exit() - the reverse; no hook may be left afterwards
 */
void chimney_devices_exit(void)
{
	/* replays NETDEV_UNREGISTER for every device */
	unregister_netdevice_notifier(&chimney_dev_notifier);
}
