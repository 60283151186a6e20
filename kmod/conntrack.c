// SPDX-License-Identifier: GPL-2.0
/*
 * Conntrack kept right.  The entry of an offloaded flow sees none of its
 * packets: without help it would expire, and its idea of the TCP window would
 * be so old that the first packet after the upload were INVALID.
 *
 * Entries are read by field, so that the module does not depend on
 * nf_conntrack.  What is kept up to date follows nf_ct_refresh_acct() and
 * tcp_in_window() (net/netfilter/nf_conntrack_{core,proto_tcp}.c).
 */
#include <net/netfilter/nf_conntrack_timeout.h>
#include <net/tcp.h>

#include "conntrack.h"

/* An entry with less left than this will not live to see the next sweep. */
#define CHIMNEY_CT_MARGIN (2 * HZ)

/**
 * chimney_ct_get() - take a reference to the entry of a packet's connection
 * @ct: where to keep it
 * @skb: a packet that has passed the host's conntrack
 * @dir: its direction
 */
void chimney_ct_get(struct chimney_ct *ct, const struct sk_buff *skb,
		    enum chimney_dir dir)
{
	enum ip_conntrack_info ctinfo;
	struct nf_conn *entry = nf_ct_get(skb, &ctinfo);

	if (!entry)
		return;
	nf_conntrack_get(&entry->ct_general);
	ct->entry = entry;
	ct->dir[dir] = CTINFO2DIR(ctinfo);
	ct->dir[!dir] = !ct->dir[dir];
}

static u32 established_timeout(const struct nf_conn *entry)
{
	struct nf_conn_timeout *ext = nf_ct_timeout_find(entry);
	unsigned int *timeouts = NULL;
	u32 timeout;

	rcu_read_lock();
	if (ext && rcu_access_pointer(ext->timeout))
		timeouts = nf_ct_timeout_data(ext);
	if (!timeouts)
		timeouts = nf_ct_net(entry)->ct.nf_ct_proto.tcp.timeouts;
	timeout = timeouts[TCP_CONNTRACK_ESTABLISHED];
	rcu_read_unlock();
	return timeout;
}

/**
 * chimney_ct_offload() - prepare the entry for packets that it will not see
 * @ct: the flow's conntrack state
 *
 * Lets packets that take the host path meanwhile be judged without the window,
 * which is not followed.
 *
 * Return: false if the entry is not that of a plain established connection.
 */
bool chimney_ct_offload(struct chimney_ct *ct)
{
	struct nf_conn *entry = ct->entry;
	struct ip_ct_tcp_state *seen;
	bool good;
	int dir;

	if (!entry)
		return true;

	spin_lock_bh(&entry->lock);
	seen = entry->proto.tcp.seen;
	good = nf_ct_is_confirmed(entry) && !nf_ct_is_dying(entry) &&
	       entry->proto.tcp.state == TCP_CONNTRACK_ESTABLISHED;
	for (dir = 0; good && dir < IP_CT_DIR_MAX; dir++) {
		ct->liberal[dir] = seen[dir].flags & IP_CT_TCP_FLAG_BE_LIBERAL;
		seen[dir].flags |= IP_CT_TCP_FLAG_BE_LIBERAL;
	}
	spin_unlock_bh(&entry->lock);

	ct->acct = nf_conn_acct_find(entry);
	ct->timeout = established_timeout(entry);
	return good;
}

/**
 * chimney_ct_expiring() - is conntrack about to give an idle flow up?
 * @ct: the flow's conntrack state
 *
 * In the host it would; so the flow has to be there when it happens.
 */
bool chimney_ct_expiring(const struct chimney_ct *ct)
{
	return ct->entry && nf_ct_expires(ct->entry) < CHIMNEY_CT_MARGIN;
}

/*
 * The sender of @seen may have sent anything up to @edge, where the window that
 * it was offered ends, and conntrack has to believe that it did: segments may
 * be waiting in the socket's backlog or out of order, or be on their way on
 * another CPU, and an acknowledgment of what was never seen is INVALID.
 */
static void window_set(struct ip_ct_tcp_state *seen, u32 edge, u32 win, u32 ack)
{
	seen->td_end = edge;
	seen->td_maxend = edge;
	seen->td_maxwin = max(win, 1U);
	seen->td_maxack = ack;
	seen->flags |= IP_CT_TCP_FLAG_MAXACK_SET;
}

/* As nf_flow_table does: take the window from the next packet. */
static void window_forget(struct ip_ct_tcp_state *seen)
{
	seen->td_maxwin = 0;
	seen->flags &= ~IP_CT_TCP_FLAG_MAXACK_SET;
}

/**
 * chimney_ct_upload() - let conntrack follow the flow's window again
 * @ct: the flow's conntrack state
 * @sk: its socket, which tells what the window is now; NULL if it is gone
 *
 * Has to happen before the first packet after the upload passes conntrack: a
 * forged RST outside the window is INVALID then, as it would have been.
 * The socket need not be locked: what changes meanwhile moves within the
 * window that is written.
 *
 * Context: any but hard interrupts.
 */
void chimney_ct_upload(struct chimney_ct *ct, const struct sock *sk)
{
	struct nf_conn *entry = ct->entry;
	struct ip_ct_tcp_state *seen;
	const struct tcp_sock *tp;
	u32 rcv_nxt, snd_una, edge;
	int dir;

	if (!entry)
		return;

	spin_lock_bh(&entry->lock);
	seen = entry->proto.tcp.seen;
	if (sk) {
		tp = tcp_sk(sk);
		rcv_nxt = READ_ONCE(tp->rcv_nxt);
		snd_una = READ_ONCE(tp->snd_una);
		edge = snd_una + tp->snd_wnd;
		if (before(edge, READ_ONCE(tp->snd_nxt)))
			edge = tp->snd_nxt;
		window_set(&seen[ct->dir[CHIMNEY_OUT]], edge, tp->rcv_wnd,
			   rcv_nxt);
		window_set(&seen[ct->dir[CHIMNEY_IN]],
			   tp->rcv_wup + tp->rcv_wnd, tp->snd_wnd, snd_una);
	} else {
		window_forget(&seen[0]);
		window_forget(&seen[1]);
	}
	for (dir = 0; dir < IP_CT_DIR_MAX; dir++)
		if (!ct->liberal[dir])
			seen[dir].flags &= ~IP_CT_TCP_FLAG_BE_LIBERAL;
	spin_unlock_bh(&entry->lock);
}

/**
 * chimney_ct_put() - drop the reference
 * @ct: the flow's conntrack state; no packet may be using it any more
 */
void chimney_ct_put(struct chimney_ct *ct)
{
	if (ct->entry)
		nf_conntrack_put(&ct->entry->ct_general);
	ct->entry = NULL;
}
