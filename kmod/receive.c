// SPDX-License-Identifier: GPL-2.0
/*
 * One packet in.  Every packet of a device that is switched on comes through
 * chimney_receive(), its ingress hook.  One that belongs to an offloaded flow
 * goes to TCP's protocol handler with skb->sk set, as early demux does it; from
 * there on nothing differs from the host path: xfrm policy, MD5 and AO, socket
 * filter, cgroup ingress, min TTL and the backlog are tcp_v4_rcv()'s business.
 *
 * Whatever is not plain is left alone, and the host path gets it.
 *
 * Follows ip_rcv_core(), tcp_v4_early_demux(), ip_local_deliver_finish() and
 * their IPv6 counterparts.
 */
#include <linux/netfilter.h>
#include <net/addrconf.h>
#include <net/ip.h>
#include <net/ipv6.h>
#include <net/inet_hashtables.h>
#include <net/protocol.h>
#include <net/tcp.h>
#include <net/xfrm.h>

#include "capture.h"
#include "flow.h"
#include "netns.h"
#include "path.h"
#include "trace.h"

#define TCP4_LEN	(sizeof(struct iphdr) + sizeof(struct tcphdr))
#define TCP6_LEN	(sizeof(struct ipv6hdr) + sizeof(struct tcphdr))

/* Are the first @len bytes from the network header on in the linear part? */
static __always_inline bool headers_linear(const struct sk_buff *skb, int len)
{
	return skb_tail_pointer(skb) - skb_network_header(skb) >= len;
}

/*
 * May this be a packet of an offloaded flow?  Nearly all others are told apart
 * here, in a few instructions, since all that the device receives pays for it.
 * What has no ports there has something else: that costs a lookup in vain.
 */
static __always_inline bool
known_ports(const struct chimney_net *cnet, const struct sk_buff *skb, int at)
{
	u32 ports = get_unaligned((u32 *)(skb_network_header(skb) + at));

	/* it may change at any time, and was right just before then */
	return data_race(cnet->ports[chimney_ports_hash(ports)].counter);
}

/*
 * The TCP header of a plain TCP packet whose headers are linear; NULL for any
 * other.  Checks no more than it takes to look for the flow.
 */
static const struct tcphdr *parse(const struct sk_buff *skb, const bool v6)
{
	const struct ipv6hdr *ip6h = ipv6_hdr(skb);
	const struct iphdr *iph = ip_hdr(skb);

	if (v6) {
		if (unlikely(ip6h->version != 6 ||
			     ip6h->nexthdr != IPPROTO_TCP))
			return NULL;
		return (const struct tcphdr *)(ip6h + 1);
	}
	if (unlikely(iph->version != 4 || iph->ihl != sizeof(*iph) / 4 ||
		     iph->protocol != IPPROTO_TCP || ip_is_fragment(iph)))
		return NULL;
	return (const struct tcphdr *)(iph + 1);
}

static struct chimney_flow *
find_flow(struct chimney_net *cnet, const struct sk_buff *skb,
	  const struct tcphdr *th, const bool v6)
{
	const struct ipv6hdr *ip6h = ipv6_hdr(skb);
	const struct iphdr *iph = ip_hdr(skb);
	const struct chimney_key key = {
		.ports = get_unaligned((const u32 *)th),
		.family = v6 ? AF_INET6 : AF_INET,
		.local = v6 ? chimney_addr6(&ip6h->daddr) :
			      chimney_addr4(iph->daddr),
		.remote = v6 ? chimney_addr6(&ip6h->saddr) :
			       chimney_addr4(iph->saddr),
	};

	return chimney_flow_lookup(cnet, &key);
}

/* Length by the IP header, or 0 if that is not right. */
static unsigned int packet_len(const struct sk_buff *skb, const bool v6)
{
	unsigned int len, hlen;

	if (v6) {
		hlen = sizeof(struct ipv6hdr);
		len = ipv6_payload_len(skb, ipv6_hdr(skb)) + hlen;
	} else {
		hlen = sizeof(struct iphdr);
		len = iph_totlen(skb, ip_hdr(skb));
		if (unlikely(chimney_ip4_sum(ip_hdr(skb)) % 0xffff))
			return 0;
	}
	if (unlikely(len > skb->len || len < hlen + sizeof(struct tcphdr)))
		return 0;
	return len;
}

/* Why a flow has to leave the path on account of this packet. */
static enum chimney_reason
receive_check(struct chimney_flow *flow, const struct sk_buff *skb,
	      const struct tcphdr *th, const bool v6)
{
	const struct chimney_net *cnet = flow->cnet;

	if (unlikely(tcp_flag_word(th) & (TCP_FLAG_FIN | TCP_FLAG_RST)))
		return CHIMNEY_CLOSING;
	/* what is sent passes the taps in dev_queue_xmit() */
	if (unlikely(chimney_capture_active(flow->cdev->dev, cnet->net,
					    htons(v6 ? ETH_P_IPV6 : ETH_P_IP),
					    &flow->blind_taps)))
		return CHIMNEY_CAPTURE;
	if (unlikely(chimney_raw_active(v6 ? cnet->raw6 : cnet->raw4,
					cnet->net)))
		return CHIMNEY_RAW_SOCKET;
	if (unlikely(!chimney_early_demux(cnet->net)))
		return CHIMNEY_ROUTE;
	if (unlikely(chimney_ct_dying(&flow->ct)))
		return CHIMNEY_CONNTRACK;
	if (unlikely(secpath_exists(skb)))
		return CHIMNEY_IPSEC;
	return CHIMNEY_NONE;
}

/* The route that the socket's last packet came by, as early demux takes it. */
static struct dst_entry *
receive_dst(const struct sock *sk, const struct sk_buff *skb, const bool v6)
{
	struct dst_entry *dst = rcu_dereference(sk->sk_rx_dst);

	if (unlikely(!chimney_dst_valid(dst, v6 ? sk->sk_rx_dst_cookie : 0,
					v6) ||
		     sk->sk_rx_dst_ifindex != skb->skb_iif))
		return NULL;
	return dst;
}

static void count_ip4(struct net *net, const struct sk_buff *skb)
{
	__IP_UPD_PO_STATS(net, IPSTATS_MIB_IN, skb->len);
	__IP_ADD_STATS(net, IPSTATS_MIB_NOECTPKTS +
			    (ip_hdr(skb)->tos & INET_ECN_MASK),
		       max_t(unsigned short, 1, skb_shinfo(skb)->gso_segs));
	__IP_INC_STATS(net, IPSTATS_MIB_INDELIVERS);
}

static void count_ip6(struct net *net, const struct sk_buff *skb)
{
	struct inet6_dev *idev = __in6_dev_get(skb->dev);

	__IP6_UPD_PO_STATS(net, idev, IPSTATS_MIB_IN, skb->len);
	__IP6_ADD_STATS(net, idev, IPSTATS_MIB_NOECTPKTS +
			(ipv6_get_dsfield(ipv6_hdr(skb)) & INET_ECN_MASK),
			max_t(unsigned short, 1, skb_shinfo(skb)->gso_segs));
	__IP6_INC_STATS(net, idev, IPSTATS_MIB_INDELIVERS);
}

/* To TCP.  The packet and a reference to the socket are TCP's from here on. */
static void deliver(struct sk_buff *skb, struct sock *sk, const bool v6)
{
	struct net *net = dev_net(skb->dev);
	unsigned int hlen;

	skb_orphan(skb);
	/* the time at which a sender on this machine wanted it to leave */
	skb_clear_delivery_time(skb);
	skb->sk = sk;
	skb->destructor = sock_edemux;

	if (v6) {
		hlen = sizeof(struct ipv6hdr);
		count_ip6(net, skb);
		memset(skb->cb, 0, sizeof(*IP6CB(skb)));
		IP6CB(skb)->iif = skb->dev->ifindex;
		IP6CB(skb)->nhoff = offsetof(struct ipv6hdr, nexthdr);
		skb_set_transport_header(skb, hlen);
		__skb_pull(skb, hlen);
		/* a complete checksum covers what TCP's does not */
		skb_postpull_rcsum(skb, skb_network_header(skb), hlen);
		rcu_dereference(inet6_protos[IPPROTO_TCP])->handler(skb);
	} else {
		hlen = sizeof(struct iphdr);
		count_ip4(net, skb);
		memset(skb->cb, 0, sizeof(*IPCB(skb)));
		IPCB(skb)->iif = skb->skb_iif;
		skb_set_transport_header(skb, hlen);
		__skb_pull(skb, hlen);
		rcu_dereference(inet_protos[IPPROTO_TCP])->handler(skb);
	}
}

static noinline unsigned int receive_by_host(const struct chimney_dev *cdev,
					     const struct chimney_flow *flow,
					     enum chimney_reason reason)
{
	this_cpu_inc(cdev->stats->fallbacks);
	trace_chimney_fallback(flow, reason);
	return NF_ACCEPT;
}

static unsigned int
receive(struct chimney_dev *cdev, struct sk_buff *skb, const bool v6)
{
	enum chimney_reason reason;
	struct chimney_flow *flow;
	const struct tcphdr *th;
	struct dst_entry *dst;
	unsigned int len;
	struct sock *sk;
	int bound;

	if (unlikely(skb->pkt_type != PACKET_HOST ||
		     skb_vlan_tag_present(skb) || skb_shared(skb)))
		return NF_ACCEPT;
	th = parse(skb, v6);
	if (unlikely(!th))
		return NF_ACCEPT;
	flow = find_flow(cdev->cnet, skb, th, v6);
	/* of another device: one above this one, or the host path shall tell */
	if (unlikely(!flow || flow->cdev != cdev))
		return NF_ACCEPT;

	reason = receive_check(flow, skb, th, v6);
	if (unlikely(reason)) {
		chimney_flow_upload(flow, NULL, reason);
		return receive_by_host(cdev, flow, reason);
	}
	/* a mark, route or socket given by tc */
	if (unlikely(READ_ONCE(flow->state) != CHIMNEY_OFFLOADED ||
		     skb->mark || skb_dst(skb) || skb_sk_is_prefetched(skb) ||
		     tcp_flag_word(th) & TCP_FLAG_SYN))
		goto host;
	len = packet_len(skb, v6);
	if (unlikely(!len))
		goto host;

	if (unlikely(!chimney_flow_get_sk(flow)))
		goto host;
	sk = flow->sk;
	dst = receive_dst(sk, skb, v6);
	bound = READ_ONCE(sk->sk_bound_dev_if);
	if (unlikely(!dst || sk->sk_state != TCP_ESTABLISHED ||
		     !chimney_flow_is_of(flow, sk, v6) ||
		     (bound && bound != skb->skb_iif)))
		goto put;
	/*
	 * The link layer may have padded it, and a sender on this machine may
	 * still own its pages (MSG_ZEROCOPY over veth).  Moves the headers.
	 */
	if (unlikely(pskb_trim_rcsum(skb, len) ||
		     skb_orphan_frags_rx(skb, GFP_ATOMIC)))
		goto put;
	skb_dst_set_noref(skb, dst);

	atomic64_inc(&flow->rx_packets);
	atomic64_add(len, &flow->rx_bytes);
	this_cpu_inc(cdev->stats->rx_packets);
	this_cpu_add(cdev->stats->rx_bytes, len);
	chimney_ct_seen(&flow->ct, CHIMNEY_IN, len);
	deliver(skb, sk, v6);
	return NF_STOLEN;

put:
	sock_gen_put(sk);
host:
	return receive_by_host(cdev, flow, CHIMNEY_NONE);
}

static noinline __flatten unsigned int
receive4(struct chimney_dev *cdev, struct sk_buff *skb)
{
	return receive(cdev, skb, false);
}

static noinline __flatten unsigned int
receive6(struct chimney_dev *cdev, struct sk_buff *skb)
{
	return receive(cdev, skb, true);
}

/* Drivers may leave the headers in a fragment, where GRO has not been. */
static noinline unsigned int receive_split(struct chimney_dev *cdev,
					   struct sk_buff *skb,
					   const struct nf_hook_state *state,
					   unsigned int len)
{
	if (!atomic_read(&cdev->cnet->nr_offloaded) || skb_shared(skb) ||
	    !pskb_may_pull(skb, len))
		return NF_ACCEPT;
	return chimney_receive(cdev, skb, state);
}

/**
 * chimney_receive() - ingress hook of a device
 * @priv: the device's struct chimney_dev
 * @skb: a packet, at its network header
 * @state: of the hook
 *
 * Context: softirq, RCU read side.
 * Return: NF_STOLEN if TCP has got the packet, else NF_ACCEPT with nothing
 * changed: the host path shall have it.
 */
unsigned int chimney_receive(void *priv, struct sk_buff *skb,
			     const struct nf_hook_state *state)
{
	struct chimney_dev *cdev = priv;

	if (likely(skb->protocol == htons(ETH_P_IP))) {
		if (unlikely(!headers_linear(skb, TCP4_LEN)))
			return receive_split(cdev, skb, state, TCP4_LEN);
		if (likely(!known_ports(cdev->cnet, skb, sizeof(struct iphdr))))
			return NF_ACCEPT;
		return receive4(cdev, skb);
	}
	if (skb->protocol == htons(ETH_P_IPV6)) {
		if (unlikely(!headers_linear(skb, TCP6_LEN)))
			return receive_split(cdev, skb, state, TCP6_LEN);
		if (known_ports(cdev->cnet, skb, sizeof(struct ipv6hdr)))
			return receive6(cdev, skb);
	}
	return NF_ACCEPT;
}
