// SPDX-License-Identifier: GPL-2.0
/*
 * What becomes of flows, while it happens, until SIGINT or SIGTERM.
 *
 * A line of JSON each:
 *	{ "time": SECONDS since 1970, "event": "offloaded", "uploaded" or
 *	  "refused", "local": ADDRESS:PORT, "laddr", "lport", "remote", "raddr",
 *	  "rport", "dev": NAME or null, "reason": NAME or null,
 *	  "tx_packets": N, "tx_bytes": N, "rx_packets": N, "rx_bytes": N }
 * What is counted is what took the path since the flow was last offloaded.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "chimneyctl.h"
#include "monitor.h"
#include "monitor.skel.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

/* What people call it; NULL for a step on the way. */
static const char *event_name(const struct chimney_event *event)
{
	if (event->to == CHIMNEY_OFFLOADED)
		return event->from == CHIMNEY_OFFLOADING ? "offloaded" : NULL;
	if (event->to == CHIMNEY_UPLOADING)
		return "uploaded";
	if (event->to == CHIMNEY_IN_HOST && event->reason != CHIMNEY_NONE)
		return "refused";
	return NULL;
}

/* Of CLOCK_BOOTTIME, as time of day. */
static struct timespec time_of_day(__u64 ns)
{
	struct timespec now, boot;
	__s64 then;

	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	then = (now.tv_sec - boot.tv_sec) * 1000000000LL +
	       (now.tv_nsec - boot.tv_nsec) + ns;
	return (struct timespec){ then / 1000000000, then % 1000000000 };
}

static void add_time(struct json_object *obj, const struct timespec *when)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld.%06ld", (long long)when->tv_sec,
		 when->tv_nsec / 1000);
	json_object_object_add(obj, "time",
			       json_object_new_double_s(when->tv_sec, text));
}

static void print_text(struct json_object *obj, const struct timespec *when)
{
	char clock[16], buf[256];
	struct tm tm;

	localtime_r(&when->tv_sec, &tm);
	strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	printf("%s.%06ld %-9s %s %s", clock, when->tv_nsec / 1000,
	       text_of(obj, "event", buf), text_of(obj, "local", buf),
	       text_of(obj, "remote", buf));
	if (json_object_object_get(obj, "dev"))
		printf(" dev %s", text_of(obj, "dev", buf));
	if (json_object_object_get(obj, "reason"))
		printf(" reason %s", text_of(obj, "reason", buf));
	putchar('\n');
}

static int print_record(void *ctx, void *data, size_t size)
{
	const struct monitor_record *record = data;
	const struct chimney_event *event = &record->event;
	const struct timespec when = time_of_day(record->ns);
	const char *name = event_name(event);
	struct json_object *obj;
	char dev[IF_NAMESIZE];

	(void)ctx;
	(void)size;
	if (!name)
		return 0;
	obj = json_object_new_object();
	add_time(obj, &when);
	add_text(obj, "event", name);
	add_end(obj, "local", event->flow.family, event->flow.local,
		event->flow.lport);
	add_end(obj, "remote", event->flow.family, event->flow.remote,
		event->flow.rport);
	add_text(obj, "dev", if_indextoname(event->ifindex, dev));
	add_text(obj, "reason",
		 event->reason == CHIMNEY_NONE ? NULL :
						 reason_name(event->reason));
	add_number(obj, "tx_packets", event->tx_packets);
	add_number(obj, "tx_bytes", event->tx_bytes);
	add_number(obj, "rx_packets", event->rx_packets);
	add_number(obj, "rx_bytes", event->rx_bytes);
	if (opt.json)
		print_json(obj);
	else
		print_text(obj, &when);
	fflush(stdout);
	json_object_put(obj);
	/* whom nobody reads any more */
	return ferror(stdout) ? -EPIPE : 0;
}

/**
 * own_netns() - the network namespace that chimneyctl is in
 * @cookie: gets what the gate knows it by
 *
 * Return: exit code, after a complaint.
 */
int own_netns(__u64 *cookie)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*cookie);
	int err;

	err = fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &len);
	if (err)
		complain(FAILED, "asking for the network namespace: %m");
	if (fd >= 0)
		close(fd);
	return err ? FAILED : DONE;
}

static int listen_to(struct monitor_bpf *skel)
{
	const struct sigaction action = { .sa_handler = on_signal };
	struct ring_buffer *ring;
	__u64 lost = 0;
	int n = 0;

	ring = ring_buffer__new(bpf_map__fd(skel->maps.records), print_record,
				NULL, NULL);
	if (!ring)
		return complain(FAILED, "listening: %m");
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	if (!opt.quiet)
		complain(DONE, "listening");
	while (!stop && (n >= 0 || n == -EINTR)) {
		n = ring_buffer__poll(ring, 1000);
		if (skel->bss->lost == lost)
			continue;
		complain(DONE, "%llu events were lost, they came too fast",
			 skel->bss->lost - lost);
		lost = skel->bss->lost;
	}
	ring_buffer__free(ring);
	if (n < 0 && n != -EINTR && n != -EPIPE)
		return complain(FAILED, "listening: %s", strerror(-n));
	return DONE;
}

/**
 * cmd_monitor() - chimneyctl monitor
 * @argc: words left
 * @argv: them
 */
int cmd_monitor(int argc, char **argv)
{
	struct monitor_bpf *skel;
	__u64 netns;
	int err;

	err = no_more_words(argc, argv);
	if (!err)
		err = need_same_version() ?: need_root() ?: own_netns(&netns);
	if (err)
		return err;
	skel = monitor_bpf__open();
	if (!skel)
		return complain(FAILED, "opening the monitor: %m");
	skel->rodata->netns = netns;
	err = monitor_bpf__load(skel) ?: monitor_bpf__attach(skel);
	if (err)
		err = complain(FAILED, "loading the monitor: %s", strerror(-err));
	else
		err = listen_to(skel);
	monitor_bpf__destroy(skel);
	return err;
}
