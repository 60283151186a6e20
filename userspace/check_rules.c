// SPDX-License-Identifier: GPL-2.0
/* What does something to packets: rules, hooks, IPVS, BPF programs of cgroups. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <linux/netfilter.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "evaluators.h"

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

/**
 * check_packet_rules() - rules that are not the same for all packets of a flow
 * @check: gets them
 *
 * Return: exit code, after a complaint.
 */
int check_packet_rules(struct check *check)
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
		obj = check_finding(check, CHIMNEY_UNKNOWN_HOOK);
		check_tell(obj, "scope", "all flows" CHECK_HERE);
		check_tell(obj, "object", "netfilter hook %s", walks.hook);
		check_tell(obj, "advice",
			   "take it away: nobody can tell what it does with packets");
	}
	if (walks.clean != walks.begun) {
		obj = check_finding(check, CHIMNEY_PACKET_RULES);
		check_tell(obj, "scope", "%s",
			   walks.clean_established == walks.begun ?
				   "flows" CHECK_HERE
				   " that conntrack does not hold" :
				   "all flows" CHECK_HERE);
		check_tell(obj, "object",
			   "a rule that tells packets of a flow apart, or a set that changes by itself");
		check_tell(obj, "advice",
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
		check_tell(obj, "object", "chain %s of table %s at priority %d",
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
		obj = check_finding(check, CHIMNEY_LATE_RULES);
		check_tell(obj, "scope", "%s", scope);
		add_text(obj, "object",
			 text_of(json_object_array_get_idx(late, i), "object",
				 NULL));
		check_tell(obj, "advice",
			   "use another priority, or load these rules anew after the gate");
	}
	json_object_put(late);
	return err;
}

/**
 * check_late_rules() - chains that come after the gate has judged
 * @check: gets them; after check_devices()
 *
 * Without the module's hooks, which come when the gate is there and switched on,
 * all that are there now will be older.
 *
 * Return: exit code, after a complaint.
 */
int check_late_rules(struct check *check)
{
	static const int families[] = { AF_INET, AF_INET6 };
	static const int numbers[] = { NF_INET_LOCAL_IN, NF_INET_POST_ROUTING };
	const struct net_link *link;
	char scope[64];
	size_t i, n;
	int err = 0;

	for (i = 0; i < ARRAY_SIZE(families); i++) {
		snprintf(scope, sizeof(scope), "%s" CHECK_HERE,
			 check_family(families[i]));
		for (n = 0; !err && n < ARRAY_SIZE(numbers); n++)
			err = check_hooks(check, families[i], numbers[n], NULL,
					  scope);
	}
	for (i = 0; !err && i < check->nr_links; i++) {
		link = &check->links[i];
		if (!check_carries_flows(link))
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
			      strerror(-err)) :
		     DONE;
}

/**
 * check_rule_modules() - modules with rules that the gate does not know
 * @check: gets them
 *
 * Return: exit code, after a complaint.
 */
int check_rule_modules(struct check *check)
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
		obj = check_finding(check, CHIMNEY_UNKNOWN_RULES);
		check_tell(obj, "scope", "all flows");
		check_tell(obj, "object", "module %s", name);
		check_tell(obj, "advice",
			   "chimneyctl gate replace, with the module loaded if that can be watched, without it if not");
	}
	close(map);
	return DONE;
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

/**
 * check_ipvs() - services of a load balancer
 * @check: gets them
 *
 * Return: exit code, after a complaint.
 */
int check_ipvs(struct check *check)
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
			obj = check_finding(check, CHIMNEY_IPVS);
			check_tell(obj, "scope", "flows balanced for %s",
				   service);
			check_tell(obj, "object", "IPVS service %s", service);
		} else if (!strcmp(protocol, "FWM")) {
			mark = strtoul(digits, NULL, 16);
			obj = check_finding(check, CHIMNEY_IPVS);
			check_tell(obj, "scope", "flows balanced for mark %u",
				   mark);
			check_tell(obj, "object", "IPVS service of mark %u",
				   mark);
		} else {
			continue;
		}
		check_tell(obj, "advice", "none, as long as this host balances");
	}
	fclose(file);
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
		obj = check_finding(check, CHIMNEY_CGROUP_BPF);
		check_tell(obj, "scope", "flows of cgroup %s and those below",
			   *path ? path : "/");
		check_tell(obj, "object",
			   "BPF program %s (id %u) on its egress", name, ids[i]);
		check_tell(obj, "advice",
			   "detach it; systemd's are for IPAddressAllow, IPAddressDeny and IPAccounting of the unit");
	}
}

/**
 * check_cgroup_programs() - BPF programs that packets of a cgroup meet
 * @check: gets them
 *
 * Return: exit code, after a complaint.
 */
int check_cgroup_programs(struct check *check)
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
