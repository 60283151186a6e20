/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Capture sockets (AF_PACKET).  No netfilter hook sees them, so the gate
 * follows the calls by which taps come and go, and finds those that are there
 * before it (scan_captures).  Binding, setting up a ring and joining a fanout
 * group each take a tap off and put it back: what counts is whether a struct
 * packet_type is on a list, not how often something was called.
 *
 * A tap sees a flow's packets if it is on the flow's device, or on all devices
 * of its netns.
 */

/* a tap; key of "captures" is the address of its packet_type */
struct capture {
	u64 netns;
	u32 ifindex;
	u16 ethertype;
	bool everywhere;
	u8 pad;
};

/* what taps see; value of "watched" is how many there are */
struct watched {
	u64 netns;
	u32 ifindex;
	u32 pad;
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

/* Taps for which "watched" had no room: they count as seeing everything. */
__s32 nr_everywhere;
/* A tap could not be recorded: from then on, all flows stay in the host. */
bool captures_lost;
/* How many there are: most of the time none, and then no map is looked into. */
__s32 nr_captures;

static __always_inline bool watched_by_capture(u64 netns, u32 ifindex)
{
	struct watched key = { .netns = netns, .ifindex = ifindex };
	s32 *count = bpf_map_lookup_elem(&watched, &key);

	return count && *count > 0;
}

static __always_inline u64 capture_judge(const struct chimney_packet *packet)
{
	u64 netns = packet->flow.netns;

	if (captures_lost || nr_everywhere > 0)
		return CHIMNEY_MASK(CAPTURE);
	if (!nr_captures)
		return 0;
	if (watched_by_capture(netns, packet->ifindex) ||
	    watched_by_capture(netns, 0) || watched_by_capture(0, 0))
		return CHIMNEY_MASK(CAPTURE);
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
	};
	s32 *count = bpf_map_lookup_elem(&watched, &key);

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
	if (!bpf_map_delete_elem(&captures, &key))
		capture_count(&capture, -1);
}

/* Context: RCU read side. */
static __always_inline void capture_add(struct packet_type *pt)
{
	u16 ethertype = bpf_ntohs(BPF_CORE_READ(pt, type));
	struct net_device *dev = BPF_CORE_READ(pt, dev);
	struct net *net = BPF_CORE_READ(pt, af_packet_net);
	struct chimney_selector selector = {};
	struct capture capture = {};
	u64 key = (u64)pt;

	/* the protocols themselves are on the same lists */
	if (ethertype != ETH_P_ALL &&
	    ((ethertype != ETH_P_IP && ethertype != ETH_P_IPV6) ||
	     !BPF_CORE_READ(pt, af_packet_priv)))
		return;

	if (dev) {
		capture.ifindex = BPF_CORE_READ(dev, ifindex);
		net = BPF_CORE_READ(dev, nd_net.net);
	}
	capture.netns = netns_cookie(net);
	capture.ethertype = ethertype;
	capture_place(&capture);

	/* what had this address before is gone, whether or not we were told */
	capture_forget(key);
	if (bpf_map_update_elem(&captures, &key, &capture, BPF_ANY))
		captures_lost = true;
	else
		capture_count(&capture, 1);

	/*
	 * A tap for one EtherType comes after the upper devices (bond, bridge
	 * ...) have had the packet.  The module looks at lower devices when it
	 * installs a flow, so that all of them have to be installed anew.
	 */
	if (!capture.everywhere)
		selector.netns = capture.netns;
	if (!capture.everywhere && ethertype == ETH_P_ALL)
		selector.ifindex = capture.ifindex;
	chimney_revoke(&selector, CHIMNEY_CAPTURE);
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
	struct capture *found = bpf_map_lookup_elem(&captures, &key);
	struct chimney_selector selector = {};

	if (!found)
		return;
	selector.netns = found->netns;
	selector.ifindex = found->ifindex;
	capture_forget(key);
	chimney_revoke(&selector, CHIMNEY_CAPTURE);
}

SEC("fexit/__dev_remove_pack")
int BPF_PROG(capture_stop, struct packet_type *pt)
{
	bpf_preempt_disable();
	capture_ended((u64)pt);
	bpf_preempt_enable();
	return 0;
}

/* How long a list may be; what does not fit must not go unnoticed. */
#define SCAN_MAX	65536

void bpf_rcu_read_lock(void) __ksym;
void bpf_rcu_read_unlock(void) __ksym;

static __always_inline u64 list_next(u64 pos)
{
	return (u64)BPF_CORE_READ((struct list_head *)pos, next);
}

static __noinline int scan_taps(u64 head)
{
	u64 pos = head;
	int i;

	bpf_for(i, 0, SCAN_MAX) {
		pos = list_next(pos);
		if (!pos || pos == head)
			return 0;
		capture_add((void *)(pos - bpf_core_field_offset(struct packet_type, list)));
	}
	captures_lost = true;
	return 0;
}

static __noinline int scan_devices(u64 net)
{
	u64 head = net + bpf_core_field_offset(struct net, dev_base_head);
	u64 pos = head, dev;
	int i;

	bpf_for(i, 0, SCAN_MAX) {
		pos = list_next(pos);
		if (!pos || pos == head)
			return 0;
		dev = pos - bpf_core_field_offset(struct net_device, dev_list);
		scan_taps(dev + bpf_core_field_offset(struct net_device, ptype_all));
		scan_taps(dev + bpf_core_field_offset(struct net_device, ptype_specific));
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

	if (!hotdata || !base || !head)
		return -ENOENT;
	bpf_rcu_read_lock();
	scan_taps(hotdata + bpf_core_field_offset(struct net_hotdata, ptype_all));
	bpf_for(i, 0, 16)
		scan_taps(base + i * sizeof(struct list_head));
	bpf_for(i, 0, SCAN_MAX) {
		pos = list_next(pos);
		if (!pos || pos == head)
			break;
		scan_devices(pos - bpf_core_field_offset(struct net, list));
	}
	bpf_rcu_read_unlock();
	return captures_lost ? -E2BIG : 0;
}
