/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Conntrack and NAT.  The packet carries its connection's entry.  Whether a
 * connection is translated is settled by its first packet, so that no event can
 * change it while the entry lives; when the entry goes, the module notices.
 */

#define NAT_MASK (IPS_SRC_NAT | IPS_DST_NAT)

static __always_inline bool conntrack_has_ext(const struct nf_conn *ct, int id)
{
	const struct nf_ct_ext *ext = BPF_CORE_READ(ct, ext);
	const u8 *at = __builtin_preserve_access_index(&ext->offset[id]);
	u8 offset = 0;

	if (ext)
		bpf_probe_read_kernel(&offset, sizeof(offset), at);
	return offset;
}

/* "ct state established", in either direction */
static __always_inline bool conntrack_established(const struct sk_buff *skb)
{
	unsigned int info = skb->_nfct & 7;

	return skb->_nfct & ~7UL &&
	       (info == IP_CT_ESTABLISHED || info == IP_CT_ESTABLISHED_REPLY);
}

static __always_inline u64 conntrack_judge(const struct sk_buff *skb)
{
	const struct nf_conn *ct = (void *)(skb->_nfct & ~7UL);
	unsigned long status;
	u64 reasons = 0;

	if (!ct)
		return 0;

	status = BPF_CORE_READ(ct, status);
	if (status & NAT_MASK)
		reasons |= CHIMNEY_MASK(NAT);
	/* a helper or sequence adjustment: not plain */
	if ((status & (IPS_CONFIRMED | IPS_SEEN_REPLY)) !=
		    (IPS_CONFIRMED | IPS_SEEN_REPLY) ||
	    status & (IPS_DYING | IPS_SEQ_ADJUST | IPS_HELPER) ||
	    conntrack_has_ext(ct, bpf_core_enum_value(enum nf_ct_ext_id,
						      NF_CT_EXT_HELPER)) ||
	    BPF_CORE_READ(ct, proto.tcp.state) != TCP_CONNTRACK_ESTABLISHED)
		reasons |= CHIMNEY_MASK(CONNTRACK);
	return reasons;
}
