// SPDX-License-Identifier: GPL-2.0
/*
 * One packet out.  TCP hands a segment to its socket's queue_xmit, which is
 * chimney_transmit() while the flow is offloaded.  It writes the IP header that
 * the host path would have written and gives the packet to the neighbour's
 * output, hence to dev_queue_xmit(): qdisc, tc, taps and the driver follow as
 * ever.
 *
 * Whatever is not as it was when the gate judged the flow sends the packet down
 * the host path, and mostly the flow with it.
 *
 * Follows __ip_queue_xmit(), ip_finish_output2() (net/ipv4/ip_output.c),
 * inet6_csk_xmit() and ip6_xmit() (net/ipv6/).
 */
#include <net/ip.h>
#include <net/ip6_route.h>
#include <net/neighbour.h>
#include <net/route.h>
#include <net/tcp.h>

#include "flow.h"
#include "path.h"
#include "trace.h"

/* tells the difference between this packet and the whole flow */
#define CHIMNEY_THIS_PACKET CHIMNEY_REASON_MAX

/*
 * May the packet take the path along @dst, the socket's route?  CHIMNEY_NONE:
 * yes.  CHIMNEY_THIS_PACKET: not this one.  Else: upload the flow.
 */
static u32 transmit_check(struct chimney_flow *flow, struct sock *sk,
			  const struct sk_buff *skb, struct dst_entry *dst,
			  const bool v6)
{
	u8 tos = v6 ? inet6_sk(sk)->tclass : READ_ONCE(inet_sk(sk)->tos);

	if (unlikely(tcp_flag_word(tcp_hdr(skb)) &
		     (TCP_FLAG_SYN | TCP_FLAG_FIN | TCP_FLAG_RST)) ||
	    unlikely(sk->sk_state != TCP_ESTABLISHED ||
		     !chimney_flow_is_of(flow, sk, v6)))
		return CHIMNEY_CLOSING;
	if (unlikely(chimney_ct_dying(&flow->ct)))
		return CHIMNEY_CONNTRACK;
	if (unlikely(chimney_sock_cgroup_egress(sk)))
		return CHIMNEY_CGROUP_BPF;
	if (unlikely(READ_ONCE(sk->sk_mark) != flow->mark ||
		     READ_ONCE(sk->sk_priority) != flow->priority ||
		     (tos & (u8)~INET_ECN_MASK) != flow->dscp))
		return CHIMNEY_SOCKET;
	if (unlikely(chimney_sock_has_ip_options(sk)))
		return CHIMNEY_IP_OPTIONS;
	/* the host path looks for another, the next packet finds it */
	if (unlikely(!chimney_dst_valid(dst, v6 ? inet6_sk(sk)->dst_cookie : 0,
					v6)))
		return CHIMNEY_THIS_PACKET;
	if (unlikely(dst != flow->dst))
		return chimney_flow_route(flow, dst);
	return CHIMNEY_NONE;
}

/*
 * Larger than the path allows: the host path knows what to do about it.  TCP
 * cuts its segments for the path MTU that it knows; only what exceeds that,
 * since the MTU has changed under it, is a question for the route.
 */
static bool exceeds_mtu(const struct sock *sk, const struct sk_buff *skb,
			const struct dst_entry *dst, unsigned int hlen)
{
	unsigned int len = skb->len;

	if (skb_is_gso(skb))
		len = tcp_hdrlen(skb) + skb_shinfo(skb)->gso_size;
	return unlikely(len + hlen > inet_csk(sk)->icsk_pmtu_cookie) &&
	       len + hlen > dst_mtu(dst);
}

static bool transmit_ip4(struct sock *sk, struct sk_buff *skb,
			 struct dst_entry *dst)
{
	struct inet_sock *inet = inet_sk(sk);
	struct net *net = sock_net(sk);
	struct iphdr *iph;
	int ttl, id;
	u64 sum;

	if (exceeds_mtu(sk, skb, dst, sizeof(*iph)))
		return false;

	iph = __skb_push(skb, sizeof(*iph));
	skb_reset_network_header(skb);
	iph->version = 4;
	iph->ihl = sizeof(*iph) / 4;
	iph->tos = READ_ONCE(inet->tos);
	iph->frag_off = ip_dont_fragment(sk, dst) && !skb->ignore_df ?
			htons(IP_DF) : 0;
	ttl = READ_ONCE(inet->uc_ttl);
	if (ttl < 0)
		ttl = dst_metric_raw(dst, RTAX_HOPLIMIT);
	iph->ttl = ttl ?: READ_ONCE(net->ipv4.sysctl_ip_default_ttl);
	iph->protocol = IPPROTO_TCP;
	iph->saddr = inet->inet_saddr;
	iph->daddr = inet->inet_daddr;
	/* as ip_select_ident_segs() for TCP: the lock makes it atomic enough */
	id = atomic_read(&inet->inet_id);
	atomic_set(&inet->inet_id, id + (skb_shinfo(skb)->gso_segs ?: 1));
	iph->id = htons(id);
	iph_set_totlen(iph, skb->len);
	iph->check = 0;
	sum = chimney_ip4_sum(iph);
	iph->check = csum_fold(csum_add((__force __wsum)(u32)sum,
					(__force __wsum)(u32)(sum >> 32)));

	skb->protocol = htons(ETH_P_IP);
	IP_INC_STATS(net, IPSTATS_MIB_OUTREQUESTS);
	IP_UPD_PO_STATS(net, IPSTATS_MIB_OUT, skb->len);
	return true;
}

static bool autoflowlabel(const struct net *net, const struct sock *sk)
{
	return inet6_test_bit(AUTOFLOWLABEL_SET, sk) ?
	       inet6_test_bit(AUTOFLOWLABEL, sk) :
	       ip6_default_np_autolabel((struct net *)net);
}

static bool transmit_ip6(struct sock *sk, struct sk_buff *skb,
			 struct dst_entry *dst, struct flowi6 *fl6)
{
	struct ipv6_pinfo *np = inet6_sk(sk);
	struct inet6_dev *idev = ip6_dst_idev(dst);
	struct net *net = sock_net(sk);
	unsigned int len = skb->len;
	struct ipv6hdr *ip6h;
	int hlimit;

	/* BIG TCP needs a jumbo header */
	if (unlikely(len > IPV6_MAXPLEN) ||
	    exceeds_mtu(sk, skb, dst, sizeof(*ip6h)))
		return false;

	ip6h = __skb_push(skb, sizeof(*ip6h));
	skb_reset_network_header(skb);
	ip6_flow_hdr(ip6h, np->tclass,
		     ip6_make_flowlabel(net, skb, np->flow_label,
					autoflowlabel(net, sk), fl6));
	hlimit = READ_ONCE(np->hop_limit);
	ip6h->hop_limit = hlimit < 0 ? ip6_dst_hoplimit(dst) : hlimit;
	ip6h->payload_len = htons(len);
	ip6h->nexthdr = IPPROTO_TCP;
	ip6h->saddr = np->saddr;
	ip6h->daddr = sk->sk_v6_daddr;

	skb->protocol = htons(ETH_P_IPV6);
	IP6_INC_STATS(net, idev, IPSTATS_MIB_OUTREQUESTS);
	IP6_UPD_PO_STATS(net, idev, IPSTATS_MIB_OUT, skb->len);
	return true;
}

/*
 * Looks the next hop up, or makes it.  The flow remembers it, unless it is a
 * gateway of the other family, for which the cached link-layer header is wrong.
 */
static noinline int transmit_to_next_hop(struct chimney_flow *flow,
					 struct sk_buff *skb)
{
	struct dst_entry *dst = flow->dst;
	struct neighbour *neigh;
	bool skip_cache = false;

	if (flow->key.family == AF_INET6)
		neigh = ip_neigh_gw6(dst->dev,
				     rt6_nexthop(dst_rt6_info(dst),
						 &ipv6_hdr(skb)->daddr));
	else
		neigh = ip_neigh_for_gw(dst_rtable(dst), skb, &skip_cache);
	if (IS_ERR(neigh)) {
		kfree_skb_reason(skb, SKB_DROP_REASON_NEIGH_CREATEFAIL);
		return PTR_ERR(neigh);
	}
	if (!skip_cache)
		chimney_flow_set_neigh(flow, neigh);
	sock_confirm_neigh(skb, neigh);
	return neigh_output(neigh, skb, skip_cache);
}

/* Counts and sends a packet that has its IP header. */
static int transmit_skb(struct chimney_flow *flow, struct sk_buff *skb,
			struct dst_entry *dst)
{
	struct chimney_dev_stats __percpu *stats = flow->cdev->stats;
	const unsigned int len = skb->len;
	struct neighbour *neigh;

	skb->priority = flow->priority;
	skb->mark = flow->mark;
	skb->dev = dst->dev;
	skb_dst_set_noref(skb, dst);

	flow->tx_packets++;
	flow->tx_bytes += len;
	this_cpu_inc(stats->tx_packets);
	this_cpu_add(stats->tx_bytes, len);
	chimney_ct_seen(&flow->ct, CHIMNEY_OUT, len);

	neigh = READ_ONCE(flow->neigh);
	if (unlikely(!neigh || neigh->dead))
		return transmit_to_next_hop(flow, skb);
	sock_confirm_neigh(skb, neigh);
	return neigh_output(neigh, skb, false);
}

/*
 * A packet takes the host path, and mostly the flow with it.  Returns the
 * socket's own operations, since the flow may be gone with the RCU read side.
 */
static noinline const struct inet_connection_sock_af_ops *
transmit_by_host(struct chimney_flow *flow, struct sock *sk, u32 reason)
{
	const struct inet_connection_sock_af_ops *host_ops = flow->host_ops;

	this_cpu_inc(flow->cdev->stats->fallbacks);
	trace_chimney_fallback(flow, reason);
	if (reason != CHIMNEY_THIS_PACKET) {
		chimney_flow_upload(flow, sk, reason);
		chimney_flow_finish(flow, sk);
	}
	return host_ops;
}

static int transmit(struct sock *sk, struct sk_buff *skb, struct flowi *fl,
		    const bool v6)
{
	struct chimney_flow *flow = chimney_flow_of(inet_csk(sk)->icsk_af_ops);
	struct dst_entry *dst = __sk_dst_get(sk);
	const struct inet_connection_sock_af_ops *host_ops;
	u32 reason;
	int err;

	rcu_read_lock();
	/* uploaded by somebody else, then; he has told why */
	reason = CHIMNEY_CLOSED;
	if (unlikely(READ_ONCE(flow->state) != CHIMNEY_OFFLOADED))
		goto host;
	reason = transmit_check(flow, sk, skb, dst, v6);
	if (unlikely(reason))
		goto host;
	reason = CHIMNEY_THIS_PACKET;
	if (unlikely(v6 ? !transmit_ip6(sk, skb, dst, &fl->u.ip6) :
			  !transmit_ip4(sk, skb, dst)))
		goto host;
	err = transmit_skb(flow, skb, dst);
	rcu_read_unlock();
	return err;

host:
	host_ops = transmit_by_host(flow, sk, reason);
	rcu_read_unlock();
	return host_ops->queue_xmit(sk, skb, fl);
}

/**
 * chimney_transmit() - queue_xmit of an offloaded flow's socket
 * @sk: the socket
 * @skb: a TCP segment without IP header, maybe GSO, to be sent by IPv4
 * @fl: the socket's flow key, for the host path
 *
 * Context: socket locked, by a process or in a softirq.
 * Return: as ip_queue_xmit().
 */
__flatten int chimney_transmit(struct sock *sk, struct sk_buff *skb,
			       struct flowi *fl)
{
	return transmit(sk, skb, fl, false);
}

/**
 * chimney_transmit6() - the same for IPv6
 * @sk: the socket
 * @skb: a TCP segment without IP header, maybe GSO
 * @fl: the socket's flow key, for the host path
 *
 * Context: socket locked, by a process or in a softirq.
 * Return: as inet6_csk_xmit().
 */
__flatten int chimney_transmit6(struct sock *sk, struct sk_buff *skb,
				struct flowi *fl)
{
	return transmit(sk, skb, fl, true);
}
