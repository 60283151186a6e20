/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rules that rewrite or mark packets, whatever tool wrote them: the packet is
 * not what its socket made.
 */

static __always_inline bool tuple_equal(const struct chimney_tuple *a,
					const struct chimney_tuple *b)
{
	return !__builtin_memcmp(a, b, sizeof(*a));
}

static __always_inline u64 rewritten_judge(const struct chimney_packet *packet,
					   const struct chimney_tuple *flow)
{
	struct chimney_tuple seen;

	bpf_probe_read_kernel(&seen, sizeof(seen), &packet->seen);
	if (tuple_equal(flow, &seen) && packet->mark == packet->sock_mark &&
	    packet->priority == packet->sock_priority &&
	    /* congestion marks are the network's to set */
	    !((packet->tos ^ packet->sock_tos) & ~3) &&
	    packet->ttl == packet->sock_ttl)
		return 0;
	return CHIMNEY_MASK(REWRITTEN);
}
