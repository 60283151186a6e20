/* SPDX-License-Identifier: GPL-2.0 */
/* What the parts of "chimneyctl check" share; see check.c. */
#ifndef CHIMNEY_CHECK_H
#define CHIMNEY_CHECK_H

#include "chimneyctl.h"
#include "netlink.h"

#define CHECK_KNOB_LEN 4096 /* what a file in sysfs shows at most */

#define CHECK_HERE " of this namespace"

/**
 * struct check - what has been found so far, and what it was found with
 * @findings: array
 * @netns: how chimneyctl has to be told of the namespace, or ""
 * @gate: one is attached
 * @links: network devices
 * @nr_links: how many
 * @net: folder of their files
 */
struct check {
	struct json_object *findings;
	char netns[256];
	bool gate;
	struct net_link *links;
	size_t nr_links;
	int net;
};

struct json_object *check_finding(struct check *check, unsigned int reason);
void check_tell(struct json_object *obj, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int check_knob(const char *name, char *text);
const char *check_family(__u16 family);

/* check_devices.c */
const struct net_link *check_link(const struct check *check,
				  unsigned int ifindex);
bool check_link_has(const struct check *check, const struct net_link *link,
		    const char *prefix);
bool check_carries_flows(const struct net_link *link);
int check_devices(struct check *check);

/* check_captures.c */
int check_captures(struct check *check);
int check_raw_sockets(struct check *check);

/* check_ipsec.c */
int check_ipsec(struct check *check);

/* check_rules.c */
int check_packet_rules(struct check *check);
int check_late_rules(struct check *check);
int check_rule_modules(struct check *check);
int check_ipvs(struct check *check);
int check_cgroup_programs(struct check *check);

#endif /* CHIMNEY_CHECK_H */
