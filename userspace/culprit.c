// SPDX-License-Identifier: GPL-2.0
/*
 * Which object stands behind a reason, where the kernel tells: the capture
 * socket that can see a connection's packets, and the process that has it; the
 * IPsec policy that covers it; who changed rules last.  Asked for when somebody
 * wants an explanation; only of the rules has the gate had to remember it.
 *
 * JSON: array of objects:
 *	{ "process": NAME, "pid": N, "dev": NAME or "any" } for a capture (no
 *	process if it is of another pid namespace),
 *	{ "dir": "in" or "out", "src": PREFIX, "dst": PREFIX, "priority": N }
 *	for a policy, and
 *	{ "process": NAME, "pid": N, "table": NAME, "seconds": N } for a change
 *	of rules, that many seconds ago (no table if it was none of nftables), and
 *	{ "hook": FUNCTION } for a netfilter hook.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/packet_diag.h>
#include <linux/sock_diag.h>
#include <linux/xfrm.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "chimneyctl.h"

#define V4_MAPPED 12		/* bytes before an IPv4 address */
#define NSEC_PER_SEC 1000000000ULL

/* what the replies of a dump are compared with, and where they go */
struct search {
	const struct chimney_flow_record *rec;
	struct json_object *found;
};

/*
 * Replies that cannot be had are none: the reason stands without an object.
 */
static void dump(int bus, struct nlmsghdr *request, mnl_cb_t reply,
		 struct search *search)
{
	struct mnl_socket *nl = mnl_socket_open(bus);
	char buf[MNL_SOCKET_DUMP_SIZE];
	int len, more = MNL_CB_OK;

	if (!nl)
		return;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) >= 0 &&
	    mnl_socket_sendto(nl, request, request->nlmsg_len) >= 0)
		while (more > MNL_CB_STOP &&
		       (len = mnl_socket_recvfrom(nl, buf, sizeof(buf))) > 0)
			more = mnl_cb_run(buf, len, 0, mnl_socket_get_portid(nl),
					  reply, search);
	mnl_socket_close(nl);
}

/* Has a process this socket?  Then its name is told, too. */
static bool process_has(const char *pid, __u32 inode, char *name, size_t size)
{
	char path[300], link[64], wanted[32];
	bool found = false;
	struct dirent *fd;
	ssize_t len;
	FILE *comm;
	DIR *fds;

	snprintf(wanted, sizeof(wanted), "socket:[%u]", inode);
	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	fds = opendir(path);
	while (fds && !found && (fd = readdir(fds))) {
		len = readlinkat(dirfd(fds), fd->d_name, link, sizeof(link) - 1);
		found = len > 0 && (size_t)len == strlen(wanted) &&
			!memcmp(link, wanted, len);
	}
	if (fds)
		closedir(fds);
	if (!found)
		return false;
	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	comm = fopen(path, "r");
	if (!comm || !fgets(name, size, comm))
		found = false;
	else
		name[strcspn(name, "\n")] = '\0';
	if (comm)
		fclose(comm);
	return found;
}

static void add_process(struct json_object *obj, __u32 inode)
{
	DIR *proc = opendir("/proc");
	struct dirent *pid;
	char name[64];

	while (proc && (pid = readdir(proc))) {
		if (pid->d_name[0] < '1' || pid->d_name[0] > '9' ||
		    !process_has(pid->d_name, inode, name, sizeof(name)))
			continue;
		add_text(obj, "process", name);
		add_number(obj, "pid", strtoul(pid->d_name, NULL, 10));
		break;
	}
	if (proc)
		closedir(proc);
}

/* Do packets of a device go through another one, as a bond's do? */
static bool is_lower(const char *dev, const char *lower)
{
	char path[2 * IF_NAMESIZE + 16];
	int net = sysfs_net_devices();
	bool found;

	if (net < 0)
		return false;
	snprintf(path, sizeof(path), "%s/lower_%s", dev, lower);
	found = !faccessat(net, path, F_OK, AT_SYMLINK_NOFOLLOW);
	close(net);
	return found;
}

static int capture_reply(const struct nlmsghdr *nlh, void *data)
{
	const struct packet_diag_msg *msg = mnl_nlmsg_get_payload(nlh);
	char dev[IF_NAMESIZE] = "any", own[IF_NAMESIZE] = "";
	const struct packet_diag_info *info = NULL;
	const struct sock_filter *filter = NULL;
	const struct search *search = data;
	const struct chimney_sock_info *flow = &search->rec->info;
	struct json_object *obj;
	struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(*msg)) {
		if (mnl_attr_get_type(attr) == PACKET_DIAG_INFO)
			info = mnl_attr_get_payload(attr);
		else if (mnl_attr_get_type(attr) == PACKET_DIAG_FILTER &&
			 mnl_attr_get_payload_len(attr) >= sizeof(*filter))
			filter = mnl_attr_get_payload(attr);
	}
	if (!info || (msg->pdiag_num != ETH_P_ALL &&
		      msg->pdiag_num != (flow->flow.family == AF_INET6 ?
					 ETH_P_IPV6 : ETH_P_IP)))
		return MNL_CB_OK;
	/* such a one the gate leaves out, too (bpf/capture.h) */
	if (filter && filter->code == (BPF_RET | BPF_K) && !filter->k &&
	    !info->pdi_index && msg->pdiag_num != ETH_P_ALL)
		return MNL_CB_OK;
	if (info->pdi_index) {
		if (!if_indextoname(info->pdi_index, dev))
			return MNL_CB_OK;
		if (info->pdi_index != flow->ifindex &&
		    !(if_indextoname(flow->ifindex, own) && is_lower(own, dev)))
			return MNL_CB_OK;
	}
	obj = json_object_new_object();
	add_process(obj, msg->pdiag_ino);
	add_text(obj, "dev", dev);
	json_object_array_add(search->found, obj);
	return MNL_CB_OK;
}

static void captures(struct search *search)
{
	char buf[MNL_NLMSG_HDRLEN + sizeof(struct packet_diag_req)] = {};
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct packet_diag_req *req =
		mnl_nlmsg_put_extra_header(nlh, sizeof(*req));

	nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	req->sdiag_family = AF_PACKET;
	req->pdiag_show = PACKET_SHOW_INFO | PACKET_SHOW_FILTER;
	dump(NETLINK_SOCK_DIAG, nlh, capture_reply, search);
}

static bool prefix_covers(const xfrm_address_t *prefix, unsigned int plen,
			  const __u8 *addr)
{
	const __u8 *bytes = (const __u8 *)prefix;
	unsigned int rest = plen % 8;

	return !memcmp(bytes, addr, plen / 8) &&
	       (!rest || !((bytes[plen / 8] ^ addr[plen / 8]) >> (8 - rest)));
}

/* As include/net/xfrm.h has it. */
static bool selector_covers(const struct xfrm_selector *sel,
			    const struct chimney_sock_info *info, int dir)
{
	const struct chimney_tuple *flow = &info->flow;
	bool out = dir == XFRM_POLICY_OUT;
	int skip = flow->family == AF_INET ? V4_MAPPED : 0;
	__u16 sport = htons(out ? flow->lport : flow->rport);
	__u16 dport = htons(out ? flow->rport : flow->lport);

	return (out || dir == XFRM_POLICY_IN) && sel->family == flow->family &&
	       prefix_covers(&sel->saddr, sel->prefixlen_s,
			     (out ? flow->local : flow->remote) + skip) &&
	       prefix_covers(&sel->daddr, sel->prefixlen_d,
			     (out ? flow->remote : flow->local) + skip) &&
	       !((sport ^ sel->sport) & sel->sport_mask) &&
	       !((dport ^ sel->dport) & sel->dport_mask) &&
	       (!sel->proto || sel->proto == IPPROTO_TCP) &&
	       (!sel->ifindex || sel->ifindex == (int)info->ifindex);
}

static void add_prefix(struct json_object *obj, const char *key, int family,
		       const xfrm_address_t *addr, unsigned int plen)
{
	char text[INET6_ADDRSTRLEN + sizeof("/128")];

	inet_ntop(family, addr, text, INET6_ADDRSTRLEN);
	sprintf(text + strlen(text), "/%u", plen);
	add_text(obj, key, text);
}

static int policy_reply(const struct nlmsghdr *nlh, void *data)
{
	const struct xfrm_userpolicy_info *policy = mnl_nlmsg_get_payload(nlh);
	const struct xfrm_selector *sel = &policy->sel;
	const struct search *search = data;
	struct json_object *obj;

	if (!selector_covers(sel, &search->rec->info, policy->dir))
		return MNL_CB_OK;
	obj = json_object_new_object();
	add_text(obj, "dir", policy->dir == XFRM_POLICY_OUT ? "out" : "in");
	add_prefix(obj, "src", sel->family, &sel->saddr, sel->prefixlen_s);
	add_prefix(obj, "dst", sel->family, &sel->daddr, sel->prefixlen_d);
	add_number(obj, "priority", policy->priority);
	json_object_array_add(search->found, obj);
	return MNL_CB_OK;
}

static void policies(struct search *search)
{
	char buf[MNL_NLMSG_HDRLEN + sizeof(struct xfrm_userpolicy_id)] = {};
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

	nlh->nlmsg_type = XFRM_MSG_GETPOLICY;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct xfrm_userpolicy_id));
	dump(NETLINK_XFRM, nlh, policy_reply, search);
}

static void rule_change(struct search *search)
{
	int map = bpf_obj_get(CHIMNEY_PINS "/rule_changes");
	__u64 netns = search->rec->info.flow.netns;
	struct chimney_rule_change change;
	struct json_object *obj;
	struct timespec now;

	if (map < 0)
		return;
	if (!bpf_map_lookup_elem(map, &netns, &change)) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		obj = json_object_new_object();
		add_text(obj, "process", change.comm);
		add_number(obj, "pid", change.pid);
		if (change.table[0])
			add_text(obj, "table", change.table);
		add_number(obj, "seconds", now.tv_sec - change.ns / NSEC_PER_SEC);
		json_object_array_add(search->found, obj);
	}
	close(map);
}

static void unknown_hook(struct search *search)
{
	int map = bpf_obj_get(CHIMNEY_PINS "/rule_walks");
	__u64 netns = search->rec->info.flow.netns;
	struct chimney_rule_walks walks;
	struct json_object *obj;

	if (map < 0)
		return;
	if (!bpf_map_lookup_elem(map, &netns, &walks) &&
	    walks.known != walks.begun) {
		obj = json_object_new_object();
		add_text(obj, "hook", walks.hook);
		json_object_array_add(search->found, obj);
	}
	close(map);
}

/**
 * culprits() - find the objects behind a reason, as they are now
 * @rec: the connection, of the network namespace that chimneyctl is in
 * @reason: enum chimney_reason, one of those that hold it in the host
 *
 * Return: array, empty where the kernel does not tell.
 */
struct json_object *culprits(const struct chimney_flow_record *rec,
			     unsigned int reason)
{
	struct search search = { rec, json_object_new_array() };

	if (reason == CHIMNEY_CAPTURE)
		captures(&search);
	else if (reason == CHIMNEY_IPSEC || reason == CHIMNEY_ROUTE)
		/* a policy that blocks what is sent leaves it no route */
		policies(&search);
	else if (reason == CHIMNEY_RULES || reason == CHIMNEY_PACKET_RULES)
		rule_change(&search);
	else if (reason == CHIMNEY_UNKNOWN_HOOK)
		unknown_hook(&search);
	return search.found;
}
