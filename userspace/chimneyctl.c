// SPDX-License-Identifier: GPL-2.0
/*
 * chimneyctl: how a person or a script puts the gate in place and asks what
 * chimney does with each connection.  The words of the command line are sorted
 * out here; each object's file does its work.
 */
#define _GNU_SOURCE
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "chimneyctl.h"

#ifndef VERSION
#define VERSION "unknown"
#endif

struct options opt;

static const struct command objects[] = {
	{ "status", cmd_status },
	{ "gate", cmd_gate },
	{ "flows", cmd_flows },
	{ "explain", cmd_explain },
	{ "stats", cmd_stats },
	{ "monitor", cmd_monitor },
	{ }
};

static void print_usage(FILE *to)
{
	fputs("Usage: chimneyctl [OPTIONS] OBJECT\n"
	      "  status                   mode, gate and totals\n"
	      "  gate load                attach the gate: flows may be offloaded\n"
	      "  gate unload              detach it: every flow returns to the host\n"
	      "  gate status              what the gate is attached to\n"
	      "  flows                    every TCP connection: state, reasons, traffic by the path\n"
	      "  explain LOCAL REMOTE     why one connection is not offloaded, in words;\n"
	      "                           each end is ADDRESS:PORT, IPv6 [ADDRESS]:PORT\n"
	      "  stats [DEV]              counters of devices and of reasons\n"
	      "  monitor                  what becomes of flows, as it happens\n"
	      "Options:\n"
	      "  -j, --json               print JSON\n"
	      "  -p, --pretty             print JSON on several lines\n"
	      "  -q, --quiet              no headings, nothing about what is already as asked\n"
	      "  -n, --netns NETNS        look at this network namespace (a name or a path)\n"
	      "  -V, --version            print the version\n"
	      "  -h, --help               print this\n"
	      "Objects and commands may be abbreviated, as in ip(8).\n"
	      "Exit status: 0 done, 1 failed, 2 wrong usage, 3 not there (no such\n"
	      "connection, device or namespace; module or gate not loaded).\n", to);
}

/**
 * need_root() - complain to anyone else: BPF, its pins and the lock are root's
 *
 * Return: exit code.
 */
int need_root(void)
{
	return geteuid() ? complain(FAILED, "only root may do this") : DONE;
}

/**
 * no_more_words() - refuse words after a command that takes none
 * @argc: words left
 * @argv: them
 */
int no_more_words(int argc, char **argv)
{
	return argc ? complain(MISUSED, "unexpected word \"%s\"", argv[0]) : DONE;
}

/**
 * run_command() - run the one that the next word names
 * @what: what such words are called
 * @table: those allowed; of several that fit an abbreviation the first is meant
 * @argc: words left
 * @argv: them
 */
int run_command(const char *what, const struct command *table, int argc,
		char **argv)
{
	const struct command *cmd;
	char allowed[256] = "";

	for (cmd = table; cmd->name; cmd++) {
		if (argc && *argv[0] &&
		    !strncmp(cmd->name, argv[0], strlen(argv[0])))
			return cmd->run(argc - 1, argv + 1);
		if (*allowed)
			strcat(allowed, ", ");
		strcat(allowed, cmd->name);
	}
	if (!argc)
		return complain(MISUSED, "%s missing: one of %s", what, allowed);
	return complain(MISUSED, "unknown %s \"%s\": one of %s", what, argv[0],
			allowed);
}

static int enter_netns(const char *name)
{
	char path[4096];
	int fd;

	if (strchr(name, '/'))
		snprintf(path, sizeof(path), "%s", name);
	else
		snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return complain(errno == ENOENT ? ABSENT : FAILED,
				"network namespace \"%s\": %m", name);
	/* mounts stay as they are, so the gate's pins stay in sight */
	if (setns(fd, CLONE_NEWNET))
		return complain(FAILED, "entering network namespace \"%s\": %m",
				name);
	close(fd);
	return DONE;
}

static int warnings_only(enum libbpf_print_level level, const char *fmt,
			 va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, fmt, args) : 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "pretty", no_argument, NULL, 'p' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "netns", required_argument, NULL, 'n' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	const char *netns = NULL;
	int c, err;

	while ((c = getopt_long(argc, argv, "jpqn:Vh", options, NULL)) != -1) {
		switch (c) {
		case 'j':
			opt.json = true;
			break;
		case 'p':
			opt.json = true;
			opt.pretty = true;
			break;
		case 'q':
			opt.quiet = true;
			break;
		case 'n':
			netns = optarg;
			break;
		case 'V':
			puts("chimneyctl " VERSION);
			return DONE;
		case 'h':
			print_usage(stdout);
			return DONE;
		default:
			return complain(MISUSED, "see chimneyctl --help");
		}
	}
	if (optind == argc) {
		print_usage(stderr);
		return MISUSED;
	}

	libbpf_set_print(warnings_only);
	if (netns) {
		err = enter_netns(netns);
		if (err)
			return err;
	}
	err = run_command("object", objects, argc - optind, argv + optind);
	if (fflush(stdout) || ferror(stdout))
		return complain(FAILED, "writing: %m");
	return err;
}
