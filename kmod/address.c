// SPDX-License-Identifier: GPL-2.0
/*
 * Addresses that leave the host, as the VIP of a cluster does.
 *
 * Routing does not see to that alone: the packets of a flow whose address is
 * gone have no route in, but IPv6 does not mind which address they go out
 * with, and a flow that is silent would stand as offloaded for ever.
 */
#include <linux/inetdevice.h>
#include <net/addrconf.h>
#include <net/if_inet6.h>

#include "address.h"
#include "flow.h"

/* The same address may be on another device, too: flows return if it is. */
static int chimney_address4_event(struct notifier_block *nb,
				  unsigned long event, void *ptr)
{
	const struct in_ifaddr *ifa = ptr;
	struct chimney_selector selector = {
		.family = AF_INET,
		.local_plen = 32,
	};

	if (event != NETDEV_DOWN)
		return NOTIFY_DONE;
	selector.netns = dev_net(ifa->ifa_dev->dev)->net_cookie;
	ipv6_addr_set_v4mapped(ifa->ifa_local,
			       (struct in6_addr *)selector.local);
	chimney_flows_revoke(&selector, CHIMNEY_ADDRESS);
	return NOTIFY_DONE;
}

static int chimney_address6_event(struct notifier_block *nb,
				  unsigned long event, void *ptr)
{
	const struct inet6_ifaddr *ifa = ptr;
	struct chimney_selector selector = {
		.family = AF_INET6,
		.local_plen = 128,
	};

	if (event != NETDEV_DOWN)
		return NOTIFY_DONE;
	selector.netns = dev_net(ifa->idev->dev)->net_cookie;
	memcpy(selector.local, &ifa->addr, sizeof(selector.local));
	chimney_flows_revoke(&selector, CHIMNEY_ADDRESS);
	return NOTIFY_DONE;
}

static struct notifier_block chimney_address4_notifier = {
	.notifier_call = chimney_address4_event,
};

static struct notifier_block chimney_address6_notifier = {
	.notifier_call = chimney_address6_event,
};

/**
 * chimney_addresses_init() - follow the addresses of all namespaces
 *
 * Return: 0 or a negative errno.
 */
int chimney_addresses_init(void)
{
	int err;

	err = register_inetaddr_notifier(&chimney_address4_notifier);
	if (err)
		return err;
	err = register_inet6addr_notifier(&chimney_address6_notifier);
	if (err)
		unregister_inetaddr_notifier(&chimney_address4_notifier);
	return err;
}

/**
 * chimney_addresses_exit() - the reverse
 */
void chimney_addresses_exit(void)
{
	unregister_inet6addr_notifier(&chimney_address6_notifier);
	unregister_inetaddr_notifier(&chimney_address4_notifier);
}
