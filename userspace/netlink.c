// SPDX-License-Identifier: GPL-2.0
/*
 * Objects that the kernel lists by netlink, of the network namespace that
 * chimneyctl is in: what can see or change packets, and devices.  culprit.c asks
 * which of them concern one connection, check.c which concern any.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_hook.h>
#include <linux/packet_diag.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/xfrm.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chimneyctl.h"
#include "netlink.h"

/* where the objects of a dump go */
struct listing {
	union {
		void (*capture)(const struct capture *capture, void *data);
		void (*policy)(const struct policy *policy, void *data);
		void (*link)(const struct net_link *link, void *data);
		void (*hook)(const struct hook *hook, void *data);
	} found;
	void *data;
};

static int dump(int bus, struct nlmsghdr *request, mnl_cb_t reply,
		struct listing *listing)
{
	struct mnl_socket *nl = mnl_socket_open(bus);
	char buf[MNL_SOCKET_DUMP_SIZE];
	int len = 0, more = MNL_CB_OK;
	int err = 0;

	if (!nl)
		return -errno;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    mnl_socket_sendto(nl, request, request->nlmsg_len) < 0)
		more = MNL_CB_ERROR;
	while (more > MNL_CB_STOP) {
		len = mnl_socket_recvfrom(nl, buf, sizeof(buf));
		more = len < 0 ?
			       MNL_CB_ERROR :
			       mnl_cb_run(buf, len, 0, mnl_socket_get_portid(nl),
					  reply, listing);
	}
	if (more == MNL_CB_ERROR)
		err = -errno;
	mnl_socket_close(nl);
	return err;
}

static int capture_reply(const struct nlmsghdr *nlh, void *data)
{
	const struct packet_diag_msg *msg = mnl_nlmsg_get_payload(nlh);
	const struct packet_diag_info *info = NULL;
	const struct sock_filter *filter = NULL;
	const struct listing *listing = data;
	struct capture capture = {};
	struct nlattr *attr;
	bool returns;

	mnl_attr_for_each(attr, nlh, sizeof(*msg)) {
		if (mnl_attr_get_type(attr) == PACKET_DIAG_INFO)
			info = mnl_attr_get_payload(attr);
		else if (mnl_attr_get_type(attr) == PACKET_DIAG_FILTER &&
			 mnl_attr_get_payload_len(attr) >= sizeof(*filter))
			filter = mnl_attr_get_payload(attr);
	}
	if (!info || (msg->pdiag_num != ETH_P_ALL && msg->pdiag_num != ETH_P_IP &&
		      msg->pdiag_num != ETH_P_IPV6))
		return MNL_CB_OK;
	/* filters count as they do for the gate (bpf/capture.h) */
	returns = filter && filter->code == (BPF_RET | BPF_K);
	if (returns && !filter->k &&
	    (!info->pdi_index || msg->pdiag_num == ETH_P_ALL))
		return MNL_CB_OK;
	capture.filtered = filter && !returns && msg->pdiag_num == ETH_P_ALL;
	capture.inode = msg->pdiag_ino;
	capture.ifindex = info->pdi_index;
	if (msg->pdiag_num != ETH_P_ALL)
		capture.family = msg->pdiag_num == ETH_P_IPV6 ? AF_INET6 :
								AF_INET;
	listing->found.capture(&capture, listing->data);
	return MNL_CB_OK;
}

/**
 * captures_each() - list the capture sockets that can see TCP
 * @found: called for each
 * @data: for @found
 *
 * Return: 0 or a negative errno.
 */
int captures_each(void (*found)(const struct capture *capture, void *data),
		  void *data)
{
	char buf[MNL_NLMSG_HDRLEN + sizeof(struct packet_diag_req)] = {};
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct packet_diag_req *req = mnl_nlmsg_put_extra_header(nlh,
								 sizeof(*req));
	struct listing listing = { .found.capture = found, .data = data };
	int err;

	nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	req->sdiag_family = AF_PACKET;
	req->pdiag_show = PACKET_SHOW_INFO | PACKET_SHOW_FILTER;
	err = dump(NETLINK_SOCK_DIAG, nlh, capture_reply, &listing);
	/* where there is no AF_PACKET, nobody can tell of its sockets */
	return err == -ENOENT && access("/proc/net/packet", F_OK) ? 0 : err;
}

static int policy_reply(const struct nlmsghdr *nlh, void *data)
{
	const struct listing *listing = data;
	struct policy policy = { .info = mnl_nlmsg_get_payload(nlh) };
	const struct xfrm_mark *mark;
	struct nlattr *attr;

	/* those that go round (fwd) are not for flows, others are of one socket */
	if (policy.info->dir != XFRM_POLICY_IN &&
	    policy.info->dir != XFRM_POLICY_OUT)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, nlh, sizeof(*policy.info)) {
		switch (mnl_attr_get_type(attr)) {
		case XFRMA_TMPL:
			policy.transforms = true;
			break;
		case XFRMA_IF_ID:
			policy.if_id = mnl_attr_get_u32(attr);
			break;
		case XFRMA_MARK:
			mark = mnl_attr_get_payload(attr);
			policy.mark = mark->v;
			policy.mark_mask = mark->m;
			break;
		}
	}
	listing->found.policy(&policy, listing->data);
	return MNL_CB_OK;
}

/**
 * policies_each() - list the IPsec policies that are for local flows
 * @found: called for each
 * @data: for @found
 *
 * Return: 0 or a negative errno.
 */
int policies_each(void (*found)(const struct policy *policy, void *data),
		  void *data)
{
	char buf[MNL_NLMSG_HDRLEN + sizeof(struct xfrm_userpolicy_id)] = {};
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct listing listing = { .found.policy = found, .data = data };
	int err;

	nlh->nlmsg_type = XFRM_MSG_GETPOLICY;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct xfrm_userpolicy_id));
	err = dump(NETLINK_XFRM, nlh, policy_reply, &listing);
	return err == -EPROTONOSUPPORT ? 0 : err;
}

static void link_data(const struct nlattr *data, struct net_link *link)
{
	struct nlattr *attr;

	if (strcmp(link->kind, "ipvlan"))
		return;
	mnl_attr_for_each_nested(attr, data)
		if (mnl_attr_get_type(attr) == IFLA_IPVLAN_MODE)
			link->l3s = mnl_attr_get_u16(attr) == IPVLAN_MODE_L3S;
}

/* The kind comes before the data. */
static void link_info(const struct nlattr *info, struct net_link *link)
{
	struct nlattr *attr;

	mnl_attr_for_each_nested(attr, info) {
		switch (mnl_attr_get_type(attr)) {
		case IFLA_INFO_KIND:
			snprintf(link->kind, sizeof(link->kind), "%s",
				 mnl_attr_get_str(attr));
			break;
		case IFLA_INFO_SLAVE_KIND:
			link->in_vrf = !strcmp(mnl_attr_get_str(attr), "vrf");
			break;
		case IFLA_INFO_DATA:
			link_data(attr, link);
			break;
		}
	}
}

static int link_reply(const struct nlmsghdr *nlh, void *data)
{
	const struct ifinfomsg *msg = mnl_nlmsg_get_payload(nlh);
	const struct listing *listing = data;
	struct net_link link = {
		.ifindex = msg->ifi_index,
		.type = msg->ifi_type,
		.flags = msg->ifi_flags,
	};
	struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(*msg)) {
		switch (mnl_attr_get_type(attr)) {
		case IFLA_IFNAME:
			snprintf(link.name, sizeof(link.name), "%s",
				 mnl_attr_get_str(attr));
			break;
		case IFLA_MASTER:
			link.master = mnl_attr_get_u32(attr);
			break;
		case IFLA_LINKINFO:
			link_info(attr, &link);
			break;
		}
	}
	listing->found.link(&link, listing->data);
	return MNL_CB_OK;
}

/**
 * links_each() - list the network devices
 * @found: called for each
 * @data: for @found
 *
 * Return: 0 or a negative errno.
 */
int links_each(void (*found)(const struct net_link *link, void *data), void *data)
{
	char buf[MNL_NLMSG_HDRLEN + sizeof(struct ifinfomsg)] = {};
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct listing listing = { .found.link = found, .data = data };

	nlh->nlmsg_type = RTM_GETLINK;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	return dump(NETLINK_ROUTE, nlh, link_reply, &listing);
}

static void hook_chain(const struct nlattr *info, struct hook *hook)
{
	struct nlattr *attr, *inner;

	mnl_attr_for_each_nested(attr, info) {
		if (mnl_attr_get_type(attr) != NFNLA_HOOK_INFO_DESC)
			continue;
		mnl_attr_for_each_nested(inner, attr) {
			if (mnl_attr_get_type(inner) == NFNLA_CHAIN_TABLE)
				snprintf(hook->table, sizeof(hook->table), "%s",
					 mnl_attr_get_str(inner));
			else if (mnl_attr_get_type(inner) == NFNLA_CHAIN_NAME)
				snprintf(hook->chain, sizeof(hook->chain), "%s",
					 mnl_attr_get_str(inner));
		}
	}
}

static int hook_reply(const struct nlmsghdr *nlh, void *data)
{
	const struct listing *listing = data;
	struct hook hook = {};
	struct nlattr *attr;

	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg)) {
		switch (mnl_attr_get_type(attr)) {
		case NFNLA_HOOK_PRIORITY:
			hook.priority = ntohl(mnl_attr_get_u32(attr));
			break;
		case NFNLA_HOOK_MODULE_NAME:
			hook.ours = !strcmp(mnl_attr_get_str(attr), "chimney");
			break;
		case NFNLA_HOOK_CHAIN_INFO:
			hook_chain(attr, &hook);
			break;
		}
	}
	listing->found.hook(&hook, listing->data);
	return MNL_CB_OK;
}

/**
 * hooks_each() - list the functions of a netfilter hook, in the order of calls
 * @family: NFPROTO_IPV4 ...
 * @number: NF_INET_LOCAL_IN ...
 * @dev: device, of NFPROTO_NETDEV
 * @found: called for each
 * @data: for @found
 *
 * Return: 0 or a negative errno.
 */
int hooks_each(int family, int number, const char *dev,
	       void (*found)(const struct hook *hook, void *data), void *data)
{
	char buf[MNL_NLMSG_HDRLEN + 128] = {};
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct listing listing = { .found.hook = found, .data = data };
	struct nfgenmsg *msg;

	nlh->nlmsg_type = NFNL_SUBSYS_HOOK << 8 | NFNL_MSG_HOOK_GET;
	msg = mnl_nlmsg_put_extra_header(nlh, sizeof(*msg));
	msg->nfgen_family = family;
	mnl_attr_put_u32(nlh, NFNLA_HOOK_HOOKNUM, htonl(number));
	if (dev)
		mnl_attr_put_strz(nlh, NFNLA_HOOK_DEV, dev);
	return dump(NETLINK_NETFILTER, nlh, hook_reply, &listing);
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

/**
 * socket_process() - which process has a socket
 * @inode: the socket's
 * @name: gets the name of the first one
 * @size: room in @name
 *
 * Return: its pid, 0 if it is of another pid namespace.
 */
unsigned long socket_process(__u32 inode, char *name, size_t size)
{
	DIR *proc = opendir("/proc");
	unsigned long found = 0;
	struct dirent *pid;

	while (proc && !found && (pid = readdir(proc)))
		if (pid->d_name[0] >= '1' && pid->d_name[0] <= '9' &&
		    process_has(pid->d_name, inode, name, size))
			found = strtoul(pid->d_name, NULL, 10);
	if (proc)
		closedir(proc);
	return found;
}
