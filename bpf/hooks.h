/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Hooks of netfilter.  The path's packets do not come by them, and the gate
 * knows what that means where a firewall's rules stand behind a hook, which it
 * reads (packet_rules.h) and watches (evaluators.h), or a part of the stack whose
 * doings packets show (conntrack, NAT, IPVS).  Behind any other hook, a BPF
 * program's or that of a module from elsewhere, may be anything.  While a
 * namespace has such a hook, all of its flows stay in the host.
 *
 * A hook is known by its function's name.  The set of them is looked at whenever
 * it changes, in the walk of packet_rules.h, and when the gate is loaded.
 */

/* More than a packet can meet at one place; longer ones are not known. */
#define HOOKS_MAX 64

static const char hook_name_format[] = "%ps";

/* A function's name, "name [module]" if it is one of a module. */
#define CALLED(prefix) (!bpf_strncmp(name, sizeof(prefix) - 1, prefix))

static __noinline bool hook_is_known(const char name[CHIMNEY_HOOK_NAME_LEN])
{
	if (!name)
		return false;
	/* rules, which are read and watched */
	return CALLED("nft_do_chain_") || CALLED("nft_nat_do_chain") ||
	       CALLED("nf_route_table_hook") || CALLED("ipt_do_table") ||
	       CALLED("ip6t_do_table") || CALLED("iptable_mangle_hook") ||
	       CALLED("ip6table_mangle_hook") ||
	       /* what packets show; a place that is just being given up */
	       CALLED("ipv4_conntrack_") || CALLED("ipv6_conntrack_") ||
	       CALLED("nf_confirm") || CALLED("ipv6_defrag") ||
	       CALLED("nf_nat_ipv4_") || CALLED("nf_nat_ipv6_") ||
	       CALLED("accept_all") || CALLED("ip_vs_") ||
	       CALLED("ipv4_synproxy_hook") || CALLED("ipv6_synproxy_hook") ||
	       /* looks at packets that a rule has marked, which is rewritten */
	       CALLED("apparmor_ip_postroute") ||
	       /* of bridges and of ipvlan: the module knows these devices */
	       CALLED("ip_sabotage_in") || CALLED("ipvlan_nf_input") ||
	       /* the module's own */
	       CALLED("judge_in [chimney]") || CALLED("judge_out [chimney]");
}

/* @list: address of the pointer to the hooks of one place; @name gets room */
static __noinline bool hooks_are_known(u64 list, char *name)
{
	u64 entries = 0, data;
	u16 n = 0;
	int i;

	if (!name)
		return false;
	bpf_probe_read_kernel(&entries, sizeof(entries), (void *)list);
	if (!entries)
		return true;
	n = BPF_CORE_READ((struct nf_hook_entries *)entries, num_hook_entries);
	if (n > HOOKS_MAX)
		return false;
	entries += bpf_core_field_offset(struct nf_hook_entries, hooks);
	bpf_for(i, 0, n) {
		data = (u64)BPF_CORE_READ((struct nf_hook_entry *)entries, hook);
		bpf_snprintf(name, CHIMNEY_HOOK_NAME_LEN, hook_name_format,
			     &data, sizeof(data));
		if (!hook_is_known(name))
			return false;
		entries += bpf_core_type_size(struct nf_hook_entry);
	}
	return true;
}

/* Of all places but FORWARD; @name gets that of the first unknown one. */
static __noinline bool hooks_known(const struct net *net, char *name)
{
	u64 v4 = (u64)net + bpf_core_field_offset(struct net, nf.hooks_ipv4);
	u64 v6 = (u64)net + bpf_core_field_offset(struct net, nf.hooks_ipv6);
	int i;

	bpf_for(i, 0, NF_INET_POST_ROUTING + 1) {
		if (i != NF_INET_FORWARD &&
		    (!hooks_are_known(v4 + i * sizeof(u64), name) ||
		     !hooks_are_known(v6 + i * sizeof(u64), name)))
			return false;
	}
	return true;
}
