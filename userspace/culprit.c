// SPDX-License-Identifier: GPL-2.0
/*
 * Which object stands behind a reason, where the kernel tells: the capture
 * socket that can see a connection's packets, and the process that has it; the
 * IPsec policy that covers it; who changed rules last.  Asked for when somebody
 * wants an explanation; only of the rules has the gate had to remember it.
 *
 * JSON: array of objects:
 *	{ "process": NAME, "pid": N, "dev": NAME or "any", "filter": true } for
 *	a capture (no process if it is of another pid namespace; no "filter" if
 *	it has none; one with a filter that lets no packet of the connection
 *	pass keeps nothing in the host, but is told as well),
 *	{ "dir": "in" or "out", "src": PREFIX, "dst": PREFIX, "priority": N }
 *	for a policy, and
 *	{ "process": NAME, "pid": N, "table": NAME, "seconds": N } for a change
 *	of rules, that many seconds ago (no table if it was none of nftables), and
 *	{ "hook": FUNCTION } for a netfilter hook.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/xfrm.h>
#include <net/if.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "chimneyctl.h"
#include "netlink.h"

#define V4_MAPPED 12 /* bytes before an IPv4 address */
#define NSEC_PER_SEC 1000000000ULL

/* what objects are compared with, and where they go */
struct search {
	const struct chimney_flow_record *rec;
	struct json_object *found;
};

/* Do packets of a device go through another one, as a bond's do? */
static bool is_lower(const char *dev, const char *lower)
{
	char path[2 * IF_NAMESIZE + 16];
	int net = sysfs_net_devices();
	bool found;

	if (net < 0)
		return false;
	snprintf(path, sizeof(path), "%s/lower_%s", dev, lower);
	found = !faccessat(net, path, F_OK, AT_SYMLINK_NOFOLLOW);
	close(net);
	return found;
}

static void capture_found(const struct capture *capture, void *data)
{
	char dev[IF_NAMESIZE] = "any", own[IF_NAMESIZE] = "", process[64];
	const struct search *search = data;
	const struct chimney_sock_info *flow = &search->rec->info;
	struct json_object *obj;
	unsigned long pid;

	if (capture->family && capture->family != flow->flow.family)
		return;
	if (capture->ifindex) {
		if (!if_indextoname(capture->ifindex, dev))
			return;
		if (capture->ifindex != flow->ifindex &&
		    !(if_indextoname(flow->ifindex, own) && is_lower(own, dev)))
			return;
	}
	obj = json_object_new_object();
	pid = socket_process(capture->inode, process, sizeof(process));
	if (pid) {
		add_text(obj, "process", process);
		add_number(obj, "pid", pid);
	}
	add_text(obj, "dev", dev);
	if (capture->filtered)
		json_object_object_add(obj, "filter",
				       json_object_new_boolean(true));
	json_object_array_add(search->found, obj);
}

static bool prefix_covers(const xfrm_address_t *prefix, unsigned int plen,
			  const __u8 *addr)
{
	const __u8 *bytes = (const __u8 *)prefix;
	unsigned int rest = plen % 8;

	return !memcmp(bytes, addr, plen / 8) &&
	       (!rest || !((bytes[plen / 8] ^ addr[plen / 8]) >> (8 - rest)));
}

/* As include/net/xfrm.h has it. */
static bool selector_covers(const struct xfrm_selector *sel,
			    const struct chimney_sock_info *info, int dir)
{
	const struct chimney_tuple *flow = &info->flow;
	bool out = dir == XFRM_POLICY_OUT;
	int skip = flow->family == AF_INET ? V4_MAPPED : 0;
	__u16 sport = htons(out ? flow->lport : flow->rport);
	__u16 dport = htons(out ? flow->rport : flow->lport);

	return sel->family == flow->family &&
	       prefix_covers(&sel->saddr, sel->prefixlen_s,
			     (out ? flow->local : flow->remote) + skip) &&
	       prefix_covers(&sel->daddr, sel->prefixlen_d,
			     (out ? flow->remote : flow->local) + skip) &&
	       !((sport ^ sel->sport) & sel->sport_mask) &&
	       !((dport ^ sel->dport) & sel->dport_mask) &&
	       (!sel->proto || sel->proto == IPPROTO_TCP) &&
	       (!sel->ifindex || sel->ifindex == (int)info->ifindex);
}

static void add_prefix(struct json_object *obj, const char *key, int family,
		       const xfrm_address_t *addr, unsigned int plen)
{
	char text[INET6_ADDRSTRLEN + sizeof("/128")];

	inet_ntop(family, addr, text, INET6_ADDRSTRLEN);
	sprintf(text + strlen(text), "/%u", plen);
	add_text(obj, key, text);
}

static void policy_found(const struct policy *policy, void *data)
{
	const struct xfrm_userpolicy_info *info = policy->info;
	const struct xfrm_selector *sel = &info->sel;
	const struct search *search = data;
	struct json_object *obj;

	if (!selector_covers(sel, &search->rec->info, info->dir))
		return;
	obj = json_object_new_object();
	add_text(obj, "dir", info->dir == XFRM_POLICY_OUT ? "out" : "in");
	add_prefix(obj, "src", sel->family, &sel->saddr, sel->prefixlen_s);
	add_prefix(obj, "dst", sel->family, &sel->daddr, sel->prefixlen_d);
	add_number(obj, "priority", info->priority);
	json_object_array_add(search->found, obj);
}

static void rule_change(struct search *search)
{
	int map = bpf_obj_get(CHIMNEY_PINS "/rule_changes");
	__u64 netns = search->rec->info.flow.netns;
	struct chimney_rule_change change;
	struct json_object *obj;
	struct timespec now;

	if (map < 0)
		return;
	if (!bpf_map_lookup_elem(map, &netns, &change)) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		obj = json_object_new_object();
		add_text(obj, "process", change.comm);
		add_number(obj, "pid", change.pid);
		if (change.table[0])
			add_text(obj, "table", change.table);
		add_number(obj, "seconds", now.tv_sec - change.ns / NSEC_PER_SEC);
		json_object_array_add(search->found, obj);
	}
	close(map);
}

static void unknown_hook(struct search *search)
{
	int map = bpf_obj_get(CHIMNEY_PINS "/rule_walks");
	__u64 netns = search->rec->info.flow.netns;
	struct chimney_rule_walks walks;
	struct json_object *obj;

	if (map < 0)
		return;
	if (!bpf_map_lookup_elem(map, &netns, &walks) &&
	    walks.known != walks.begun) {
		obj = json_object_new_object();
		add_text(obj, "hook", walks.hook);
		json_object_array_add(search->found, obj);
	}
	close(map);
}

/**
 * culprits() - find the objects behind a reason, as they are now
 * @rec: the connection, of the network namespace that chimneyctl is in
 * @reason: enum chimney_reason, one of those that hold it in the host
 *
 * Return: array, empty where the kernel does not tell.
 */
struct json_object *culprits(const struct chimney_flow_record *rec,
			     unsigned int reason)
{
	struct search search = { rec, json_object_new_array() };

	/* what cannot be listed is none: the reason stands without an object */
	if (reason == CHIMNEY_CAPTURE)
		captures_each(capture_found, &search);
	else if (reason == CHIMNEY_IPSEC || reason == CHIMNEY_ROUTE)
		/* a policy that blocks what is sent leaves it no route */
		policies_each(policy_found, &search);
	else if (reason == CHIMNEY_RULES || reason == CHIMNEY_PACKET_RULES)
		rule_change(&search);
	else if (reason == CHIMNEY_UNKNOWN_HOOK)
		unknown_hook(&search);
	return search.found;
}
