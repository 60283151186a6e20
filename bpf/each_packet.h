/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rules that have to see each packet: rate limits, quotas, logs, queues to
 * userspace ...  They need not change any packet that the gate is shown, so
 * that the gate follows the functions by which they act (evaluators.h): such a
 * function that gets a packet of a flow stamps the flow's verdict, and while
 * the stamp is young the flow stays in the host.  What the rule set says does
 * not matter, only which packets come to such a rule: a limit on new
 * connections never sees those of an established one.
 *
 * Between stamp and judgement of one packet nothing is lost: rules come before
 * the judgement.  A flow's first verdict is not there yet when its first packet
 * is judged, but a flow is offered under its second at the earliest.  A probe
 * is skipped on a CPU that is in another one, or in a bpf() call on a map, at
 * this moment; therefore a stamp outlasts some more packets, but not a change of
 * rules.  And a flow that is offloaded does not come to such rules at all until
 * they change, which revokes it.
 *
 * Functions of modules can only be followed when these are loaded.  chimneyctl
 * loads all of evaluators.h first; the one that appears later, or is of a kind
 * unknown here, keeps all flows in the host until the gate is loaded anew.
 */
#include "evaluators.h"

#define EACH_PACKET_NS 5000000000ULL

#define NFPROTO_IPV4 2
#define NFPROTO_IPV6 10

/* of nf_tables, which may be a module or built in; what is used of it */
struct nft_pktinfo___some {
	struct sk_buff *skb;
	const struct nf_hook_state *state;
} __attribute__((preserve_access_index));

/* By name, filled in by chimneyctl; what is loaded later is added here. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, RULE_MODULES);
	__type(key, char[RULE_MODULE_NAME]);
	__type(value, enum rule_module);
} rule_modules SEC(".maps");

/* How many of them are unknown; chimneyctl writes it, too. */
__s32 nr_unknown_rules SEC(".bss.loader");

/*
 * A stamp is of the rules of @epoch if the flow had been judged under these when
 * it was set.  Before the first judgement in an epoch there is no telling.
 */
static __always_inline u64 each_packet_judge(const struct chimney_verdict *verdict,
					     const int dir, u64 epoch)
{
	u64 then, stamped;

	if (nr_unknown_rules)
		return CHIMNEY_MASK(UNKNOWN_RULES);
	then = NOW(verdict->each_ns[dir]);
	if (!then || bpf_ktime_get_ns() - then >= EACH_PACKET_NS)
		return 0;
	stamped = NOW(verdict->each_epoch[dir]);
	if (stamped && stamped != epoch && NOW(verdict->epoch[dir]) == epoch)
		return 0;
	return CHIMNEY_MASK(EACH_PACKET);
}

static __always_inline void each_packet_stamp(const struct chimney_tuple *flow,
					      const int dir)
{
	struct chimney_verdict *verdict = bpf_map_lookup_elem(&flows, flow);

	if (!verdict)
		return;
	NOW(verdict->each_epoch[dir]) = NOW(verdict->epoch[dir]);
	NOW(verdict->each_ns[dir]) = bpf_ktime_get_ns();
}

/* Namespace of a packet: what is sent has no device yet, or not its own. */
static __always_inline u64 each_packet_netns(const struct sk_buff *skb)
{
	const struct net_device *dev = BPF_CORE_READ(skb, dev);

	return netns_cookie(dev ? BPF_CORE_READ(dev, nd_net.net) :
				  BPF_CORE_READ(skb, sk, __sk_common.skc_net.net));
}

/* The flow that has sent it, if it is this host's. */
static __always_inline bool each_packet_sender(const struct sk_buff *skb,
					       struct chimney_tuple *flow)
{
	const void *pos = BPF_CORE_READ(skb, head) +
			  BPF_CORE_READ(skb, network_header);
	__be16 protocol = BPF_CORE_READ(skb, protocol);
	struct ipv6hdr ip6h;
	struct iphdr iph;
	__be16 ports[2];

	if (protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_probe_read_kernel(&iph, sizeof(iph), pos) ||
		    iph.protocol != IPPROTO_TCP)
			return false;
		flow->family = AF_INET;
		*(u16 *)(flow->local + 10) = 0xffff;
		*(u16 *)(flow->remote + 10) = 0xffff;
		*(__be32 *)(flow->local + 12) = iph.saddr;
		*(__be32 *)(flow->remote + 12) = iph.daddr;
		pos += iph.ihl * 4;
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		if (bpf_probe_read_kernel(&ip6h, sizeof(ip6h), pos) ||
		    ip6h.nexthdr != IPPROTO_TCP)
			return false;
		flow->family = AF_INET6;
		__builtin_memcpy(flow->local, &ip6h.saddr, sizeof(flow->local));
		__builtin_memcpy(flow->remote, &ip6h.daddr, sizeof(flow->remote));
		pos += sizeof(ip6h);
	} else {
		return false;
	}
	if (bpf_probe_read_kernel(ports, sizeof(ports), pos))
		return false;
	flow->lport = bpf_ntohs(ports[0]);
	flow->rport = bpf_ntohs(ports[1]);
	flow->netns = each_packet_netns(skb);
	return true;
}

static __always_inline struct chimney_tuple
each_packet_receiver(const struct chimney_tuple *sender)
{
	struct chimney_tuple flow = *sender;

	__builtin_memcpy(flow.local, sender->remote, sizeof(flow.local));
	__builtin_memcpy(flow.remote, sender->local, sizeof(flow.remote));
	flow.lport = sender->rport;
	flow.rport = sender->lport;
	return flow;
}

static __always_inline bool each_packet_ip(u8 family)
{
	return family == NFPROTO_IPV4 || family == NFPROTO_IPV6;
}

/* The packet that a function was called for, or NULL: not on the host path. */
static __always_inline const struct sk_buff *
each_packet_of(enum evaluator_kind kind, u64 arg1, u64 arg2, u64 arg3, u64 arg4)
{
	const struct nft_pktinfo___some *pkt;

	switch (kind) {
	case EVALUATOR_SKB:
		return (void *)arg1;
	case EVALUATOR_LOG:
		return each_packet_ip(arg2) ? (void *)arg4 : NULL;
	case EVALUATOR_NET:
		return (void *)arg2;
	case EVALUATOR_QUEUE:
		return BPF_CORE_READ((struct nf_queue_entry *)arg1, skb);
	case EVALUATOR_NFT:
	case EVALUATOR_TRACE:
		pkt = (void *)(kind == EVALUATOR_NFT ? arg3 : arg1);
		/* without nf_tables nobody comes here */
		if (!bpf_core_type_exists(struct nft_pktinfo___some) ||
		    !each_packet_ip(BPF_CORE_READ(pkt, state, pf)))
			return NULL;
		return BPF_CORE_READ(pkt, skb);
	}
	return NULL;
}

SEC("kprobe.multi")
int BPF_KPROBE(each_packet, u64 arg1, u64 arg2, u64 arg3, u64 arg4)
{
	struct chimney_tuple sender = {}, receiver;
	const struct sk_buff *skb;

	skb = each_packet_of(bpf_get_attach_cookie(ctx), arg1, arg2, arg3, arg4);
	if (!skb || !each_packet_sender(skb, &sender))
		return 0;
	receiver = each_packet_receiver(&sender);
	each_packet_stamp(&sender, CHIMNEY_OUT);
	each_packet_stamp(&receiver, CHIMNEY_IN);
	return 0;
}

static __always_inline bool brings_rules(const char *name)
{
#define BEGINS(prefix) !__builtin_memcmp(name, prefix, sizeof(prefix) - 1) ||
	return RULE_MODULE_PREFIXES(BEGINS) false;
#undef BEGINS
}

/* A module is being loaded; nobody can use it before this returns. */
SEC("tp_btf/module_load")
int BPF_PROG(each_packet_module, struct module *module)
{
	enum rule_module unknown = RULE_MODULE_UNKNOWN, *found;
	const struct chimney_selector all = {};
	char name[RULE_MODULE_NAME] = {};

	bpf_probe_read_kernel_str(name, sizeof(name), module->name);
	found = bpf_map_lookup_elem(&rule_modules, name);
	if (found ? *found != RULE_MODULE_ABSENT : !brings_rules(name))
		return 0;
	/* where there is no room for its name it counts all the same */
	bpf_map_update_elem(&rule_modules, name, &unknown, BPF_ANY);
	__sync_fetch_and_add(&nr_unknown_rules, 1);
	revoke(&all, CHIMNEY_UNKNOWN_RULES);
	return 0;
}
