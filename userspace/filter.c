// SPDX-License-Identifier: GPL-2.0
/*
 * Which flows are meant, and in which order: the words after "flows".  Pairs of
 * a kind and a value; of one kind any has to hold, of different kinds all.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "chimneyctl.h"

#define V4_BITS 96 /* in front of an IPv4 address that is v4-mapped */

struct condition {
	int kind;
	union {
		struct {
			__u16 family;
			__u8 addr[16];
			unsigned int len;
		} prefix;
		bool *ports;
		unsigned int number;
		const char *path;
	};
};

struct flow_filter {
	int (*order)(const void *a, const void *b);
	size_t n;
	struct condition cond[];
};

/* What a kind's @parse answers, but for an exit code after a complaint. */
#define BAD_VALUE -1

static int parse_prefix(const char *text, struct condition *cond)
{
	bool v6 = strchr(text, ':');
	char addr[INET6_ADDRSTRLEN];
	unsigned int bits = v6 ? 128 : 32;
	const char *slash = strchrnul(text, '/');
	char *end = "";

	cond->prefix.family = v6 ? AF_INET6 : AF_INET;
	cond->prefix.len = bits;
	if (*slash) {
		cond->prefix.len = strtoul(slash + 1, &end, 10);
		if (slash[1] < '0' || slash[1] > '9')
			return BAD_VALUE;
	}
	if (*end || cond->prefix.len > bits || slash - text >= (long)sizeof(addr))
		return BAD_VALUE;
	snprintf(addr, sizeof(addr), "%.*s", (int)(slash - text), text);
	cond->prefix.len += 128 - bits;
	v4_map(cond->prefix.addr);
	return inet_pton(cond->prefix.family, addr,
			 cond->prefix.addr + (128 - bits) / 8) == 1 ?
		       DONE :
		       BAD_VALUE;
}

static int parse_ports(const char *text, struct condition *cond)
{
	cond->ports = calloc(NR_PORTS, sizeof(*cond->ports));
	if (!cond->ports)
		return complain(FAILED, "%m");
	return ports_parse(text, cond->ports, true) ? DONE : BAD_VALUE;
}

static int parse_dev(const char *text, struct condition *cond)
{
	cond->number = if_nametoindex(text);
	return cond->number ? DONE : no_device(text);
}

static int parse_state(const char *text, struct condition *cond)
{
	int state = find_state(text);

	cond->number = state;
	return state < 0 ? MISUSED : DONE;
}

static int parse_reason(const char *text, struct condition *cond)
{
	int reason = find_reason(text);

	cond->number = reason;
	return reason < 0 ? MISUSED : DONE;
}

static int parse_cgroup(const char *text, struct condition *cond)
{
	cond->path = text;
	if (text[0] != '/')
		return BAD_VALUE;
	return cgroup_exists(text) ?
		       DONE :
		       complain(ABSENT, "no cgroup \"%s\" in " CGROUP_ROOT, text);
}

static bool has_prefix(const struct condition *cond,
		       const struct chimney_tuple *flow, const __u8 *addr)
{
	unsigned int bytes = cond->prefix.len / 8, bits = cond->prefix.len % 8;

	return flow->family == cond->prefix.family &&
	       !memcmp(addr, cond->prefix.addr, bytes) &&
	       (!bits ||
		!((addr[bytes] ^ cond->prefix.addr[bytes]) >> (8 - bits)));
}

static bool holds_local(const struct condition *cond,
			const struct chimney_flow_record *rec)
{
	return has_prefix(cond, &rec->info.flow, rec->info.flow.local);
}

static bool holds_remote(const struct condition *cond,
			 const struct chimney_flow_record *rec)
{
	return has_prefix(cond, &rec->info.flow, rec->info.flow.remote);
}

static bool holds_address(const struct condition *cond,
			  const struct chimney_flow_record *rec)
{
	return holds_local(cond, rec) || holds_remote(cond, rec);
}

static bool holds_lport(const struct condition *cond,
			const struct chimney_flow_record *rec)
{
	return cond->ports[rec->info.flow.lport];
}

static bool holds_rport(const struct condition *cond,
			const struct chimney_flow_record *rec)
{
	return cond->ports[rec->info.flow.rport];
}

static bool holds_port(const struct condition *cond,
		       const struct chimney_flow_record *rec)
{
	return holds_lport(cond, rec) || holds_rport(cond, rec);
}

static bool holds_dev(const struct condition *cond,
		      const struct chimney_flow_record *rec)
{
	return rec->info.ifindex == cond->number;
}

static bool holds_state(const struct condition *cond,
			const struct chimney_flow_record *rec)
{
	return rec->info.state == cond->number;
}

static bool holds_reason(const struct condition *cond,
			 const struct chimney_flow_record *rec)
{
	return flow_reasons(rec) & (1ULL << cond->number);
}

static bool holds_cgroup(const struct condition *cond,
			 const struct chimney_flow_record *rec)
{
	const char *path = cgroup_path(rec->cgroup);
	size_t len = strlen(cond->path);

	while (len && cond->path[len - 1] == '/')
		len--;
	return path && !strncmp(path, cond->path, len) &&
	       (!len || !path[len] || path[len] == '/');
}

#define PREFIX_ALLOWED \
	"an address, or a prefix as in 192.0.2.0/24 or 2001:db8::/32"

static const struct {
	const char *name;
	const char *allowed; /* or NULL where @parse knows them by name */
	int (*parse)(const char *text, struct condition *cond);
	bool (*holds)(const struct condition *cond,
		      const struct chimney_flow_record *rec);
} kinds[] = {
	{ "local", PREFIX_ALLOWED, parse_prefix, holds_local },
	{ "remote", PREFIX_ALLOWED, parse_prefix, holds_remote },
	{ "address", PREFIX_ALLOWED, parse_prefix, holds_address },
	{ "port", PORTS_ALLOWED, parse_ports, holds_port },
	{ "lport", PORTS_ALLOWED, parse_ports, holds_lport },
	{ "rport", PORTS_ALLOWED, parse_ports, holds_rport },
	{ "dev", "a device", parse_dev, holds_dev },
	{ "state", NULL, parse_state, holds_state },
	{ "reason", NULL, parse_reason, holds_reason },
	{ "cgroup", "a path from the root of cgroup v2", parse_cgroup,
	  holds_cgroup },
	{ .name = "sort" },
	{},
};

#define SORT (ARRAY_SIZE(kinds) - 2)

/* by address and port, that of the local end first */
static int by_ends(const void *a, const void *b)
{
	const struct chimney_tuple *x = a, *y = b;
	int by = memcmp(x->local, y->local, sizeof(x->local));

	if (!by)
		by = x->lport - y->lport;
	if (!by)
		by = memcmp(x->remote, y->remote, sizeof(x->remote));
	return by ?: x->rport - y->rport;
}

static int by_remote(const void *a, const void *b)
{
	const struct chimney_tuple *x = a, *y = b;
	int by = memcmp(x->remote, y->remote, sizeof(x->remote));

	if (!by)
		by = x->rport - y->rport;
	return by ?: by_ends(a, b);
}

static int compare(__u64 a, __u64 b)
{
	return a < b ? -1 : a > b;
}

static int by_state(const void *a, const void *b)
{
	const struct chimney_flow_record *x = a, *y = b;

	return compare(x->info.state, y->info.state) ?: by_ends(a, b);
}

static int by_offloads(const void *a, const void *b)
{
	const struct chimney_flow_record *x = a, *y = b;

	return compare(y->verdict.offloads, x->verdict.offloads) ?: by_ends(a, b);
}

static int by_packets(const void *a, const void *b)
{
	const struct chimney_sock_info *x = a, *y = b;

	return compare(y->tx_packets + y->rx_packets, x->tx_packets + x->rx_packets) ?:
		       by_ends(a, b);
}

static int by_bytes(const void *a, const void *b)
{
	const struct chimney_sock_info *x = a, *y = b;

	return compare(y->tx_bytes + y->rx_bytes, x->tx_bytes + x->rx_bytes) ?:
		       by_ends(a, b);
}

static int by_payload(const void *a, const void *b)
{
	const struct chimney_flow_record *x = a, *y = b;

	return compare(y->sent + y->received, x->sent + x->received) ?:
		       by_ends(a, b);
}

/* a record begins with its info, and that with its tuple */
static const struct {
	const char *name;
	int (*order)(const void *a, const void *b);
} orders[] = {
	{ "local", by_ends },	   { "remote", by_remote },
	{ "state", by_state },	   { "offloads", by_offloads },
	{ "packets", by_packets }, { "bytes", by_bytes },
	{ "payload", by_payload }, {},
};

static int parse_order(struct flow_filter *filter, const char *text)
{
	int i = find_word("order", text, false, orders);

	if (i < 0)
		return MISUSED;
	filter->order = orders[i].order;
	return DONE;
}

static int parse_pair(struct flow_filter *filter, const char *word,
		      const char *value)
{
	struct condition *cond = &filter->cond[filter->n];
	int err, kind = find_word("word", word, true, kinds);

	if (kind < 0)
		return MISUSED;
	if (kind == SORT)
		return parse_order(filter, value);
	if (!value && kinds[kind].allowed)
		return complain(MISUSED, "value of %s missing: %s",
				kinds[kind].name, kinds[kind].allowed);
	cond->kind = kind;
	filter->n++;
	err = kinds[kind].parse(value, cond);
	if (err != BAD_VALUE)
		return err;
	return complain(MISUSED, "bad value \"%s\" for %s: %s", value,
			kinds[kind].name, kinds[kind].allowed);
}

/**
 * filter_free() - forget which flows are meant
 * @filter: the words, or NULL
 */
void filter_free(struct flow_filter *filter)
{
	size_t i;

	for (i = 0; filter && i < filter->n; i++)
		if (kinds[filter->cond[i].kind].parse == parse_ports)
			free(filter->cond[i].ports);
	free(filter);
}

/**
 * filter_parse() - understand which flows are meant
 * @argc: words left
 * @argv: them
 * @filter: gets them; filter_free() it
 *
 * Return: exit code, after a complaint.
 */
int filter_parse(int argc, char **argv, struct flow_filter **filter)
{
	struct flow_filter *f;
	int i, err = DONE;

	f = calloc(1, sizeof(*f) + (argc + 1) / 2 * sizeof(f->cond[0]));
	if (!f)
		return complain(FAILED, "%m");
	/* past the last word is a NULL */
	for (i = 0; i < argc && !err; i += 2)
		err = parse_pair(f, argv[i], argv[i + 1]);
	if (err) {
		filter_free(f);
		f = NULL;
	}
	*filter = f;
	return err;
}

static bool matches(const struct flow_filter *filter,
		    const struct chimney_flow_record *rec)
{
	unsigned int asked = 0, held = 0;
	const struct condition *cond;

	for (cond = filter->cond; cond < filter->cond + filter->n; cond++) {
		asked |= 1U << cond->kind;
		if (kinds[cond->kind].holds(cond, rec))
			held |= 1U << cond->kind;
	}
	return held == asked;
}

/**
 * filter_apply() - leave the flows that are meant, in the order that is meant
 * @filter: the words
 * @list: the flows
 */
void filter_apply(const struct flow_filter *filter, struct flow_list *list)
{
	size_t i, n = 0;

	for (i = 0; i < list->n; i++)
		if (matches(filter, &list->rec[i]))
			list->rec[n++] = list->rec[i];
	list->n = n;
	if (filter->order)
		qsort(list->rec, n, sizeof(*list->rec), filter->order);
}
