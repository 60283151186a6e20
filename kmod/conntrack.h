/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHIMNEY_CONNTRACK_H
#define CHIMNEY_CONNTRACK_H

#include <linux/skbuff.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/netfilter/nf_conntrack_acct.h>

#include "uapi.h"

/**
 * struct chimney_ct - the conntrack entry of an offloaded flow
 * @entry: a reference, or NULL if the flow is not tracked
 * @acct: its counters, or NULL if they are switched off
 * @timeout: what conntrack would grant it after each packet, in jiffies
 * @dir: conntrack direction of packets by enum chimney_dir
 * @liberal: per conntrack direction, whether IP_CT_TCP_FLAG_BE_LIBERAL was
 *	set before us
 */
struct chimney_ct {
	struct nf_conn *entry;
	struct nf_conn_acct *acct;
	u32 timeout;
	u8 dir[CHIMNEY_DIR_MAX];
	bool liberal[IP_CT_DIR_MAX];
};

/**
 * chimney_ct_dying() - has conntrack given the entry up?
 * @ct: the flow's conntrack state
 *
 * True after "conntrack -D", when a timeout has struck and when the conntrack
 * module is being removed: the firewall has to decide about the flow again.
 */
static inline bool chimney_ct_dying(const struct chimney_ct *ct)
{
	return ct->entry && nf_ct_is_dying(ct->entry);
}

/**
 * chimney_ct_seen() - do for a packet on the path what conntrack would do
 * @ct: the flow's conntrack state
 * @dir: direction of the packet
 * @len: its length from the IP header on
 *
 * Refreshes the timeout and counts, as nf_ct_refresh_acct() does.
 * Context: RCU read side.
 */
static __always_inline void chimney_ct_seen(const struct chimney_ct *ct,
					    enum chimney_dir dir,
					    unsigned int len)
{
	struct nf_conn *entry = ct->entry;
	struct nf_conn_counter *counter;
	u32 timeout;

	if (!entry)
		return;

	timeout = nfct_time_stamp + ct->timeout;
	/* a packet on another CPU may be closing it */
	if (READ_ONCE(entry->timeout) != timeout &&
	    READ_ONCE(entry->proto.tcp.state) == TCP_CONNTRACK_ESTABLISHED &&
	    !test_bit(IPS_FIXED_TIMEOUT_BIT, &entry->status))
		WRITE_ONCE(entry->timeout, timeout);

	if (ct->acct) {
		counter = &ct->acct->counter[ct->dir[dir]];
		atomic64_inc(&counter->packets);
		atomic64_add(len, &counter->bytes);
	}
}

void chimney_ct_get(struct chimney_ct *ct, const struct sk_buff *skb,
		    enum chimney_dir dir);
bool chimney_ct_offload(struct chimney_ct *ct);
bool chimney_ct_expiring(const struct chimney_ct *ct);
void chimney_ct_upload(struct chimney_ct *ct, const struct sock *sk);
void chimney_ct_put(struct chimney_ct *ct);

#endif /* CHIMNEY_CONNTRACK_H */
