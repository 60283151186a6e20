// SPDX-License-Identifier: GPL-2.0
/*
 * chimney: established, locally terminated TCP flows travel between their
 * socket and the network driver without IP, netfilter, conntrack and routing,
 * as long as a BPF gate vouches that none of these would have done anything.
 *
 * What there is, in the order in which it comes to life:
 *
 *   flow       the flow table, and the life of a flow: offload, upload
 *   netns      a table, an epoch and judging hooks for each namespace
 *   drivers    those whose devices are switched on to begin with
 *   device     a switch, counters and an ingress hook for each device
 *   address    flows leave the path with the address that they have
 *   knobs      /sys/kernel/chimney
 *   gate       the contract with the gate; nothing happens until one attaches
 *   netlink    what programs may ask for and be told of
 *
 * Then a packet takes judge.c while its flow is in the host, and transmit.c or
 * receive.c once it is offloaded; conntrack.c keeps the books meanwhile.
 */
#include <linux/module.h>

#include "address.h"
#include "choice.h"
#include "device.h"
#include "drivers.h"
#include "flow.h"
#include "gate.h"
#include "knobs.h"
#include "netlink.h"
#include "netns.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static int __init chimney_init(void)
{
	int err;

	err = chimney_flows_init();
	if (err)
		return err;
	err = chimney_netns_init();
	if (err)
		goto err_netns;
	err = chimney_drivers_init();
	if (err)
		goto err_drivers;
	err = chimney_devices_init();
	if (err)
		goto err_devices;
	err = chimney_addresses_init();
	if (err)
		goto err_addresses;
	err = chimney_knobs_init();
	if (err)
		goto err_knobs;
	err = chimney_gate_init();
	if (err)
		goto err_gate;
	/* last: whoever asks from here on must not find things taken down again */
	err = chimney_netlink_init();
	if (err)
		goto err_gate;
	return 0;

err_gate:
	chimney_knobs_exit();
	chimney_choice_exit();
err_knobs:
	chimney_addresses_exit();
err_addresses:
	chimney_devices_exit();
err_devices:
	chimney_drivers_exit();
err_drivers:
	chimney_netns_exit();
err_netns:
	chimney_flows_exit();
	return err;
}

/* An attached gate holds the module, so none is attached any more. */
static void __exit chimney_exit(void)
{
	chimney_knobs_exit();
	chimney_choice_exit();
	chimney_addresses_exit();
	chimney_devices_exit();
	chimney_drivers_exit();
	chimney_flows_drain();
	chimney_netlink_exit();
	chimney_netns_exit();
	chimney_flows_exit();
}

module_init(chimney_init);
module_exit(chimney_exit);
MODULE_DESCRIPTION("TCP chimney: an offload path for established local TCP flows");
MODULE_AUTHOR("The chimney authors");
MODULE_LICENSE("GPL");
MODULE_VERSION(CHIMNEY_VERSION);
