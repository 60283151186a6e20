// SPDX-License-Identifier: GPL-2.0
/*
 * Turning the module's knobs.  They are files in sysfs, where anyone may write
 * to them as well; here a wrong word is answered on the terminal, not in the
 * kernel log, and lists of ports and cgroups are changed entry by entry.
 *
 * JSON of set without a knob: { KNOB: NUMBER or TEXT... }, of "port list"
 *	{ "local": PORTS, "remote": PORTS }, of "cgroup list" [PATH...], empty
 *	for all
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chimneyctl.h"

#define PAGE 4096 /* what a file in sysfs shows at most */

static const struct {
	const char *name;
	const char *allowed;
} knobs[] = {
	{ "dev", NULL }, /* none itself: set dev DEV */
	{ "mode", "disabled, enabled or automatic" },
	{ "max_flows", "a number from 0 to 16777216" },
	{ "automatic_speed", "a number from 0 to 2147483647, in Mbit/s" },
	{ "automatic_rtt", "a number from 0 to 2147483647, in microseconds" },
	{ "automatic_bytes", "a number from 0 to 2147483647" },
	{ "holddown_min", "a number from 0 to 3600000, in milliseconds" },
	{ "holddown_max", "a number from 0 to 3600000, in milliseconds" },
	{ "local_ports", PORTS_ALLOWED ", or all" },
	{ "remote_ports", PORTS_ALLOWED ", or all" },
	{},
};

#define FIRST_KNOB 1

/* What a knob of any kind may answer, but for its value. */
static int refused(const char *what, int err)
{
	switch (-err) {
	case EOPNOTSUPP:
		return complain(FAILED, "%s: only Ethernet devices are served",
				what);
	case EACCES:
	case EPERM:
		return complain(FAILED, "%s: only root may do this", what);
	default:
		return complain(FAILED, "%s: %s", what, strerror(-err));
	}
}

/* Write a knob; @what and @allowed are for the complaint. */
static int turn(int dir, const char *path, const char *value, const char *what,
		const char *allowed)
{
	/* of nothing, write() tells the kernel nothing */
	int err = *value ? sysfs_write(dir, path, value) : -EINVAL;

	switch (-err) {
	case 0:
		return DONE;
	case EINVAL:
		return complain(MISUSED, "bad value \"%s\" for %s: %s", value,
				what, allowed);
	case ENOENT:
		return complain(ABSENT,
				"%s: the loaded module does not have it", what);
	default:
		return refused(what, err);
	}
}

static int show_knobs(void)
{
	struct json_object *obj = json_object_new_object();
	char path[128], text[PAGE];
	__u64 number;
	size_t i;

	for (i = FIRST_KNOB; knobs[i].name; i++) {
		snprintf(path, sizeof(path), CHIMNEY_SYSFS "%s", knobs[i].name);
		if (!sysfs_number(AT_FDCWD, path, &number))
			add_number(obj, knobs[i].name, number);
		else if (!sysfs_text(AT_FDCWD, path, text, sizeof(text)))
			add_text(obj, knobs[i].name, text);
	}
	print_object(obj);
	json_object_put(obj);
	return DONE;
}

/* set dev DEV on|off */
static int set_device(int argc, char **argv)
{
	char path[IF_NAMESIZE + 32];
	bool on;
	int net, err;

	if (argc < 2)
		return complain(MISUSED, "%s missing: set dev DEV on|off",
				argc ? "on or off" : "DEV");
	err = no_more_words(argc - 2, argv + 2);
	if (err)
		return err;
	on = !strcmp(argv[1], "on");
	if (!on && strcmp(argv[1], "off"))
		return complain(MISUSED, "bad value \"%s\" for dev %s: on or off",
				argv[1], argv[0]);
	if (strlen(argv[0]) >= IF_NAMESIZE || strchr(argv[0], '/'))
		return complain(MISUSED, "\"%s\" is no name of a device",
				argv[0]);
	net = sysfs_net_devices();
	if (net < 0)
		return complain(FAILED, "/sys/class/net: %s", strerror(-net));
	snprintf(path, sizeof(path), "%s/chimney/enable", argv[0]);
	if (faccessat(net, path, F_OK, 0))
		err = no_device(argv[0]);
	else
		err = turn(net, path, on ? "1" : "0", argv[0], "on or off");
	close(net);
	return err;
}

/**
 * cmd_set() - chimneyctl set [KNOB VALUE | dev DEV on|off]
 * @argc: words left
 * @argv: them
 */
int cmd_set(int argc, char **argv)
{
	char path[128];
	int i, err;

	i = argc ? find_word("knob", argv[0], false, knobs) : 0;
	if (i < 0)
		return MISUSED;
	err = need_module();
	if (err)
		return err;
	if (!argc)
		return show_knobs();
	if (i < FIRST_KNOB)
		return set_device(argc - 1, argv + 1);
	if (argc < 2)
		return complain(MISUSED, "value of %s missing: %s", argv[0],
				knobs[i].allowed);
	snprintf(path, sizeof(path), CHIMNEY_SYSFS "%s", argv[0]);
	return no_more_words(argc - 2, argv + 2) ?:
		       turn(AT_FDCWD, path, argv[1], argv[0], knobs[i].allowed);
}

/**
 * ports_parse() - read a list of ports
 * @text: ports and ranges with commas between
 * @ports: NR_PORTS, of which those in the list become @value
 * @value: what they become
 *
 * Return: false if it is something else.
 */
bool ports_parse(const char *text, bool *ports, bool value)
{
	unsigned long from, to;
	char *end;

	do {
		if (*text < '0' || *text > '9')
			return false;
		from = strtoul(text, &end, 10);
		to = from;
		if (*end == '-' && end[1] >= '0' && end[1] <= '9')
			to = strtoul(end + 1, &end, 10);
		if ((*end && *end != ',') || from > to || to >= NR_PORTS)
			return false;
		while (from <= to)
			ports[from++] = value;
		text = end + 1;
	} while (*end);
	return true;
}

/* The reverse; NULL if none is left. */
static char *ports_text(const bool *ports)
{
	char *text = NULL;
	size_t size, i, from;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	for (i = 0; i < NR_PORTS; i++) {
		if (!ports[i])
			continue;
		for (from = i; i + 1 < NR_PORTS && ports[i + 1]; i++)
			;
		fprintf(out, "%s%zu", ftell(out) ? "," : "", from);
		if (i > from)
			fprintf(out, "-%zu", i);
	}
	fclose(out);
	if (!*text) {
		free(text);
		text = NULL;
	}
	return text;
}

static int port_change(int argc, char **argv, bool add)
{
	const char *verb = add ? "add" : "del";
	char path[128], knob[32], now[PAGE];
	static bool ports[NR_PORTS];
	char *text;
	int err;

	if (argc < 2)
		return complain(MISUSED, "%s missing: port %s local|remote PORTS",
				argc ? "PORTS" : "local or remote", verb);
	if (strcmp(argv[0], "local") && strcmp(argv[0], "remote"))
		return complain(MISUSED, "unknown end \"%s\": local or remote",
				argv[0]);
	err = no_more_words(argc - 2, argv + 2) ?: need_module();
	if (err)
		return err;
	snprintf(knob, sizeof(knob), "%s_ports", argv[0]);
	snprintf(path, sizeof(path), CHIMNEY_SYSFS "%s", knob);
	err = sysfs_text(AT_FDCWD, path, now, sizeof(now));
	if (err)
		return complain(FAILED, "%s: %s", knob, strerror(-err));
	/* where all are allowed, the first one added ends that */
	if (!strcmp(now, "all"))
		memset(ports, !add, sizeof(ports));
	else
		ports_parse(now, ports, true);
	if (!ports_parse(argv[1], ports, add))
		return complain(MISUSED, "bad ports \"%s\": " PORTS_ALLOWED,
				argv[1]);
	text = ports_text(ports);
	if (!text)
		return complain(FAILED,
				"no %s port would be left: set %s all, or set mode disabled",
				argv[0], knob);
	err = turn(AT_FDCWD, path, text, knob, "too many ranges");
	free(text);
	return err;
}

static int port_add(int argc, char **argv)
{
	return port_change(argc, argv, true);
}

static int port_del(int argc, char **argv)
{
	return port_change(argc, argv, false);
}

static int port_list(int argc, char **argv)
{
	static const char * const ends[] = { "local", "remote" };
	struct json_object *obj;
	char path[128], text[PAGE];
	size_t i;
	int err;

	err = no_more_words(argc, argv) ?: need_module();
	if (err)
		return err;
	obj = json_object_new_object();
	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		snprintf(path, sizeof(path), CHIMNEY_SYSFS "%s_ports", ends[i]);
		if (!sysfs_text(AT_FDCWD, path, text, sizeof(text)))
			add_text(obj, ends[i], text);
	}
	print_object(obj);
	json_object_put(obj);
	return DONE;
}

/**
 * cmd_port() - chimneyctl port add|del|list
 * @argc: words left
 * @argv: them
 */
int cmd_port(int argc, char **argv)
{
	static const struct command commands[] = {
		{ "add", port_add },
		{ "del", port_del },
		{ "list", port_list },
		{},
	};

	return run_command("port command", commands, argc, argv);
}

static int cgroup_change(int argc, char **argv, char sign)
{
	char text[PAGE];
	int err;

	if (!argc)
		return complain(MISUSED, "PATH missing: cgroup %s PATH",
				sign == '+' ? "add" : "del");
	err = no_more_words(argc - 1, argv + 1) ?: need_module();
	if (err)
		return err;
	snprintf(text, sizeof(text), "%c%s", sign, argv[0]);
	err = sysfs_write(AT_FDCWD, CHIMNEY_SYSFS "cgroups", text);
	if (err == -ENOENT)
		return complain(ABSENT, "\"%s\" is not among the cgroups chosen",
				argv[0]);
	if (err == -EINVAL)
		return complain(MISUSED,
				"bad cgroup \"%s\": a path from the root of cgroup v2, as in /system.slice/nginx.service",
				argv[0]);
	return err ? refused("cgroups", err) : DONE;
}

static int cgroup_add(int argc, char **argv)
{
	return cgroup_change(argc, argv, '+');
}

static int cgroup_del(int argc, char **argv)
{
	return cgroup_change(argc, argv, '-');
}

static int cgroup_list(int argc, char **argv)
{
	struct json_object *list;
	char line[PAGE];
	FILE *file;
	int err;

	err = no_more_words(argc, argv) ?: need_module();
	if (err)
		return err;
	file = fopen(CHIMNEY_SYSFS "cgroups", "re");
	if (!file)
		return complain(FAILED, CHIMNEY_SYSFS "cgroups: %m");
	list = json_object_new_array();
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (!opt.json)
			puts(line);
		else if (line[0] == '/')
			json_object_array_add(list, json_object_new_string(line));
	}
	fclose(file);
	if (opt.json)
		print_json(list);
	json_object_put(list);
	return DONE;
}

/**
 * cmd_cgroup() - chimneyctl cgroup add|del|list
 * @argc: words left
 * @argv: them
 */
int cmd_cgroup(int argc, char **argv)
{
	static const struct command commands[] = {
		{ "add", cgroup_add },
		{ "del", cgroup_del },
		{ "list", cgroup_list },
		{},
	};

	return run_command("cgroup command", commands, argc, argv);
}
