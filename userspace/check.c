// SPDX-License-Identifier: GPL-2.0
/*
 * What keeps flows in the host can be told before there are any: switches,
 * devices, captures, IPsec policies, rules ...  This looks for whatever the
 * module and the gate would hold against flows of the network namespace, so
 * that somebody who sets up a machine need not wait for connections and ask
 * "explain" about each.
 *
 * What only packets show is not foretold: whether NAT or a rule changes them,
 * or looks at each; nor what a socket brings with it.  What the path obeys is
 * not mentioned: qdiscs, tc, XDP, rules that let a connection pass as a whole.
 *
 * JSON: array, empty if nothing is found, of objects:
 *	{ "reason": NAME, "scope": which flows, "object": what was found,
 *	  "advice": what to change }
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <linux/netfilter.h>
#include <linux/xfrm.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chimneyctl.h"
#include "evaluators.h"
#include "netlink.h"

#define KNOB_LEN 4096		/* what a file in sysfs shows at most */

#define HERE " of this namespace"

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

static struct json_object *finding(struct check *check, unsigned int reason)
{
	struct json_object *obj = json_object_new_object();

	add_text(obj, "reason", reason_name(reason));
	json_object_array_add(check->findings, obj);
	return obj;
}

/* Give a finding one of its texts. */
#define tell(obj, key, fmt, ...) do {					\
	char *_text;							\
									\
	if (asprintf(&_text, fmt, ##__VA_ARGS__) < 0)			\
		break;							\
	add_text(obj, key, _text);					\
	free(_text);							\
} while (0)

/* A knob's value, its lines with blanks between.  Return: exit code. */
static int read_knob(const char *name, char *text)
{
	char path[128];
	ssize_t len;
	char *end;
	int fd;

	snprintf(path, sizeof(path), CHIMNEY_SYSFS "%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -1 : read(fd, text, KNOB_LEN - 1);
	if (fd >= 0)
		close(fd);
	if (len < 0)
		return complain(FAILED, "%s: %m", path);
	text[len] = '\0';
	while ((end = strchr(text, '\n')))
		*end = end[1] ? ' ' : '\0';
	return DONE;
}

static int check_mode(struct check *check)
{
	char mode[KNOB_LEN];
	struct json_object *obj;
	int err = read_knob("mode", mode);

	if (err || strcmp(mode, "disabled"))
		return err;
	obj = finding(check, CHIMNEY_MODE);
	tell(obj, "scope", "all flows");
	tell(obj, "object", "mode %s", mode);
	tell(obj, "advice", "chimneyctl set mode enabled");
	return DONE;
}

static int check_gate(struct check *check)
{
	struct json_object *obj;
	char gate[KNOB_LEN];
	int err = read_knob("gate", gate);

	if (err)
		return err;
	check->gate = strcmp(gate, "none");
	if (check->gate)
		return DONE;
	obj = finding(check, CHIMNEY_NO_GATE);
	tell(obj, "scope", "all flows");
	tell(obj, "object", "gate %s", gate);
	tell(obj, "advice",
	     "chimneyctl gate load, and check again: rules cannot be read before");
	return DONE;
}

/* How many flows have a place in the table of this namespace. */
static int count_flows(__u64 *count)
{
	struct flow_list flows = {};
	int err = flows_read(&flows);
	size_t i;

	for (*count = 0, i = 0; !err && i < flows.n; i++)
		*count += flows.rec[i].info.state != CHIMNEY_IN_HOST;
	free(flows.rec);
	return err;
}

static int check_table(struct check *check)
{
	char max_flows[KNOB_LEN], flows[KNOB_LEN];
	struct json_object *obj;
	__u64 max, used = 0;
	int err;

	err = read_knob("max_flows", max_flows) ?: read_knob("flows", flows);
	if (err)
		return err;
	max = strtoull(max_flows, NULL, 10);
	/* all namespaces together have enough room: then so has this one */
	if (strtoull(flows, NULL, 10) < max)
		return DONE;
	err = max ? count_flows(&used) : DONE;
	if (err || used < max)
		return err;
	obj = finding(check, CHIMNEY_TABLE_FULL);
	tell(obj, "scope", max ? "further flows" HERE : "all flows");
	tell(obj, "object", "max_flows %s", max_flows);
	tell(obj, "advice", "chimneyctl set max_flows NUMBER");
	return DONE;
}

static int check_ports(struct check *check)
{
	static const char * const ends[] = { "local", "remote" };
	char knob[32], ports[KNOB_LEN];
	struct json_object *obj;
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		snprintf(knob, sizeof(knob), "%s_ports", ends[i]);
		err = read_knob(knob, ports);
		if (err)
			return err;
		if (!strcmp(ports, "all"))
			continue;
		obj = finding(check, CHIMNEY_PORTS);
		tell(obj, "scope", "flows with another %s port", ends[i]);
		tell(obj, "object", "%s %s", knob, ports);
		tell(obj, "advice",
		     "chimneyctl port add %s PORTS, or set %s all", ends[i],
		     knob);
	}
	return DONE;
}

static int check_cgroups(struct check *check)
{
	char cgroups[KNOB_LEN];
	struct json_object *obj;
	int err = read_knob("cgroups", cgroups);

	if (err || !strcmp(cgroups, "all"))
		return err;
	obj = finding(check, CHIMNEY_CGROUP);
	tell(obj, "scope", "flows of another cgroup");
	tell(obj, "object", "cgroups %s", cgroups);
	tell(obj, "advice", "chimneyctl cgroup add PATH");
	return DONE;
}

static void link_found(const struct net_link *link, void *data)
{
	struct check *check = data;
	struct net_link *links;

	links = reallocarray(check->links, check->nr_links + 1, sizeof(*links));
	if (!links)
		return;
	check->links = links;
	links[check->nr_links++] = *link;
}

static const struct net_link *link_of(const struct check *check,
				      unsigned int ifindex)
{
	size_t i;

	for (i = 0; i < check->nr_links; i++)
		if (check->links[i].ifindex == ifindex)
			return &check->links[i];
	return NULL;
}

/*
 * May a route lead to it?  What belongs to a bond, bridge or team has none of
 * its own, and what stays on the loopback device does not leave the host.
 */
static bool carries_flows(const struct net_link *link)
{
	return link->flags & IFF_UP && !(link->flags & IFF_LOOPBACK) &&
	       strcmp(link->kind, "vrf") && (!link->master || link->in_vrf);
}

static bool link_has(const struct check *check, const struct net_link *link,
		     const char *prefix)
{
	int fd = openat(check->net, link->name,
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool found = false;
	struct dirent *entry;
	DIR *dir;

	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && !found && (entry = readdir(dir)))
		found = !strncmp(entry->d_name, prefix, strlen(prefix));
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
	return found;
}

/* As the module calls it in "drivers". */
static const char *link_driver(const struct check *check,
			       const struct net_link *link)
{
	static char target[256];
	char path[64];
	const char *base;
	ssize_t len;

	if (*link->kind)
		return link->kind;
	snprintf(path, sizeof(path), "%s/device/driver", link->name);
	len = readlinkat(check->net, path, target, sizeof(target) - 1);
	if (len < 0)
		return "unknown";
	target[len] = '\0';
	base = strrchr(target, '/');
	return base ? base + 1 : target;
}

/* Whether a list with blanks between has a word. */
static bool lists(const char *list, const char *word)
{
	size_t len = strlen(word);

	while (*list) {
		if (!strncmp(list, word, len) &&
		    (list[len] == ' ' || !list[len]))
			return true;
		list += strcspn(list, " ");
		list += strspn(list, " ");
	}
	return false;
}

static void check_enabled(struct check *check, const struct net_link *link,
			  const char *drivers)
{
	bool ethernet = link->type == ARPHRD_ETHER;
	struct json_object *obj;
	const char *driver;
	__u64 enabled;
	char path[64];

	snprintf(path, sizeof(path), "%s/chimney/enable", link->name);
	/* it may have gone meanwhile */
	if (sysfs_number(check->net, path, &enabled) ||
	    (enabled && !link->l3s))
		return;
	driver = link_driver(check, link);
	obj = finding(check, CHIMNEY_DEVICE);
	tell(obj, "scope", "flows by %s", link->name);
	tell(obj, "object", "device %s driver %s: %s", link->name,
	     driver, !ethernet ? "not Ethernet" :
			       !enabled ? "off" : "mode l3s");
	if (!ethernet)
		tell(obj, "advice", "none: only Ethernet devices are served");
	else if (enabled)
		tell(obj, "advice", "use ipvlan in mode l2 or l3");
	else
		tell(obj, "advice", "chimneyctl%s set dev %s on%s",
		     check->netns, link->name, lists(drivers, driver) ? "" :
		     " (its driver is not among those with a test)");
}

static void check_vrf(struct check *check, const struct net_link *link)
{
	const struct net_link *vrf = link_of(check, link->master);
	struct json_object *obj;

	if (!link->in_vrf)
		return;
	obj = finding(check, CHIMNEY_VRF);
	tell(obj, "scope", "flows by %s", link->name);
	tell(obj, "object", "device %s in VRF %s", link->name,
	     vrf ? vrf->name : "unknown");
	tell(obj, "advice", "take it out of the VRF");
}

static void check_speed(struct check *check, const struct net_link *link,
			long least)
{
	char path[64], text[32];
	struct json_object *obj;
	long speed;

	snprintf(path, sizeof(path), "%s/speed", link->name);
	/* those that report none pass */
	if (sysfs_text(check->net, path, text, sizeof(text)))
		return;
	speed = strtol(text, NULL, 10);
	if (speed <= 0 || speed >= least)
		return;
	obj = finding(check, CHIMNEY_SPEED);
	tell(obj, "scope", "flows by %s", link->name);
	tell(obj, "object", "device %s speed %ld", link->name, speed);
	tell(obj, "advice", "chimneyctl set automatic_speed %ld", speed);
}

static int check_devices(struct check *check)
{
	char mode[KNOB_LEN], least[KNOB_LEN], drivers[KNOB_LEN];
	const struct net_link *link;
	int err;

	err = read_knob("mode", mode) ?: read_knob("automatic_speed", least) ?:
	      read_knob("drivers", drivers);
	if (err)
		return err;
	err = links_each(link_found, check);
	if (err)
		return complain(FAILED, "reading devices: %s", strerror(-err));
	for (link = check->links; link < check->links + check->nr_links; link++) {
		if (!carries_flows(link))
			continue;
		check_enabled(check, link, drivers);
		check_vrf(check, link);
		if (!strcmp(mode, "automatic"))
			check_speed(check, link, strtol(least, NULL, 10));
	}
	return DONE;
}

static const char *family_words(__u16 family)
{
	return !family ? "all flows" :
	       family == AF_INET6 ? "IPv6 flows" : "IPv4 flows";
}

static void tell_process(struct json_object *obj, const char *what,
			 __u32 inode, const char *where)
{
	char name[64];
	unsigned long pid = socket_process(inode, name, sizeof(name));

	if (pid)
		tell(obj, "object", "%s %s (pid %lu)%s", what, name, pid, where);
	else
		tell(obj, "object", "%s of a process out of sight%s", what,
		     where);
}

/*
 * One that is bound to an EtherType misses what is stolen from the devices above
 * its own, so these count as well; one that sees all does not.
 */
static void capture_found(const struct capture *capture, void *data)
{
	const char *which = capture->filtered ?
			    " that its filter may let pass" : "";
	char where[IF_NAMESIZE + 8] = " on any";
	const struct net_link *link = NULL;
	struct check *check = data;
	struct json_object *obj;
	bool above = false;

	if (capture->ifindex) {
		link = link_of(check, capture->ifindex);
		if (!link || !(link->flags & IFF_UP))
			return;
		above = capture->family && link_has(check, link, "upper_");
		if (!carries_flows(link) && !above)
			return;
		snprintf(where, sizeof(where), " on %s", link->name);
	}
	obj = finding(check, CHIMNEY_CAPTURE);
	if (link)
		tell(obj, "scope", "%s by %s%s%s", capture->family ?
		     family_words(capture->family) : "flows", link->name,
		     above ? " and the devices above it" : "", which);
	else
		tell(obj, "scope", "%s" HERE "%s",
		     family_words(capture->family), which);
	tell_process(obj, "capture", capture->inode, where);
	tell(obj, "advice", "end it: flows come back by themselves");
}

static int check_captures(struct check *check)
{
	int err = captures_each(capture_found, check);

	return err ? complain(FAILED, "reading captures: %s", strerror(-err)) :
		     DONE;
}

/* Columns of /proc/net/raw and raw6; the local "port" is the protocol. */
#define RAW_LINE "%*s %*[0-9A-F]:%x %*s %*s %*s %*s %*s %*s %*s %u"

static int check_raw_sockets(struct check *check)
{
	static const struct {
		const char *path;
		__u16 family;
	} tables[] = {
		{ "/proc/net/raw", AF_INET }, { "/proc/net/raw6", AF_INET6 },
	};
	unsigned int protocol, inode;
	struct json_object *obj;
	char line[512];
	FILE *file;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		file = fopen(tables[i].path, "re");
		if (!file && errno == ENOENT)
			continue;
		if (!file)
			return complain(FAILED, "%s: %m", tables[i].path);
		while (fgets(line, sizeof(line), file)) {
			if (sscanf(line, RAW_LINE, &protocol, &inode) != 2 ||
			    protocol != IPPROTO_TCP)
				continue;
			obj = finding(check, CHIMNEY_RAW_SOCKET);
			tell(obj, "scope", "%s" HERE,
			     family_words(tables[i].family));
			tell_process(obj, "raw TCP socket", inode, "");
			tell(obj, "advice",
			     "end it: flows come back by themselves");
		}
		fclose(file);
	}
	return DONE;
}

static void prefix_text(int family, const xfrm_address_t *addr,
			unsigned int plen, char *text)
{
	inet_ntop(family, addr, text, INET6_ADDRSTRLEN);
	sprintf(text + strlen(text), "/%u", plen);
}

static void print_port(FILE *to, const char *end, __be16 port, __be16 mask)
{
	if (mask == 0xffff)
		fprintf(to, " %s port %u", end, ntohs(port));
	else if (mask)
		fprintf(to, " %s port %#x/%#x", end, ntohs(port), ntohs(mask));
}

/* Which flows a policy covers, as they are seen from this host. */
static char *policy_scope(const struct check *check,
			  const struct policy *policy, const char *src,
			  const char *dst)
{
	const struct xfrm_selector *sel = &policy->info->sel;
	bool out = policy->info->dir == XFRM_POLICY_OUT;
	const struct net_link *link = link_of(check, sel->ifindex);
	unsigned int here = out ? sel->prefixlen_s : sel->prefixlen_d;
	unsigned int there = out ? sel->prefixlen_d : sel->prefixlen_s;
	char *text = NULL;
	size_t len;
	FILE *to;

	to = open_memstream(&text, &len);
	if (!to)
		return NULL;
	fputs(here || there ? "flows" : family_words(sel->family), to);
	if (here)
		fprintf(to, " from %s", out ? src : dst);
	if (there)
		fprintf(to, " to %s", out ? dst : src);
	print_port(to, "local", out ? sel->sport : sel->dport,
		   out ? sel->sport_mask : sel->dport_mask);
	print_port(to, "remote", out ? sel->dport : sel->sport,
		   out ? sel->dport_mask : sel->sport_mask);
	if (sel->ifindex)
		fprintf(to, " by %s", link ? link->name : "a device that is gone");
	if (policy->mark_mask)
		fprintf(to, " with mark %#x/%#x", policy->mark,
			policy->mark_mask);
	fclose(to);
	return text;
}

/*
 * One with no templates that allows is a hole in others.  One that blocks takes
 * from the route what is sent (culprit.c), and what comes in TCP refuses.  Flows
 * of an xfrm interface are refused for their device.
 */
static void policy_found(const struct policy *policy, void *data)
{
	const struct xfrm_userpolicy_info *info = policy->info;
	const struct xfrm_selector *sel = &info->sel;
	char src[INET6_ADDRSTRLEN + 4], dst[INET6_ADDRSTRLEN + 4];
	bool blocks = info->action == XFRM_POLICY_BLOCK;
	bool out = info->dir == XFRM_POLICY_OUT;
	struct check *check = data;
	struct json_object *obj;
	char *scope;

	if ((sel->proto && sel->proto != IPPROTO_TCP) || policy->if_id ||
	    (!policy->transforms && !blocks))
		return;
	prefix_text(sel->family, &sel->saddr, sel->prefixlen_s, src);
	prefix_text(sel->family, &sel->daddr, sel->prefixlen_d, dst);
	scope = policy_scope(check, policy, src, dst);
	obj = finding(check, blocks && out ? CHIMNEY_ROUTE : CHIMNEY_IPSEC);
	tell(obj, "scope", "%s", scope ?: "flows");
	free(scope);
	tell(obj, "object", "xfrm policy dir %s src %s dst %s priority %u%s",
	     out ? "out" : "in", src, dst, info->priority,
	     blocks ? " action block" : "");
	tell(obj, "advice",
	     "delete it, or let it cover less: other flows are not concerned");
}

static int check_ipsec(struct check *check)
{
	int err = policies_each(policy_found, check);

	return err ? complain(FAILED, "reading IPsec policies: %s",
			      strerror(-err)) : DONE;
}

/* ADDRESS:PORT of a service, of which /proc has the digits. */
static bool service_text(const char *digits, char *text, size_t size)
{
	char hex[INET6_ADDRSTRLEN], addr[INET6_ADDRSTRLEN];
	struct in6_addr addr6;
	struct in_addr addr4;
	unsigned int port;

	if (sscanf(digits, "[%45[^]]]:%x", hex, &port) == 2 &&
	    inet_pton(AF_INET6, hex, &addr6) == 1) {
		inet_ntop(AF_INET6, &addr6, addr, sizeof(addr));
		snprintf(text, size, "[%s]:%u", addr, port);
		return true;
	}
	if (sscanf(digits, "%x:%x", &addr4.s_addr, &port) != 2)
		return false;
	addr4.s_addr = htonl(addr4.s_addr);
	inet_ntop(AF_INET, &addr4, addr, sizeof(addr));
	snprintf(text, size, "%s:%u", addr, port);
	return true;
}

static int check_ipvs(struct check *check)
{
	char line[256], protocol[8], digits[64], service[INET6_ADDRSTRLEN + 8];
	FILE *file = fopen("/proc/net/ip_vs", "re");
	struct json_object *obj;
	unsigned int mark;

	if (!file)
		return errno == ENOENT ? DONE :
		       complain(FAILED, "/proc/net/ip_vs: %m");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%7s %63s", protocol, digits) != 2)
			continue;
		if (!strcmp(protocol, "TCP") &&
		    service_text(digits, service, sizeof(service))) {
			obj = finding(check, CHIMNEY_IPVS);
			tell(obj, "scope", "flows balanced for %s", service);
			tell(obj, "object", "IPVS service %s", service);
		} else if (!strcmp(protocol, "FWM")) {
			mark = strtoul(digits, NULL, 16);
			obj = finding(check, CHIMNEY_IPVS);
			tell(obj, "scope", "flows balanced for mark %u", mark);
			tell(obj, "object", "IPVS service of mark %u", mark);
		} else {
			continue;
		}
		tell(obj, "advice", "none, as long as this host balances");
	}
	fclose(file);
	return DONE;
}

/* A map of the gate's, or -1 after a complaint: not to know is not to find none. */
static int gate_map(const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), CHIMNEY_PINS "/%s", name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		complain(FAILED,
			 "what the gate knows is out of sight (%s: %m); \"chimneyctl -n\" sees it where \"ip netns exec\" does not",
			 path);
	return fd;
}

static int check_packet_rules(struct check *check)
{
	struct chimney_rule_walks walks = {};
	struct json_object *obj;
	__u64 netns;
	int map, err;

	if (!check->gate)
		return DONE;
	err = own_netns(&netns);
	if (err)
		return err;
	map = gate_map("rule_walks");
	if (map < 0)
		return FAILED;
	/* a namespace whose rules have never changed has none */
	bpf_map_lookup_elem(map, &netns, &walks);
	if (walks.known != walks.begun) {
		obj = finding(check, CHIMNEY_UNKNOWN_HOOK);
		tell(obj, "scope", "all flows" HERE);
		tell(obj, "object", "netfilter hook %s", walks.hook);
		tell(obj, "advice", "take it away: nobody can tell what it does with packets");
	}
	if (walks.clean != walks.begun) {
		obj = finding(check, CHIMNEY_PACKET_RULES);
		tell(obj, "scope", "%s",
		     walks.clean_established == walks.begun ?
		     "flows" HERE " that conntrack does not hold" :
		     "all flows" HERE);
		tell(obj, "object",
		     "a rule that tells packets of a flow apart, or a set that changes by itself");
		tell(obj, "advice",
		     "look for packet-rules in the README, and then in nft list ruleset, iptables-save, ip6tables-save");
	}
	close(map);
	return DONE;
}

/* In the order in which packets come to them: chains before ours do not count. */
static void hook_found(const struct hook *hook, void *data)
{
	struct json_object **late = data;
	struct json_object *obj;

	if (hook->ours) {
		json_object_put(*late);
		*late = json_object_new_array();
	} else if (hook->priority == INT_MAX && *hook->chain) {
		obj = json_object_new_object();
		tell(obj, "object", "chain %s of table %s at priority %d",
		     hook->chain, hook->table, hook->priority);
		json_object_array_add(*late, obj);
	}
}

static int check_hooks(struct check *check, int family, int number,
		       const char *dev, const char *scope)
{
	struct json_object *late = json_object_new_array(), *obj;
	size_t i;
	int err;

	err = hooks_each(family, number, dev, hook_found, &late);
	for (i = 0; i < json_object_array_length(late); i++) {
		obj = finding(check, CHIMNEY_LATE_RULES);
		tell(obj, "scope", "%s", scope);
		add_text(obj, "object",
			 text_of(json_object_array_get_idx(late, i), "object",
				 NULL));
		tell(obj, "advice",
		     "use another priority, or load these rules anew after the gate");
	}
	json_object_put(late);
	return err;
}

/*
 * Without the module's hooks, which come when the gate is there and switched on,
 * all that are there now will be older.
 */
static int check_late_rules(struct check *check)
{
	static const int families[] = { AF_INET, AF_INET6 };
	static const int numbers[] = { NF_INET_LOCAL_IN, NF_INET_POST_ROUTING };
	const struct net_link *link;
	char scope[64];
	size_t i, n;
	int err = 0;

	for (i = 0; i < ARRAY_SIZE(families); i++) {
		snprintf(scope, sizeof(scope), "%s" HERE,
			 family_words(families[i]));
		for (n = 0; !err && n < ARRAY_SIZE(numbers); n++)
			err = check_hooks(check, families[i], numbers[n], NULL,
					  scope);
	}
	for (i = 0; !err && i < check->nr_links; i++) {
		link = &check->links[i];
		if (!carries_flows(link))
			continue;
		snprintf(scope, sizeof(scope), "flows by %s", link->name);
		err = check_hooks(check, NFPROTO_NETDEV, NF_NETDEV_INGRESS,
				  link->name, scope);
		/* it has gone meanwhile */
		if (err == -ENODEV)
			err = 0;
	}
	return err ? complain(FAILED,
			      "reading the hooks of netfilter (modprobe nfnetlink_hook): %s",
			      strerror(-err)) : DONE;
}

static int check_rule_modules(struct check *check)
{
	char name[RULE_MODULE_NAME], *last = NULL;
	enum rule_module what;
	struct json_object *obj;
	int map;

	if (!check->gate)
		return DONE;
	map = gate_map("rule_modules");
	if (map < 0)
		return FAILED;
	for (; !bpf_map_get_next_key(map, last, name); last = name) {
		if (bpf_map_lookup_elem(map, name, &what) ||
		    what != RULE_MODULE_UNKNOWN)
			continue;
		obj = finding(check, CHIMNEY_UNKNOWN_RULES);
		tell(obj, "scope", "all flows");
		tell(obj, "object", "module %s", name);
		tell(obj, "advice",
		     "chimneyctl gate replace, with the module loaded if that can be watched, without it if not");
	}
	close(map);
	return DONE;
}

static void program_name(__u32 id, char *name, size_t size)
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);

	snprintf(name, size, "%s", "unknown");
	if (fd >= 0 && !bpf_prog_get_info_by_fd(fd, &info, &len) && *info.name)
		snprintf(name, size, "%s", info.name);
	if (fd >= 0)
		close(fd);
}

static void check_cgroup_program(struct check *check, const char *full)
{
	__u32 ids[64], nr = ARRAY_SIZE(ids), i;
	const char *path = full + strlen(CGROUP_ROOT);
	struct json_object *obj;
	char name[64];
	int fd, err;

	fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	err = bpf_prog_query(fd, BPF_CGROUP_INET_EGRESS, 0, NULL, ids, &nr);
	close(fd);
	/* ENOSPC: more than there is room for */
	if (err && err != -ENOSPC)
		return;
	for (i = 0; i < nr && i < ARRAY_SIZE(ids); i++) {
		program_name(ids[i], name, sizeof(name));
		obj = finding(check, CHIMNEY_CGROUP_BPF);
		tell(obj, "scope", "flows of cgroup %s and those below",
		     *path ? path : "/");
		tell(obj, "object", "BPF program %s (id %u) on its egress", name,
		     ids[i]);
		tell(obj, "advice",
		     "detach it; systemd's are for IPAddressAllow, IPAddressDeny and IPAccounting of the unit");
	}
}

static int check_cgroup_programs(struct check *check)
{
	char root[] = CGROUP_ROOT;
	char * const roots[] = { root, NULL };
	FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	FTSENT *entry;

	if (!tree)
		return complain(FAILED, CGROUP_ROOT ": %m");
	while ((entry = fts_read(tree)))
		if (entry->fts_info == FTS_D)
			check_cgroup_program(check, entry->fts_path);
	fts_close(tree);
	return DONE;
}

static int run_checks(struct check *check)
{
	static int (* const checks[])(struct check *check) = {
		check_mode, check_gate, check_table, check_ports, check_cgroups,
		check_devices, check_captures, check_raw_sockets, check_ipsec,
		check_ipvs, check_packet_rules, check_late_rules,
		check_rule_modules, check_cgroup_programs,
	};
	int err = DONE;
	size_t i;

	for (i = 0; !err && i < ARRAY_SIZE(checks); i++)
		err = checks[i](check);
	return err;
}

/**
 * cmd_check() - chimneyctl check
 * @argc: words left
 * @argv: them
 */
int cmd_check(int argc, char **argv)
{
	static const char * const columns[] = {
		"reason", "scope", "object", "advice", NULL,
	};
	struct check check = {};
	int err;

	err = no_more_words(argc, argv) ?: need_same_version() ?: need_root();
	if (err)
		return err;
	check.net = sysfs_net_devices();
	if (check.net < 0)
		return complain(FAILED, "/sys/class/net: %s",
				strerror(-check.net));
	if (opt.netns)
		snprintf(check.netns, sizeof(check.netns), " -n %s", opt.netns);
	check.findings = json_object_new_array();
	err = run_checks(&check);
	close(check.net);
	free(check.links);
	/* half of them would look like all */
	if (!err && opt.json)
		print_json(check.findings);
	else if (!err && json_object_array_length(check.findings))
		print_table(stdout, check.findings, columns);
	if (!err && json_object_array_length(check.findings))
		err = FOUND;
	json_object_put(check.findings);
	return err;
}
