// SPDX-License-Identifier: GPL-2.0
/*
 * The functions by which rules look at each packet (bpf/evaluators.h) are in a
 * score of modules, of which a host uses one or two.  All of them are loaded
 * before the gate, so that it can watch them from the first rule on; the
 * gate itself notices what is loaded later.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "chimneyctl.h"
#include "../bpf/evaluators.h"

#define PIN_RULE_MODULES CHIMNEY_PINS "/rule_modules"

static const struct {
	const char *module;
	const char *function;
	enum evaluator_kind kind;
} evaluators[] = {
#define EVALUATOR(module, function, kind) \
	{ module, function, EVALUATOR_##kind },
	EVALUATORS(EVALUATOR)
#undef EVALUATOR
};

/*
 * Other modules of Linux 6.12 and 7.3 that bring matches, statements or targets:
 * what they do is the same for each packet of a connection, or shows on the
 * packet, or goes through a function of the kernel itself that is watched.
 */
static const char * const harmless[] = {
	"nft_chain_nat",
	"nft_compat",
	"nft_connlimit",
	"nft_ct",
	"nft_dup_ipv4",
	"nft_dup_ipv6",
	"nft_dup_netdev",
	"nft_fib",
	"nft_fib_inet",
	"nft_fib_ipv4",
	"nft_fib_ipv6",
	"nft_fib_netdev",
	"nft_flow_offload",
	"nft_fwd_netdev",
	"nft_hash",
	"nft_masq",
	"nft_meta_bridge",
	"nft_nat",
	"nft_osf",
	"nft_queue",
	"nft_redir",
	"nft_reject",
	"nft_reject_bridge",
	"nft_reject_inet",
	"nft_reject_ipv4",
	"nft_reject_ipv6",
	"nft_reject_netdev",
	"nft_socket",
	"nft_tunnel",
	"nft_xfrm",
	"xt_CHECKSUM",
	"xt_CLASSIFY",
	"xt_CONNSECMARK",
	"xt_CT",
	"xt_DSCP",
	"xt_HL",
	"xt_HMARK",
	"xt_LOG",
	"xt_MASQUERADE",
	"xt_NETMAP",
	"xt_NFLOG",
	"xt_NFQUEUE",
	"xt_REDIRECT",
	"xt_SECMARK",
	"xt_TCPMSS",
	"xt_TEE",
	"xt_TRACE",
	"xt_addrtype",
	"xt_cluster",
	"xt_comment",
	"xt_connlabel",
	"xt_connlimit",
	"xt_connmark",
	"xt_conntrack",
	"xt_dccp",
	"xt_devgroup",
	"xt_esp",
	"xt_helper",
	"xt_ipcomp",
	"xt_iprange",
	"xt_ipvs",
	"xt_l2tp",
	"xt_mark",
	"xt_multiport",
	"xt_nat",
	"xt_osf",
	"xt_owner",
	"xt_pkttype",
	"xt_policy",
	"xt_sctp",
	"xt_socket",
	"xt_state",
	"xt_tcpmss",
	"xt_tcpudp",
	"ipt_REJECT",
	"ipt_ah",
	"ipt_rpfilter",
	"ip6t_NPT",
	"ip6t_REJECT",
	"ip6t_ah",
	"ip6t_eui64",
	"ip6t_frag",
	"ip6t_hbh",
	"ip6t_ipv6header",
	"ip6t_mh",
	"ip6t_rpfilter",
	"ip6t_rt",
	"ip6t_srh",
};

static bool brings_rules(const char *module)
{
#define BEGINS(prefix) !strncmp(module, prefix, strlen(prefix)) ||
	return RULE_MODULE_PREFIXES(BEGINS) false;
#undef BEGINS
}

/* Whether a table's entry is not of the same module as the one before. */
static bool first_of_module(size_t i)
{
	return *evaluators[i].module &&
	       strcmp(evaluators[i].module, evaluators[i - 1].module);
}

/*
 * What a module brings along may be more than rules: br_netfilter, without which
 * there is no xt_physdev, has the host's rules see what its bridges forward.
 */
static bool is_left_alone(const char *module)
{
	return !strcmp(module, "xt_physdev");
}

/**
 * evaluators_modules() - the modules that the functions are in
 * @command: they are added to this, with a blank before each; but for one that
 *	does not come alone, which has to be there already to be watched
 */
void evaluators_modules(FILE *command)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(evaluators); i++)
		if (first_of_module(i) && !is_left_alone(evaluators[i].module))
			fprintf(command, " %s", evaluators[i].module);
}

/* The gate compares all bytes of a name. */
static void key_of(const char *module, char *key)
{
	memset(key, 0, RULE_MODULE_NAME);
	memcpy(key, module, strnlen(module, RULE_MODULE_NAME - 1));
}

static int note(int map, const char *module, enum rule_module what)
{
	char name[RULE_MODULE_NAME];

	key_of(module, name);
	if (bpf_map_update_elem(map, name, &what, BPF_ANY))
		return complain(FAILED, "noting module %s: %m", module);
	return DONE;
}

/**
 * evaluators_note_module() - tell the gate whether a module can be watched
 * @map: its "rule_modules"
 * @module: which; loaded later, it would go unwatched
 *
 * Return: DONE or FAILED.
 */
int evaluators_note_module(int map, const char *module)
{
	return note(map, module,
		    module_present(module) ? RULE_MODULE_KNOWN :
					     RULE_MODULE_ABSENT);
}

/**
 * evaluators_note() - tell the gate which modules need not alarm it
 * @map: its "rule_modules"
 *
 * Return: DONE or FAILED.
 */
int evaluators_note(int map)
{
	size_t i;
	int err;

	for (i = 0; i < ARRAY_SIZE(evaluators); i++) {
		if (!first_of_module(i))
			continue;
		err = evaluators_note_module(map, evaluators[i].module);
		if (err)
			return err;
	}
	for (i = 0; i < ARRAY_SIZE(harmless); i++) {
		err = note(map, harmless[i], RULE_MODULE_KNOWN);
		if (err)
			return err;
	}
	return DONE;
}

/**
 * evaluators_watch() - have the gate told of packets that rules look at
 * @prog: to be called
 *
 * A function that is missing in a module that is there is an error; where the
 * module is not there either, none of its rules is.
 *
 * Return: link, or NULL after a complaint.
 */
struct bpf_link *evaluators_watch(const struct bpf_program *prog)
{
	LIBBPF_OPTS(bpf_kprobe_multi_opts, opts);
	const char *functions[ARRAY_SIZE(evaluators)];
	__u64 kinds[ARRAY_SIZE(evaluators)];
	struct bpf_link *link;
	size_t i;

	opts.syms = functions;
	opts.cookies = kinds;
	for (i = 0; i < ARRAY_SIZE(evaluators); i++) {
		if (*evaluators[i].module && !module_present(evaluators[i].module))
			continue;
		functions[opts.cnt] = evaluators[i].function;
		kinds[opts.cnt++] = evaluators[i].kind;
	}
	link = bpf_program__attach_kprobe_multi_opts(prog, NULL, &opts);
	if (!link)
		complain(FAILED, "watching rules that see each packet: %m");
	return link;
}

/**
 * evaluators_unknown() - keep all flows in the host because of a module
 * @map: the gate's "rule_modules"
 * @module: whose rules cannot be watched
 * @unknown: the gate's count of such modules
 *
 * Return: DONE or FAILED.
 */
int evaluators_unknown(int map, const char *module, __s32 *unknown)
{
	complain(DONE,
		 "module %s brings rules that the gate cannot watch: flows stay in the host",
		 module);
	__sync_fetch_and_add(unknown, 1);
	return note(map, module, RULE_MODULE_UNKNOWN);
}

/**
 * evaluators_scan() - find modules that are there, but not watched
 * @map: the gate's "rule_modules"; what comes from now on it notices itself
 * @unknown: the gate's count of them
 *
 * Return: DONE or FAILED.
 */
int evaluators_scan(int map, __s32 *unknown)
{
	char name[RULE_MODULE_NAME];
	enum rule_module what;
	struct dirent *entry;
	int err = DONE;
	DIR *dir;

	dir = opendir("/sys/module");
	if (!dir)
		return complain(FAILED, "/sys/module: %m");
	while (!err && (entry = readdir(dir))) {
		key_of(entry->d_name, name);
		if (bpf_map_lookup_elem(map, name, &what) ?
			    !brings_rules(name) :
			    what != RULE_MODULE_ABSENT)
			continue;
		err = evaluators_unknown(map, name, unknown);
	}
	closedir(dir);
	return err;
}

static void add_row(struct json_object *list, const char *watches,
		    const char *state)
{
	struct json_object *row = json_object_new_object();

	add_text(row, "trigger", "each_packet");
	add_text(row, "watches", watches);
	add_text(row, "state", state);
	json_object_array_add(list, row);
}

/**
 * evaluators_json() - add what is watched, and what is not, to gate status
 * @list: array of its triggers
 * @attached: whether the program is
 */
void evaluators_json(struct json_object *list, bool attached)
{
	char name[RULE_MODULE_NAME], *last = NULL;
	int map = bpf_obj_get(PIN_RULE_MODULES);
	enum rule_module what;
	bool watched;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(evaluators); i++) {
		key_of(evaluators[i].module, name);
		watched = attached &&
			  (!*name || (!bpf_map_lookup_elem(map, name, &what) &&
				      what == RULE_MODULE_KNOWN));
		add_row(list, evaluators[i].function,
			watched ? "attached" : "missing");
	}
	for (; map >= 0 && !bpf_map_get_next_key(map, last, name); last = name)
		if (!bpf_map_lookup_elem(map, name, &what) &&
		    what == RULE_MODULE_UNKNOWN)
			add_row(list, name, "unknown");
	if (map >= 0)
		close(map);
}
