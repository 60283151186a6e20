// SPDX-License-Identifier: GPL-2.0
/*
 * The hooks through which the gate sees flows that are in the host: late in
 * POST_ROUTING and LOCAL_IN, when conntrack, NAT and mangling have done what
 * they do.
 *
 * A packet that need not be judged has to pass in a few instructions, because
 * all of the host's TCP comes through here.  So a flow is judged by samples,
 * and a short connection never: that it was clean once, in each direction, is
 * as good as that it was clean a hundred times, since every change of policy
 * that could make it otherwise starts a new epoch.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>
#include <net/ip6_route.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/route.h>
#include <net/tcp.h>
#include <net/xfrm.h>

#include "compat.h"
#include "flow.h"
#include "gate.h"
#include "judge.h"
#include "knobs.h"
#include "path.h"

/*
 * Segments of one direction between two samples: about half of those that
 * the flow has had, so that one of which there are few need not wait for long,
 * within these limits (both powers of two); and the fewest for a moment after
 * the policy has changed or a flow was sent back to the host (a longer one than
 * it is held down by default).
 */
#define CHIMNEY_SAMPLE_FIRST	8
#define CHIMNEY_SAMPLE_LAST	2048
#define CHIMNEY_SAMPLE_MOMENT	(2 * HZ)

static u32 sample_mask(const struct chimney_net *cnet, u32 segs)
{
	u32 every = CHIMNEY_SAMPLE_FIRST;

	if (!time_before(jiffies, READ_ONCE(cnet->moment) +
				  CHIMNEY_SAMPLE_MOMENT))
		every = clamp(rounddown_pow_of_two(segs | 1) / 2,
			      CHIMNEY_SAMPLE_FIRST, CHIMNEY_SAMPLE_LAST);
	return every - 1;
}

static u32 skb_segs(const struct sk_buff *skb)
{
	u32 segs = skb_shinfo(skb)->gso_segs;

	return segs + !segs;
}

static bool sk_judgeable(const struct sock *sk)
{
	/* connected sockets of UDP, or raw ones, are in TCP_ESTABLISHED, too */
	return sk->sk_state == TCP_ESTABLISHED &&
	       sk->sk_type == SOCK_STREAM && sk->sk_protocol == IPPROTO_TCP;
}

/* Addresses and ports as the headers have them, from the socket's side. */
static bool packet_read(const struct sk_buff *skb, struct chimney_packet *packet)
{
	struct chimney_tuple *seen = &packet->seen;
	struct in6_addr *src = (struct in6_addr *)seen->local;
	struct in6_addr *dst = (struct in6_addr *)seen->remote;
	int thoff = skb_network_offset(skb);
	const struct tcphdr *th;
	struct tcphdr _th;

	*seen = packet->flow;
	if (skb->protocol == htons(ETH_P_IP)) {
		const struct iphdr *iph = ip_hdr(skb);

		if (iph->protocol != IPPROTO_TCP || ip_is_fragment(iph))
			return false;
		seen->family = AF_INET;
		ipv6_addr_set_v4mapped(iph->saddr, src);
		ipv6_addr_set_v4mapped(iph->daddr, dst);
		packet->tos = iph->tos;
		packet->ttl = iph->ttl;
		thoff += ip_hdrlen(skb);
	} else {
		const struct ipv6hdr *ip6h = ipv6_hdr(skb);

		if (ip6h->nexthdr != IPPROTO_TCP)
			return false;
		seen->family = AF_INET6;
		*src = ip6h->saddr;
		*dst = ip6h->daddr;
		packet->tos = ipv6_get_dsfield(ip6h);
		packet->ttl = ip6h->hop_limit;
		thoff += sizeof(*ip6h);
	}

	th = skb_header_pointer(skb, thoff, sizeof(_th), &_th);
	if (!th)
		return false;
	seen->lport = ntohs(th->source);
	seen->rport = ntohs(th->dest);
	if (packet->dir == CHIMNEY_IN) {
		swap(*src, *dst);
		swap(seen->lport, seen->rport);
	}
	return true;
}

/* What the socket wanted the header to be.  Context: RCU read side. */
static void packet_sent(const struct sk_buff *skb, const struct sock *sk,
			struct chimney_packet *packet)
{
	const struct dst_entry *dst = skb_dst(skb);
	int ttl;

	packet->sock_mark = READ_ONCE(sk->sk_mark);
	packet->sock_priority = READ_ONCE(sk->sk_priority);
	if (packet->seen.family == AF_INET6) {
		packet->sock_tos = inet6_sk(sk)->tclass;
		ttl = READ_ONCE(inet6_sk(sk)->hop_limit);
		if (ttl < 0)
			ttl = ip6_dst_hoplimit((struct dst_entry *)dst);
	} else {
		packet->sock_tos = READ_ONCE(inet_sk(sk)->tos);
		ttl = READ_ONCE(inet_sk(sk)->uc_ttl);
		if (ttl < 0)
			ttl = ip4_dst_hoplimit(dst);
	}
	packet->sock_ttl = ttl;
}

static noinline void judge(struct chimney_net *cnet, struct sk_buff *skb,
			   struct sock *sk, const struct net_device *dev,
			   enum chimney_dir dir)
{
	struct chimney_packet packet = {
		/* before the judgement, so that a change after it is noticed */
		.epoch = atomic64_read_acquire(&cnet->epoch),
		.mark = skb->mark,
		.priority = skb->priority,
		.ifindex = dev ? dev->ifindex : 0,
		.dir = dir,
	};
	u64 reasons;

	/* the packet may still have passed the rules before the last change */
	if (!poll_state_synchronize_rcu(READ_ONCE(cnet->epoch_gp)))
		return;
	chimney_sock_tuple(sk, &packet.flow);
	if (!packet_read(skb, &packet))
		return;
	packet.sock_priority = packet.priority;
	packet.sock_tos = packet.tos;
	packet.sock_ttl = packet.ttl;
	if (dir == CHIMNEY_OUT)
		packet_sent(skb, sk, &packet);
	else
		packet.xfrm_refuses = !xfrm_policy_check(sk, XFRM_POLICY_IN,
							 skb,
							 packet.seen.family);
	reasons = chimney_gate_judge(skb, sk, &packet);
	chimney_count_mask(reasons);
	/*
	 * An offloaded flow may still have packets on the host path, and what
	 * is found on them counts: IPsec for one direction alone, whose packets
	 * no longer look like the flow's when they come in.
	 */
	if (reasons)
		chimney_sock_upload(sk, __ffs64(reasons));
}

static noinline void sample_out(struct chimney_net *cnet, struct sk_buff *skb,
				const struct net_device *dev)
{
	struct sock *sk = skb->sk;
	u32 segs = READ_ONCE(tcp_sk(sk)->segs_out);

	if (segs >= CHIMNEY_SAMPLE_FIRST && net_eq(sock_net(sk), cnet->net) &&
	    (segs & sample_mask(cnet, segs)) < skb_segs(skb))
		judge(cnet, skb, sk, dev, CHIMNEY_OUT);
}

/* A packet is about to leave to the device.  TCP has counted its segments. */
static unsigned int judge_out(void *priv, struct sk_buff *skb,
			      const struct nf_hook_state *state)
{
	const struct sock *sk = skb->sk;

	/* most that are no sample are let go in these few instructions */
	if (sk && sk_judgeable(sk) &&
	    unlikely(READ_ONCE(tcp_sk(sk)->segs_out) % CHIMNEY_SAMPLE_FIRST <
		     skb_segs(skb)))
		sample_out(priv, skb, state->out);
	return NF_ACCEPT;
}

static noinline void sample_in(struct chimney_net *cnet, struct sk_buff *skb,
			       struct sock *sk, const struct net_device *dev)
{
	u32 segs = READ_ONCE(tcp_sk(sk)->segs_in);
	u32 mask = sample_mask(cnet, segs);

	if ((segs & mask) + skb_segs(skb) > mask &&
	    net_eq(sock_net(sk), cnet->net))
		judge(cnet, skb, sk, dev, CHIMNEY_IN);
}

/*
 * Early demux finds the socket of a plain packet.  What comes out of a tunnel,
 * or was translated after early demux had looked, has none, and these are the
 * flows about which the gate has something to say.
 */
static struct sock *find_sock(const struct sk_buff *skb,
			      const struct nf_hook_state *state)
{
	enum ip_conntrack_info ctinfo;
	const struct nf_conn *ct = nf_ct_get(skb, &ctinfo);
	int thoff = skb_transport_offset(skb);
	const struct tcphdr *th;
	struct tcphdr _th;

	if (!secpath_exists(skb) && !(ct && ct->status & IPS_NAT_MASK))
		return NULL;
	th = skb_header_pointer(skb, thoff, sizeof(_th), &_th);
	if (!th)
		return NULL;
	if (skb->protocol == htons(ETH_P_IP)) {
		const struct iphdr *iph = ip_hdr(skb);

		if (iph->protocol != IPPROTO_TCP)
			return NULL;
		return chimney_lookup4(state->net, iph->saddr, th->source,
				       iph->daddr, ntohs(th->dest),
				       skb->skb_iif, 0);
	}
	if (ipv6_hdr(skb)->nexthdr != IPPROTO_TCP)
		return NULL;
	return chimney_lookup6(state->net,
			       &ipv6_hdr(skb)->saddr, th->source,
			       &ipv6_hdr(skb)->daddr, ntohs(th->dest),
			       skb->skb_iif, 0);
}

static noinline void judge_found(struct chimney_net *cnet, struct sk_buff *skb,
				 const struct nf_hook_state *state)
{
	struct sock *sk = find_sock(skb, state);

	if (!sk)
		return;
	if (sk_judgeable(sk))
		sample_in(cnet, skb, sk, state->in);
	sock_gen_put(sk);
}

/* A packet is about to be delivered to TCP, which is yet to count it. */
static unsigned int judge_in(void *priv, struct sk_buff *skb,
			     const struct nf_hook_state *state)
{
	struct sock *sk = skb->sk;

	if (unlikely(!sk))
		judge_found(priv, skb, state);
	/* as in judge_out() */
	else if (sk_judgeable(sk) &&
		 unlikely(READ_ONCE(tcp_sk(sk)->segs_in) % CHIMNEY_SAMPLE_FIRST +
			  skb_segs(skb) >= CHIMNEY_SAMPLE_FIRST))
		sample_in(priv, skb, sk, state->in);
	return NF_ACCEPT;
}

#define JUDGE_HOOK(family, num, fn) {					\
	.hook = fn,							\
	.pf = family,							\
	.hooknum = num,							\
	/* of those at one priority, who registers later comes before */	\
	.priority = INT_MAX,						\
}

static const struct nf_hook_ops judge_hooks[CHIMNEY_JUDGE_HOOKS] = {
	JUDGE_HOOK(NFPROTO_IPV4, NF_INET_POST_ROUTING, judge_out),
	JUDGE_HOOK(NFPROTO_IPV4, NF_INET_LOCAL_IN, judge_in),
	JUDGE_HOOK(NFPROTO_IPV6, NF_INET_POST_ROUTING, judge_out),
	JUDGE_HOOK(NFPROTO_IPV6, NF_INET_LOCAL_IN, judge_in),
};

/**
 * chimney_judge_register() - begin to judge the flows of a namespace
 * @cnet: the namespace
 *
 * Context: process, chimney_mutex held.
 * Return: 0 or a negative errno.
 */
int chimney_judge_register(struct chimney_net *cnet)
{
	int i, err;

	memcpy(cnet->hooks, judge_hooks, sizeof(judge_hooks));
	for (i = 0; i < ARRAY_SIZE(cnet->hooks); i++)
		cnet->hooks[i].priv = cnet;
	err = nf_register_net_hooks(cnet->net, cnet->hooks,
				    ARRAY_SIZE(cnet->hooks));
	if (err)
		pr_warn("no hooks in a network namespace, its flows stay in the host: %d\n",
			err);
	return err;
}

/**
 * chimney_judge_unregister() - the reverse
 * @cnet: the namespace
 */
void chimney_judge_unregister(struct chimney_net *cnet)
{
	nf_unregister_net_hooks(cnet->net, cnet->hooks,
				ARRAY_SIZE(cnet->hooks));
}

/* Is there a hook after ours?  conntrack's, to confirm, has no private data. */
static bool hook_behind(const struct nf_hook_entries *entries, nf_hookfn *ours)
{
	int i = entries ? entries->num_hook_entries : 0;
	bool behind = false;

	while (i-- > 0) {
		if (entries->hooks[i].hook == ours)
			return behind;
		if (entries->hooks[i].priv)
			behind = true;
	}
	return false;
}

/**
 * chimney_late_rules() - are there rules that come after chimney's hooks?
 * @cnet: the namespace
 * @dev: the device whose packets they are, or NULL
 * @family: AF_INET or AF_INET6
 *
 * Of hooks at one priority the older ones come later.  At the last priority, a
 * chain that is older than ours stops packets that the gate has found clean.
 *
 * Context: RCU read side.
 */
bool chimney_late_rules(const struct chimney_net *cnet,
			const struct net_device *dev, u16 family)
{
	struct nf_hook_entries __rcu * const *hooks = family == AF_INET6 ?
						cnet->net->nf.hooks_ipv6 :
						cnet->net->nf.hooks_ipv4;

	return hook_behind(rcu_dereference(hooks[NF_INET_POST_ROUTING]),
			   judge_out) ||
	       hook_behind(rcu_dereference(hooks[NF_INET_LOCAL_IN]),
			   judge_in) ||
	       (dev && hook_behind(rcu_dereference(dev->nf_hooks_ingress),
				   chimney_receive));
}
