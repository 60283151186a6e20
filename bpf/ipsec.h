/* SPDX-License-Identifier: GPL-2.0 */
/*
 * IPsec (xfrm).  A policy that covers a flow shows on its packets: in the route
 * of what it sends, and in the security path of what it receives.  Clear text
 * that arrives under a policy is dropped by TCP itself, on the path or not; the
 * module tells which packets that will happen to.
 *
 * Security associations need no trigger of their own: they change nothing for a
 * route that is in use, and the route is what the path follows.
 */

static __always_inline u64 ipsec_judge(const struct sk_buff *skb,
				       const struct chimney_packet *packet)
{
	const struct dst_entry *dst;
	int sec_path;

	if (packet->dir == CHIMNEY_OUT) {
		dst = (void *)(skb->_skb_refdst & ~1UL);
		return dst && BPF_CORE_READ(dst, xfrm) ? CHIMNEY_MASK(IPSEC) : 0;
	}
	if (packet->xfrm_refuses)
		return CHIMNEY_MASK(IPSEC);
	sec_path = bpf_core_enum_value(enum skb_ext_id, SKB_EXT_SEC_PATH);
	return skb->active_extensions & (1 << sec_path) ? CHIMNEY_MASK(IPSEC) : 0;
}

static __always_inline void ipsec_address(u8 *to, const xfrm_address_t *from,
					  u16 family)
{
	if (family == AF_INET6) {
		BPF_CORE_READ_INTO((__be32(*)[4])to, from, in6.in6_u.u6_addr32);
		return;
	}
	to[10] = 0xff;
	to[11] = 0xff;
	*(__be32 *)(to + 12) = BPF_CORE_READ(from, a4);
}

/* The flows that a policy selects by what they send, in the netns it is in. */
static __always_inline struct chimney_selector
ipsec_select(const struct xfrm_policy *policy)
{
	const struct xfrm_selector *from =
		__builtin_preserve_access_index(&policy->selector);
	struct chimney_selector to = {
		.netns = netns_cookie(BPF_CORE_READ(policy, xp_net.net)),
		.family = BPF_CORE_READ(from, family),
		.local_plen = BPF_CORE_READ(from, prefixlen_s),
		.remote_plen = BPF_CORE_READ(from, prefixlen_d),
		.lport = bpf_ntohs(BPF_CORE_READ(from, sport)),
		.lport_mask = bpf_ntohs(BPF_CORE_READ(from, sport_mask)),
		.rport = bpf_ntohs(BPF_CORE_READ(from, dport)),
		.rport_mask = bpf_ntohs(BPF_CORE_READ(from, dport_mask)),
	};

	ipsec_address(to.local, __builtin_preserve_access_index(&from->saddr),
		      to.family);
	ipsec_address(to.remote, __builtin_preserve_access_index(&from->daddr),
		      to.family);
	return to;
}

/* The same by what they receive. */
static __always_inline struct chimney_selector
ipsec_select_reverse(const struct xfrm_policy *policy)
{
	const struct chimney_selector sent = ipsec_select(policy);
	struct chimney_selector to = sent;

	__builtin_memcpy(to.local, sent.remote, sizeof(to.local));
	__builtin_memcpy(to.remote, sent.local, sizeof(to.remote));
	to.local_plen = sent.remote_plen;
	to.remote_plen = sent.local_plen;
	to.lport = sent.rport;
	to.lport_mask = sent.rport_mask;
	to.rport = sent.lport;
	to.rport_mask = sent.lport_mask;
	return to;
}

static __always_inline void ipsec_revoke(const struct xfrm_policy *policy,
					 bool out, bool in)
{
	u8 proto = BPF_CORE_READ(policy, selector.proto);
	struct chimney_selector selector;

	if (proto && proto != IPPROTO_TCP)
		return;
	if (out) {
		selector = ipsec_select(policy);
		revoke(&selector, CHIMNEY_IPSEC);
	}
	if (in) {
		selector = ipsec_select_reverse(policy);
		revoke(&selector, CHIMNEY_IPSEC);
	}
}

SEC("fexit/xfrm_policy_insert")
int BPF_PROG(ipsec_policy_insert, int dir, struct xfrm_policy *policy, int excl,
	     int ret)
{
	if (!ret)
		ipsec_revoke(policy, dir == XFRM_POLICY_OUT,
			     dir == XFRM_POLICY_IN);
	return 0;
}

/* Whatever a policy shadowed counts when it goes, by whichever way. */
SEC("fexit/xfrm_policy_kill")
int BPF_PROG(ipsec_policy_kill, struct xfrm_policy *policy)
{
	ipsec_revoke(policy, true, true);
	return 0;
}

/* The socket's own policy: for one flow, or for those yet to be. */
SEC("fexit/xfrm_sk_policy_insert")
int BPF_PROG(ipsec_socket_policy, struct sock *sk)
{
	struct chimney_selector selector = {
		.netns = socket_netns(sk),
		.lport = BPF_CORE_READ(sk, __sk_common.skc_num),
		.lport_mask = 0xffff,
		.rport = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport)),
		.rport_mask = 0xffff,
	};

	revoke(&selector, CHIMNEY_IPSEC);
	return 0;
}
