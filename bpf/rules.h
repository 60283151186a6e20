/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The firewall's rules.  A verdict is good for the rules under which it was
 * given.  When they change, every flow of the namespace goes back to the host,
 * where the new rules decide, and is judged afresh.  The same holds for what
 * rules look up: sets, and what userspace writes into a connection's entry.
 */

/* uapi headers of netfilter are not in BTF */
#define NFNL_SUBSYS_CTNETLINK 1
#define NFNL_SUBSYS_IPSET 6
#define IPCTNL_MSG_CT_NEW 0
#define IPSET_CMD_CREATE 2
#define IPSET_CMD_SWAP 6
#define IPSET_CMD_ADD 9
#define IPSET_CMD_DEL 10
#define IPT_SO_SET_REPLACE 64

/* The last change in each namespace, for "chimneyctl explain" and nobody else. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct chimney_rule_change);
} rule_changes SEC(".maps");

/* Notes who is changing the rules.  @table: name of an nftables table, or 0 */
static __noinline int rules_note(u64 netns, const char *table)
{
	struct chimney_rule_change change = {
		.ns = bpf_ktime_get_ns(),
		.pid = bpf_get_current_pid_tgid() >> 32,
	};

	bpf_get_current_comm(change.comm, sizeof(change.comm));
	if (table)
		bpf_probe_read_kernel_str(change.table, sizeof(change.table),
					  table);
	bpf_map_update_elem(&rule_changes, &netns, &change, BPF_ANY);
	return 0;
}

static __always_inline void rules_revoke(u64 netns)
{
	rules_note(netns, NULL);
	revoke_netns(netns, CHIMNEY_RULES);
}

static __noinline int rules_changed(const struct net *net)
{
	rules_note(netns_cookie(net), NULL);
	packet_rules_changed(net);
	return 0;
}

struct nft_trans___some {
	struct list_head list;
	struct nft_table___some *table;
} __attribute__((preserve_access_index));

/* What a transaction changes is known before; its first table stands for all. */
SEC("fentry/nf_tables_commit")
int BPF_PROG(rules_nft_table, struct net *net)
{
	struct nftables_pernet___some *pernet = (void *)net_generic(net,
								    nft_net_id);
	u64 first;

	if (!pernet || !bpf_core_field_exists(struct nft_trans___some, table))
		return 0;
	first = (u64)BPF_CORE_READ(pernet, commit_list.next);
	if (first ==
	    (u64)pernet + bpf_core_field_offset(struct nftables_pernet___some,
						commit_list))
		return 0;
	first -= bpf_core_field_offset(struct nft_trans___some, list);
	rules_note(netns_cookie(net),
		   BPF_CORE_READ((struct nft_trans___some *)first, table, name));
	return 0;
}

/* nft, iptables-nft, firewalld: any transaction, set elements included */
SEC("fexit/nf_tables_commit")
int BPF_PROG(rules_nft, struct net *net, struct sk_buff *skb, int ret)
{
	packet_rules_changed(net);
	return 0;
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

/*
 * Anyone else who starts or ceases to see packets: IPVS, conntrack, bridges.  A
 * transaction of nftables may do so on its way; its table is not forgotten.
 */
static __always_inline void rules_hooked(const struct net *net)
{
	u64 netns = netns_cookie(net);
	const struct chimney_rule_change *last =
		bpf_map_lookup_elem(&rule_changes, &netns);

	if (!last || last->pid != bpf_get_current_pid_tgid() >> 32)
		rules_note(netns, NULL);
	packet_rules_changed(net);
}

SEC("fexit/__nf_register_net_hook")
int BPF_PROG(rules_hook, struct net *net, int pf, const struct nf_hook_ops *reg,
	     int ret)
{
	/* a device's ingress and egress hooks see the path's packets, too */
	if (pf != NFPROTO_NETDEV)
		rules_hooked(net);
	return 0;
}

SEC("fexit/__nf_unregister_net_hook")
int BPF_PROG(rules_unhook, struct net *net, int pf, const struct nf_hook_ops *reg)
{
	if (pf != NFPROTO_NETDEV)
		rules_hooked(net);
	return 0;
}
