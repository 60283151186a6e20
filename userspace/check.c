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
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

/**
 * check_finding() - add what keeps flows in the host
 * @check: gets it
 * @reason: enum chimney_reason
 *
 * Return: the object, for check_tell() to say which flows, what, and what to do.
 */
struct json_object *check_finding(struct check *check, unsigned int reason)
{
	struct json_object *obj = json_object_new_object();

	add_text(obj, "reason", reason_name(reason));
	json_object_array_add(check->findings, obj);
	return obj;
}

/**
 * check_tell() - give a finding one of its texts
 * @obj: as check_finding() has made it
 * @key: scope, object or advice
 * @fmt: of printf
 */
void check_tell(struct json_object *obj, const char *key, const char *fmt, ...)
{
	va_list args;
	char *text;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		text = NULL;
	va_end(args);
	add_text(obj, key, text);
	free(text);
}

/**
 * check_knob() - a knob's value
 * @name: its file in sysfs
 * @text: gets it, lines with blanks between; CHECK_KNOB_LEN bytes
 *
 * Return: exit code, after a complaint.
 */
int check_knob(const char *name, char *text)
{
	char path[128];
	ssize_t len;
	char *end;
	int fd;

	snprintf(path, sizeof(path), CHIMNEY_SYSFS "%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -1 : read(fd, text, CHECK_KNOB_LEN - 1);
	if (fd >= 0)
		close(fd);
	if (len < 0)
		return complain(FAILED, "%s: %m", path);
	text[len] = '\0';
	while ((end = strchr(text, '\n')))
		*end = end[1] ? ' ' : '\0';
	return DONE;
}

/**
 * check_family() - the flows of a family, in words
 * @family: AF_INET, AF_INET6, or 0 for both
 */
const char *check_family(__u16 family)
{
	if (!family)
		return "all flows";
	return family == AF_INET6 ? "IPv6 flows" : "IPv4 flows";
}

static int check_mode(struct check *check)
{
	char mode[CHECK_KNOB_LEN];
	struct json_object *obj;
	int err = check_knob("mode", mode);

	if (err || strcmp(mode, "disabled"))
		return err;
	obj = check_finding(check, CHIMNEY_MODE);
	check_tell(obj, "scope", "all flows");
	check_tell(obj, "object", "mode %s", mode);
	check_tell(obj, "advice", "chimneyctl set mode enabled");
	return DONE;
}

static int check_gate(struct check *check)
{
	struct json_object *obj;
	char gate[CHECK_KNOB_LEN];
	int err = check_knob("gate", gate);

	if (err)
		return err;
	check->gate = strcmp(gate, "none");
	if (check->gate)
		return DONE;
	obj = check_finding(check, CHIMNEY_NO_GATE);
	check_tell(obj, "scope", "all flows");
	check_tell(obj, "object", "gate %s", gate);
	check_tell(obj, "advice",
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
	char max_flows[CHECK_KNOB_LEN], flows[CHECK_KNOB_LEN];
	struct json_object *obj;
	__u64 max, used = 0;
	int err;

	err = check_knob("max_flows", max_flows) ?: check_knob("flows", flows);
	if (err)
		return err;
	max = strtoull(max_flows, NULL, 10);
	/* all namespaces together have enough room: then so has this one */
	if (strtoull(flows, NULL, 10) < max)
		return DONE;
	err = max ? count_flows(&used) : DONE;
	if (err || used < max)
		return err;
	obj = check_finding(check, CHIMNEY_TABLE_FULL);
	check_tell(obj, "scope", max ? "further flows" CHECK_HERE : "all flows");
	check_tell(obj, "object", "max_flows %s", max_flows);
	check_tell(obj, "advice", "chimneyctl set max_flows NUMBER");
	return DONE;
}

static int check_ports(struct check *check)
{
	static const char * const ends[] = { "local", "remote" };
	char knob[32], ports[CHECK_KNOB_LEN];
	struct json_object *obj;
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		snprintf(knob, sizeof(knob), "%s_ports", ends[i]);
		err = check_knob(knob, ports);
		if (err)
			return err;
		if (!strcmp(ports, "all"))
			continue;
		obj = check_finding(check, CHIMNEY_PORTS);
		check_tell(obj, "scope", "flows with another %s port", ends[i]);
		check_tell(obj, "object", "%s %s", knob, ports);
		check_tell(obj, "advice",
			   "chimneyctl port add %s PORTS, or set %s all",
			   ends[i], knob);
	}
	return DONE;
}

static int check_cgroups(struct check *check)
{
	char cgroups[CHECK_KNOB_LEN];
	struct json_object *obj;
	int err = check_knob("cgroups", cgroups);

	if (err || !strcmp(cgroups, "all"))
		return err;
	obj = check_finding(check, CHIMNEY_CGROUP);
	check_tell(obj, "scope", "flows of another cgroup");
	check_tell(obj, "object", "cgroups %s", cgroups);
	check_tell(obj, "advice", "chimneyctl cgroup add PATH");
	return DONE;
}

static int run_checks(struct check *check)
{
	/* in the order in which they are told; devices before what is on them */
	static int (* const checks[])(struct check *check) = {
		check_mode,	    check_gate,
		check_table,	    check_ports,
		check_cgroups,	    check_devices,
		check_captures,	    check_raw_sockets,
		check_ipsec,	    check_ipvs,
		check_packet_rules, check_late_rules,
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
