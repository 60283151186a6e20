/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rules of xtables that tell packets of one connection apart, or that say
 * something else of them after a while.  Most matches that do are watched
 * (evaluators.h).  Those here are not: "tcp" and "conntrack", which are too busy
 * for that, some that are rare, and sets, whose elements come and go without
 * anybody changing a rule.  iptables-nft has them in rules of nftables, which
 * packet_rules.h reads.  The tables of iptables-legacy are read here, in the
 * same manner: up to a match that no packet on the path passes.
 *
 * An element of an ipset may time out.  There is no event for that, hence while
 * a rule looks up such a set the flows of its namespace stay in the host.  It is
 * the same if some rule, for whatever packets, adds to sets, or deletes.
 */

/* uapi headers of xtables and ipset are not in BTF */
#define XT_INV_FRAG 0x20
#define XT_INV_PROTO 0x40
#define IPT_F_FRAG 0x01
#define IP6T_F_PROTO 0x01
#define XT_TCP_INV_FLAGS 0x04
#define XT_CONNTRACK_STATE 0x01
#define XT_CONNTRACK_EXPIRES 0x80
#define IPSET_EXT_TIMEOUT 0x01
#define IPSET_TYPE_MAC 0x04
#define IPSET_TYPE_NAME 0x10
#define IPSET_COUNTER_NONE 0

/* as userspace knows them: rules ... */
struct ipt_entry_head {
	u8 addresses[16];
	u8 interfaces[64];
	u16 proto;
	u8 flags;
	u8 invflags;
	u32 nfcache;
	u16 target_offset;
	u16 next_offset;
	u32 comefrom;
	u64 counters[2];
};

struct ip6t_entry_head {
	u8 addresses[64];
	u8 interfaces[64];
	u16 proto;
	u8 tos;
	u8 flags;
	u8 invflags;
	u32 nfcache;
	u16 target_offset;
	u16 next_offset;
	u32 comefrom;
	u64 counters[2];
};

/* ... their matches and targets ... */
struct xt_entry_part {
	u16 size;
	u16 name[3]; /* it begins here, and goes on after the next */
	u64 kernel;  /* what it is */
	u8 name_and_revision[16];
};

/* ... the match "tcp" ... */
struct xt_tcp_info {
	u16 ports[4];
	u8 option;
	u8 flags_mask;
	u8 flags;
	u8 invflags;
};

/* ... "conntrack" in all its revisions ... */
struct xt_conntrack_info {
	u8 addresses[128];
	u32 expires[2];
	u16 proto_and_ports[5];
	u16 flags;
	u16 invflags;
	u16 states; /* of the first revision just eight bits */
};

/* ... and "set", since revision 3 with counters, whose order has changed then */
struct xt_set_info {
	u16 index;
	u8 dim;
	u8 flags;
	u32 pad;
	struct {
		u8 op;
		u8 pad[7];
		u8 op_v4;
		u8 pad_v4[7];
	} packets, bytes;
};

/* of x_tables and ip_set, which may be modules or built in; what is used */
struct xt_match___some {
	const char name[29];
	u8 revision;
} __attribute__((preserve_access_index));

struct xt_target___some {
	const char name[29];
} __attribute__((preserve_access_index));

struct xt_pernet___some {
	struct list_head tables[NFPROTO_IPV6 + 1];
} __attribute__((preserve_access_index));

struct xt_table_info___some {
	unsigned int size;
	unsigned int hook_entry[NF_INET_POST_ROUTING + 1];
	unsigned int underflow[NF_INET_POST_ROUTING + 1];
	unsigned char entries[0];
} __attribute__((preserve_access_index));

struct xt_table___some {
	struct list_head list;
	struct xt_table_info___some *private;
	int priority;
} __attribute__((preserve_access_index));

struct ip_set_type___some {
	u16 features;
} __attribute__((preserve_access_index));

struct ip_set___some {
	struct ip_set_type___some *type;
	u8 extensions;
} __attribute__((preserve_access_index));

struct ip_set_net___some {
	struct ip_set___some **ip_set_list;
} __attribute__((preserve_access_index));

/* Where they keep what they have of a namespace; 0: not known (yet). */
__u32 xt_net_id;
__u32 ip_set_net_id;

enum rule_step {
	RULE_NEXT,    /* to the next expression or match */
	RULE_ENDS,    /* no packet that may take the path gets further */
	RULE_DIFFERS, /* between packets */
};

enum walk_step {
	WALK_ON,
	WALK_CLEAN,
	WALK_FOUND, /* a rule that matters, or something unexpected */
};

/* What rules do with sets whose elements do not time out, anywhere. */
struct walk_sets {
	u64 ip_sets; /* list of the namespace's */
	bool ipset_used;
	bool ipset_changed;
	bool nft_used;
	bool nft_changed;
};

/* A walk: tables, their rules, the matches of these. */
struct xt_walk {
	u64 pernet;
	u64 tables; /* head of the list, and where it has got to */
	u64 table;
	u64 entries;
	u64 entry;
	u64 end;
	u64 match;
	u64 match_end;
	u32 forward;	 /* where the chain FORWARD begins */
	u32 forward_end; /* its last rule */
	bool v6;
	bool tracked; /* conntrack comes before the table */
	u32 step;     /* in memory the verifier does not follow it */
};

/*
 * Names of expressions, matches and targets, as far as they fit into 8 bytes
 * with the final zero.
 */
static __always_inline bool is_named(const u64 *name, const char *text)
{
	return !__builtin_memcmp(name, text, sizeof(*name));
}

#define NAMED(text) is_named(&name, text "\0\0\0\0\0\0\0")

/* What a module keeps of a namespace, or 0. */
static __always_inline u64 net_generic(const struct net *net, u32 id)
{
	u64 pernet = 0;

	if (id)
		bpf_probe_read_kernel(&pernet, sizeof(pernet),
				      (void *)BPF_CORE_READ(net, gen) +
					      id * sizeof(void *));
	return pernet;
}

static __always_inline u64 ip_sets_of(const struct net *net)
{
	const struct ip_set_net___some *sets;

	if (!bpf_core_type_exists(struct ip_set_net___some))
		return 0;
	sets = (void *)net_generic(net, ip_set_net_id);
	return (u64)BPF_CORE_READ(sets, ip_set_list);
}

/* The bits that do not differ are those of FIN, SYN, RST and ACK. */
static __always_inline enum rule_step xt_match_tcp(u64 info)
{
	struct xt_tcp_info tcp = {};
	enum rule_step no, yes;
	u8 never;

	if (bpf_probe_read_kernel(&tcp, sizeof(tcp), (void *)info))
		return RULE_DIFFERS;
	no = tcp.invflags & XT_TCP_INV_FLAGS ? RULE_NEXT : RULE_ENDS;
	yes = tcp.invflags & XT_TCP_INV_FLAGS ? RULE_ENDS : RULE_NEXT;
	/* a bit that is not what it has to be, or not even looked at */
	never = tcp.flags & ~tcp.flags_mask;
	never |= (tcp.flags ^ TCP_FLAGS_VALUE) & tcp.flags_mask & TCP_FLAGS_KNOWN;
	if (never) {
		if (no == RULE_ENDS)
			return RULE_ENDS;
	} else {
		if (tcp.flags_mask & TCP_FLAGS_VARY)
			return RULE_DIFFERS;
		if (yes == RULE_ENDS)
			return RULE_ENDS;
	}
	return tcp.option ? RULE_DIFFERS : RULE_NEXT;
}

static __always_inline enum rule_step xt_match_conntrack(u64 info, u8 revision,
							 bool tracked)
{
	const struct xt_conntrack_info *ct = (void *)info;
	u16 flags, inverted, states;

	if (bpf_probe_read_kernel(&flags, sizeof(flags), &ct->flags) ||
	    bpf_probe_read_kernel(&inverted, sizeof(inverted), &ct->invflags) ||
	    bpf_probe_read_kernel(&states, sizeof(states), &ct->states))
		return RULE_DIFFERS;
	if (revision < 2)
		states &= 0xff;
	if (tracked && flags & ~inverted & XT_CONNTRACK_STATE &&
	    !(states & ~CT_STATES_FIRST))
		return RULE_ENDS;
	return flags & XT_CONNTRACK_EXPIRES ? RULE_DIFFERS : RULE_NEXT;
}

/* A set of sets may have any of them in it. */
static __always_inline enum rule_step xt_match_set(struct walk_sets *sets,
						   u64 info, u8 revision)
{
	const struct xt_set_info *of = (void *)info;
	const struct ip_set___some *set = NULL;
	u8 packets = 0, bytes = 0;
	u16 index;

	if (!bpf_core_type_exists(struct ip_set_net___some) || !sets->ip_sets ||
	    bpf_probe_read_kernel(&index, sizeof(index), &of->index))
		return RULE_DIFFERS;
	if (revision >= 3) {
		bpf_probe_read_kernel(&packets, 1,
				      revision == 3 ? &of->packets.op :
						      &of->packets.op_v4);
		bpf_probe_read_kernel(&bytes, 1,
				      revision == 3 ? &of->bytes.op :
						      &of->bytes.op_v4);
	}
	if (packets != IPSET_COUNTER_NONE || bytes != IPSET_COUNTER_NONE)
		return RULE_DIFFERS;
	bpf_probe_read_kernel(&set, sizeof(set),
			      (void *)sets->ip_sets + index * sizeof(set));
	if (!set || BPF_CORE_READ(set, extensions) & IPSET_EXT_TIMEOUT ||
	    BPF_CORE_READ(set, type, features) &
		    (IPSET_TYPE_MAC | IPSET_TYPE_NAME))
		return RULE_DIFFERS;
	sets->ipset_used = true;
	return RULE_NEXT;
}

/* A match of a rule, of iptables-legacy or of iptables-nft. */
static __noinline enum rule_step xt_match(struct walk_sets *sets, u64 match,
					  u64 info, bool tracked)
{
	const struct xt_match___some *of = (void *)match;
	u64 name = 0;
	u8 revision;

	if (!bpf_core_type_exists(struct xt_match___some))
		return RULE_DIFFERS;
	bpf_probe_read_kernel_str(&name, sizeof(name), &of->name);
	revision = BPF_CORE_READ(of, revision);
	if (NAMED("tcp"))
		return xt_match_tcp(info);
	if (NAMED("conntra"))
		return xt_match_conntrack(info, revision, tracked);
	if (NAMED("set"))
		return xt_match_set(sets, info, revision);
	/* an option that a SYN has, and a MAC address; a name that is none */
	if (NAMED("tcpmss") || NAMED("eui64") || !name)
		return RULE_DIFFERS;
	return RULE_NEXT;
}

/* Its target, whichever packets it is for. */
static __always_inline void xt_target(struct walk_sets *sets, u64 target)
{
	const struct xt_target___some *of = (void *)target;
	u64 name = 0;

	if (!bpf_core_type_exists(struct xt_target___some))
		return;
	bpf_probe_read_kernel_str(&name, sizeof(name), &of->name);
	if (NAMED("SET"))
		sets->ipset_changed = true;
}

static __always_inline enum walk_step xt_walk_match(struct xt_walk *walk,
						    struct walk_sets *sets)
{
	struct xt_entry_part *match = (void *)walk->match;
	u64 kernel = 0;
	u16 size = 0;

	bpf_probe_read_kernel(&size, sizeof(size), &match->size);
	bpf_probe_read_kernel(&kernel, sizeof(kernel), &match->kernel);
	NOW(walk->step) = xt_match(sets, kernel, (u64)(match + 1), walk->tracked);
	if (!size || NOW(walk->step) == RULE_DIFFERS)
		return WALK_FOUND;
	walk->match = NOW(walk->step) == RULE_ENDS ? walk->match_end :
						     walk->match + size;
	return WALK_ON;
}

/* The first bytes of a rule that say which packets it is for. */
static __always_inline bool xt_entry_met(struct xt_walk *walk, u64 entry)
{
	u64 offset = entry - walk->entries;
	u16 proto = 0;
	u8 flags = 0, inverted = 0;

	/* the path does not pass by the chain FORWARD */
	if (offset >= walk->forward && offset <= walk->forward_end)
		return false;
	if (walk->v6) {
		const struct ip6t_entry_head *head = (void *)entry;

		bpf_probe_read_kernel(&flags, 1, &head->flags);
		bpf_probe_read_kernel(&inverted, 1, &head->invflags);
		bpf_probe_read_kernel(&proto, sizeof(proto), &head->proto);
		if (!(flags & IP6T_F_PROTO))
			return true;
	} else {
		const struct ipt_entry_head *head = (void *)entry;

		bpf_probe_read_kernel(&flags, 1, &head->flags);
		bpf_probe_read_kernel(&inverted, 1, &head->invflags);
		bpf_probe_read_kernel(&proto, sizeof(proto), &head->proto);
		/* nor with fragments */
		if (flags & IPT_F_FRAG && !(inverted & XT_INV_FRAG))
			return false;
	}
	return !proto || (proto == IPPROTO_TCP) == !(inverted & XT_INV_PROTO);
}

static __always_inline enum walk_step xt_walk_entry(struct xt_walk *walk,
						    struct walk_sets *sets)
{
	u64 entry = walk->entry, kernel = 0;
	struct xt_entry_part *target;
	struct {
		u16 target;
		u16 next;
	} offset = {};

	if (walk->v6)
		bpf_probe_read_kernel(&offset, sizeof(offset),
				      &((struct ip6t_entry_head *)entry)
					       ->target_offset);
	else
		bpf_probe_read_kernel(&offset, sizeof(offset),
				      &((struct ipt_entry_head *)entry)
					       ->target_offset);
	if (!offset.next)
		return WALK_FOUND;
	target = (void *)(entry + offset.target);
	bpf_probe_read_kernel(&kernel, sizeof(kernel), &target->kernel);
	xt_target(sets, kernel);
	walk->match = entry + (walk->v6 ? sizeof(struct ip6t_entry_head) :
					  sizeof(struct ipt_entry_head));
	NOW(walk->match_end) = (u64)target;
	if (!xt_entry_met(walk, entry))
		NOW(walk->match_end) = 0;
	walk->entry = entry + offset.next;
	return WALK_ON;
}

static __always_inline void xt_walk_family(struct xt_walk *walk, bool v6)
{
	walk->v6 = v6;
	walk->tables = walk->pernet +
		       (v6 ? bpf_core_field_offset(struct xt_pernet___some,
						   tables[NFPROTO_IPV6]) :
			     bpf_core_field_offset(struct xt_pernet___some,
						   tables[NFPROTO_IPV4]));
	walk->table = walk->tables;
}

static __always_inline enum walk_step xt_walk_table(struct xt_walk *walk)
{
	const struct xt_table_info___some *info;
	const struct xt_table___some *table;

	walk->table = list_next(walk->table);
	if (!walk->table)
		return WALK_FOUND;
	if (walk->table == walk->tables) {
		if (walk->v6)
			return WALK_CLEAN;
		xt_walk_family(walk, true);
		return WALK_ON;
	}
	table = (void *)(walk->table -
			 bpf_core_field_offset(struct xt_table___some, list));
	info = BPF_CORE_READ(table, private);
	if (!info)
		return WALK_FOUND;
	walk->tracked = BPF_CORE_READ(table, priority) > NF_IP_PRI_CONNTRACK;
	walk->forward = BPF_CORE_READ(info, hook_entry[NF_INET_FORWARD]);
	walk->forward_end = BPF_CORE_READ(info, underflow[NF_INET_FORWARD]);
	walk->entries = (u64)info +
			bpf_core_field_offset(struct xt_table_info___some,
					      entries);
	walk->entry = walk->entries;
	walk->end = walk->entries + BPF_CORE_READ(info, size);
	return WALK_ON;
}

static __noinline enum walk_step xt_walk_on(struct xt_walk *walk,
					    struct walk_sets *sets)
{
	if (walk->match < walk->match_end)
		return xt_walk_match(walk, sets);
	if (walk->entry < walk->end)
		return xt_walk_entry(walk, sets);
	return xt_walk_table(walk);
}

/* A kernel that keeps its rules in another way than is known here? */
static __always_inline bool xt_rules_readable(void)
{
	return bpf_core_type_exists(struct xt_pernet___some) &&
	       bpf_core_type_exists(struct xt_table___some) &&
	       bpf_core_type_exists(struct xt_table_info___some) &&
	       bpf_core_type_exists(struct xt_match___some) &&
	       bpf_core_type_exists(struct xt_target___some);
}
