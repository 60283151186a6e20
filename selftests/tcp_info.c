// SPDX-License-Identifier: GPL-2.0
/*
 * The state of a TCP socket and how many segments it has sent and received, in
 * two words.  The tests ask for that thousands of times, and entering the
 * namespace, loading ss and what it prints took a tenth of their time.
 *
 *   tcp_info NETNS PORT	of the sockets with that local port: prints
 *				"STATE SEGMENTS" for each, STATE as in tcp_states.h
 */
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>

#include <libmnl/libmnl.h>

static int print(const struct nlmsghdr *nlh, void *port)
{
	const struct inet_diag_msg *sock = mnl_nlmsg_get_payload(nlh);
	struct tcp_info info = {};
	const struct nlattr *attr;
	size_t len;

	if (sock->id.idiag_sport != *(__be16 *)port)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, nlh, sizeof(*sock))
		if (mnl_attr_get_type(attr) == INET_DIAG_INFO) {
			len = mnl_attr_get_payload_len(attr);
			memcpy(&info, mnl_attr_get_payload(attr),
			       len < sizeof(info) ? len : sizeof(info));
		}
	printf("%u %u\n", sock->idiag_state,
	       info.tcpi_segs_out + info.tcpi_segs_in);
	return MNL_CB_OK;
}

static void dump(struct mnl_socket *nl, int family, __be16 port)
{
	static char buf[1 << 15];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct inet_diag_req_v2 *req;
	int n;

	nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	req = mnl_nlmsg_put_extra_header(nlh, sizeof(*req));
	req->sdiag_family = family;
	req->sdiag_protocol = IPPROTO_TCP;
	req->idiag_states = ~0U;
	req->idiag_ext = 1 << (INET_DIAG_INFO - 1);
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		err(1, "send");
	do {
		n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
		if (n < 0)
			err(1, "receive");
		n = mnl_cb_run(buf, n, 0, mnl_socket_get_portid(nl), print,
			       &port);
	} while (n > 0);
	if (n < 0)
		err(1, "dump");
}

int main(int argc, char **argv)
{
	char path[64];
	struct mnl_socket *nl;
	int netns;
	__be16 port;

	if (argc != 3)
		errx(2, "tcp_info NETNS PORT");
	snprintf(path, sizeof(path), "/run/netns/%s", argv[1]);
	netns = open(path, O_RDONLY);
	if (netns < 0 || setns(netns, CLONE_NEWNET))
		err(1, "%s", path);
	nl = mnl_socket_open(NETLINK_SOCK_DIAG);
	if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID))
		err(1, "netlink");
	port = htons(atoi(argv[2]));
	dump(nl, AF_INET, port);
	dump(nl, AF_INET6, port);
	return 0;
}
