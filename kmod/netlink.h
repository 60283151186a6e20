/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHIMNEY_NETLINK_H
#define CHIMNEY_NETLINK_H

#include "uapi.h"

struct net;

void chimney_netlink_event(struct net *net, const struct chimney_event *event);
int chimney_netlink_init(void);
void chimney_netlink_exit(void);

#endif /* CHIMNEY_NETLINK_H */
