/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The firewall's rules.  A verdict is good for the rules under which it was
 * given.  When they change, every flow of the namespace goes back to the host,
 * where the new rules decide, and is judged afresh.  The same holds for what
 * rules look up: sets, and what userspace writes into a connection's entry.
 */

/* uapi headers of netfilter are not in BTF */
#define NFNL_SUBSYS_CTNETLINK	1
#define NFNL_SUBSYS_IPSET	6
#define IPCTNL_MSG_CT_NEW	0
#define IPSET_CMD_CREATE	2
#define IPSET_CMD_SWAP		6
#define IPSET_CMD_ADD		9
#define IPSET_CMD_DEL		10
#define IPT_SO_SET_REPLACE	64

static __always_inline void rules_revoke(u64 netns)
{
	revoke_netns(netns, CHIMNEY_RULES);
}

static __noinline int rules_changed(const struct net *net)
{
	bpf_preempt_disable();
	packet_rules_walk(net);
	rules_revoke(netns_cookie(net));
	bpf_preempt_enable();
	return 0;
}

/* nft, iptables-nft, firewalld: any transaction, set elements included */
SEC("fexit/nf_tables_commit")
int BPF_PROG(rules_nft, struct net *net, struct sk_buff *skb, int ret)
{
	return rules_changed(net);
}

/* iptables-legacy: a table is replaced; counters do not matter */
SEC("fexit/do_ipt_set_ctl")
int BPF_PROG(rules_iptables, struct sock *sk, int cmd)
{
	if (cmd == IPT_SO_SET_REPLACE)
		rules_changed(socket_net(sk));
	return 0;
}

SEC("fexit/do_ip6t_set_ctl")
int BPF_PROG(rules_ip6tables, struct sock *sk, int cmd)
{
	if (cmd == IPT_SO_SET_REPLACE)
		rules_changed(socket_net(sk));
	return 0;
}

/* ipset, conntrack: anything but a question; deleted entries the module notices */
SEC("fexit/nfnetlink_rcv_msg")
int BPF_PROG(rules_nfnetlink, struct sk_buff *skb, struct nlmsghdr *nlh)
{
	const struct net *net = socket_net(BPF_CORE_READ(skb, sk));
	u16 type = BPF_CORE_READ(nlh, nlmsg_type);
	u8 cmd = type;

	switch (type >> 8) {
	case NFNL_SUBSYS_IPSET:
		/* a rule's set may be one of another kind now */
		if (cmd == IPSET_CMD_SWAP)
			return rules_changed(net);
		if ((cmd < IPSET_CMD_CREATE || cmd > IPSET_CMD_SWAP) &&
		    cmd != IPSET_CMD_ADD && cmd != IPSET_CMD_DEL)
			return 0;
		break;
	case NFNL_SUBSYS_CTNETLINK:
		if (cmd != IPCTNL_MSG_CT_NEW)
			return 0;
		break;
	default:
		return 0;
	}
	rules_revoke(netns_cookie(net));
	return 0;
}

/* Anyone else who starts or ceases to see packets: IPVS, conntrack, bridges. */
SEC("fexit/__nf_register_net_hook")
int BPF_PROG(rules_hook, struct net *net, int pf, const struct nf_hook_ops *reg,
	     int ret)
{
	/* a device's ingress and egress hooks see the path's packets, too */
	if (pf != NFPROTO_NETDEV)
		rules_revoke(netns_cookie(net));
	return 0;
}

SEC("fexit/__nf_unregister_net_hook")
int BPF_PROG(rules_unhook, struct net *net, int pf,
	     const struct nf_hook_ops *reg)
{
	if (pf != NFPROTO_NETDEV)
		rules_revoke(netns_cookie(net));
	return 0;
}
