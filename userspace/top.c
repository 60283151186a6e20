// SPDX-License-Identifier: GPL-2.0
/*
 * What goes on now: how much takes the path and how much the host's IP layer,
 * the flows by state, what keeps them in the host, and the busiest.
 *
 * The path counts in the IP layer's counters, too (as "nstat" shows), so that
 * the host's share is the difference, in the same unit: packets as GRO and GSO
 * leave them, with their IP header, forwarded ones and the loopback included.
 *
 * A line of JSON each time; rates are per second:
 *	{ "time": SECONDS since 1970, "interval": SECONDS,
 *	  "path": { "tx_packets": N, "tx_bytes": N, "rx_packets", "rx_bytes" },
 *	  "host": likewise, "states": { STATE: FLOWS... },
 *	  "reasons": { REASON: FLOWS... }, "flows": [the busiest, as in flows.c
 *	  with "sent_rate": N and "received_rate": N, payload in bytes] }
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chimneyctl.h"

#define USAGE "top [-b] [-d SECONDS] [-n TIMES]"
#define BUSIEST 20 /* without a terminal that says how many fit */
#define BUSIEST_DRAWN 200
#define BLANKS "\n "

static const char * const traffic[] = {
	"tx_packets",
	"tx_bytes",
	"rx_packets",
	"rx_bytes",
};

#define NR_TRAFFIC ARRAY_SIZE(traffic)

/* what the IP layer calls these, without "Ip6" in front, in the same order */
static const char * const ip_traffic[NR_TRAFFIC] = {
	"OutTransmits",
	"OutOctets",
	"InReceives",
	"InOctets",
};

/* The moment and all that was counted until then, flows by their tuple. */
struct sample {
	struct timespec when;
	__u64 path[NR_TRAFFIC];
	__u64 ip[NR_TRAFFIC];
	struct flow_list flows;
};

struct busy {
	const struct chimney_flow_record *rec;
	__u64 sent;
	__u64 received;
};

static void count_ip(__u64 *sum, const char *name, const char *number)
{
	size_t i;

	for (i = 0; i < NR_TRAFFIC; i++)
		if (!strcmp(name, ip_traffic[i]))
			sum[i] += strtoull(number, NULL, 10);
}

/* Lines "GROUP: NAME..." and "GROUP: NUMBER...", in turns. */
static void read_ip(const char *path, __u64 *sum)
{
	FILE *file = fopen(path, "re");
	char *names = NULL, *numbers = NULL, *rest[2], *name, *number;
	size_t room[2] = {};

	while (file && getline(&names, &room[0], file) > 0 &&
	       getline(&numbers, &room[1], file) > 0) {
		name = strtok_r(names, BLANKS, &rest[0]);
		number = strtok_r(numbers, BLANKS, &rest[1]);
		while (name && number) {
			count_ip(sum, name, number);
			name = strtok_r(NULL, BLANKS, &rest[0]);
			number = strtok_r(NULL, BLANKS, &rest[1]);
		}
	}
	free(names);
	free(numbers);
	if (file)
		fclose(file);
}

static void read_ip6(__u64 *sum)
{
	FILE *file = fopen("/proc/net/snmp6", "re");
	char name[64], number[32];

	while (file && fscanf(file, "%63s %31s", name, number) == 2)
		if (!strncmp(name, "Ip6", 3))
			count_ip(sum, name + 3, number);
	if (file)
		fclose(file);
}

static int by_tuple(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct chimney_tuple));
}

static int read_sample(struct sample *now)
{
	struct json_object *devices, *dev;
	size_t i, c;
	int err;

	memset(now, 0, sizeof(*now));
	/* the path first: what it carries in between counts as the host's */
	devices = devices_read(NULL);
	if (!devices)
		return FAILED;
	for (i = 0; i < json_object_array_length(devices); i++) {
		dev = json_object_array_get_idx(devices, i);
		for (c = 0; c < NR_TRAFFIC; c++)
			now->path[c] += number_of(dev, traffic[c]);
	}
	json_object_put(devices);
	read_ip("/proc/net/snmp", now->ip);
	read_ip("/proc/net/netstat", now->ip);
	read_ip6(now->ip);
	clock_gettime(CLOCK_MONOTONIC, &now->when);
	err = flows_read(&now->flows);
	if (!err && now->flows.n)
		qsort(now->flows.rec, now->flows.n, sizeof(*now->flows.rec),
		      by_tuple);
	return err;
}

static double seconds_between(const struct timespec *a, const struct timespec *b)
{
	return b->tv_sec - a->tv_sec + (b->tv_nsec - a->tv_nsec) / 1e9;
}

/* Of what is counted anew when it is less than before. */
static __u64 rate(__u64 before, __u64 now, double seconds)
{
	return seconds > 0 ? (now - (now < before ? 0 : before)) / seconds : 0;
}

static void add_traffic(struct json_object *obj, const struct sample *before,
			const struct sample *now, double seconds)
{
	struct json_object *path = json_object_new_object();
	struct json_object *host = json_object_new_object();
	__u64 by_path, by_ip;
	size_t i;

	for (i = 0; i < NR_TRAFFIC; i++) {
		/* devices that have gone took their counters along */
		by_path = now->path[i] < before->path[i] ?
				  0 :
				  rate(before->path[i], now->path[i], seconds);
		by_ip = rate(before->ip[i], now->ip[i], seconds);
		add_number(path, traffic[i], by_path);
		add_number(host, traffic[i],
			   by_ip < by_path ? 0 : by_ip - by_path);
	}
	json_object_object_add(obj, "path", path);
	json_object_object_add(obj, "host", host);
}

static void add_states(struct json_object *obj, const struct flow_list *flows)
{
	struct json_object *states = json_object_new_object();
	size_t count[CHIMNEY_UPLOADING + 1] = {};
	size_t i;

	for (i = 0; i < flows->n; i++)
		if (flows->rec[i].info.state < ARRAY_SIZE(count))
			count[flows->rec[i].info.state]++;
	for (i = 0; i < ARRAY_SIZE(count); i++)
		add_number(states, state_name(i), count[i]);
	json_object_object_add(obj, "states", states);
}

/* The most frequent first. */
static void add_reasons(struct json_object *obj, const struct flow_list *flows)
{
	struct json_object *reasons = json_object_new_object();
	size_t count[64] = {}, i, most;
	__u64 mask;

	for (i = 0; i < flows->n; i++)
		for (mask = flow_reasons(&flows->rec[i]); mask; mask &= mask - 1)
			count[__builtin_ctzll(mask)]++;
	for (;;) {
		for (most = 0, i = 1; i < 64; i++)
			if (count[i] > count[most])
				most = i;
		if (!count[most])
			break;
		add_number(reasons, reason_name(most), count[most]);
		count[most] = 0;
	}
	json_object_object_add(obj, "reasons", reasons);
}

static int by_rate(const void *a, const void *b)
{
	const struct busy *x = a, *y = b;
	__u64 p = x->sent + x->received, q = y->sent + y->received;

	if (p != q)
		return p > q ? -1 : 1;
	return by_tuple(x->rec, y->rec);
}

static void add_busiest(struct json_object *obj, const struct sample *before,
			const struct sample *now, double seconds, size_t most)
{
	struct json_object *array = json_object_new_array(), *flow;
	struct busy *busy = calloc(now->flows.n + 1, sizeof(*busy));
	static const struct chimney_flow_record none;
	const struct chimney_flow_record *rec, *was;
	size_t i;

	for (i = 0; busy && i < now->flows.n; i++) {
		rec = &now->flows.rec[i];
		was = before->flows.n ?
			      bsearch(rec, before->flows.rec, before->flows.n,
				      sizeof(*rec), by_tuple) :
			      NULL;
		if (!was)
			was = &none;
		busy[i].rec = rec;
		busy[i].sent = rate(was->sent, rec->sent, seconds);
		busy[i].received = rate(was->received, rec->received, seconds);
	}
	if (busy)
		qsort(busy, now->flows.n, sizeof(*busy), by_rate);
	for (i = 0; busy && i < now->flows.n && i < most; i++) {
		flow = flow_json(busy[i].rec);
		add_number(flow, "sent_rate", busy[i].sent);
		add_number(flow, "received_rate", busy[i].received);
		json_object_array_add(array, flow);
	}
	free(busy);
	json_object_object_add(obj, "flows", array);
}

static struct json_object *view(const struct sample *before,
				const struct sample *now, size_t most)
{
	double seconds = seconds_between(&before->when, &now->when);
	struct json_object *obj = json_object_new_object();
	char text[32];

	add_number(obj, "time", time(NULL));
	snprintf(text, sizeof(text), "%.3f", seconds);
	json_object_object_add(obj, "interval",
			       json_object_new_double_s(seconds, text));
	add_traffic(obj, before, now, seconds);
	add_states(obj, &now->flows);
	add_reasons(obj, &now->flows);
	add_busiest(obj, before, now, seconds, most);
	return obj;
}

static void print_counts(FILE *to, struct json_object *obj, const char *key)
{
	const char *comma = "";

	fprintf(to, "%-8s", key);
	json_object_object_foreach(json_object_object_get(obj, key), name, n) {
		fprintf(to, "%s %s %s", comma, json_object_get_string(n), name);
		comma = ",";
	}
	fputc('\n', to);
}

static void print_traffic(FILE *to, struct json_object *obj, const char *key)
{
	struct json_object *sums = json_object_object_get(obj, key);
	__u64 n[NR_TRAFFIC];
	size_t i;

	for (i = 0; i < NR_TRAFFIC; i++)
		n[i] = number_of(sums, traffic[i]);
	fprintf(to, "%-8s %12llu %14llu %12llu %14llu\n", key, n[0], n[1], n[2],
		n[3]);
}

static void print_view(FILE *to, struct json_object *obj)
{
	static const char * const columns[] = {
		"local",     "remote",	      "dev",	 "state",
		"sent_rate", "received_rate", "reasons", NULL,
	};
	char mode[32] = "unknown", gate[64] = "none", clock[16];
	time_t now = number_of(obj, "time");
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	sysfs_text(AT_FDCWD, CHIMNEY_SYSFS "mode", mode, sizeof(mode));
	sysfs_text(AT_FDCWD, CHIMNEY_SYSFS "gate", gate, sizeof(gate));
	fprintf(to, "chimney  %s mode %s gate %s\n", clock, mode, gate);
	fprintf(to, "%-8s %12s %14s %12s %14s\n", "rates", "TX-PACKETS/s",
		"TX-BYTES/s", "RX-PACKETS/s", "RX-BYTES/s");
	print_traffic(to, obj, "path");
	print_traffic(to, obj, "host");
	print_counts(to, obj, "states");
	print_counts(to, obj, "reasons");
	fputc('\n', to);
	print_table(to, json_object_object_get(obj, "flows"), columns);
}

/* As lines, for scripts and for later. */
static int batch(double delay, unsigned long times)
{
	const struct timespec wait = {
		.tv_sec = delay,
		.tv_nsec = (delay - (time_t)delay) * 1e9,
	};
	struct sample samples[2];
	struct json_object *obj;
	unsigned long i;
	int err;

	err = read_sample(&samples[0]);
	for (i = 1; !err && (!times || i <= times) && !ferror(stdout); i++) {
		nanosleep(&wait, NULL);
		err = read_sample(&samples[i % 2]);
		if (!err) {
			obj = view(&samples[1 - i % 2], &samples[i % 2], BUSIEST);
			if (opt.json)
				print_json(obj);
			else
				print_view(stdout, obj);
			if (!opt.json && i != times)
				putchar('\n');
			fflush(stdout);
			json_object_put(obj);
		}
		free(samples[1 - i % 2].flows.rec);
	}
	if (!err)
		free(samples[(i - 1) % 2].flows.rec);
	return err;
}

/* Draw what there is until a key asks for more, or it is time for that. */
static int draw(const char *text, double delay)
{
	struct timespec begin, now, wait;
	double left = delay;
	int key;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	terminal_draw(text);
	while (left > 0) {
		wait.tv_sec = left;
		wait.tv_nsec = (left - (time_t)left) * 1e9;
		key = terminal_key(&wait);
		if (key == 'q' || key == 'Q' || key == ' ' || key == '\n')
			return key;
		if (key < 0)
			terminal_draw(text);
		clock_gettime(CLOCK_MONOTONIC, &now);
		left = delay - seconds_between(&begin, &now);
	}
	return 0;
}

static int live(double delay, unsigned long times)
{
	struct sample before, now;
	struct json_object *obj;
	char *text = NULL;
	unsigned long i;
	FILE *out;
	size_t len;
	int err, key = 0;

	err = read_sample(&before);
	if (err)
		return err;
	err = terminal_open();
	/* the first has no rates yet */
	for (i = 0; !err && key != 'q' && key != 'Q' && (!times || i < times);
	     i++) {
		err = read_sample(&now);
		if (err)
			break;
		obj = view(&before, &now, BUSIEST_DRAWN);
		out = open_memstream(&text, &len);
		if (out) {
			print_view(out, obj);
			fclose(out);
			key = draw(text, delay);
		} else {
			err = complain(FAILED, "%m");
		}
		free(text);
		text = NULL;
		json_object_put(obj);
		free(before.flows.rec);
		before = now;
	}
	free(before.flows.rec);
	terminal_close();
	return err;
}

/**
 * cmd_top() - chimneyctl top [-b] [-d SECONDS] [-n TIMES]
 * @argc: words left
 * @argv: them
 */
int cmd_top(int argc, char **argv)
{
	static const struct option options[] = {
		{ "batch", no_argument, NULL, 'b' },
		{ "delay", required_argument, NULL, 'd' },
		{ "times", required_argument, NULL, 'n' },
		{},
	};
	bool is_batch = opt.json;
	unsigned long times = 0;
	double delay = 1;
	char *end;
	int c, err;

	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc + 1, argv - 1, "+bd:n:", options, NULL)) !=
	       -1) {
		switch (c) {
		case 'b':
			is_batch = true;
			break;
		case 'd':
			delay = strtod(optarg, &end);
			if (end == optarg || *end ||
			    !(delay >= 0.1 && delay <= 3600))
				return complain(MISUSED,
						"bad value \"%s\" for -d: seconds, from 0.1 to 3600",
						optarg);
			break;
		case 'n':
			times = strtoul(optarg, &end, 10);
			if (*optarg < '0' || *optarg > '9' || *end || !times)
				return complain(MISUSED,
						"bad value \"%s\" for -n: a number from 1",
						optarg);
			break;
		default:
			return bad_option(argv[optind - 2], USAGE);
		}
	}
	/* what is cut to the size of a terminal has no room for colours */
	opt.color = opt.color && is_batch;
	err = no_more_words(argc + 1 - optind, argv - 1 + optind);
	if (!err)
		err = need_same_version() ?: need_root();
	if (err)
		return err;
	return is_batch ? batch(delay, times) : live(delay, times);
}
