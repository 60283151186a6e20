/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What chimneyctl's files share.  Each object of the command line has a file
 * of its own; this is the vocabulary between them.
 */
#ifndef CHIMNEYCTL_H
#define CHIMNEYCTL_H

#include <fcntl.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include "../kmod/uapi.h"

#define CHIMNEY_SYSFS "/sys/kernel/chimney/"
#define CHIMNEY_PINS "/sys/fs/bpf/chimney"

#define CGROUP_ROOT "/sys/fs/cgroup"

#define NR_PORTS 65536
#define PORTS_ALLOWED "ports and ranges from 0 to 65535, as in 443,8000-8099"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* exit codes, documented in print_usage() */
enum {
	DONE = 0,
	FAILED = 1,
	MISUSED = 2,
	ABSENT = 3,
	FOUND = 4,
};

/**
 * complain() - say on stderr what went wrong
 * @code: exit code
 * @fmt: what, as for printf(), with neither program name nor newline
 *
 * Return: @code.
 */
#define complain(code, fmt, ...)                                         \
	({                                                               \
		fflush(stdout);                                          \
		fprintf(stderr, "chimneyctl: " fmt "\n", ##__VA_ARGS__); \
		(code);                                                  \
	})

/**
 * struct options - what stands before the object on the command line
 * @json: print JSON
 * @pretty: on several lines
 * @quiet: no headings, and no word about what is already as asked
 * @color: colours in what people read
 * @netns: the network namespace that was asked for, or NULL
 */
struct options {
	bool json;
	bool pretty;
	bool quiet;
	bool color;
	const char *netns;
};

extern struct options opt;

/**
 * struct command - one word that is understood at some place
 * @name: the word; it may be abbreviated
 * @run: takes the words after it; returns an exit code
 */
struct command {
	const char *name;
	int (*run)(int argc, char **argv);
};

/**
 * struct flow_list - TCP connections of a network namespace
 * @rec: them
 * @n: how many
 */
struct flow_list {
	struct chimney_flow_record *rec;
	size_t n;
};

/**
 * struct endpoint - one end of a connection
 * @addr: address; IPv4 as v4-mapped IPv6
 * @port: port, host order
 */
struct endpoint {
	__u8 addr[16];
	__u16 port;
};

/* chimneyctl.c */
int need_root(void);
int no_more_words(int argc, char **argv);
int bad_option(const char *option, const char *usage);
int find_word_in(const char *what, const char *word, bool abbreviated,
		 const void *table, size_t stride);
#define find_word(what, word, abbreviated, table) \
	find_word_in(what, word, abbreviated, table, sizeof((table)[0]))
int run_command(const char *what, const struct command *table, int argc,
		char **argv);

/* output.c */
const char *state_name(unsigned int state);
const char *reason_name(unsigned int reason);
int find_state(const char *word);
int find_reason(const char *word);
const char *reason_words(unsigned int reason);
void add_text(struct json_object *obj, const char *key, const char *text);
void add_number(struct json_object *obj, const char *key, __u64 number);
__u64 number_of(struct json_object *obj, const char *key);
const char *text_of(struct json_object *obj, const char *key, char *buf);
void print_json(struct json_object *obj);
void print_lines(struct json_object *obj);
void print_object(struct json_object *obj);
void print_table(FILE *to, struct json_object *array,
		 const char * const *columns);

/* sysfs.c */
int sysfs_text(int dir, const char *path, char *buf, size_t len);
int sysfs_number(int dir, const char *path, __u64 *number);
int sysfs_write(int dir, const char *path, const char *text);
int sysfs_net_devices(void);
int no_device(const char *name);
bool module_present(const char *module);
int need_module(void);
int need_same_version(void);

/* evaluators.c */
struct bpf_link;
struct bpf_program;
void evaluators_modules(FILE *command);
int evaluators_note(int map);
int evaluators_note_module(int map, const char *module);
struct bpf_link *evaluators_watch(const struct bpf_program *prog);
int evaluators_unknown(int map, const char *module, __s32 *unknown);
int evaluators_scan(int map, __s32 *unknown);
void evaluators_json(struct json_object *list, bool attached);

/* knobs.c */
bool ports_parse(const char *text, bool *ports, bool value);

/* cgroup.c */
bool cgroup_exists(const char *path);
const char *cgroup_path(__u64 id);

/* filter.c */
struct flow_filter;
int filter_parse(int argc, char **argv, struct flow_filter **filter);
void filter_apply(const struct flow_filter *filter, struct flow_list *list);
void filter_free(struct flow_filter *filter);

/* flows.c */
void v4_map(__u8 *addr);
int endpoint_parse(const char *text, struct endpoint *end);
int flows_pin_reader(const char *pins);
int flows_read(struct flow_list *list);
void add_end(struct json_object *obj, const char *key, __u16 family,
	     const __u8 *addr, __u16 port);
__u64 flow_reasons(const struct chimney_flow_record *rec);
struct json_object *flow_json(const struct chimney_flow_record *rec);

/* culprit.c */
struct json_object *culprits(const struct chimney_flow_record *rec,
			     unsigned int reason);

/* monitor.c */
int own_netns(__u64 *cookie);

/* stats.c */
struct json_object *devices_read(const char *only);

/* metrics.c */
int metrics_print(struct json_object *devices, struct json_object *reasons,
		  bool strict);

/* terminal.c */
int terminal_open(void);
void terminal_close(void);
int terminal_key(const struct timespec *wait);
void terminal_draw(const char *text);

/* the objects */
int cmd_status(int argc, char **argv);
int cmd_gate(int argc, char **argv);
int cmd_flows(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_monitor(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_set(int argc, char **argv);
int cmd_port(int argc, char **argv);
int cmd_cgroup(int argc, char **argv);
int cmd_check(int argc, char **argv);

#endif /* CHIMNEYCTL_H */
