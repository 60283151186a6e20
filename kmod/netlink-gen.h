/* SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause) */
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/specs/chimney.yaml */
/* YNL-GEN kernel header */

#ifndef _LINUX_CHIMNEY_GEN_H
#define _LINUX_CHIMNEY_GEN_H

#include <net/netlink.h>
#include <net/genetlink.h>

#include <uapi/linux/chimney.h>

/* Ops table for chimney */
extern const struct genl_split_ops chimney_nl_ops[4];

int chimney_nl_flow_get_start(struct netlink_callback *cb);
int chimney_nl_flow_get_done(struct netlink_callback *cb);

int chimney_nl_flow_get_dumpit(struct sk_buff *skb,
			       struct netlink_callback *cb);
int chimney_nl_dev_get_doit(struct sk_buff *skb, struct genl_info *info);
int chimney_nl_dev_get_dumpit(struct sk_buff *skb, struct netlink_callback *cb);
int chimney_nl_reason_get_dumpit(struct sk_buff *skb,
				 struct netlink_callback *cb);

enum {
	CHIMNEY_NLGRP_EVENTS,
};

#endif /* _LINUX_CHIMNEY_GEN_H */
