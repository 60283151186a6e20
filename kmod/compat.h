/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels that chimney is built and tested for: Debian
 * 13's 6.12, and the 7.3 of its backports.  What lies between them is neither.
 */
#ifndef CHIMNEY_COMPAT_H
#define CHIMNEY_COMPAT_H

#include <linux/btf.h>
#include <linux/ethtool.h>
#include <linux/netdevice.h>
#include <linux/version.h>
#include <linux/workqueue.h>
#include <net/hotdata.h>
#include <net/inet6_hashtables.h>
#include <net/inet_hashtables.h>
#include <net/net_namespace.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0) || \
	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0) && \
	 LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0))
#error chimney: not tested on this kernel: 6.12 and 7.3 are
#endif
#define CHIMNEY_LINUX_6 (LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0))

/**
 * chimney_taps() - the list of packet taps on all devices
 * @net: namespace whose taps are on it
 *
 * In 6.12 there is one list for all namespaces.
 */
static inline const struct list_head *chimney_taps(const struct net *net)
{
#if CHIMNEY_LINUX_6
	return &net_hotdata.ptype_all;
#else
	return &net->ptype_all;
#endif
}

/* In 7.3 there is but one table of TCP's sockets, which need not be named. */
#if CHIMNEY_LINUX_6
#define chimney_lookup4(net, ...)					\
	__inet_lookup_established(net, (net)->ipv4.tcp_death_row.hashinfo, \
				  __VA_ARGS__)
#define chimney_lookup6(net, ...)					\
	__inet6_lookup_established(net, (net)->ipv4.tcp_death_row.hashinfo, \
				   __VA_ARGS__)
#else
#define chimney_lookup4 __inet_lookup_established
#define chimney_lookup6 __inet6_lookup_established
#endif

/*
 * In 7.3 the notifiers NETDEV_UP and NETDEV_CHANGE have the device's own lock
 * where there is one (dummy, mlx5 ...), which __ethtool_get_link_ksettings()
 * would take.
 */
#if CHIMNEY_LINUX_6
#define chimney_link_settings __ethtool_get_link_ksettings
#else
#define chimney_link_settings netif_get_link_ksettings
#endif

/* In 7.3 the unbound workqueue has a new name; the log warns of the old one. */
#if CHIMNEY_LINUX_6
#define system_dfl_wq system_unbound_wq
#endif

/* In 7.3 all pointers given to kfuncs are trusted ones, and no flag says so. */
#if !CHIMNEY_LINUX_6
#define KF_TRUSTED_ARGS 0
#endif

#endif /* CHIMNEY_COMPAT_H */
