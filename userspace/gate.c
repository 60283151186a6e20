// SPDX-License-Identifier: GPL-2.0
/*
 * Putting the gate in place and taking it away.
 *
 * The order is what keeps default deny.  Only the struct_ops link makes a gate
 * of the programs, and it comes last: whoever dies before leaves programs that
 * watch and nothing that offers.  It goes first, before those who watch.
 *
 * JSON of gate status:
 *	{ "gate": NAME or null, "verdicts": N or null,
 *	  "triggers": [{ "trigger": PROGRAM, "watches": FUNCTION,
 *	  "state": "attached" or "missing" }...] }
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "chimneyctl.h"
#include "gate.skel.h"

#define LOCK_FILE "/run/chimney.lock"
#define PIN_GATE CHIMNEY_PINS "/gate"
#define PIN_LINKS CHIMNEY_PINS "/links"

/* verdicts that there is room for at least; and of the memory, at most */
#define VERDICTS_MIN 1024
#define VERDICTS_MEMORY(bytes) ((bytes) / 32)

/* what the kernel adds to an entry of a map, with its share of the buckets */
#define ENTRY_OVERHEAD 64

/* how long the kernel may take to let go of what is unpinned */
#define PATIENCE_MS 10000

/*
 * Triggers on functions of modules, which are loaded first so that they can be
 * traced.  Where there is no such module there is nothing to watch.  Of any
 * other function that is missing libbpf complains.
 */
static const struct {
	const char *program;
	const char *module;
	const char *feature;
} optional[] = {
	{ "rules_nft", "nf_tables", "nftables" },
	{ "rules_nfnetlink", "nfnetlink", "ipset and conntrack" },
	{ "rules_iptables", "ip_tables", "iptables-legacy" },
	{ "rules_ip6tables", "ip6_tables", "ip6tables-legacy" },
	{ "ipvs_genl", "ip_vs", "IPVS" },
	{ "ipvs_sockopt", "ip_vs", "IPVS" },
};

/* Tests kill a load half-way with this: SIGKILL once @step is done. */
static void may_die_after(const char *step)
{
	const char *last = getenv("CHIMNEY_DIE_AFTER");

	if (last && !strcmp(last, step))
		raise(SIGKILL);
}

/* One chimneyctl at a time changes the gate; the lock goes with the process. */
static int lock(void)
{
	int fd = open(LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || flock(fd, LOCK_EX))
		return complain(FAILED, LOCK_FILE ": %m");
	return DONE;
}

/* Name of the attached gate, or NULL. */
static const char *attached(void)
{
	static char name[64];

	if (sysfs_text(AT_FDCWD, CHIMNEY_SYSFS "gate", name, sizeof(name)) ||
	    !strcmp(name, "none"))
		return NULL;
	return name;
}

static bool pinned(const char *path)
{
	return !access(path, F_OK);
}

static void empty_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
}

static int remove_pins(void)
{
	int fd = bpf_obj_get(PIN_GATE);

	if (fd >= 0) {
		/* returns when every flow is back; unlinking alone is lazy */
		bpf_link_detach(fd);
		close(fd);
	}
	unlink(PIN_GATE);
	empty_folder(PIN_LINKS);
	rmdir(PIN_LINKS);
	empty_folder(CHIMNEY_PINS);
	if (rmdir(CHIMNEY_PINS) && errno != ENOENT)
		return complain(FAILED, "removing " CHIMNEY_PINS ": %m");
	return DONE;
}

static bool gate_is_gone(void)
{
	return !attached();
}

/* The programs hold the module; they are freed some time after their pins. */
static bool module_is_free(void)
{
	__u64 users;

	return sysfs_number(AT_FDCWD, "/sys/module/chimney/refcnt", &users) ||
	       !users;
}

static bool wait_until(bool (*true_now)(void))
{
	int ms;

	for (ms = 0; !true_now(); ms += 10) {
		if (ms >= PATIENCE_MS)
			return false;
		usleep(10000);
	}
	return true;
}

static void load_modules(void)
{
	char *command = NULL;
	size_t i, len;
	FILE *words;

	words = open_memstream(&command, &len);
	if (!words)
		return;
	fputs("/sbin/modprobe -qa", words);
	evaluators_modules(words);
	for (i = 0; i < ARRAY_SIZE(optional); i++)
		fprintf(words, " %s", optional[i].module);
	fclose(words);
	/* what is still missing then, find_in_modules() and the gate tell */
	(void)!system(command);
	free(command);
}

/* fentry and fexit programs, and those on tracepoints */
static bool is_trigger(const struct bpf_program *prog)
{
	return bpf_program__type(prog) == BPF_PROG_TYPE_TRACING;
}

/* What a trigger watches: all after the slash in "fexit/function". */
static const char *watches(const struct bpf_program *prog)
{
	const char *section = bpf_program__section_name(prog);
	const char *slash = strchr(section, '/');

	return slash ? slash + 1 : section;
}

static void link_path(const struct bpf_program *prog, char *path, size_t len)
{
	snprintf(path, len, PIN_LINKS "/%s", bpf_program__name(prog));
}

/* Whether a kernel that has not got its module has a trigger's function. */
static bool is_built_in(const struct bpf_program *prog)
{
	struct btf *vmlinux = btf__load_vmlinux_btf();
	bool has;

	has = vmlinux && btf__find_by_name_kind(vmlinux, watches(prog),
						BTF_KIND_FUNC) > 0;
	btf__free(vmlinux);
	return has;
}

/*
 * Finds the functions that modules have.  Without the name of the module,
 * libbpf looks through the types of every one that is loaded; with its name, it
 * does not look in the kernel itself.
 */
static void find_in_modules(struct gate_bpf *skel)
{
	struct bpf_program *prog;
	char function[128];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(optional); i++) {
		prog = bpf_object__find_program_by_name(skel->obj,
							optional[i].program);
		if (module_present(optional[i].module)) {
			snprintf(function, sizeof(function), "%s:%s",
				 optional[i].module, watches(prog));
			bpf_program__set_attach_target(prog, 0, function);
			continue;
		}
		if (is_built_in(prog))
			continue;
		complain(DONE,
			 "no %s here: trigger %s is left out, %s is not watched",
			 optional[i].module, optional[i].program,
			 optional[i].feature);
		bpf_program__set_autoload(prog, false);
	}
}

static int pin_maps(struct gate_bpf *skel)
{
	struct bpf_map * const maps[] = {
		skel->maps.flows, skel->maps.captures, skel->maps.watched,
		skel->maps.rule_modules,
	};
	char path[256];
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		snprintf(path, sizeof(path), CHIMNEY_PINS "/%s",
			 bpf_map__name(maps[i]));
		err = bpf_map__pin(maps[i], path);
		if (err)
			return complain(FAILED, "pinning %s: %s", path,
					strerror(-err));
	}
	return DONE;
}

static int pin_link(struct bpf_link *link, const char *path)
{
	int err = bpf_link__pin(link, path);

	if (err)
		complain(FAILED, "pinning %s: %s", path, strerror(-err));
	bpf_link__destroy(link);
	return err ? FAILED : DONE;
}

static int attach_triggers(struct gate_bpf *skel)
{
	struct bpf_program *prog;
	struct bpf_link *link;
	char path[256];
	int err;

	if (mkdir(PIN_LINKS, 0700))
		return complain(FAILED, PIN_LINKS ": %m");
	bpf_object__for_each_program(prog, skel->obj) {
		if (!is_trigger(prog) || !bpf_program__autoload(prog))
			continue;
		link = bpf_program__attach(prog);
		if (!link)
			return complain(FAILED, "trigger %s cannot watch %s: %m",
					bpf_program__name(prog), watches(prog));
		link_path(prog, path, sizeof(path));
		err = pin_link(link, path);
		if (err)
			return err;
	}
	return DONE;
}

/* What the gate need not be alarmed by when it is loaded later. */
static int note_modules(struct gate_bpf *skel)
{
	int map = bpf_map__fd(skel->maps.rule_modules), err;
	size_t i;

	err = evaluators_note(map);
	for (i = 0; !err && i < ARRAY_SIZE(optional); i++)
		err = evaluators_note_module(map, optional[i].module);
	return err;
}

static int watch_rules(struct gate_bpf *skel)
{
	struct bpf_link *link = evaluators_watch(skel->progs.each_packet);
	char path[256];
	int err;

	if (!link)
		return FAILED;
	link_path(skel->progs.each_packet, path, sizeof(path));
	err = pin_link(link, path);
	/* what has come before the triggers, they did not see */
	return err ?: evaluators_scan(bpf_map__fd(skel->maps.rule_modules),
				      &skel->bss->nr_unknown_rules);
}

static int scan_captures(struct gate_bpf *skel)
{
	LIBBPF_OPTS(bpf_test_run_opts, run);
	int err;

	err = bpf_prog_test_run_opts(bpf_program__fd(skel->progs.scan_captures),
				     &run);
	if (err)
		return complain(FAILED, "looking for running captures: %s",
				strerror(-err));
	if ((int)run.retval == -ENOENT)
		return complain(FAILED,
				"the kernel does not tell where its captures are (sysctl kernel.kptr_restrict has to be 0 or 1)");
	if (run.retval)
		return complain(FAILED,
				"more captures are running than the gate can follow");
	return DONE;
}

static int attach_gate(struct gate_bpf *skel)
{
	struct bpf_link *link = bpf_map__attach_struct_ops(skel->maps.gate);

	if (!link)
		return complain(FAILED, "attaching the gate: %m");
	may_die_after("attach");
	return pin_link(link, PIN_GATE);
}

/*
 * Room for a verdict on both ends of each connection that one network namespace
 * may have offloaded: the other end may be in another one of them, and what
 * stays in the host has verdicts, too.  A flow whose verdict had to give way
 * would go back to the host.
 */
static int size_verdicts(struct bpf_map *map)
{
	__u64 memory = (__u64)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
	__u64 entry = bpf_map__key_size(map) + bpf_map__value_size(map) +
		      ENTRY_OVERHEAD;
	__u64 most = VERDICTS_MEMORY(memory) / entry, verdicts;
	int err;

	err = sysfs_number(AT_FDCWD, CHIMNEY_SYSFS "max_flows", &verdicts);
	if (err)
		return complain(FAILED, CHIMNEY_SYSFS "max_flows: %s",
				strerror(-err));
	verdicts *= 2;
	if (verdicts > most)
		verdicts = most;
	if (verdicts < VERDICTS_MIN)
		verdicts = VERDICTS_MIN;
	err = bpf_map__set_max_entries(map, verdicts);
	return err ? complain(FAILED, "room for %llu verdicts: %s", verdicts,
			      strerror(-err)) : DONE;
}

static int load_gate(struct gate_bpf *skel)
{
	int err;

	may_die_after("open");
	load_modules();
	find_in_modules(skel);
	err = size_verdicts(skel->maps.flows);
	if (err)
		return err;
	err = gate_bpf__load(skel);
	if (err)
		return complain(FAILED, "loading the gate: %s", strerror(-err));
	may_die_after("load");
	err = pin_maps(skel) ?: flows_pin_reader();
	if (err)
		return err;
	may_die_after("pin");
	err = note_modules(skel) ?: attach_triggers(skel) ?: watch_rules(skel);
	if (err)
		return err;
	may_die_after("links");
	/* what starts from here on, the triggers see */
	err = scan_captures(skel);
	if (err)
		return err;
	may_die_after("scan");
	return attach_gate(skel);
}

static int gate_load(int argc, char **argv)
{
	struct gate_bpf *skel;
	struct statfs fs;
	int err;

	err = no_more_words(argc, argv) ?: need_module() ?: need_root() ?: lock();
	if (err)
		return err;
	if (attached())
		return complain(FAILED, "a gate is attached already: %s",
				attached());
	if (statfs("/sys/fs/bpf", &fs) || fs.f_type != BPF_FS_MAGIC)
		return complain(FAILED,
				"no bpffs at /sys/fs/bpf: mount -t bpf none /sys/fs/bpf");
	if (pinned(CHIMNEY_PINS)) {
		complain(DONE, "removing what an unfinished load has left");
		err = remove_pins();
		if (err)
			return err;
	}

	skel = gate_bpf__open();
	if (!skel)
		return complain(FAILED, "opening the gate: %m");
	err = load_gate(skel);
	gate_bpf__destroy(skel);
	if (err)
		remove_pins();
	return err;
}

static int gate_unload(int argc, char **argv)
{
	const char *name;
	int err;

	err = no_more_words(argc, argv) ?: need_root() ?: lock();
	if (err)
		return err;
	name = attached();
	if (pinned(CHIMNEY_PINS)) {
		if (!name && !opt.quiet)
			complain(DONE, "removing what an unfinished load has left");
		err = remove_pins();
		if (err)
			return err;
		if (!wait_until(gate_is_gone))
			return complain(FAILED, "gate %s is still attached",
					name);
	} else if (name) {
		return complain(FAILED,
				"gate %s is attached, but not by chimneyctl: no %s",
				name, PIN_GATE);
	} else if (!opt.quiet) {
		err = complain(ABSENT, "no gate is loaded");
	}
	/* others may use the module, too: that is no failure */
	wait_until(module_is_free);
	return err;
}

/* Number of verdicts, or a negative errno. */
static long count_verdicts(void)
{
	int fd = bpf_obj_get(CHIMNEY_PINS "/flows");
	struct chimney_tuple key, *last = NULL;
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);
	long n = 0;

	if (fd < 0)
		return -errno;
	bpf_map_get_info_by_fd(fd, &info, &len);
	/* a key that vanishes starts it again: it has to end all the same */
	while (n < info.max_entries && !bpf_map_get_next_key(fd, last, &key)) {
		last = &key;
		n++;
	}
	close(fd);
	return n;
}

static struct json_object *triggers_json(const struct gate_bpf *skel)
{
	struct json_object *list = json_object_new_array();
	struct bpf_program *prog;
	struct json_object *trigger;
	char path[256];

	bpf_object__for_each_program(prog, skel->obj) {
		if (!is_trigger(prog))
			continue;
		link_path(prog, path, sizeof(path));
		trigger = json_object_new_object();
		add_text(trigger, "trigger", bpf_program__name(prog));
		add_text(trigger, "watches", watches(prog));
		add_text(trigger, "state",
			 pinned(path) ? "attached" : "missing");
		json_object_array_add(list, trigger);
	}
	link_path(skel->progs.each_packet, path, sizeof(path));
	evaluators_json(list, pinned(path));
	return list;
}

static int gate_status(int argc, char **argv)
{
	static const char * const columns[] = {
		"trigger", "watches", "state", NULL,
	};
	struct json_object *obj, *triggers;
	struct gate_bpf *skel;
	long verdicts;
	int err;

	err = no_more_words(argc, argv) ?: need_module() ?: need_root();
	if (err)
		return err;
	skel = gate_bpf__open();
	if (!skel)
		return complain(FAILED, "opening the gate: %m");
	triggers = triggers_json(skel);
	gate_bpf__destroy(skel);

	obj = json_object_new_object();
	add_text(obj, "gate", attached());
	verdicts = count_verdicts();
	json_object_object_add(obj, "verdicts", verdicts < 0 ? NULL :
			       json_object_new_int64(verdicts));
	json_object_object_add(obj, "triggers", triggers);
	if (opt.json) {
		print_json(obj);
	} else {
		print_lines(obj);
		print_table(triggers, columns);
	}
	json_object_put(obj);
	return attached() ? DONE : ABSENT;
}

/**
 * cmd_gate() - chimneyctl gate load|unload|status
 * @argc: words left
 * @argv: them
 */
int cmd_gate(int argc, char **argv)
{
	static const struct command commands[] = {
		{ "load", gate_load },
		{ "unload", gate_unload },
		{ "status", gate_status },
		{ }
	};

	return run_command("gate command", commands, argc, argv);
}
