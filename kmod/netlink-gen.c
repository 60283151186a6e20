// SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause)
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/specs/chimney.yaml */
/* YNL-GEN kernel source */

#include <net/netlink.h>
#include <net/genetlink.h>

#include "netlink-gen.h"

#include <uapi/linux/chimney.h>

/* CHIMNEY_CMD_DEV_GET - do */
static const struct nla_policy chimney_dev_get_nl_policy[CHIMNEY_A_DEV_IFINDEX + 1] = {
	[CHIMNEY_A_DEV_IFINDEX] = NLA_POLICY_MIN(NLA_U32, 1),
};

/* Ops table for chimney */
const struct genl_split_ops chimney_nl_ops[4] = {
	{
		.cmd	= CHIMNEY_CMD_FLOW_GET,
		.start	= chimney_nl_flow_get_start,
		.dumpit	= chimney_nl_flow_get_dumpit,
		.done	= chimney_nl_flow_get_done,
		.flags	= GENL_UNS_ADMIN_PERM | GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= CHIMNEY_CMD_DEV_GET,
		.doit		= chimney_nl_dev_get_doit,
		.policy		= chimney_dev_get_nl_policy,
		.maxattr	= CHIMNEY_A_DEV_IFINDEX,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd	= CHIMNEY_CMD_DEV_GET,
		.dumpit	= chimney_nl_dev_get_dumpit,
		.flags	= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd	= CHIMNEY_CMD_REASON_GET,
		.dumpit	= chimney_nl_reason_get_dumpit,
		.flags	= GENL_CMD_CAP_DUMP,
	},
};

static const struct genl_multicast_group chimney_nl_mcgrps[] = {
	[CHIMNEY_NLGRP_EVENTS] = { "events", },
};
