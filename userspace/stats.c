// SPDX-License-Identifier: GPL-2.0
/*
 * How much takes the path: per device, per reason, and at a glance.  metrics.c
 * has it for monitoring systems.
 *
 * JSON of stats (with DEV: no "reasons"):
 *	{ "devices": [{ "dev": NAME, COUNTER: N... }...],
 *	  "reasons": { NAME: N... } }
 * JSON of status:
 *	{ "mode": NAME, "gate": NAME or null, "flows": N, "max_flows": N,
 *	  COUNTER: N... }
 * "flows" being offloaded in all network namespaces, "max_flows" the limit of
 * each, and counters (not "enable") summed over the devices of this one.
 *
 * COUNTER is a file of /sys/class/net/DEV/chimney/.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chimneyctl.h"

static const char * const columns[] = {
	"dev",	    "enable",	"tx_packets", "tx_bytes",  "rx_packets",
	"rx_bytes", "offloads", "uploads",    "fallbacks", NULL,
};

#define FIRST_FILE 1 /* of the columns */
#define FIRST_SUM 2  /* of those that are summed */

static struct json_object *read_device(int net, const char *name)
{
	struct json_object *obj = json_object_new_object();
	char path[NAME_MAX + 32];
	__u64 number;
	int i;

	add_text(obj, "dev", name);
	for (i = FIRST_FILE; columns[i]; i++) {
		snprintf(path, sizeof(path), "%s/chimney/%s", name, columns[i]);
		if (sysfs_number(net, path, &number)) {
			json_object_put(obj);
			return NULL;
		}
		add_number(obj, columns[i], number);
	}
	return obj;
}

/**
 * devices_read() - read what is counted for each device of this namespace
 * @only: name of the one that is asked for, NULL for all
 *
 * Devices may go while they are read; those that have gone are left out.
 *
 * Return: array, or NULL after a complaint.
 */
struct json_object *devices_read(const char *only)
{
	struct json_object *list, *obj;
	struct dirent **names;
	int i, n, net;

	net = sysfs_net_devices();
	n = net < 0 ? net : scandirat(net, ".", &names, NULL, versionsort);
	if (n < 0) {
		complain(FAILED, "reading /sys/class/net failed");
		return NULL;
	}
	list = json_object_new_array();
	for (i = 0; i < n; i++) {
		obj = NULL;
		if (!only || !strcmp(only, names[i]->d_name))
			obj = read_device(net, names[i]->d_name);
		if (obj)
			json_object_array_add(list, obj);
		free(names[i]);
	}
	free(names);
	close(net);
	return list;
}

static struct json_object *read_reasons(bool all)
{
	struct json_object *obj = json_object_new_object();
	char path[128];
	unsigned int i;
	__u64 count;

	for (i = CHIMNEY_NONE + 1; i < CHIMNEY_REASON_MAX; i++) {
		snprintf(path, sizeof(path), CHIMNEY_SYSFS "reasons/%s",
			 reason_name(i));
		if (!sysfs_number(AT_FDCWD, path, &count) && (count || all))
			add_number(obj, reason_name(i), count);
	}
	return obj;
}

enum { TEXT, JSON, OPENMETRICS, PROMETHEUS };

static int parse_format(int argc, char **argv, int *format)
{
	static const char * const formats[] = {
		[TEXT] = "text",
		[JSON] = "json",
		[OPENMETRICS] = "openmetrics",
		[PROMETHEUS] = "prometheus",
		NULL,
	};
	static const struct option options[] = {
		{ "format", required_argument, NULL, 'f' },
		{},
	};
	int c;

	*format = opt.json ? JSON : TEXT;
	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc + 1, argv - 1, "f:", options, NULL)) != -1) {
		if (c != 'f')
			return bad_option(argv[optind - 2],
					  "stats [-f FORMAT] [DEV]");
		*format = find_word("format", optarg, false, formats);
		if (*format < 0)
			return MISUSED;
	}
	return DONE;
}

/* The reasons are of no device. */
static void print_stats(struct json_object *devices,
			struct json_object *reasons, bool json)
{
	struct json_object *obj;

	if (json) {
		obj = json_object_new_object();
		json_object_object_add(obj, "devices", json_object_get(devices));
		if (reasons)
			json_object_object_add(obj, "reasons",
					       json_object_get(reasons));
		print_json(obj);
		json_object_put(obj);
		return;
	}
	print_table(stdout, devices, columns);
	if (reasons && json_object_object_length(reasons)) {
		putchar('\n');
		print_lines(reasons);
	}
}

/**
 * cmd_stats() - chimneyctl stats [-f FORMAT] [DEV]
 * @argc: words left
 * @argv: them
 */
int cmd_stats(int argc, char **argv)
{
	struct json_object *devices, *reasons = NULL;
	int format, err;

	err = parse_format(argc, argv, &format);
	if (err)
		return err;
	argc -= optind - 1;
	argv += optind - 1;
	err = (argc ? no_more_words(argc - 1, argv + 1) : DONE) ?: need_module();
	if (err)
		return err;
	devices = devices_read(argc ? argv[0] : NULL);
	if (!devices)
		return FAILED;
	if (argc && !json_object_array_length(devices)) {
		json_object_put(devices);
		return no_device(argv[0]);
	}
	/* people see the reasons that occurred */
	if (!argc)
		reasons = read_reasons(format != TEXT);

	if (format == TEXT || format == JSON)
		print_stats(devices, reasons, format == JSON);
	else
		err = metrics_print(devices, reasons, format == OPENMETRICS);
	json_object_put(devices);
	json_object_put(reasons);
	return err;
}

/**
 * cmd_status() - chimneyctl status
 * @argc: words left
 * @argv: them
 */
int cmd_status(int argc, char **argv)
{
	char mode[32] = "unknown", gate[64] = "none";
	struct json_object *devices, *dev, *obj;
	__u64 flows = 0, max_flows = 0, sum;
	int i, c, err;

	err = no_more_words(argc, argv) ?: need_module();
	if (err)
		return err;
	devices = devices_read(NULL);
	if (!devices)
		return FAILED;
	sysfs_text(AT_FDCWD, CHIMNEY_SYSFS "mode", mode, sizeof(mode));
	sysfs_text(AT_FDCWD, CHIMNEY_SYSFS "gate", gate, sizeof(gate));
	sysfs_number(AT_FDCWD, CHIMNEY_SYSFS "flows", &flows);
	sysfs_number(AT_FDCWD, CHIMNEY_SYSFS "max_flows", &max_flows);

	obj = json_object_new_object();
	add_text(obj, "mode", mode);
	add_text(obj, "gate", strcmp(gate, "none") ? gate : NULL);
	add_number(obj, "flows", flows);
	add_number(obj, "max_flows", max_flows);
	for (c = FIRST_SUM; columns[c]; c++) {
		sum = 0;
		for (i = json_object_array_length(devices) - 1; i >= 0; i--) {
			dev = json_object_array_get_idx(devices, i);
			sum += number_of(dev, columns[c]);
		}
		add_number(obj, columns[c], sum);
	}
	print_object(obj);
	json_object_put(obj);
	json_object_put(devices);
	return DONE;
}
