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
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chimneyctl.h"

struct options opt;

static const struct command objects[] = {
	{ "status", cmd_status }, { "gate", cmd_gate },
	{ "flows", cmd_flows },	  { "explain", cmd_explain },
	{ "stats", cmd_stats },	  { "monitor", cmd_monitor },
	{ "set", cmd_set },	  { "port", cmd_port },
	{ "cgroup", cmd_cgroup }, { "top", cmd_top },
	{ "check", cmd_check },	  {},
};

static void print_usage(FILE *to)
{
	fputs("Usage: chimneyctl [OPTIONS] OBJECT\n"
	      "  status                   mode, gate and totals\n"
	      "  gate load [FILE]         attach the gate: flows may be offloaded\n"
	      "  gate replace [FILE]      put another one in its place\n"
	      "  gate unload              detach it: every flow returns to the host\n"
	      "  gate status              what the gate is attached to\n"
	      "  flows [WORD VALUE]...    TCP connections: state, reasons, traffic by the path;\n"
	      "                           all, or those that local, remote, address, port,\n"
	      "                           lport, rport, dev, state, reason, cgroup tell;\n"
	      "                           sort local|remote|state|offloads|packets|bytes|payload\n"
	      "  explain LOCAL REMOTE     why one connection is not offloaded, in words;\n"
	      "                           each end is ADDRESS:PORT, IPv6 [ADDRESS]:PORT\n"
	      "  stats [-f FORMAT] [DEV]  counters of devices and of reasons, as text, json,\n"
	      "                           openmetrics or prometheus\n"
	      "  monitor                  what becomes of flows, as it happens\n"
	      "  set [KNOB VALUE]         turn a knob, or show all of them\n"
	      "  set dev DEV on|off       switch a device\n"
	      "  port add|del local|remote PORTS, port list\n"
	      "  cgroup add|del PATH, cgroup list\n"
	      "                           whose connections may be offloaded\n"
	      "  top [-b] [-d SECONDS] [-n TIMES]\n"
	      "                           what goes on now, anew each second; q quits\n"
	      "  check                    which connections will stay in the host, and why\n"
	      "Options, before the object:\n"
	      "  -c, --color[=WHEN]       colours: always, never, auto (the default)\n"
	      "  -j, --json               print JSON\n"
	      "  -p, --pretty             print JSON on several lines\n"
	      "  -q, --quiet              no headings, nothing about what is already as asked\n"
	      "  -n, --netns NETNS        look at this network namespace (a name or a path)\n"
	      "  -V, --version            print the version\n"
	      "  -h, --help               print this\n"
	      "Objects and commands may be abbreviated, as in ip(8).\n"
	      "Exit status: 0 done, 1 failed, 2 wrong usage, 3 not there (no such\n"
	      "connection, device or namespace; module or gate not loaded), 4 check has\n"
	      "found something.\n",
	      to);
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
	if (!argc)
		return DONE;
	return complain(MISUSED, "unexpected word \"%s\"%s", argv[0],
			argv[0][0] == '-' ? ": options stand before the object" :
					    "");
}

/**
 * bad_option() - refuse an option of an object
 * @option: what stands there
 * @usage: the object with the options that it has
 *
 * Return: exit code.
 */
int bad_option(const char *option, const char *usage)
{
	return complain(MISUSED, "bad option \"%s\": %s", option, usage);
}

/**
 * find_word_in() - which of the words that are allowed at some place is meant
 * @what: what such words are called
 * @word: what stands there, or NULL
 * @abbreviated: it may be; of several that fit the first is meant
 * @table: array whose elements begin with a pointer to the name; the last one's
 *	is NULL
 * @stride: size of an element
 *
 * Return: index, or -1 after a complaint that names those allowed.
 */
int find_word_in(const char *what, const char *word, bool abbreviated,
		 const void *table, size_t stride)
{
	size_t len = word ? strlen(word) + !abbreviated : 0;
	char allowed[1024] = "";
	const char *name;
	int i, end = 0;

	for (i = 0;; i++) {
		memcpy(&name, (const char *)table + i * stride, sizeof(name));
		if (!name)
			break;
		if (word && *word && !strncmp(name, word, len))
			return i;
		end += snprintf(allowed + end, sizeof(allowed) - end, "%s%s",
				i ? ", " : "", name);
	}
	if (!word)
		complain(MISUSED, "%s missing: one of %s", what, allowed);
	else
		complain(MISUSED, "unknown %s \"%s\": one of %s", what, word,
			 allowed);
	return -1;
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
	int i = find_word(what, argc ? argv[0] : NULL, true, table);

	return i < 0 ? MISUSED : table[i].run(argc - 1, argv + 1);
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

/* Colours are for terminals, unless someone says otherwise (no-color.org). */
static int choose_color(const char *when)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	if (!strcmp(when, "always"))
		opt.color = true;
	else if (!strcmp(when, "never"))
		opt.color = false;
	else if (!strcmp(when, "auto"))
		opt.color = isatty(STDOUT_FILENO) && !(no_color && *no_color) &&
			    term && strcmp(term, "dumb");
	else
		return complain(MISUSED,
				"bad value \"%s\" for --color: always, never or auto",
				when);
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
		{ "color", optional_argument, NULL, 'c' },
		{ "json", no_argument, NULL, 'j' },
		{ "pretty", no_argument, NULL, 'p' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "netns", required_argument, NULL, 'n' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{},
	};
	const char *when = "auto";
	int c, err;

	/* what follows the object is the object's */
	while ((c = getopt_long(argc, argv, "+c::jpqn:Vh", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			when = optarg ?: "always";
			when += *when == '='; /* -c=always, as with ip(8) */
			break;
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
			opt.netns = optarg;
			break;
		case 'V':
			puts("chimneyctl " CHIMNEY_VERSION);
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
	err = choose_color(when);
	if (!err && opt.netns)
		err = enter_netns(opt.netns);
	if (err)
		return err;
	err = run_command("object", objects, argc - optind, argv + optind);
	if (fflush(stdout) || ferror(stdout))
		return complain(FAILED, "writing: %m");
	return err;
}
