// SPDX-License-Identifier: GPL-2.0
/* Sockets that see the packets of others: captures and raw sockets. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

static void tell_process(struct json_object *obj, const char *what, __u32 inode,
			 const char *where)
{
	char name[64];
	unsigned long pid = socket_process(inode, name, sizeof(name));

	if (pid)
		check_tell(obj, "object", "%s %s (pid %lu)%s", what, name, pid,
			   where);
	else
		check_tell(obj, "object", "%s of a process out of sight%s",
			   what, where);
}

/*
 * One that is bound to an EtherType misses what is stolen from the devices above
 * its own, so these count as well; one that sees all does not.
 */
static void capture_found(const struct capture *capture, void *data)
{
	const char *which = capture->filtered ? " that its filter may let pass" :
						"";
	char where[IF_NAMESIZE + 8] = " on any";
	const struct net_link *link = NULL;
	struct check *check = data;
	struct json_object *obj;
	bool above = false;

	if (capture->ifindex) {
		link = check_link(check, capture->ifindex);
		if (!link || !(link->flags & IFF_UP))
			return;
		above = capture->family && check_link_has(check, link, "upper_");
		if (!check_carries_flows(link) && !above)
			return;
		snprintf(where, sizeof(where), " on %s", link->name);
	}
	obj = check_finding(check, CHIMNEY_CAPTURE);
	if (link)
		check_tell(obj, "scope", "%s by %s%s%s",
			   capture->family ? check_family(capture->family) :
					     "flows",
			   link->name, above ? " and the devices above it" : "",
			   which);
	else
		check_tell(obj, "scope", "%s" CHECK_HERE "%s",
			   check_family(capture->family), which);
	tell_process(obj, "capture", capture->inode, where);
	check_tell(obj, "advice", "end it: flows come back by themselves");
}

/**
 * check_captures() - packet sockets that flows would be hidden from
 * @check: gets them
 *
 * Return: exit code, after a complaint.
 */
int check_captures(struct check *check)
{
	int err = captures_each(capture_found, check);

	return err ? complain(FAILED, "reading captures: %s", strerror(-err)) :
		     DONE;
}

/* Columns of /proc/net/raw and raw6; the local "port" is the protocol. */
#define RAW_LINE "%*s %*[0-9A-F]:%x %*s %*s %*s %*s %*s %*s %*s %u"

/**
 * check_raw_sockets() - raw sockets, likewise
 * @check: gets them
 *
 * Return: exit code, after a complaint.
 */
int check_raw_sockets(struct check *check)
{
	static const struct {
		const char *path;
		__u16 family;
	} tables[] = {
		{ "/proc/net/raw", AF_INET },
		{ "/proc/net/raw6", AF_INET6 },
	};
	unsigned int protocol, inode;
	struct json_object *obj;
	char line[512];
	FILE *file;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		file = fopen(tables[i].path, "re");
		if (!file && errno == ENOENT)
			continue;
		if (!file)
			return complain(FAILED, "%s: %m", tables[i].path);
		while (fgets(line, sizeof(line), file)) {
			if (sscanf(line, RAW_LINE, &protocol, &inode) != 2 ||
			    protocol != IPPROTO_TCP)
				continue;
			obj = check_finding(check, CHIMNEY_RAW_SOCKET);
			check_tell(obj, "scope", "%s" CHECK_HERE,
				   check_family(tables[i].family));
			tell_process(obj, "raw TCP socket", inode, "");
			check_tell(obj, "advice",
				   "end it: flows come back by themselves");
		}
		fclose(file);
	}
	return DONE;
}
