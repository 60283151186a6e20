/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The firewall's rules.  A verdict is good for the rules under which it was
 * given.  When they change, every flow of the namespace goes back to the host,
 * where the new rules decide, and is judged afresh.
 */

static __always_inline void rules_revoke(u64 netns)
{
	struct chimney_selector selector = { .netns = netns };

	revoke(&selector, CHIMNEY_RULES);
}

/* nft, iptables-nft, firewalld: any transaction, set elements included */
SEC("fexit/nf_tables_commit")
int BPF_PROG(rules_nft, struct net *net, struct sk_buff *skb, int ret)
{
	rules_revoke(netns_cookie(net));
	return 0;
}

/* iptables-legacy; the table does not tell its namespace */
SEC("fexit/xt_replace_table")
int BPF_PROG(rules_xtables)
{
	rules_revoke(0);
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
