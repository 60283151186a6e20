/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Capture sockets (AF_PACKET).  No netfilter hook sees them, so the gate
 * follows the calls by which taps come and go, and finds those that are there
 * before it (scan_captures).  Binding, setting up a ring and joining a fanout
 * group each take a tap off and put it back: what counts is whether a struct
 * packet_type is on a list, not how often something was called.
 *
 * A tap sees a flow's packets if it is on the flow's device, or on all devices
 * of its netns, and is for all EtherTypes or that of the flow.  If it has a
 * filter that certainly lets none of them pass, the flow may take the path all
 * the same.
 */
#include "socket_filter.h"

#define ARPHRD_ETHER 1
#define EEXIST 17

/* how a tap counts */
enum capture_kind {
	CAPTURE_WATCHES, /* it wants all that it sees */
	CAPTURE_FILTERS, /* what its filter lets pass: it is in "filtered" */
	CAPTURE_DEAF,	 /* nothing */
};

/* a tap; key of "captures" is the address of its packet_type */
struct capture {
	u64 netns;
	u32 ifindex;
	u16 ethertype;
	u8 everywhere;
	u8 kind;
};

/* what taps see; value of "watched" is how many there are */
struct watched {
	u64 netns;
	u32 ifindex;
	u16 ethertype;
	u16 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct capture);
} captures SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct watched);
	__type(value, s32);
} watched SEC(".maps");

/*
 * Taps whose filters are asked about each flow; those for which there is no
 * room want everything.  An array, since walking a hash may skip some of it
 * while others change it.
 */
#define CAPTURE_FILTERED 16
#define CAPTURE_CLAIMED 1
static struct filtered_tap {
	u64 pt; /* the packet_type, 0 if there is none */
	u64 netns;
	u32 ifindex;
} filtered[CAPTURE_FILTERED];

/* The verifier does not know what the compiler does of a loop's bounds. */
static __always_inline struct filtered_tap *filtered_at(u32 i)
{
	return i < CAPTURE_FILTERED ? &filtered[i] : NULL;
}

/* Taps for which "watched" had no room: they count as seeing everything. */
__s32 nr_everywhere;
/* A tap could not be recorded: from then on, all flows stay in the host. */
bool captures_lost;
/* How many there are: most of the time none, and then no map is looked into. */
__s32 nr_captures;
__s32 nr_filtered;

static __always_inline bool watched_as(u64 netns, u32 ifindex, u16 ethertype)
{
	struct watched key = {
		.netns = netns,
		.ifindex = ifindex,
		.ethertype = ethertype,
	};
	s32 *count = bpf_map_lookup_elem(&watched, &key);

	return count && *count > 0;
}

static __always_inline bool watched_by_capture(u64 netns, u32 ifindex,
					       u16 ethertype)
{
	return watched_as(netns, ifindex, ETH_P_ALL) ||
	       watched_as(netns, ifindex, ethertype);
}

/* Returns where, or -1 if there is no room. */
static __always_inline int filtered_place(u64 pt, const struct capture *capture)
{
	struct filtered_tap *tap;
	int i;

	bpf_for(i, 0, CAPTURE_FILTERED) {
		tap = filtered_at(i);
		if (!tap ||
		    __sync_val_compare_and_swap(&tap->pt, 0, CAPTURE_CLAIMED))
			continue;
		tap->netns = capture->netns;
		tap->ifindex = capture->ifindex;
		/* whoever sees it sees these, too */
		__sync_lock_test_and_set(&tap->pt, pt);
		return i;
	}
	return -1;
}

static __always_inline void filtered_forget(u64 pt)
{
	struct filtered_tap *tap;
	int i;

	bpf_for(i, 0, CAPTURE_FILTERED) {
		tap = filtered_at(i);
		if (tap)
			__sync_val_compare_and_swap(&tap->pt, pt, 0);
	}
}

/*
 * Of how many taps the filter lets no packet of a flow pass, in any direction,
 * or -1 if one may.  Not static: verified once.
 */
__noinline int captures_blind(const struct chimney_tuple *flow, u32 ifindex,
			      u32 ethernet)
{
	struct filter_packet packet;
	u32 steps = FILTER_STEPS;
	struct filtered_tap *tap;
	int i, dir, blind = 0;
	u64 pt, sk;

	if (!flow)
		return -1;
	bpf_for(dir, 0, 2) {
		filter_packet_of(&packet, flow, ifindex, dir == CHIMNEY_OUT);
		bpf_for(i, 0, CAPTURE_FILTERED) {
			tap = filtered_at(i);
			pt = tap ? NOW(tap->pt) : 0;
			if (!pt || (tap->netns && tap->netns != flow->netns) ||
			    (tap->ifindex && tap->ifindex != ifindex))
				continue;
			sk = pt - bpf_core_field_offset(struct packet_sock,
							prot_hook);
			if (pt == CAPTURE_CLAIMED || !ethernet ||
			    filter_may_pass(sk, &packet, &steps))
				return -1;
			blind += dir == CHIMNEY_OUT;
		}
	}
	return blind;
}

/*
 * A VLAN device may leave its tags in the packets (reorder_hdr off), which shows
 * in what is received.  Of what is sent there is no link layer header yet.
 */
static __always_inline bool is_ethernet(const struct sk_buff *skb,
					const struct chimney_packet *packet)
{
	const struct net_device *dev = skb->dev;

	if (!dev || dev->ifindex != packet->ifindex ||
	    dev->type != ARPHRD_ETHER || dev->hard_header_len != ETH_HLEN ||
	    !BPF_CORE_READ(dev, header_ops, create))
		return false;
	return packet->dir == CHIMNEY_OUT ||
	       skb->network_header - skb->mac_header == ETH_HLEN;
}

/* @blind: of how many taps the module is to know that they do not count */
static __always_inline u64 capture_judge(const struct sk_buff *skb,
					 const struct chimney_packet *packet,
					 const struct chimney_tuple *flow,
					 u32 *blind)
{
	u16 ethertype = packet->flow.family == AF_INET6 ? ETH_P_IPV6 : ETH_P_IP;
	u64 netns = packet->flow.netns;
	int n;

	*blind = 0;
	if (captures_lost || nr_everywhere > 0)
		return CHIMNEY_MASK(CAPTURE);
	if (nr_captures && (watched_by_capture(netns, packet->ifindex, ethertype) ||
			    watched_by_capture(netns, 0, ethertype) ||
			    watched_by_capture(0, 0, ethertype)))
		return CHIMNEY_MASK(CAPTURE);
	if (nr_filtered) {
		n = captures_blind(flow, packet->ifindex,
				   is_ethernet(skb, packet));
		if (n < 0)
			return CHIMNEY_MASK(CAPTURE);
		*blind = n;
	}
	return 0;
}

/*
 * A count that is 0 again keeps its place: another CPU may be about to use it.
 * Where there is none left, the tap is noted as one that sees everything.
 */
static __always_inline void capture_place(struct capture *capture)
{
	struct watched key = {
		.netns = capture->netns,
		.ifindex = capture->ifindex,
		.ethertype = capture->ethertype,
	};
	s32 zero = 0;

	if (bpf_map_lookup_elem(&watched, &key))
		return;
	bpf_map_update_elem(&watched, &key, &zero, BPF_NOEXIST);
	if (!bpf_map_lookup_elem(&watched, &key))
		capture->everywhere = true;
}

static __always_inline void capture_count(const struct capture *capture, s32 n)
{
	struct watched key = {
		.netns = capture->netns,
		.ifindex = capture->ifindex,
		.ethertype = capture->ethertype,
	};
	s32 *count;

	if (capture->kind == CAPTURE_FILTERS)
		__sync_fetch_and_add(&nr_filtered, n);
	if (capture->kind != CAPTURE_WATCHES)
		return;
	count = bpf_map_lookup_elem(&watched, &key);
	if (capture->everywhere || !count)
		count = &nr_everywhere;
	__sync_fetch_and_add(count, n);
	__sync_fetch_and_add(&nr_captures, n);
}

static __always_inline void capture_forget(u64 key)
{
	struct capture *found = bpf_map_lookup_elem(&captures, &key), capture;

	if (!found)
		return;
	capture = *found;
	/* of two that remove it, one counts */
	if (bpf_map_delete_elem(&captures, &key))
		return;
	filtered_forget(key);
	capture_count(&capture, -1);
}

/*
 * Taps for one EtherType get what has been received behind the path, so that
 * the only filter of theirs which counts is the one that lets nothing pass.
 * Whoever only wants to send what the kernel does not (keepalived: neighbour
 * advertisements) has a socket like that.  Of those with a device the module
 * knows as well, and does not look at their filters.  Taps for all EtherTypes
 * see what takes the path, too.
 */
static __always_inline u8 capture_kind(const struct packet_type *pt)
{
	const struct sock *sk = BPF_CORE_READ(pt, af_packet_priv);
	const struct sock_fprog_kern *filter;
	const struct sock_filter *first;
	bool returns, all;

	/* of a fanout group, it is no socket */
	if ((u64)sk + bpf_core_field_offset(struct packet_sock, prot_hook) !=
	    (u64)pt)
		return CAPTURE_WATCHES;
	filter = BPF_CORE_READ(sk, sk_filter, prog, orig_prog);
	if (!filter)
		return CAPTURE_WATCHES;
	all = BPF_CORE_READ(pt, type) == bpf_htons(ETH_P_ALL);
	first = BPF_CORE_READ(filter, filter);
	returns = BPF_CORE_READ(first, code) == (BPF_RET | BPF_K);
	/* tcpdump without an expression has a filter, too */
	if (returns && BPF_CORE_READ(first, k))
		return CAPTURE_WATCHES;
	if (all)
		return CAPTURE_FILTERS;
	return returns && !BPF_CORE_READ(pt, dev) ? CAPTURE_DEAF :
						    CAPTURE_WATCHES;
}

/*
 * Those that see what a tap sees leave, or are judged anew when it is gone.  No
 * flow has port 0: with all bits of it compared none leaves, and all are judged
 * anew.
 */
#define NO_PORT 0xffff

static __always_inline void capture_revoke(const struct capture *capture,
					   u32 ifindex, u16 lport_mask)
{
	struct chimney_selector selector = {
		.ifindex = ifindex,
		.lport_mask = lport_mask,
	};

	if (!capture->everywhere) {
		selector.netns = capture->netns;
		if (capture->ethertype == ETH_P_IP)
			selector.family = AF_INET;
		else if (capture->ethertype == ETH_P_IPV6)
			selector.family = AF_INET6;
	}
	chimney_revoke(&selector, CHIMNEY_CAPTURE);
}

/*
 * A tap for one EtherType comes after the upper devices (bond, bridge ...) have
 * had the packet.  The module looks at lower devices when it installs a flow,
 * so that all of them have to be installed anew.
 */
static __always_inline void capture_began(const struct capture *capture)
{
	u32 ifindex = 0;

	if (!capture->everywhere && capture->ethertype == ETH_P_ALL)
		ifindex = capture->ifindex;
	capture_revoke(capture, ifindex, 0);
}

/*
 * Context: RCU read side.  A function of its own: what it leaves on the stack
 * would make each turn of a loop over taps another one for the verifier.
 */
static __noinline int capture_add(struct packet_type *pt)
{
	u16 ethertype = bpf_ntohs(BPF_CORE_READ(pt, type));
	struct net_device *dev = BPF_CORE_READ(pt, dev);
	struct net *net = BPF_CORE_READ(pt, af_packet_net);
	struct capture capture = {};
	u64 key = (u64)pt;
	int slot = -1;
	long err;

	/* the protocols themselves are on the same lists */
	if (ethertype != ETH_P_ALL &&
	    ((ethertype != ETH_P_IP && ethertype != ETH_P_IPV6) ||
	     !BPF_CORE_READ(pt, af_packet_priv)))
		return 0;

	if (dev) {
		capture.ifindex = BPF_CORE_READ(dev, ifindex);
		net = BPF_CORE_READ(dev, nd_net.net);
	}
	capture.netns = netns_cookie(net);
	capture.ethertype = ethertype;
	capture.kind = capture_kind(pt);
	capture_place(&capture);

	/* what had this address before is gone, whether or not we were told */
	capture_forget(key);
	if (capture.kind == CAPTURE_FILTERS) {
		slot = filtered_place(key, &capture);
		if (slot < 0)
			capture.kind = CAPTURE_WATCHES;
	}
	err = bpf_map_update_elem(&captures, &key, &capture, BPF_NOEXIST);
	if (!err)
		capture_count(&capture, 1);
	else if (filtered_at(slot))
		NOW(filtered_at(slot)->pt) = 0;
	/* or somebody else has found it */
	if (err && err != -EEXIST)
		captures_lost = true;
	if (captures_lost || capture.kind != CAPTURE_DEAF)
		capture_began(&capture);
	return 0;
}

SEC("fexit/dev_add_pack")
int BPF_PROG(capture_start, struct packet_type *pt)
{
	bpf_preempt_disable();
	capture_add(pt);
	bpf_preempt_enable();
	return 0;
}

/* A new epoch lets the flows that it kept in the host be judged soon. */
static __always_inline void capture_ended(u64 key)
{
	struct capture *found = bpf_map_lookup_elem(&captures, &key), capture;

	if (!found)
		return;
	capture = *found;
	capture_forget(key);
	/* those on the path it has not seen */
	if (capture.kind != CAPTURE_DEAF)
		capture_revoke(&capture, capture.ifindex,
			       capture.kind == CAPTURE_FILTERS ? NO_PORT : 0);
}

SEC("fexit/__dev_remove_pack")
int BPF_PROG(capture_stop, struct packet_type *pt)
{
	bpf_preempt_disable();
	capture_ended((u64)pt);
	bpf_preempt_enable();
	return 0;
}

/* Taken off a list, its neighbours are poison. */
static __always_inline bool on_list(const struct packet_type *pt)
{
	const struct list_head *prev = BPF_CORE_READ(pt, list.prev);
	u64 word;

	return prev && !bpf_probe_read_kernel(&word, sizeof(word), prev);
}

/*
 * Adds a tap that may have been taken off, or is being put back, just before
 * that was to be noticed.
 */
static __always_inline void capture_add_if_on(struct packet_type *pt)
{
	capture_add(pt);
	if (on_list(pt))
		return;
	capture_ended((u64)pt);
	if (on_list(pt))
		capture_add(pt);
}

/*
 * A tap that has another filter is another tap.  The socket is locked, but
 * devices go down and fanout groups are joined without that.
 */
static __always_inline int capture_filtered(const struct sock *sk, int err)
{
	u64 pt = (u64)sk + bpf_core_field_offset(struct packet_sock, prot_hook);
	struct capture *found, was;
	u8 kind;

	if (err || BPF_CORE_READ(sk, __sk_common.skc_family) != AF_PACKET)
		return 0;
	bpf_preempt_disable();
	found = bpf_map_lookup_elem(&captures, &pt);
	kind = capture_kind((void *)pt);
	if (found && (found->kind != kind || kind == CAPTURE_FILTERS)) {
		was = *found;
		capture_forget(pt);
		capture_add_if_on((void *)pt);
		if (kind == CAPTURE_DEAF)
			capture_revoke(&was, was.ifindex, NO_PORT);
	}
	bpf_preempt_enable();
	return 0;
}

/* Twice, as the end of a connection is: see verdict_close_again(). */
SEC("fexit/sk_attach_filter")
int BPF_PROG(capture_filter, struct sock_fprog *filter, struct sock *sk, int ret)
{
	return capture_filtered(sk, ret);
}

SEC("fexit/sk_attach_filter")
int BPF_PROG(capture_filter_again, struct sock_fprog *filter, struct sock *sk,
	     int ret)
{
	return capture_filtered(sk, ret);
}

SEC("fexit/sk_attach_bpf")
int BPF_PROG(capture_filter_bpf, u32 ufd, struct sock *sk, int ret)
{
	return capture_filtered(sk, ret);
}

SEC("fexit/sk_detach_filter")
int BPF_PROG(capture_no_filter, struct sock *sk, int ret)
{
	return capture_filtered(sk, ret);
}

/* How long a list may be; what does not fit must not go unnoticed. */
#define SCAN_MAX 65536

void bpf_rcu_read_lock(void) __ksym;
void bpf_rcu_read_unlock(void) __ksym;

static __always_inline u64 list_next(u64 pos)
{
	return (u64)BPF_CORE_READ((struct list_head *)pos, next);
}

/* Not static, as verdict_set() is not: verified once, not for each of its callers. */
__noinline int scan_tap(u64 pt)
{
	capture_add_if_on((void *)pt);
	return 0;
}

__noinline int scan_taps(u64 head)
{
	u64 pos = head;
	int i;

	bpf_for(i, 0, SCAN_MAX) {
		pos = list_next(pos);
		if (!pos || pos == head)
			return 0;
		scan_tap(pos - bpf_core_field_offset(struct packet_type, list));
	}
	captures_lost = true;
	return 0;
}

/* In 6.12, taps that are on no device are in lists for all namespaces ... */
struct net_hotdata___taps {
	struct list_head ptype_all;
} __attribute__((preserve_access_index));

/* ... and in 7.3 in those of their namespace. */
struct net___taps {
	struct list_head ptype_all;
	struct list_head ptype_specific;
} __attribute__((preserve_access_index));

static __always_inline bool taps_of_netns(void)
{
	return bpf_core_field_exists(struct net___taps, ptype_all) &&
	       bpf_core_field_exists(struct net___taps, ptype_specific);
}

static __always_inline bool taps_of_all(void)
{
	return bpf_core_field_exists(struct net_hotdata___taps, ptype_all);
}

__noinline int scan_netns(u64 net)
{
	u64 head = net + bpf_core_field_offset(struct net, dev_base_head);
	u64 pos = head, dev;
	int i;

	if (taps_of_netns()) {
		scan_taps(net +
			  bpf_core_field_offset(struct net___taps, ptype_all));
		scan_taps(net + bpf_core_field_offset(struct net___taps,
						      ptype_specific));
	}
	bpf_for(i, 0, SCAN_MAX) {
		pos = list_next(pos);
		if (!pos || pos == head)
			return 0;
		dev = pos - bpf_core_field_offset(struct net_device, dev_list);
		scan_taps(dev +
			  bpf_core_field_offset(struct net_device, ptype_all));
		scan_taps(dev + bpf_core_field_offset(struct net_device,
						      ptype_specific));
	}
	captures_lost = true;
	return 0;
}

/*
 * Variables of the kernel.  As __ksym libbpf would look for them, and would read
 * all of /proc/kallsyms for that.
 */
static const char hotdata_name[] = "net_hotdata";
static const char base_name[] = "ptype_base";
static const char nets_name[] = "net_namespace_list";

static __always_inline u64 variable(const char *name, u32 size)
{
	u64 address = 0;

	bpf_kallsyms_lookup_name(name, size, 0, &address);
	return address;
}

/*
 * Run once by the loader, when the programs above already follow changes.
 * Returns 0, -E2BIG, or -ENOENT: the kernel hides its variables, or has others.
 */
SEC("syscall")
int scan_captures(void *ctx)
{
	u64 hotdata = variable(hotdata_name, sizeof(hotdata_name));
	u64 base = variable(base_name, sizeof(base_name));
	u64 head = variable(nets_name, sizeof(nets_name));
	u64 pos = head;
	int i;

	if (!hotdata || !base || !head || taps_of_all() == taps_of_netns())
		return -ENOENT;
	bpf_rcu_read_lock();
	if (taps_of_all())
		scan_taps(hotdata +
			  bpf_core_field_offset(struct net_hotdata___taps,
						ptype_all));
	bpf_for(i, 0, 16)
		scan_taps(base + i * sizeof(struct list_head));
	bpf_for(i, 0, SCAN_MAX) {
		pos = list_next(pos);
		if (!pos || pos == head)
			break;
		scan_netns(pos - bpf_core_field_offset(struct net, list));
	}
	bpf_rcu_read_unlock();
	return captures_lost ? -E2BIG : 0;
}
