/* SPDX-License-Identifier: GPL-2.0 */
/*
 * IPVS, Linux' load balancer.  It marks each packet that it sends, or lets
 * pass, for one of its connections, even when it changes nothing on it: a
 * server on the balancer itself, direct routing.
 *
 * Its first service in a namespace registers hooks and its last one takes them
 * away, which rules.h sees.  All else that is configured comes by one of the
 * two functions here.
 */

static __always_inline u64 ipvs_judge(const struct sk_buff *skb)
{
	if (bpf_core_field_exists(skb->ipvs_property) &&
	    BPF_CORE_READ_BITFIELD_PROBED(skb, ipvs_property))
		return CHIMNEY_MASK(IPVS);
	return 0;
}

/* ipvsadm, keepalived */
SEC("fexit/ip_vs_genl_set_cmd")
int BPF_PROG(ipvs_genl, struct sk_buff *skb, struct genl_info *info)
{
	revoke_netns(netns_cookie(BPF_CORE_READ(info, _net.net)), CHIMNEY_IPVS);
	return 0;
}

/* the same by setsockopt(), as before there was netlink */
SEC("fexit/do_ip_vs_set_ctl")
int BPF_PROG(ipvs_sockopt, struct sock *sk, int cmd)
{
	revoke_netns(socket_netns(sk), CHIMNEY_IPVS);
	return 0;
}
