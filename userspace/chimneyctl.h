/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What chimneyctl's files share.  Each object of the command line has a file
 * of its own; this is the vocabulary between them.
 */
#ifndef CHIMNEYCTL_H
#define CHIMNEYCTL_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "../kmod/uapi.h"

#define CHIMNEY_SYSFS "/sys/kernel/chimney/"
#define CHIMNEY_PINS "/sys/fs/bpf/chimney"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* exit codes, documented in print_usage() */
enum {
	DONE = 0,
	FAILED = 1,
	MISUSED = 2,
	ABSENT = 3,
};

/**
 * complain() - say on stderr what went wrong
 * @code: exit code
 * @fmt: what, as for printf(), with neither program name nor newline
 *
 * Return: @code.
 */
#define complain(code, fmt, ...) ({					\
	fflush(stdout);							\
	fprintf(stderr, "chimneyctl: " fmt "\n", ##__VA_ARGS__);	\
	(code);								\
})

/**
 * struct options - what stands before the object on the command line
 * @json: print JSON
 * @pretty: on several lines
 * @quiet: no headings, and no word about what is already as asked
 */
struct options {
	bool json;
	bool pretty;
	bool quiet;
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
int run_command(const char *what, const struct command *table, int argc,
		char **argv);

/* output.c */
const char *state_name(unsigned int state);
const char *reason_name(unsigned int reason);
const char *reason_words(unsigned int reason);
void add_text(struct json_object *obj, const char *key, const char *text);
void add_number(struct json_object *obj, const char *key, __u64 number);
const char *text_of(struct json_object *obj, const char *key, char *buf);
void print_json(struct json_object *obj);
void print_lines(struct json_object *obj);
void print_table(struct json_object *array, const char * const *columns);

/* sysfs.c */
int sysfs_text(int dir, const char *path, char *buf, size_t len);
int sysfs_number(int dir, const char *path, __u64 *number);
int sysfs_net_devices(void);
bool module_present(const char *module);
int need_module(void);

/* evaluators.c */
struct bpf_link;
struct bpf_program;
void evaluators_modules(FILE *command);
int evaluators_note(int map);
int evaluators_note_module(int map, const char *module);
struct bpf_link *evaluators_watch(const struct bpf_program *prog);
int evaluators_scan(int map, __s32 *unknown);
void evaluators_json(struct json_object *list, bool attached);

/* flows.c */
int endpoint_parse(const char *text, struct endpoint *end);
int flows_pin_reader(void);
int flows_read(struct flow_list *list);
void add_end(struct json_object *obj, const char *key, __u16 family,
	     const __u8 *addr, __u16 port);
__u64 flow_reasons(const struct chimney_flow_record *rec);
struct json_object *flow_json(const struct chimney_flow_record *rec);

/* the objects */
int cmd_status(int argc, char **argv);
int cmd_gate(int argc, char **argv);
int cmd_flows(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_monitor(int argc, char **argv);

#endif /* CHIMNEYCTL_H */
