// SPDX-License-Identifier: GPL-2.0
/*
 * Invariant 8: for any TCP connection a person may ask why it is not offloaded,
 * and gets every reason in words, and who found it.
 *
 * JSON: the object of flows.c, and in it
 *	"explain": [{ "reason": NAME, "words": TEXT, "found": [WHERE...],
 *		      "culprits": [...] }...]
 * where WHERE is "module", "out" or "in" (the gate, in what the connection
 * sends or receives), "last-upload" (nothing is wrong now) or "not-yet" (it
 * waits to be judged); the culprits are those of culprit.c.
 */
#include <stdlib.h>
#include <string.h>

#include "chimneyctl.h"

static void add_place(struct json_object *found, const char *place)
{
	json_object_array_add(found, json_object_new_string(place));
}

static struct json_object *explain(const struct chimney_flow_record *rec,
				   unsigned int reason)
{
	struct json_object *obj = json_object_new_object();
	struct json_object *found = json_object_new_array();
	const struct chimney_verdict *verdict = &rec->verdict;
	__u64 mask = 1ULL << reason;

	add_text(obj, "reason", reason_name(reason));
	add_text(obj, "words", reason_words(reason));
	if (rec->info.reasons & mask)
		add_place(found, "module");
	if (verdict->reasons[CHIMNEY_OUT] & mask)
		add_place(found, "out");
	if (verdict->reasons[CHIMNEY_IN] & mask)
		add_place(found, "in");
	if (!json_object_array_length(found))
		add_place(found, verdict->uploaded == reason ? "last-upload" :
							       "not-yet");
	json_object_object_add(obj, "found", found);
	json_object_object_add(obj, "culprits", culprits(rec, reason));
	return obj;
}

/* "key value" pairs, as ip(8) prints an object. */
static void print_culprits(struct json_object *list)
{
	size_t i;

	for (i = 0; i < json_object_array_length(list); i++) {
		printf("   ");
		json_object_object_foreach(json_object_array_get_idx(list, i),
					   key, value)
			printf(" %s %s", key, json_object_get_string(value));
		putchar('\n');
	}
}

static void print(const struct chimney_flow_record *rec,
		  struct json_object *flow, struct json_object *list)
{
	unsigned int uploaded = rec->verdict.uploaded;
	struct json_object *reason;
	char buf[256];
	size_t i;

	printf("%s %s dev %s: %s\n", text_of(flow, "local", NULL),
	       text_of(flow, "remote", NULL), text_of(flow, "dev", NULL),
	       text_of(flow, "state", NULL));
	for (i = 0; i < json_object_array_length(list); i++) {
		reason = json_object_array_get_idx(list, i);
		printf("  %s: %s (%s)\n", text_of(reason, "reason", NULL),
		       text_of(reason, "words", NULL),
		       text_of(reason, "found", buf));
		print_culprits(json_object_object_get(reason, "culprits"));
	}
	if (!i)
		printf("  %s: %s\n", reason_name(CHIMNEY_NONE),
		       reason_words(CHIMNEY_NONE));
	if (uploaded != CHIMNEY_NONE)
		printf("last upload: %s: %s\n", reason_name(uploaded),
		       reason_words(uploaded));
}

static const struct chimney_flow_record *find(const struct flow_list *flows,
					      const struct endpoint *local,
					      const struct endpoint *remote)
{
	const struct chimney_tuple *flow;
	size_t i;

	for (i = 0; i < flows->n; i++) {
		flow = &flows->rec[i].info.flow;
		if (flow->lport == local->port && flow->rport == remote->port &&
		    !memcmp(flow->local, local->addr, sizeof(flow->local)) &&
		    !memcmp(flow->remote, remote->addr, sizeof(flow->remote)))
			return &flows->rec[i];
	}
	return NULL;
}

/**
 * cmd_explain() - chimneyctl explain LOCAL:PORT REMOTE:PORT
 * @argc: words left
 * @argv: them
 */
int cmd_explain(int argc, char **argv)
{
	const struct chimney_flow_record *rec;
	struct endpoint local, remote;
	struct flow_list flows = {};
	struct json_object *obj, *list;
	unsigned int i;
	int err;

	if (argc < 2)
		return complain(MISUSED,
				"%s missing: explain LOCAL:PORT REMOTE:PORT",
				argc ? "REMOTE:PORT" : "LOCAL:PORT");
	err = endpoint_parse(argv[0], &local);
	if (!err)
		err = endpoint_parse(argv[1], &remote);
	if (!err)
		err = no_more_words(argc - 2, argv + 2);
	if (!err)
		err = flows_read(&flows);
	if (err)
		return err;
	rec = find(&flows, &local, &remote);
	if (!rec) {
		free(flows.rec);
		return complain(ABSENT,
				"no TCP connection %s %s in this network namespace",
				argv[0], argv[1]);
	}

	obj = flow_json(rec);
	list = json_object_new_array();
	for (i = 0; i < 64; i++)
		if (flow_reasons(rec) & (1ULL << i))
			json_object_array_add(list, explain(rec, i));
	json_object_object_add(obj, "explain", list);
	if (opt.json)
		print_json(obj);
	else
		print(rec, obj, list);
	json_object_put(obj);
	free(flows.rec);
	return DONE;
}
