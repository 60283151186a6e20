// SPDX-License-Identifier: GPL-2.0
/*
 * Putting the gate in place, another one in its place, and taking it away.
 *
 * The order is what keeps default deny.  Only the struct_ops link makes a gate
 * of the programs, and it comes last: whoever dies before leaves programs that
 * watch and nothing that offers.  It goes first, before those who watch.
 *
 * A gate that is to replace another one is made ready beside it, with maps and
 * programs of its own.  Then the link is updated, which sends all flows back
 * to the host, where the new gate judges them; its pins take the old ones'
 * places, and those who watched for the old gate are gone.
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
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "chimneyctl.h"
#include "gate.skel.h"

#define LOCK_FILE "/run/chimney.lock"
#define PIN_GATE CHIMNEY_PINS "/gate"
/* pins of a gate that is to replace another one; a number follows */
#define PIN_NEXT CHIMNEY_PINS "/next"
#define NEXT_MAX 16
#define PINS_LEN 64 /* name of such a folder */
#define PATH_LEN 256

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
	{ "rules_nft_table", "nf_tables", "nftables" },
	{ "packet_rules_owner", "nf_tables", "nftables" },
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

/* Links of triggers are in a folder below that of the maps. */
static void links_path(const char *pins, char *path, size_t len)
{
	snprintf(path, len, "%s/links", pins);
}

static void link_path(const char *pins, const struct bpf_program *prog,
		      char *path, size_t len)
{
	snprintf(path, len, "%s/links/%s", pins, bpf_program__name(prog));
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

/* Return: 0, or -1 with errno. */
static int remove_folder(const char *pins)
{
	char links[PATH_LEN];

	links_path(pins, links, sizeof(links));
	empty_folder(links);
	rmdir(links);
	empty_folder(pins);
	return rmdir(pins);
}

/* What replacing a gate has left, whether it was done or not. */
static void remove_next(void)
{
	char path[PINS_LEN];
	int i;

	for (i = 0; i < NEXT_MAX; i++) {
		snprintf(path, sizeof(path), PIN_NEXT "%d", i);
		remove_folder(path);
	}
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
	remove_next();
	if (remove_folder(CHIMNEY_PINS) && errno != ENOENT)
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
	/* the programs read what it has made; not watched */
	fputs(" nft_ct", words);
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

/* Whether a kernel that has not got its module has a trigger's function. */
static bool is_built_in(const struct bpf_program *prog)
{
	struct btf *vmlinux = btf__load_vmlinux_btf();
	bool has;

	has = vmlinux &&
	      btf__find_by_name_kind(vmlinux, watches(prog), BTF_KIND_FUNC) > 0;
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

static int pin_maps(struct gate_bpf *skel, const char *pins)
{
	struct bpf_map * const maps[] = {
		skel->maps.flows,      skel->maps.captures,
		skel->maps.watched,    skel->maps.rule_modules,
		skel->maps.rule_walks, skel->maps.rule_changes,
	};
	char path[PATH_LEN];
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		snprintf(path, sizeof(path), "%s/%s", pins,
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

static int attach_triggers(struct gate_bpf *skel, const char *pins)
{
	struct bpf_program *prog;
	struct bpf_link *link;
	char path[PATH_LEN];
	int err;

	links_path(pins, path, sizeof(path));
	if (mkdir(path, 0700))
		return complain(FAILED, "%s: %m", path);
	bpf_object__for_each_program(prog, skel->obj) {
		if (!is_trigger(prog) || !bpf_program__autoload(prog))
			continue;
		link = bpf_program__attach(prog);
		if (!link)
			return complain(FAILED, "trigger %s cannot watch %s: %m",
					bpf_program__name(prog), watches(prog));
		link_path(pins, prog, path, sizeof(path));
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

static int watch_rules(struct gate_bpf *skel, const char *pins)
{
	struct bpf_link *link = evaluators_watch(skel->progs.each_packet);
	char path[PATH_LEN];
	int err;

	if (!link)
		return FAILED;
	link_path(pins, skel->progs.each_packet, path, sizeof(path));
	err = pin_link(link, path);
	/* what has come before the triggers, they did not see */
	if (err)
		return err;
	return evaluators_scan(bpf_map__fd(skel->maps.rule_modules),
			       &skel->bss_loader->nr_unknown_rules);
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

/* Rules that are there already; where they cannot be read, all flows stay. */
static int scan_rules(struct gate_bpf *skel)
{
	LIBBPF_OPTS(bpf_test_run_opts, run);
	int err;

	err = bpf_prog_test_run_opts(bpf_program__fd(skel->progs.scan_rules),
				     &run);
	if (err)
		return complain(FAILED, "reading the rules of firewalls: %s",
				strerror(-err));
	if (!run.retval)
		return DONE;
	return evaluators_unknown(bpf_map__fd(skel->maps.rule_modules),
				  (int)run.retval == -ENXIO ? "x_tables" :
							      "nf_tables",
				  &skel->bss_loader->nr_unknown_rules);
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
			      strerror(-err)) :
		     DONE;
}

/*
 * The gate from a file: gate.bpf.o, linked with what a site has added.  It has
 * all that the skeleton describes, in the same form, if it is of this version.
 */
static int open_file(struct gate_bpf *skel, const char *file)
{
	typeof(skel->struct_ops.gate) gate =
		bpf_map__initial_value(skel->maps.gate, NULL);
	/* it comes before the version: a skeleton has no names for texts */
	char *name = (char *)gate + offsetof(typeof(*gate), version) -
		     CHIMNEY_GATE_NAME_LEN;
	const char *base = strrchr(file, '/');

	if (bpf_map__value_size(skel->maps.flows) !=
	    sizeof(struct chimney_verdict))
		return complain(FAILED,
				"%s is of another version than chimneyctl", file);
	base = base ? base + 1 : file;
	snprintf(name, CHIMNEY_GATE_NAME_LEN, "%.*s", (int)strcspn(base, "."),
		 base);
	return DONE;
}

/* Its bytes; nobody unmaps them. */
static int map_file(const char *file, const void **data, size_t *size)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int err = DONE;
	void *map;

	if (fd < 0)
		return complain(FAILED, "%s: %m", file);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || !st.st_size) {
		err = complain(FAILED, "%s is no file with a gate", file);
	} else {
		map = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (map == MAP_FAILED)
			err = complain(FAILED, "%s: %m", file);
		*data = map;
		*size = st.st_size;
	}
	close(fd);
	return err;
}

/* The gate from @file, or chimneyctl's own.  NULL after a complaint. */
static struct gate_bpf *open_gate(const char *file)
{
	struct gate_bpf *skel;
	int err;

	if (!file) {
		skel = gate_bpf__open();
		if (!skel)
			complain(FAILED, "opening the gate: %m");
		return skel;
	}
	skel = calloc(1, sizeof(*skel));
	if (!skel || gate_bpf__create_skeleton(skel)) {
		complain(FAILED, "opening the gate: %m");
		free(skel);
		return NULL;
	}
	/* its bytes stay for as long as chimneyctl runs */
	if (!map_file(file, &skel->skeleton->data, &skel->skeleton->data_sz)) {
		err = bpf_object__open_skeleton(skel->skeleton, NULL);
		if (err)
			complain(FAILED,
				 "%s is no gate: gate.bpf.o linked with rules of your own",
				 file);
		else
			err = open_file(skel, file);
		if (!err)
			return skel;
	}
	gate_bpf__destroy(skel);
	return NULL;
}

/* Everything but the link that makes a gate of it. */
static int prepare_gate(struct gate_bpf *skel, const char *pins)
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
	err = pin_maps(skel, pins) ?: flows_pin_reader(pins);
	if (err)
		return err;
	may_die_after("pin");
	err = note_modules(skel);
	if (!err)
		err = attach_triggers(skel, pins);
	if (!err)
		err = watch_rules(skel, pins);
	if (err)
		return err;
	may_die_after("links");
	/* what starts from here on, the triggers see */
	err = scan_captures(skel) ?: scan_rules(skel);
	if (err)
		return err;
	may_die_after("scan");
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

static int not_dot(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* Moves pins to another folder, in the places of those with the same names. */
static int move_pins(const char *from, const char *to)
{
	char path[2 * PATH_LEN], place[2 * PATH_LEN]; /* names have up to 255 */
	struct dirent **entries;
	int i, n, err = DONE;

	n = scandir(from, &entries, not_dot, NULL);
	if (n < 0)
		return complain(FAILED, "%s: %m", from);
	for (i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s", from, entries[i]->d_name);
		snprintf(place, sizeof(place), "%s/%s", to, entries[i]->d_name);
		if (!err && rename(path, place))
			err = complain(FAILED, "moving %s to %s: %m", path,
				       place);
		free(entries[i]);
	}
	free(entries);
	return err;
}

/*
 * The pins of the gate that was replaced give way to those of the new one.  Those
 * that cannot be moved stay where they are: without them the gate in force would
 * not see what it has to.
 */
static int take_over(const char *pins)
{
	char links[PATH_LEN], old_links[PATH_LEN];
	int err;

	links_path(pins, links, sizeof(links));
	links_path(CHIMNEY_PINS, old_links, sizeof(old_links));
	/* some of its triggers may have no successor */
	empty_folder(old_links);
	err = move_pins(links, old_links);
	if (err)
		return err;
	rmdir(links);
	err = move_pins(pins, CHIMNEY_PINS);
	if (err)
		return err;
	rmdir(pins);
	remove_next();
	return DONE;
}

static int update_gate(struct gate_bpf *skel)
{
	struct bpf_link *link;
	int fd, err;

	/* refused, since there is one, but the map can be linked from then on */
	link = bpf_map__attach_struct_ops(skel->maps.gate);
	if (link || errno != EBUSY) {
		bpf_link__destroy(link);
		return complain(FAILED, "the gate has gone meanwhile");
	}
	fd = bpf_obj_get(PIN_GATE);
	if (fd < 0)
		return complain(FAILED, PIN_GATE ": %m");
	err = bpf_link_update(fd, bpf_map__fd(skel->maps.gate), NULL);
	close(fd);
	if (err)
		return complain(FAILED, "replacing the gate: %s", strerror(-err));
	may_die_after("update");
	return DONE;
}

/* What load and replace have to find: words, rights, a place for pins. */
static int may_load(int argc, char **argv, const char **file)
{
	struct statfs fs;
	int err;

	*file = argc ? argv[0] : NULL;
	err = argc ? no_more_words(argc - 1, argv + 1) : DONE;
	if (!err)
		err = need_same_version() ?: need_root() ?: lock();
	if (err)
		return err;
	if (statfs("/sys/fs/bpf", &fs) || fs.f_type != BPF_FS_MAGIC)
		return complain(FAILED,
				"no bpffs at /sys/fs/bpf: mount -t bpf none /sys/fs/bpf");
	return DONE;
}

static int gate_load(int argc, char **argv)
{
	struct gate_bpf *skel;
	const char *file;
	int err;

	err = may_load(argc, argv, &file);
	if (err)
		return err;
	if (attached())
		return complain(FAILED,
				"a gate is attached already: %s (\"gate replace\" puts another one in its place)",
				attached());
	if (pinned(CHIMNEY_PINS)) {
		complain(DONE, "removing what an unfinished load has left");
		err = remove_pins();
		if (err)
			return err;
	}
	skel = open_gate(file);
	if (!skel)
		return FAILED;
	err = prepare_gate(skel, CHIMNEY_PINS) ?: attach_gate(skel);
	gate_bpf__destroy(skel);
	if (err)
		remove_pins();
	return err;
}

/*
 * A folder that nobody uses: what an earlier attempt has left may be of the gate
 * that is attached, and goes when that is replaced.
 */
static int next_pins(char *pins, size_t len)
{
	int i;

	for (i = 0; i < NEXT_MAX; i++) {
		snprintf(pins, len, PIN_NEXT "%d", i);
		if (!mkdir(pins, 0700))
			return DONE;
		if (errno != EEXIST)
			break;
	}
	return complain(FAILED, "%s: %m", pins);
}

static int gate_replace(int argc, char **argv)
{
	struct gate_bpf *skel;
	char pins[PINS_LEN];
	const char *file;
	int err;

	err = may_load(argc, argv, &file);
	if (err)
		return err;
	if (!attached())
		return complain(ABSENT, "no gate is loaded: \"gate load\"");
	if (!pinned(PIN_GATE))
		return complain(FAILED,
				"gate %s is attached, but not by chimneyctl: no %s",
				attached(), PIN_GATE);
	skel = open_gate(file);
	if (!skel)
		return FAILED;
	err = next_pins(pins, sizeof(pins));
	if (!err) {
		err = prepare_gate(skel, pins) ?: update_gate(skel);
		if (err)
			remove_folder(pins);
		else
			err = take_over(pins);
	}
	gate_bpf__destroy(skel);
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
			complain(DONE,
				 "removing what an unfinished load has left");
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
	char path[PATH_LEN];

	bpf_object__for_each_program(prog, skel->obj) {
		if (!is_trigger(prog))
			continue;
		link_path(CHIMNEY_PINS, prog, path, sizeof(path));
		trigger = json_object_new_object();
		add_text(trigger, "trigger", bpf_program__name(prog));
		add_text(trigger, "watches", watches(prog));
		add_text(trigger, "state", pinned(path) ? "attached" : "missing");
		json_object_array_add(list, trigger);
	}
	link_path(CHIMNEY_PINS, skel->progs.each_packet, path, sizeof(path));
	evaluators_json(list, pinned(path));
	return list;
}

static int gate_status(int argc, char **argv)
{
	static const char * const columns[] = {
		"trigger",
		"watches",
		"state",
		NULL,
	};
	struct json_object *obj, *triggers;
	struct gate_bpf *skel;
	long verdicts;
	int err;

	err = no_more_words(argc, argv) ?: need_same_version() ?: need_root();
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
	json_object_object_add(obj, "verdicts",
			       verdicts < 0 ? NULL :
					      json_object_new_int64(verdicts));
	json_object_object_add(obj, "triggers", triggers);
	if (opt.json) {
		print_json(obj);
	} else {
		print_lines(obj);
		print_table(stdout, triggers, columns);
	}
	json_object_put(obj);
	return attached() ? DONE : ABSENT;
}

/**
 * cmd_gate() - chimneyctl gate load|replace|unload|status
 * @argc: words left
 * @argv: them
 */
int cmd_gate(int argc, char **argv)
{
	static const struct command commands[] = {
		{ "load", gate_load },
		{ "replace", gate_replace },
		{ "unload", gate_unload },
		{ "status", gate_status },
		{},
	};

	return run_command("gate command", commands, argc, argv);
}
