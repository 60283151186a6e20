// SPDX-License-Identifier: GPL-2.0
/*
 * The counters as monitoring systems read them: OpenMetrics 1.0, and the text
 * format of Prometheus (0.0.4), which is what node_exporter's textfile collector
 * understands.  These differ in where a counter's "_total" is named.
 */
#include <stdlib.h>
#include <string.h>

#include "chimneyctl.h"

static const struct {
	const char *name;
	const char *unit; /* last part of the name, if it is one */
	const char *help;
	struct {
		const char *key; /* of stats.c's object of a device */
		const char *direction;
	} of[2];
} device_counters[] = {
	{ .name = "chimney_device_packets",
	  .help = "Packets that took the path, counted as the device gets them.",
	  .of = { { "tx_packets", "transmit" }, { "rx_packets", "receive" } } },
	{ .name = "chimney_device_bytes",
	  .unit = "bytes",
	  .help = "Bytes that took the path, IP headers included.",
	  .of = { { "tx_bytes", "transmit" }, { "rx_bytes", "receive" } } },
	{ .name = "chimney_device_offloads",
	  .help = "Flows that were offloaded.",
	  .of = { { "offloads", NULL } } },
	{ .name = "chimney_device_uploads",
	  .help = "Flows that were sent back to the host.",
	  .of = { { "uploads", NULL } } },
	{ .name = "chimney_device_fallbacks",
	  .help = "Packets of offloaded flows that took the host path.",
	  .of = { { "fallbacks", NULL } } },
};

static bool openmetrics;

static void print_family(const char *name, const char *type, const char *unit,
			 const char *help)
{
	const char *total = openmetrics || strcmp(type, "counter") ? "" :
								     "_total";

	printf("# HELP %s%s %s\n", name, total, help);
	printf("# TYPE %s%s %s\n", name, total, type);
	if (unit && openmetrics)
		printf("# UNIT %s %s\n", name, unit);
}

/* NULL for a label that does not apply */
static void print_label(char *separator, const char *label, const char *value)
{
	if (!value)
		return;
	printf("%c%s=\"", *separator, label);
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			putchar('\\');
		putchar(*value);
	}
	putchar('"');
	*separator = ',';
}

static void print_sample(const char *name, const char *suffix,
			 const char * const *labels, __u64 number)
{
	char separator = '{';

	printf("%s%s", name, suffix);
	for (; *labels; labels += 2)
		print_label(&separator, labels[0], labels[1]);
	print_label(&separator, "netns", opt.netns);
	printf("%s %llu\n", separator == ',' ? "}" : "", number);
}

static const char *name_of(struct json_object *dev)
{
	return json_object_get_string(json_object_object_get(dev, "dev"));
}

static void print_devices(struct json_object *devices)
{
	size_t n = json_object_array_length(devices), c, d, i;
	const char *labels[5] = { "device" };
	struct json_object *dev;
	const char *key;

	print_family("chimney_device_enabled", "gauge", NULL,
		     "Whether flows on the device may be offloaded.");
	for (d = 0; d < n; d++) {
		dev = json_object_array_get_idx(devices, d);
		print_sample("chimney_device_enabled", "",
			     (const char *[]){ "device", name_of(dev), NULL },
			     number_of(dev, "enable"));
	}
	for (c = 0; c < ARRAY_SIZE(device_counters); c++) {
		print_family(device_counters[c].name, "counter",
			     device_counters[c].unit, device_counters[c].help);
		for (i = 0; i < 2 * n; i++) {
			dev = json_object_array_get_idx(devices, i / 2);
			key = device_counters[c].of[i % 2].key;
			if (!key)
				continue;
			labels[1] = name_of(dev);
			labels[2] = "direction";
			labels[3] = device_counters[c].of[i % 2].direction;
			print_sample(device_counters[c].name, "_total", labels,
				     number_of(dev, key));
		}
	}
}

static void print_flows(const struct flow_list *flows)
{
	__u64 count[CHIMNEY_UPLOADING + 1] = {};
	size_t i;

	for (i = 0; i < flows->n; i++)
		if (flows->rec[i].info.state < ARRAY_SIZE(count))
			count[flows->rec[i].info.state]++;
	print_family("chimney_flows", "gauge", NULL,
		     "TCP connections, by state.");
	for (i = 0; i < ARRAY_SIZE(count); i++)
		print_sample("chimney_flows", "",
			     (const char *[]){ "state", state_name(i), NULL },
			     count[i]);
}

/* What there is once, in whichever namespace one asks. */
static void print_global(struct json_object *reasons)
{
	static const char * const modes[] = {
		"disabled",
		"enabled",
		"automatic",
	};
	char text[64] = "none";
	__u64 number = 0;
	size_t i;

	print_family("chimney_flow_reasons", "counter", NULL,
		     "How often a reason was found against a flow, or sent one back.");
	json_object_object_foreach(reasons, name, count)
		print_sample("chimney_flow_reasons", "_total",
			     (const char *[]){ "reason", name, NULL },
			     json_object_get_uint64(count));
	sysfs_text(AT_FDCWD, CHIMNEY_SYSFS "gate", text, sizeof(text));
	print_family("chimney_gate_attached", "gauge", NULL,
		     "Whether a gate is attached.");
	print_sample("chimney_gate_attached", "", (const char *[]){ NULL },
		     !!strcmp(text, "none"));
	sysfs_text(AT_FDCWD, CHIMNEY_SYSFS "mode", text, sizeof(text));
	print_family("chimney_mode", "gauge", NULL, "The mode: 1 for this one.");
	for (i = 0; i < ARRAY_SIZE(modes); i++)
		print_sample("chimney_mode", "",
			     (const char *[]){ "mode", modes[i], NULL },
			     !strcmp(text, modes[i]));
	sysfs_number(AT_FDCWD, CHIMNEY_SYSFS "max_flows", &number);
	print_family("chimney_max_flows", "gauge", NULL,
		     "Flows that may be offloaded in each network namespace.");
	print_sample("chimney_max_flows", "", (const char *[]){ NULL }, number);
}

/**
 * metrics_print() - print all that is counted
 * @devices: array of stats.c's objects
 * @reasons: its object of reasons, or NULL for the devices alone
 * @strict: OpenMetrics, not the text format of Prometheus
 *
 * Return: exit code, after a complaint.
 */
int metrics_print(struct json_object *devices, struct json_object *reasons,
		  bool strict)
{
	struct flow_list flows = {};
	int err = reasons ? flows_read(&flows) : DONE;

	if (err)
		return err;
	openmetrics = strict;
	print_devices(devices);
	if (reasons)
		print_flows(&flows);
	/* files of several namespaces are read by one collector */
	if (reasons && !opt.netns)
		print_global(reasons);
	if (openmetrics)
		puts("# EOF");
	free(flows.rec);
	return DONE;
}
