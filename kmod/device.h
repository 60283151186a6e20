/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHIMNEY_DEVICE_H
#define CHIMNEY_DEVICE_H

#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/refcount.h>

struct chimney_net;

/**
 * struct chimney_dev_stats - one CPU's share of a device's counters
 * @tx_packets: sent by the path (GSO counts once)
 * @tx_bytes: likewise, IP header included
 * @rx_packets: received by the path (GRO counts once)
 * @rx_bytes: likewise, IP header included
 * @offloads: flows installed
 * @uploads: flows uploaded
 * @fallbacks: packets of its offloaded flows that took the host path
 */
struct chimney_dev_stats {
	u64 tx_packets;
	u64 tx_bytes;
	u64 rx_packets;
	u64 rx_bytes;
	u64 offloads;
	u64 uploads;
	u64 fallbacks;
};

/**
 * struct chimney_dev - what chimney keeps for one network device
 * @dev: the device; no reference, the notifier tells when it goes
 * @ifindex: its index
 * @cnet: its namespace; a device that moves to another begins anew
 * @node: in the table of devices, under RCU
 * @driver: name of its driver, which stays for as long as the device does
 * @enable: the administrator's switch
 * @speed: link speed in Mbit/s, 0 if the driver does not report one
 * @group: its group when the notifier was last called; under the RTNL
 * @hook: its ingress hook
 * @hooked: @hook is registered; under chimney_mutex
 * @files: its sysfs files are there
 * @stats: counters
 * @ref: one while the device exists, one for each flow
 * @rcu: frees it
 */
struct chimney_dev {
	struct net_device *dev;
	int ifindex;
	struct chimney_net *cnet;
	struct hlist_node node;
	const char *driver;
	bool enable;
	u32 speed;
	int group;
	struct nf_hook_ops hook;
	bool hooked;
	bool files;
	struct chimney_dev_stats __percpu *stats;
	refcount_t ref;
	struct rcu_head rcu;
};

struct chimney_dev *chimney_dev_find(const struct net_device *dev);
struct chimney_dev *chimney_dev_get(const struct net_device *dev);
bool chimney_dev_passed_by(struct net_device *dev);
bool chimney_dev_taken(struct net_device *dev);
void chimney_dev_sum(const struct chimney_dev *cdev,
		     struct chimney_dev_stats *sum);
void chimney_dev_put(struct chimney_dev *cdev);
void chimney_dev_rearm(void);
void chimney_driver_enable(const char *driver, bool enable);
int chimney_devices_init(void);
void chimney_devices_exit(void);

#endif /* CHIMNEY_DEVICE_H */
