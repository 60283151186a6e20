/* SPDX-License-Identifier: GPL-2.0 */
/* Objects of the kernel that chimneyctl lists. */
#ifndef CHIMNEYCTL_NETLINK_H
#define CHIMNEYCTL_NETLINK_H

#include <linux/types.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

struct xfrm_userpolicy_info;

/**
 * struct capture - an AF_PACKET socket
 * @inode: the socket's
 * @ifindex: device, 0 for all
 * @family: AF_INET or AF_INET6, 0 for both
 * @filtered: it wants those packets alone that its filter lets pass
 */
struct capture {
	__u32 inode;
	unsigned int ifindex;
	__u16 family;
	bool filtered;
};

/**
 * struct policy - an xfrm policy
 * @info: what it selects and does
 * @transforms: it has templates
 * @if_id: of the xfrm interface that it is for, or 0
 * @mark: of packets that it is for
 * @mark_mask: bits of @mark to compare
 */
struct policy {
	const struct xfrm_userpolicy_info *info;
	bool transforms;
	__u32 if_id;
	__u32 mark;
	__u32 mark_mask;
};

/**
 * struct net_link - a network device
 * @ifindex: its index
 * @name: its name
 * @type: ARPHRD_ETHER ...
 * @flags: IFF_UP ...
 * @kind: of a virtual device, or ""
 * @master: index of what it belongs to (bond, bridge, VRF ...), or 0
 * @in_vrf: @master is a VRF
 * @l3s: an ipvlan device in this mode
 */
struct net_link {
	unsigned int ifindex;
	char name[IF_NAMESIZE];
	unsigned short type;
	unsigned int flags;
	char kind[32];
	unsigned int master;
	bool in_vrf;
	bool l3s;
};

/**
 * struct hook - a function that netfilter calls for packets
 * @priority: when, among others
 * @ours: it is the module's
 * @table: of nftables, or ""
 * @chain: of that table, or ""
 */
struct hook {
	int priority;
	bool ours;
	char table[256];
	char chain[256];
};

int captures_each(void (*found)(const struct capture *capture, void *data),
		  void *data);
int policies_each(void (*found)(const struct policy *policy, void *data),
		  void *data);
int links_each(void (*found)(const struct net_link *link, void *data),
	       void *data);
int hooks_each(int family, int number, const char *dev,
	       void (*found)(const struct hook *hook, void *data), void *data);
unsigned long socket_process(__u32 inode, char *name, size_t size);

#endif /* CHIMNEYCTL_NETLINK_H */
