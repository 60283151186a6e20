// SPDX-License-Identifier: GPL-2.0
/*
 * The life of a flow.
 *
 *   InHost --offer--> Offloading --install--> Offloaded
 *      ^                  | refused               | upload: any surprise
 *      '------------------+---- Uploading <-------'
 *                        finish
 *
 * offer    The gate has found both directions clean.  May come from any
 *          context, so a worker does the rest.
 * install  With the socket locked, its icsk_af_ops are replaced by the flow's
 *          copy, in which queue_xmit is chimney_transmit(), and the flow goes
 *          into the table that chimney_receive() looks into.
 * upload   May come from any context and takes effect at once: the flow leaves
 *          the table and its state sends packets to the host path.
 * finish   With the socket locked again (by the next transmission or a worker,
 *          whichever is first), or in its destructor, the socket gets its own
 *          operations back.
 *
 * Readers that hold no lock may still be looking at the flow's operations, in
 * a system call that was preempted: it is freed by call_rcu_tasks().
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/tcp.h>
#include <net/inet6_connection_sock.h>
#include <net/ip6_route.h>
#include <net/l3mdev.h>
#include <net/mptcp.h>
#include <net/route.h>
#include <net/tls.h>
#include <net/transp_v6.h>

#include "capture.h"
#include "choice.h"
#include "compat.h"
#include "flow.h"
#include "gate.h"
#include "judge.h"
#include "knobs.h"
#include "netlink.h"
#include "path.h"
#include "trace.h"

#define CHIMNEY_SWEEP_INTERVAL HZ

/* flows uploaded at a time by whoever may pause */
#define CHIMNEY_REVOKE_BATCH 1024

static struct kmem_cache *chimney_flow_cache;
static struct workqueue_struct *chimney_wq;
static struct delayed_work chimney_sweep_work;

/* flows that have memory, whatever their state */
static atomic_t chimney_flows_alive = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(chimney_flows_wait);

/* flows whose destructor has to stay: see chimney_flow_finish() */
static atomic_t chimney_flows_pinned = ATOMIC_INIT(0);

static u16 sock_packet_family(const struct sock *sk)
{
	return sk->sk_family == AF_INET6 &&
	       !ipv6_addr_v4mapped(&sk->sk_v6_daddr) ? AF_INET6 : AF_INET;
}

static void sock_key(const struct sock *sk, struct chimney_key *key)
{
	memset(key, 0, sizeof(*key));
	key->family = sock_packet_family(sk);
	if (key->family == AF_INET6) {
		key->local = chimney_addr6(&inet6_sk(sk)->saddr);
		key->remote = chimney_addr6(&sk->sk_v6_daddr);
	} else {
		key->local = chimney_addr4(inet_sk(sk)->inet_saddr);
		key->remote = chimney_addr4(inet_sk(sk)->inet_daddr);
	}
	key->lport = inet_sk(sk)->inet_sport;
	key->rport = inet_sk(sk)->inet_dport;
}

static void addr_bytes(const struct chimney_addr *addr, u16 family, u8 *bytes)
{
	if (family == AF_INET6)
		memcpy(bytes, addr, sizeof(*addr));
	else
		ipv6_addr_set_v4mapped((__force __be32)addr->lo,
				       (struct in6_addr *)bytes);
}

/**
 * chimney_key_tuple() - name a connection
 * @key: its key
 * @net: its namespace
 * @tuple: filled in
 */
void chimney_key_tuple(const struct chimney_key *key, const struct net *net,
		       struct chimney_tuple *tuple)
{
	memset(tuple, 0, sizeof(*tuple));
	tuple->netns = net->net_cookie;
	tuple->lport = ntohs(key->lport);
	tuple->rport = ntohs(key->rport);
	tuple->family = key->family;
	addr_bytes(&key->local, key->family, tuple->local);
	addr_bytes(&key->remote, key->family, tuple->remote);
}

/**
 * chimney_sock_tuple() - name a connection
 * @sk: its socket
 * @tuple: filled in
 */
void chimney_sock_tuple(const struct sock *sk, struct chimney_tuple *tuple)
{
	struct chimney_key key;

	sock_key(sk, &key);
	chimney_key_tuple(&key, sock_net(sk), tuple);
}

/* The flow whose operations a socket has, or NULL if it has its own. */
static struct chimney_flow *sock_flow(const struct sock *sk)
{
	const struct inet_connection_sock_af_ops *ops =
		READ_ONCE(inet_csk(sk)->icsk_af_ops);

	return ops->queue_xmit == chimney_transmit ||
	       ops->queue_xmit == chimney_transmit6 ?
	       chimney_flow_of(ops) : NULL;
}

/* What a route must not be.  Context: RCU read side. */
static u64 route_reasons(const struct dst_entry *dst, u16 family)
{
	const struct net_device *dev;
	const struct chimney_dev *cdev;
	u64 reasons = 0;

	if (!dst)
		return CHIMNEY_MASK(ROUTE);
	dev = dst->dev;
	if (dst->xfrm)
		reasons |= CHIMNEY_MASK(IPSEC);
	else if (dst->output != (family == AF_INET6 ? ip6_output : ip_output))
		reasons |= CHIMNEY_MASK(ROUTE);
	else if (family == AF_INET && dst_rtable(dst)->rt_type != RTN_UNICAST)
		reasons |= CHIMNEY_MASK(ROUTE);
	if (dst->lwtstate)
		reasons |= CHIMNEY_MASK(TUNNEL);
	/* more than TCP leaves for the link layer */
	if (LL_RESERVED_SPACE(dev) > MAX_HEADER)
		reasons |= CHIMNEY_MASK(DEVICE);
	if (netif_is_l3_slave(dev) || netif_is_l3_master(dev))
		reasons |= CHIMNEY_MASK(VRF);
	if (chimney_capture_lower(dst->dev, htons(family == AF_INET6 ?
						  ETH_P_IPV6 : ETH_P_IP)))
		reasons |= CHIMNEY_MASK(CAPTURE);
	cdev = chimney_dev_find(dev);
	if (!cdev || !READ_ONCE(cdev->enable) || chimney_dev_passed_by(dst->dev))
		reasons |= CHIMNEY_MASK(DEVICE);
	if (chimney_dev_taken(dst->dev))
		reasons |= CHIMNEY_MASK(RX_HANDLER);
	return reasons;
}

static u64 automatic_reasons(const struct sock *sk, const struct dst_entry *dst)
{
	const struct tcp_sock *tp = tcp_sk(sk);
	const struct chimney_dev *cdev = dst ? chimney_dev_find(dst->dev) : NULL;
	u32 speed = cdev ? READ_ONCE(cdev->speed) : 0;
	u64 reasons = 0;

	if (speed && speed < READ_ONCE(chimney_automatic_speed))
		reasons |= CHIMNEY_MASK(SPEED);
	if (READ_ONCE(tp->srtt_us) >> 3 > READ_ONCE(chimney_automatic_rtt))
		reasons |= CHIMNEY_MASK(RTT);
	if (READ_ONCE(tp->bytes_acked) + READ_ONCE(tp->bytes_received) <
	    READ_ONCE(chimney_automatic_bytes))
		reasons |= CHIMNEY_MASK(BYTES);
	return reasons;
}

/* Context: RCU read side. */
static bool sock_signed(const struct sock *sk)
{
#ifdef CONFIG_TCP_MD5SIG
	/* stays when the last key has gone */
	const struct tcp_md5sig_info *md5 =
		rcu_dereference(tcp_sk(sk)->md5sig_info);

	if (md5 && !hlist_empty(&md5->head))
		return true;
#endif
#ifdef CONFIG_TCP_AO
	if (rcu_access_pointer(tcp_sk(sk)->ao_info))
		return true;
#endif
	return false;
}

/*
 * What kTLS does by itself it does above TCP, which is no business of the path.
 * What it has the NIC do has not been tested.
 */
static bool sock_has_ulp(const struct sock *sk)
{
	const struct inet_connection_sock *icsk = inet_csk(sk);
	const struct tcp_ulp_ops *ulp = READ_ONCE(icsk->icsk_ulp_ops);
	const struct tls_context *tls;

	if (!ulp)
		return false;
	if (strcmp(ulp->name, "tls"))
		return true;
	tls = rcu_dereference(icsk->icsk_ulp_data);
	return tls && (tls->tx_conf > TLS_SW || tls->rx_conf > TLS_SW);
}

/* What may come over a socket at any time.  Context: RCU read side. */
static u64 feature_reasons(const struct sock *sk)
{
	u64 reasons = 0;

	if (sk_is_mptcp(sk))
		reasons |= CHIMNEY_MASK(MPTCP);
	if (sock_has_ulp(sk))
		reasons |= CHIMNEY_MASK(ULP);
	if (tcp_sk(sk)->repair)
		reasons |= CHIMNEY_MASK(REPAIR);
	if (sock_signed(sk))
		reasons |= CHIMNEY_MASK(SIGNED);
	/* TPROXY makes what arrives the socket's */
	if (inet_test_bit(TRANSPARENT, sk))
		reasons |= CHIMNEY_MASK(REWRITTEN);
	if (chimney_sock_has_ip_options(sk))
		reasons |= CHIMNEY_MASK(IP_OPTIONS);
	if (chimney_sock_cgroup_egress(sk))
		reasons |= CHIMNEY_MASK(CGROUP_BPF);
	return reasons;
}

/**
 * chimney_sock_reasons() - all that the module itself holds against a socket
 * @sk: a full TCP socket; what it tells without its lock may be out of date
 *
 * Return: mask of reasons, 0 for none.
 */
u64 chimney_sock_reasons(const struct sock *sk)
{
	const struct chimney_net *cnet = chimney_pernet(sock_net(sk));
	const u16 family = sock_packet_family(sk);
	const struct dst_entry *dst;
	u64 reasons = 0;

	if (!chimney_gate_attached())
		reasons |= CHIMNEY_MASK(NO_GATE);
	if (READ_ONCE(chimney_mode) == CHIMNEY_MODE_DISABLED)
		reasons |= CHIMNEY_MASK(MODE);
	if (sk->sk_state != TCP_ESTABLISHED)
		reasons |= CHIMNEY_MASK(NOT_ESTABLISHED);
	if (!chimney_early_demux(sock_net(sk)))
		reasons |= CHIMNEY_MASK(ROUTE);
	if (!sk->sk_net_refcnt)
		reasons |= CHIMNEY_MASK(KERNEL_SOCKET);
	if (!sock_flow(sk) &&
	    atomic_read(&cnet->nr_flows) >= READ_ONCE(chimney_max_flows))
		reasons |= CHIMNEY_MASK(TABLE_FULL);

	rcu_read_lock();
	reasons |= chimney_choice_reasons(sk);
	reasons |= feature_reasons(sk);
	if (chimney_raw_active(family == AF_INET6 ? cnet->raw6 : cnet->raw4,
			       cnet->net))
		reasons |= CHIMNEY_MASK(RAW_SOCKET);
	dst = rcu_dereference(sk->sk_dst_cache);
	reasons |= route_reasons(dst, family);
	if (chimney_late_rules(cnet, dst ? dst->dev : NULL, family))
		reasons |= CHIMNEY_MASK(LATE_RULES);
	if (READ_ONCE(chimney_mode) == CHIMNEY_MODE_AUTOMATIC)
		reasons |= automatic_reasons(sk, dst);
	rcu_read_unlock();
	return reasons;
}

/**
 * chimney_flow_info() - what is known of a TCP socket
 * @sk: a full TCP socket
 * @info: filled in
 */
void chimney_flow_info(struct sock *sk, struct chimney_sock_info *info)
{
	const struct chimney_flow *flow;
	const struct dst_entry *dst;

	chimney_sock_tuple(sk, &info->flow);
	info->reasons = chimney_sock_reasons(sk);
	info->tcp_state = sk->sk_state;

	rcu_read_lock();
	dst = rcu_dereference(sk->sk_dst_cache);
	if (dst)
		info->ifindex = dst->dev->ifindex;
	flow = sock_flow(sk);
	if (flow) {
		info->state = READ_ONCE(flow->state);
		info->tx_packets = READ_ONCE(flow->tx_packets);
		info->tx_bytes = READ_ONCE(flow->tx_bytes);
		info->rx_packets = atomic64_read(&flow->rx_packets);
		info->rx_bytes = atomic64_read(&flow->rx_bytes);
	}
	rcu_read_unlock();
}

static void tell(struct net *net, const struct chimney_event *event)
{
	chimney_gate_changed(event);
	chimney_netlink_event(net, event);
}

static void flow_event(const struct chimney_flow *flow, u32 from, u32 to,
		       enum chimney_reason reason)
{
	struct chimney_event event = {
		.from = from,
		.to = to,
		.reason = reason,
		.ifindex = flow->cdev ? flow->cdev->ifindex : 0,
		.tx_packets = READ_ONCE(flow->tx_packets),
		.tx_bytes = READ_ONCE(flow->tx_bytes),
		.rx_packets = atomic64_read(&flow->rx_packets),
		.rx_bytes = atomic64_read(&flow->rx_bytes),
	};

	chimney_key_tuple(&flow->key, flow->cnet->net, &event.flow);
	tell(flow->cnet->net, &event);
}

/* An offer that came to nothing. */
static void flow_refused(const struct sock *sk, enum chimney_reason reason)
{
	struct chimney_event event = {
		.from = CHIMNEY_IN_HOST,
		.to = CHIMNEY_IN_HOST,
		.reason = reason,
	};

	chimney_sock_tuple(sk, &event.flow);
	chimney_count(reason);
	tell(sock_net(sk), &event);
}

static void flow_free(struct rcu_head *rcu)
{
	kmem_cache_free(chimney_flow_cache,
			container_of(rcu, struct chimney_flow, rcu));
	if (atomic_dec_and_test(&chimney_flows_alive))
		wake_up_all(&chimney_flows_wait);
}

/* No packet is being received any more that found the flow in the table. */
static void flow_release(struct rcu_head *rcu)
{
	struct chimney_flow *flow = container_of(rcu, struct chimney_flow, rcu);

	chimney_ct_put(&flow->ct);
	if (flow->cdev)
		chimney_dev_put(flow->cdev);
	call_rcu_tasks(&flow->rcu, flow_free);
}

static void flow_put(struct chimney_flow *flow)
{
	if (refcount_dec_and_test(&flow->ref))
		call_rcu(&flow->rcu, flow_release);
}

/**
 * chimney_flow_route() - let a flow use a route
 * @flow: the flow
 * @dst: the route that the host path would use now
 *
 * Takes a reference to the route in place of the old one.  A new route has to
 * lead to the same device, so that it cannot match other firewall rules than
 * the old one.
 *
 * Context: socket locked.
 * Return: CHIMNEY_NONE, or why the flow cannot go there.
 */
enum chimney_reason chimney_flow_route(struct chimney_flow *flow,
				       struct dst_entry *dst)
{
	u64 reasons;

	rcu_read_lock();
	reasons = route_reasons(dst, flow->key.family);
	rcu_read_unlock();
	if (reasons)
		return __ffs64(reasons);
	if (dst->dev != flow->cdev->dev)
		return CHIMNEY_ROUTE;

	dst_hold(dst);
	dst_release(flow->dst);
	flow->dst = dst;
	chimney_flow_set_neigh(flow, NULL);
	return CHIMNEY_NONE;
}

/**
 * chimney_flow_set_neigh() - let a flow use a next hop
 * @flow: the flow
 * @neigh: the next hop, or NULL for none
 *
 * Takes a reference, and drops that to the one used so far.
 *
 * Context: any but hard interrupts.
 */
void chimney_flow_set_neigh(struct chimney_flow *flow, struct neighbour *neigh)
{
	if (neigh)
		neigh_hold(neigh);
	neigh = xchg(&flow->neigh, neigh);
	if (neigh)
		neigh_release(neigh);
}

static void flow_unroute(struct chimney_flow *flow)
{
	dst_release(flow->dst);
	flow->dst = NULL;
	chimney_flow_set_neigh(flow, NULL);
}

static void flow_unlist(struct chimney_flow *flow)
{
	struct chimney_net *cnet = flow->cnet;

	spin_lock_bh(&cnet->lock);
	list_del_rcu(&flow->list);
	spin_unlock_bh(&cnet->lock);
	atomic_dec(&cnet->nr_flows);
	flow_put(flow);
}

/* For a socket whose operations someone has replaced: rare, so by a walk. */
static struct chimney_flow *flow_find_sk(struct chimney_net *cnet,
					 const struct sock *sk)
{
	struct chimney_flow *flow, *found = NULL;

	spin_lock_bh(&cnet->lock);
	list_for_each_entry(flow, &cnet->flows, list)
		if (flow->sk == sk)
			found = flow;
	spin_unlock_bh(&cnet->lock);
	return found;
}

/* The socket dies: by close, RST, time-out, or with its process. */
static void chimney_sk_destruct(struct sock *sk)
{
	void (*host_destruct)(struct sock *sk);
	struct chimney_flow *flow = sock_flow(sk);

	if (!flow)
		flow = flow_find_sk(chimney_pernet(sock_net(sk)), sk);
	if (WARN_ON_ONCE(!flow))
		return;

	host_destruct = flow->host_destruct;
	if (flow->sk != sk) {
		/* a listener's child that was given up half made */
		inet_csk(sk)->icsk_af_ops = flow->host_ops;
	} else if (flow->pinned) {
		flow_unlist(flow);
		atomic_dec(&chimney_flows_pinned);
		module_put(THIS_MODULE);
	} else {
		/* ours already, or we would not be here */
		sk->sk_destruct = chimney_sk_destruct;
		chimney_flow_upload(flow, sk, CHIMNEY_CLOSED);
		chimney_flow_finish(flow, sk);
	}
	host_destruct(sk);
}

/*
 * A listener does not stay offloaded for longer than until the next sweep, but
 * until then its children inherit what is ours.  @newsk is not yet anybody
 * else's to look at.
 */
static struct sock *
chimney_syn_recv_sock(const struct sock *sk, struct sk_buff *skb,
		      struct request_sock *req, struct dst_entry *dst,
		      struct request_sock *req_unhash, bool *own_req,
		      void (*opt_child_init)(struct sock *newsk,
					     const struct sock *sk))
{
	const struct inet_connection_sock_af_ops *ops =
		READ_ONCE(inet_csk(sk)->icsk_af_ops);
	const struct chimney_flow *flow = NULL;
	struct sock *newsk;

	/* the listener may just have got its own back */
	if (ops->syn_recv_sock == chimney_syn_recv_sock) {
		flow = chimney_flow_of(ops);
		ops = flow->host_ops;
	}
	newsk = ops->syn_recv_sock(sk, skb, req, dst, req_unhash, own_req,
				   opt_child_init);
	if (!newsk || !flow)
		return newsk;
	/* a v4-mapped child has got other operations, but not another end */
	if (inet_csk(newsk)->icsk_af_ops == &flow->ops)
		inet_csk(newsk)->icsk_af_ops = flow->host_ops;
	if (newsk->sk_destruct == chimney_sk_destruct)
		newsk->sk_destruct = flow->host_destruct;
	return newsk;
}

static bool prefix_match(const u8 *a, const u8 *b, u16 family, u8 plen)
{
	if (family == AF_INET && plen)
		plen += 96;
	return ipv6_prefix_equal((const struct in6_addr *)a,
				 (const struct in6_addr *)b, plen);
}

static bool flow_selected(const struct chimney_flow *flow,
			  const struct chimney_selector *selector)
{
	const struct chimney_key *key = &flow->key;
	struct chimney_tuple tuple;

	if (selector->ifindex && flow->cdev &&
	    selector->ifindex != flow->cdev->ifindex)
		return false;
	if ((ntohs(key->lport) ^ selector->lport) & selector->lport_mask)
		return false;
	if ((ntohs(key->rport) ^ selector->rport) & selector->rport_mask)
		return false;
	if (!selector->family)
		return true;
	chimney_key_tuple(key, flow->cnet->net, &tuple);
	return selector->family == tuple.family &&
	       prefix_match(selector->local, tuple.local, tuple.family,
			    selector->local_plen) &&
	       prefix_match(selector->remote, tuple.remote, tuple.family,
			    selector->remote_plen);
}

/* What began the epoch that a flow was not judged in. */
static enum chimney_reason flow_outdated_for(const struct chimney_flow *flow)
{
	enum chimney_reason reason = CHIMNEY_NOT_JUDGED;
	struct chimney_net *cnet = flow->cnet;

	spin_lock_bh(&cnet->lock);
	if (flow_selected(flow, &cnet->revoked))
		reason = cnet->revoked_for;
	spin_unlock_bh(&cnet->lock);
	return reason;
}

/*
 * Takes a flow off the path that is in state @from: offloaded, or just about to
 * be.  Context: as of chimney_flow_upload().
 */
static bool flow_leave(struct chimney_flow *flow, struct sock *sk, u32 from,
		       enum chimney_reason reason)
{
	struct chimney_net *cnet = flow->cnet;
	bool held = false;

	/* for the work: as soon as the state changes, anyone may finish it */
	if (!refcount_inc_not_zero(&flow->ref))
		return false;
	if (cmpxchg(&flow->state, from, CHIMNEY_UPLOADING) != from) {
		flow_put(flow);
		return false;
	}

	rhashtable_remove_fast(&cnet->table, &flow->node, chimney_flow_params);
	chimney_flow_set_neigh(flow, NULL);
	atomic_dec(&cnet->nr_offloaded);
	atomic_dec(&cnet->ports[chimney_ports_hash(flow->key.ports)]);

	if (!sk) {
		held = chimney_flow_get_sk(flow);
		if (held)
			sk = flow->sk;
	}
	chimney_ct_upload(&flow->ct, sk);
	if (held)
		sock_gen_put(sk);

	chimney_count(reason);
	this_cpu_inc(flow->cdev->stats->uploads);
	trace_chimney_upload(flow, reason);
	flow_event(flow, CHIMNEY_OFFLOADED, CHIMNEY_UPLOADING, reason);

	queue_work(chimney_wq, &flow->upload_work);
	return true;
}

/*
 * Whoever changes the policy starts an epoch with the lock, and walks the list
 * then: either he finds this flow there, offloaded, or it finds his epoch, and
 * no packet takes the path.
 */
static bool flow_publish(struct chimney_flow *flow)
{
	struct chimney_net *cnet = flow->cnet;
	bool judged;

	spin_lock_bh(&cnet->lock);
	list_add_tail_rcu(&flow->list, &cnet->flows);
	judged = atomic64_read(&cnet->epoch) == flow->epoch;
	if (judged) {
		/* pairs with the reads of packets: all of the flow is there */
		smp_store_release(&flow->state, CHIMNEY_OFFLOADED);
	}
	spin_unlock_bh(&cnet->lock);
	return judged;
}

/* Context: process, socket locked. */
static enum chimney_reason flow_install(struct chimney_flow *flow)
{
	struct inet_connection_sock *icsk = inet_csk(flow->sk);
	struct chimney_net *cnet = flow->cnet;
	struct sock *sk = flow->sk;
	enum chimney_reason reason;
	struct dst_entry *dst;
	u64 reasons;
	u32 state;

	if (sock_flow(sk)) {
		/* offered twice, and changed() has been told of either offer */
		state = READ_ONCE(sock_flow(sk)->state);
		flow_event(flow, state, state, CHIMNEY_NONE);
		return CHIMNEY_NONE;
	}
	/* room for this one is taken already */
	reasons = chimney_sock_reasons(sk) & ~CHIMNEY_MASK(TABLE_FULL);
	if (reasons)
		return __ffs64(reasons);
	if (atomic64_read(&cnet->epoch) != flow->epoch)
		return flow_outdated_for(flow);
	if (icsk->icsk_af_ops->queue_xmit !=
	    (flow->key.family == AF_INET6 ? inet6_csk_xmit : ip_queue_xmit))
		return CHIMNEY_ULP;
	/* not finished yet, though it has other operations */
	if (sk->sk_destruct == chimney_sk_destruct ||
	    (atomic_read(&chimney_flows_pinned) && flow_find_sk(cnet, sk)))
		return CHIMNEY_NOT_JUDGED;

	dst = __sk_dst_check(sk, flow->key.family == AF_INET6 ?
				 inet6_sk(sk)->dst_cookie : 0);
	if (!dst)
		return CHIMNEY_ROUTE;
	/* rules and captures of another device have not been judged */
	if (dst->dev->ifindex != flow->ifindex)
		return CHIMNEY_ROUTE;
	flow->cdev = chimney_dev_get(dst->dev);
	if (!flow->cdev)
		return CHIMNEY_DEVICE;
	reason = chimney_flow_route(flow, dst);
	if (reason)
		return reason;
	if (!chimney_ct_offload(&flow->ct)) {
		flow_unroute(flow);
		return CHIMNEY_CONNTRACK;
	}

	/* Receivers find it from here on, and leave it until it is offloaded. */
	if (rhashtable_insert_fast(&cnet->table, &flow->node,
				   chimney_flow_params)) {
		chimney_ct_upload(&flow->ct, sk);
		flow_unroute(flow);
		return CHIMNEY_NO_MEMORY;
	}

	flow->host_ops = icsk->icsk_af_ops;
	flow->ops = *flow->host_ops;
	flow->ops.queue_xmit = flow->key.family == AF_INET6 ?
			       chimney_transmit6 : chimney_transmit;
	flow->ops.syn_recv_sock = chimney_syn_recv_sock;
	flow->host_destruct = sk->sk_destruct;
	flow->installed = true;
	sk->sk_destruct = chimney_sk_destruct;
	/* pairs with the reads of whoever calls through the operations */
	smp_store_release(&icsk->icsk_af_ops, &flow->ops);

	atomic_inc(&cnet->nr_offloaded);
	atomic_inc(&cnet->ports[chimney_ports_hash(flow->key.ports)]);
	this_cpu_inc(flow->cdev->stats->offloads);
	trace_chimney_offload(flow, CHIMNEY_NONE);
	/* before anyone can tell of its upload */
	flow_event(flow, CHIMNEY_OFFLOADING, CHIMNEY_OFFLOADED, CHIMNEY_NONE);
	if (!flow_publish(flow)) {
		flow_leave(flow, sk, CHIMNEY_OFFLOADING, flow_outdated_for(flow));
		chimney_flow_finish(flow, sk);
	}
	return CHIMNEY_NONE;
}

static void flow_offload_work(struct work_struct *work)
{
	struct chimney_flow *flow = container_of(work, struct chimney_flow,
						 offload_work);
	enum chimney_reason reason;
	struct sock *sk = flow->sk;
	bool installed;

	lock_sock(sk);
	reason = flow_install(flow);
	installed = flow->host_ops;
	if (reason) {
		chimney_count(reason);
		flow_event(flow, CHIMNEY_OFFLOADING, CHIMNEY_IN_HOST, reason);
	}
	release_sock(sk);
	if (!installed) {
		atomic_dec(&flow->cnet->nr_flows);
		flow_put(flow);
	}
	/* the socket holds the namespace, and that what is above */
	sock_put(sk);
}

/*
 * A reference to the socket of a flow that is yet to be finished, whatever
 * operations it has by now.  Its destructor finishes the flow: as long as that
 * has not happened, the socket's memory is the socket's.
 */
static bool flow_hold_sk(const struct chimney_flow *flow)
{
	bool held;

	rcu_read_lock();
	held = READ_ONCE(flow->state) != CHIMNEY_IN_HOST &&
	       refcount_inc_not_zero(&flow->sk->sk_refcnt);
	rcu_read_unlock();
	if (held && READ_ONCE(flow->state) == CHIMNEY_IN_HOST) {
		sock_put(flow->sk);
		held = false;
	}
	return held;
}

static void flow_upload_work(struct work_struct *work)
{
	struct chimney_flow *flow = container_of(work, struct chimney_flow,
						 upload_work);
	struct sock *sk = flow->sk;

	if (flow_hold_sk(flow)) {
		lock_sock(sk);
		chimney_flow_finish(flow, sk);
		release_sock(sk);
		sock_put(sk);
	}
	flow_put(flow);
}

/**
 * chimney_flow_offer() - try to offload a flow
 * @sk: its socket
 * @skb: a packet that it has sent, in POST_ROUTING
 * @packet: the same as the gate has judged it
 * @blind_taps: see chimney_offer()
 *
 * Context: any but hard interrupts.
 * Return: CHIMNEY_NONE if it will be tried, or why not.
 */
enum chimney_reason chimney_flow_offer(struct sock *sk, struct sk_buff *skb,
				       const struct chimney_packet *packet,
				       u8 blind_taps)
{
	struct chimney_net *cnet = chimney_pernet(sock_net(sk));
	enum chimney_reason reason = CHIMNEY_NO_MEMORY;
	struct chimney_flow *flow;
	u64 reasons;

	if (sock_flow(sk))
		return CHIMNEY_NONE;
	/* once more with the lock, but what stays in the host needs no work */
	reasons = chimney_sock_reasons(sk);
	if (reasons) {
		flow_refused(sk, __ffs64(reasons));
		return __ffs64(reasons);
	}
	if (atomic_inc_return(&cnet->nr_flows) > READ_ONCE(chimney_max_flows)) {
		reason = CHIMNEY_TABLE_FULL;
		goto refused;
	}
	flow = kmem_cache_zalloc(chimney_flow_cache, GFP_ATOMIC | __GFP_NOWARN);
	if (!flow)
		goto refused;
	if (!refcount_inc_not_zero(&sk->sk_refcnt)) {
		kmem_cache_free(chimney_flow_cache, flow);
		reason = CHIMNEY_CLOSED;
		goto refused;
	}

	atomic_inc(&chimney_flows_alive);
	flow->sk = sk;
	flow->cnet = cnet;
	flow->epoch = packet->epoch;
	flow->dscp = packet->tos & ~INET_ECN_MASK;
	flow->blind_taps = blind_taps;
	flow->ifindex = packet->ifindex;
	flow->mark = packet->mark;
	flow->priority = packet->priority;
	flow->state = CHIMNEY_OFFLOADING;
	flow->portpair = sk->sk_portpair;
	flow->addrpair = sk->sk_addrpair;
	sock_key(sk, &flow->key);
	chimney_ct_get(&flow->ct, skb, CHIMNEY_OUT);
	refcount_set(&flow->ref, 1);
	INIT_WORK(&flow->offload_work, flow_offload_work);
	INIT_WORK(&flow->upload_work, flow_upload_work);
	flow_event(flow, CHIMNEY_IN_HOST, CHIMNEY_OFFLOADING, CHIMNEY_NONE);
	queue_work(chimney_wq, &flow->offload_work);
	return CHIMNEY_NONE;

refused:
	atomic_dec(&cnet->nr_flows);
	flow_refused(sk, reason);
	return reason;
}

/**
 * chimney_flow_upload() - take a flow off the path
 * @flow: the flow
 * @sk: its socket if the caller has it, else NULL
 * @reason: why
 *
 * Takes effect at once for packets that come after; does nothing to a flow that
 * is not offloaded.
 *
 * Context: any but hard interrupts; RCU read side unless @sk is given.
 * Return: true if it was offloaded.
 */
bool chimney_flow_upload(struct chimney_flow *flow, struct sock *sk,
			 enum chimney_reason reason)
{
	return flow_leave(flow, sk, CHIMNEY_OFFLOADED, reason);
}

/**
 * chimney_sock_upload() - take a socket's flow off the path, if it is on it
 * @sk: the socket
 * @reason: why
 *
 * Context: any but hard interrupts, RCU read side.
 */
void chimney_sock_upload(struct sock *sk, enum chimney_reason reason)
{
	struct chimney_flow *flow = sock_flow(sk);

	if (flow)
		chimney_flow_upload(flow, NULL, reason);
}

/**
 * chimney_flow_finish() - give a socket its own operations back
 * @flow: a flow that has been uploaded
 * @sk: its socket
 *
 * Context: socket locked, or in its destructor.
 */
void chimney_flow_finish(struct chimney_flow *flow, struct sock *sk)
{
	struct inet_connection_sock *icsk = inet_csk(sk);

	if (!flow->installed)
		return;
	flow->installed = false;

	/* IPV6_ADDRFORM may have set others meanwhile */
	if (icsk->icsk_af_ops == &flow->ops)
		WRITE_ONCE(icsk->icsk_af_ops, flow->host_ops);
	flow_unroute(flow);
	/* if it goes on, it shall not wait long to be judged */
	if (sk->sk_state == TCP_ESTABLISHED)
		WRITE_ONCE(flow->cnet->moment, jiffies);
	WRITE_ONCE(flow->state, CHIMNEY_IN_HOST);
	flow_event(flow, CHIMNEY_UPLOADING, CHIMNEY_IN_HOST, CHIMNEY_NONE);

	if (sk->sk_destruct != chimney_sk_destruct) {
		/* Someone calls ours at the end of his: it has to stay. */
		pr_warn_once("a socket's destructor was taken over, the module stays until it closes\n");
		flow->pinned = true;
		atomic_inc(&chimney_flows_pinned);
		__module_get(THIS_MODULE);
		return;
	}
	sk->sk_destruct = flow->host_destruct;
	flow_unlist(flow);
}

static u32 flows_revoke_net(struct chimney_net *cnet,
			    const struct chimney_selector *selector,
			    enum chimney_reason reason, u32 max)
{
	struct chimney_flow *flow;
	u32 uploads = 0;

	spin_lock_bh(&cnet->lock);
	WRITE_ONCE(cnet->epoch_gp, start_poll_synchronize_rcu());
	WRITE_ONCE(cnet->moment, jiffies);
	/* see flow_publish() */
	atomic64_inc_return(&cnet->epoch);
	cnet->revoked = *selector;
	cnet->revoked_for = reason;
	spin_unlock_bh(&cnet->lock);
	list_for_each_entry_rcu(flow, &cnet->flows, list) {
		if (uploads >= max)
			break;
		if (flow_selected(flow, selector))
			uploads += chimney_flow_upload(flow, NULL, reason);
	}
	return uploads;
}

/* Stops after @max flows of a namespace; a new epoch has started in all. */
static u32 flows_revoke(const struct chimney_selector *selector,
			enum chimney_reason reason, u32 max)
{
	struct chimney_net *cnet;
	u32 uploads = 0;

	rcu_read_lock();
	list_for_each_entry_rcu(cnet, &chimney_nets, node)
		if (!selector->netns ||
		    selector->netns == cnet->net->net_cookie)
			uploads += flows_revoke_net(cnet, selector, reason, max);
	rcu_read_unlock();
	return uploads;
}

/**
 * chimney_flows_revoke() - upload flows and start a new epoch
 * @selector: which; a new epoch starts in every netns that it names
 * @reason: why
 *
 * Context: any but hard interrupts.
 * Return: number of flows uploaded.
 */
u32 chimney_flows_revoke(const struct chimney_selector *selector,
			 enum chimney_reason reason)
{
	return flows_revoke(selector, reason, U32_MAX);
}

/**
 * chimney_flows_revoke_all() - the same for all flows, and nothing lags behind
 * @reason: why
 *
 * Packets that other CPUs have in their hands, and whatever they have looked up
 * before, are gone when it returns.
 *
 * Context: process.
 */
void chimney_flows_revoke_all(enum chimney_reason reason)
{
	static const struct chimney_selector all;

	/* fewer than that: none is left in any namespace */
	while (flows_revoke(&all, reason, CHIMNEY_REVOKE_BATCH) >=
	       CHIMNEY_REVOKE_BATCH)
		cond_resched();
	synchronize_rcu();
}

/**
 * chimney_flows_revoke_dev() - the same for the flows of a device
 * @dev: the device
 * @reason: why
 *
 * Return: number of flows uploaded.
 */
u32 chimney_flows_revoke_dev(const struct net_device *dev,
			     enum chimney_reason reason)
{
	const struct chimney_selector selector = {
		.netns = dev_net(dev)->net_cookie,
		.ifindex = dev->ifindex,
	};

	return chimney_flows_revoke(&selector, reason);
}

static bool flow_verdict_stands(const struct chimney_flow *flow)
{
	struct chimney_tuple tuple;

	chimney_key_tuple(&flow->key, flow->cnet->net, &tuple);
	return chimney_gate_stands(&tuple);
}

/*
 * What has happened to a flow that its packets do not show?  One that has had
 * none since it was last looked at is not asked whether they may take the path.
 */
static void flow_sweep(struct chimney_flow *flow)
{
	u64 packets = READ_ONCE(flow->tx_packets) +
		      atomic64_read(&flow->rx_packets);
	enum chimney_reason reason = CHIMNEY_NONE;
	bool quiet = flow->swept == packets;
	struct sock *sk = flow->sk;
	u64 features;

	if (READ_ONCE(flow->state) != CHIMNEY_OFFLOADED)
		return;
	if (quiet && READ_ONCE(flow->neigh))
		chimney_flow_set_neigh(flow, NULL);
	flow->swept = packets;
	if (!chimney_flow_get_sk(flow)) {
		/* dying, or with other operations: the former has a destructor */
		chimney_flow_upload(flow, NULL, CHIMNEY_CLOSED);
		return;
	}
	/* until now, TCP itself has seen to what took the path */
	features = quiet ? 0 : feature_reasons(sk);
	if (sk->sk_state != TCP_ESTABLISHED)
		reason = CHIMNEY_CLOSING;
	else if (features)
		reason = __ffs64(features);
	else if (chimney_ct_dying(&flow->ct))
		reason = CHIMNEY_CONNTRACK;
	else if (chimney_ct_expiring(&flow->ct))
		reason = CHIMNEY_IDLE;
	else if (!quiet && !flow_verdict_stands(flow))
		reason = CHIMNEY_NOT_JUDGED;
	if (reason)
		chimney_flow_upload(flow, sk, reason);
	sock_gen_put(sk);
}

static void chimney_sweep(struct work_struct *work)
{
	struct chimney_flow *flow;
	struct chimney_net *cnet;

	rcu_read_lock();
	list_for_each_entry_rcu(cnet, &chimney_nets, node)
		list_for_each_entry_rcu(flow, &cnet->flows, list)
			flow_sweep(flow);
	rcu_read_unlock();
	queue_delayed_work(system_dfl_wq, &chimney_sweep_work,
			   CHIMNEY_SWEEP_INTERVAL);
}

/**
 * chimney_flows_init() - get ready for flows
 *
 * Return: 0 or -ENOMEM.
 */
int chimney_flows_init(void)
{
	/* under its own name in /proc/slabinfo */
	chimney_flow_cache = KMEM_CACHE(chimney_flow, SLAB_HWCACHE_ALIGN |
						      SLAB_NO_MERGE);
	if (!chimney_flow_cache)
		return -ENOMEM;
	chimney_wq = alloc_workqueue("chimney", WQ_UNBOUND, 0);
	if (!chimney_wq) {
		kmem_cache_destroy(chimney_flow_cache);
		return -ENOMEM;
	}
	INIT_DELAYED_WORK(&chimney_sweep_work, chimney_sweep);
	queue_delayed_work(system_dfl_wq, &chimney_sweep_work,
			   CHIMNEY_SWEEP_INTERVAL);
	return 0;
}

/**
 * chimney_flows_drain() - upload all flows for good
 *
 * No gate is attached, so none can be offered meanwhile.
 *
 * Context: process.
 */
void chimney_flows_drain(void)
{
	chimney_flows_revoke_all(CHIMNEY_UNLOAD);
	flush_workqueue(chimney_wq);
	wait_event(chimney_flows_wait, !atomic_read(&chimney_flows_alive));
}

/**
 * chimney_flows_exit() - wait until nothing of the module is in use
 *
 * Context: process; all flows are gone.
 */
void chimney_flows_exit(void)
{
	cancel_delayed_work_sync(&chimney_sweep_work);
	destroy_workqueue(chimney_wq);
	/* the callbacks of flows and devices */
	rcu_barrier();
	rcu_barrier_tasks();
	/* whoever was preempted in a socket's operations or destructor of ours */
	synchronize_rcu_tasks();
	kmem_cache_destroy(chimney_flow_cache);
}
