// SPDX-License-Identifier: GPL-2.0
/*
 * Every TCP connection of a network namespace with what module and gate hold
 * against it, read through bpf/flows.bpf.c.  explain.c shares the reader.
 *
 * JSON: array of one object a connection:
 *	{ "local": "ADDRESS:PORT", "laddr": ADDRESS, "lport": N,
 *	  "remote": "ADDRESS:PORT", "raddr": ADDRESS, "rport": N,
 *	  "dev": NAME or null, "tcp": STATE, "state": STATE, "reasons": [NAME...],
 *	  "uploaded": NAME of why it was last uploaded or null, "offloads": N,
 *	  "tx_packets": N, "tx_bytes": N, "rx_packets": N, "rx_bytes": N,
 *	  "sent": N, "received": N, "cgroup": PATH or null }
 * What is counted is what took the path, but "sent" and "received": these are
 * payload of the socket, whatever it took.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chimneyctl.h"
#include "flows.skel.h"

#define PIN_READER "/reader"

static const __u8 v4_mapped[12] = { [10] = 0xff, [11] = 0xff };

/* words of "ss state" */
static const char * const tcp_states[] = {
	[TCP_ESTABLISHED] = "established",
	[TCP_SYN_SENT] = "syn-sent",
	[TCP_SYN_RECV] = "syn-recv",
	[TCP_FIN_WAIT1] = "fin-wait-1",
	[TCP_FIN_WAIT2] = "fin-wait-2",
	[TCP_TIME_WAIT] = "time-wait",
	[TCP_CLOSE] = "closed",
	[TCP_CLOSE_WAIT] = "close-wait",
	[TCP_LAST_ACK] = "last-ack",
	[TCP_LISTEN] = "listening",
	[TCP_CLOSING] = "closing",
};

/**
 * v4_map() - make an address the v4-mapped one whose last four bytes are to come
 * @addr: the address
 */
void v4_map(__u8 *addr)
{
	memcpy(addr, v4_mapped, sizeof(v4_mapped));
}

/**
 * endpoint_parse() - read one end of a connection as people write it
 * @text: ADDRESS:PORT, and [ADDRESS]:PORT for IPv6
 * @end: gets it
 *
 * Return: exit code, after a complaint.
 */
int endpoint_parse(const char *text, struct endpoint *end)
{
	const char *colon = strrchr(text, ':');
	char addr[INET6_ADDRSTRLEN];
	unsigned long port;
	char *rest;
	size_t len;
	int ok;

	if (!colon)
		return complain(MISUSED, "\"%s\" has no port: ADDRESS:PORT",
				text);
	errno = 0;
	port = strtoul(colon + 1, &rest, 10);
	if (colon[1] < '0' || colon[1] > '9' || *rest || port > 65535)
		return complain(MISUSED, "bad port \"%s\" in \"%s\": 0 to 65535",
				colon + 1, text);
	end->port = port;

	len = colon - text;
	if (len > 1 && text[0] == '[' && text[len - 1] == ']') {
		snprintf(addr, sizeof(addr), "%.*s", (int)len - 2, text + 1);
		ok = len - 2 < sizeof(addr) &&
		     inet_pton(AF_INET6, addr, end->addr) == 1;
	} else {
		snprintf(addr, sizeof(addr), "%.*s", (int)len, text);
		v4_map(end->addr);
		ok = len < sizeof(addr) &&
		     inet_pton(AF_INET, addr, end->addr + 12) == 1;
	}
	return ok ? DONE :
		    complain(MISUSED,
			     "bad address in \"%s\": 192.0.2.1:80 or [2001:db8::1]:80",
			     text);
}

/**
 * flow_reasons() - everything that keeps a connection in the host
 * @rec: the connection
 *
 * A connection in the host always has a reason.  Where neither module nor gate
 * holds anything against it now, that is why it was last uploaded, or else
 * that it has yet to be judged.
 *
 * Return: mask of enum chimney_reason.
 */
__u64 flow_reasons(const struct chimney_flow_record *rec)
{
	__u64 mask = rec->info.reasons | rec->verdict.reasons[CHIMNEY_OUT] |
		     rec->verdict.reasons[CHIMNEY_IN];

	mask &= ~CHIMNEY_MASK(NONE);
	if (mask || rec->info.state != CHIMNEY_IN_HOST)
		return mask;
	if (rec->judged && rec->verdict.uploaded != CHIMNEY_NONE)
		return 1ULL << rec->verdict.uploaded;
	return CHIMNEY_MASK(NOT_JUDGED);
}

/**
 * add_end() - give an object one end of a connection
 * @obj: the object
 * @key: "local" or "remote", whose first letter the keys of its parts have
 * @family: AF_INET or AF_INET6
 * @addr: its address, IPv4 as v4-mapped IPv6
 * @port: its port
 */
void add_end(struct json_object *obj, const char *key, __u16 family,
	     const __u8 *addr, __u16 port)
{
	const char addr_key[] = { key[0], 'a', 'd', 'd', 'r', '\0' };
	const char port_key[] = { key[0], 'p', 'o', 'r', 't', '\0' };
	bool v4 = family == AF_INET;
	char text[INET6_ADDRSTRLEN];
	char both[sizeof(text) + 10];

	inet_ntop(family, v4 ? addr + sizeof(v4_mapped) : addr, text,
		  sizeof(text));
	snprintf(both, sizeof(both), v4 ? "%s:%u" : "[%s]:%u", text, port);
	add_text(obj, key, both);
	add_text(obj, addr_key, text);
	add_number(obj, port_key, port);
}

/**
 * flow_json() - a connection as it is described above
 * @rec: the connection
 */
struct json_object *flow_json(const struct chimney_flow_record *rec)
{
	struct json_object *reasons = json_object_new_array();
	struct json_object *obj = json_object_new_object(), *name;
	const struct chimney_verdict *verdict = &rec->verdict;
	const struct chimney_sock_info *info = &rec->info;
	const struct chimney_tuple *flow = &info->flow;
	__u64 mask = flow_reasons(rec);
	char dev[IF_NAMESIZE];
	unsigned int i;

	for (i = 0; i < 64; i++) {
		if (!(mask & (1ULL << i)))
			continue;
		name = json_object_new_string(reason_name(i));
		json_object_array_add(reasons, name);
	}
	add_end(obj, "local", flow->family, flow->local, flow->lport);
	add_end(obj, "remote", flow->family, flow->remote, flow->rport);
	add_text(obj, "dev", if_indextoname(info->ifindex, dev));
	add_text(obj, "tcp",
		 info->tcp_state < ARRAY_SIZE(tcp_states) ?
			 tcp_states[info->tcp_state] :
			 NULL);
	add_text(obj, "state", state_name(info->state));
	json_object_object_add(obj, "reasons", reasons);
	add_text(obj, "uploaded",
		 verdict->uploaded == CHIMNEY_NONE ?
			 NULL :
			 reason_name(verdict->uploaded));
	add_number(obj, "offloads", verdict->offloads);
	add_number(obj, "tx_packets", info->tx_packets);
	add_number(obj, "tx_bytes", info->tx_bytes);
	add_number(obj, "rx_packets", info->rx_packets);
	add_number(obj, "rx_bytes", info->rx_bytes);
	add_number(obj, "sent", rec->sent);
	add_number(obj, "received", rec->received);
	add_text(obj, "cgroup", cgroup_path(rec->cgroup));
	return obj;
}

/* The gate's map, or a stand-in when there is no gate. */
static void use_map(struct bpf_map *map, const char *pins)
{
	char gate[32], path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/flows", pins);
	fd = bpf_obj_get(path);

	if (fd >= 0) {
		bpf_map__reuse_fd(map, fd);
		close(fd);
		return;
	}
	bpf_map__set_max_entries(map, 1);
	if (!sysfs_text(AT_FDCWD, CHIMNEY_SYSFS "gate", gate, sizeof(gate)) &&
	    strcmp(gate, "none"))
		complain(DONE,
			 "the gate's reasons are out of sight (%s: %m); \"chimneyctl -n\" sees them where \"ip netns exec\" does not",
			 path);
}

/* Loads the reader.  Return: exit code, after a complaint; *fd is its link. */
static int load_reader(const char *pins, int *fd)
{
	struct bpf_link *link = NULL;
	struct flows_bpf *skel;
	int err;

	skel = flows_bpf__open();
	if (!skel)
		return complain(FAILED, "opening the flow reader: %m");
	use_map(skel->maps.flows, pins);
	err = flows_bpf__load(skel);
	if (!err) {
		link = bpf_program__attach_iter(skel->progs.tell_flow, NULL);
		*fd = link ? dup(bpf_link__fd(link)) : -1;
		err = *fd < 0 ? -errno : 0;
	}
	bpf_link__destroy(link);
	flows_bpf__destroy(skel);
	return err ? complain(FAILED, "loading the flow reader: %s",
			      strerror(-err)) :
		     DONE;
}

/**
 * flows_pin_reader() - leave the reader of flows loaded, beside the gate's maps
 * @pins: where these are
 *
 * To load it takes many times as long as to read with it.
 *
 * Return: exit code, after a complaint.
 */
int flows_pin_reader(const char *pins)
{
	int fd, err = load_reader(pins, &fd);
	char path[256];

	if (err)
		return err;
	snprintf(path, sizeof(path), "%s" PIN_READER, pins);
	if (bpf_obj_pin(fd, path))
		err = complain(FAILED, "pinning %s: %m", path);
	close(fd);
	return err;
}

static int read_records(int fd, struct flow_list *list)
{
	size_t size = sizeof(*list->rec);
	size_t have = 0, room = 0;
	char *buf = NULL, *more;
	ssize_t n;

	for (;;) {
		if (have == room) {
			room = room ? 2 * room : 512 * size;
			more = realloc(buf, room);
			if (!more) {
				free(buf);
				return -ENOMEM;
			}
			buf = more;
		}
		n = read(fd, buf + have, room - have);
		if (!n)
			break;
		/* EAGAIN: it has looked at a million sockets; go on */
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			n = -errno;
			free(buf);
			return n;
		}
		if (n > 0)
			have += n;
	}
	list->rec = (void *)buf;
	list->n = have / size;
	return 0;
}

/**
 * flows_read() - read all connections of this network namespace
 * @list: gets them; the caller frees list->rec
 *
 * Return: exit code, after a complaint.
 */
int flows_read(struct flow_list *list)
{
	int link, fd, err;

	err = need_same_version() ?: need_root();
	if (err)
		return err;
	link = bpf_obj_get(CHIMNEY_PINS PIN_READER);
	if (link < 0) {
		err = load_reader(CHIMNEY_PINS, &link);
		if (err)
			return err;
	}
	/* of the namespace that this process is in now */
	fd = bpf_iter_create(link);
	close(link);
	if (fd < 0)
		return complain(FAILED, "reading flows: %m");
	err = read_records(fd, list);
	close(fd);
	return err ? complain(FAILED, "reading flows: %s", strerror(-err)) : DONE;
}

/**
 * cmd_flows() - chimneyctl flows [WORD VALUE]...
 * @argc: words left
 * @argv: them
 */
int cmd_flows(int argc, char **argv)
{
	static const char * const columns[] = {
		"local",    "remote",	  "dev",      "tcp",
		"state",    "tx_packets", "tx_bytes", "rx_packets",
		"rx_bytes", "reasons",	  NULL,
	};
	struct flow_filter *filter;
	struct flow_list flows = {};
	struct json_object *array;
	int err;
	size_t i;

	err = filter_parse(argc, argv, &filter);
	if (err)
		return err;
	err = flows_read(&flows);
	if (err) {
		filter_free(filter);
		return err;
	}
	filter_apply(filter, &flows);
	filter_free(filter);
	array = json_object_new_array();
	for (i = 0; i < flows.n; i++)
		json_object_array_add(array, flow_json(&flows.rec[i]));
	if (opt.json)
		print_json(array);
	else
		print_table(stdout, array, columns);
	json_object_put(array);
	free(flows.rec);
	return DONE;
}
