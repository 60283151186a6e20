/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Rules of nftables that tell packets of one connection apart, by what the gate
 * cannot see them do (each_packet.h): their length, TCP flags or TTL, the time,
 * how much a connection has carried.  These are evaluated for every packet of
 * every connection, by functions too busy to be watched.  So the rule set is
 * read instead: after each transaction, and when the gate is loaded.  While it
 * has such a rule, all flows of its namespace stay in the host.  It is the same
 * for sets that change by themselves: whose elements time out, or to which a
 * rule adds, for whatever packets.  There is no event for a timeout.
 *
 * What is read are the expressions that the kernel evaluates, whatever tool has
 * made them, once for IPv4 and once for IPv6.  What is the same for each packet
 * that may take the path is no difference: plain TCP without FIN, SYN and RST,
 * with ACK, no fragment, no IP options, of an established connection.  A rule is
 * read up to a comparison that no such packet passes ("ct state new", "tcp flags
 * syn", "meta l4proto udp").  What is not understood counts as a difference.
 * Behind "ct state established accept" a base chain has packets of those flows
 * only that conntrack does not hold: for others what follows is no difference.
 * (Single packets of a tracked connection may be INVALID; TCP discards these, as
 * a rule, and "ct state invalid drop" is no difference either.)
 * Of rules for other packets (udp, a chain of a router) what they do with sets
 * is read.  Then come the tables of iptables-legacy (xt_rules.h).
 *
 * Transactions of one namespace may be read at the same time, or the earlier
 * one later: a walk has a number, and only the last one to begin can find the
 * rule set clean.
 */

/* uapi headers of netfilter are not in BTF */
#define NFPROTO_INET 1
#define NF_INET_FORWARD 2
#define NF_INET_POST_ROUTING 4
#define NETLINK_URELEASE 0x0001
#define NETLINK_NETFILTER 12
#define NF_IP_PRI_CONNTRACK (-200)
#define NFT_SET_CONSTANT 0x02
#define NFT_SET_TIMEOUT 0x10
#define NFT_SET_EVAL 0x20
#define NFT_EXPR_OF_POINTER 16 /* size of an expression */
#define NFT_CHAIN_BASE 1
#define NFT_PAYLOAD_NETWORK_HEADER 1
#define NFT_PAYLOAD_TRANSPORT_HEADER 2
#define NFT_BITWISE_MASK_XOR 0
#define NFT_EXTHDR_F_PRESENT 1
#define NFT_EXTHDR_OP_IPV6 0
#define NFT_EXTHDR_OP_IPV4 2
#define NFT_REG_VERDICT 0
#define NF_ACCEPT 1

enum nft_meta_key {
	META_PROTOCOL = 1,
	META_PRIORITY,
	META_MARK,
	META_IIF,
	META_OIF,
	META_IIFNAME,
	META_OIFNAME,
	META_IIFTYPE,
	META_OIFTYPE,
	META_SKUID,
	META_SKGID,
	META_NFTRACE,
	META_RTCLASSID,
	META_SECMARK,
	META_NFPROTO,
	META_L4PROTO,
	META_PKTTYPE = 19,
	META_IIFGROUP = 21,
	META_OIFGROUP,
	META_CGROUP,
	META_SECPATH = 25,
	META_IIFKIND,
	META_OIFKIND,
	META_SDIF = 33,
	META_SDIFNAME,
};

enum nft_ct_key {
	CT_STATE,
	CT_DIRECTION,
	CT_STATUS,
	CT_MARK,
	CT_SECMARK,
	CT_HELPER = 6,
	CT_L3PROTOCOL,
	CT_SRC,
	CT_DST,
	CT_PROTOCOL,
	CT_PROTO_SRC,
	CT_PROTO_DST,
	CT_LABELS,
	CT_ZONE = 17,
	CT_EVENTMASK,
	CT_SRC_IP,
	CT_DST_IP,
	CT_SRC_IP6,
	CT_DST_IP6,
	CT_ID,
};

enum nft_rt_key {
	RT_XFRM = 4,
};

#define KEY(key) (1ULL << (key))
#define KEYS(from, to) (KEY((to) + 1) - KEY(from))

/* which are the same for all packets of a flow, and which may be set as well */
#define META_SAME                                                 \
	(KEY(META_PROTOCOL) | KEYS(META_MARK, META_SECMARK) |     \
	 KEY(META_PKTTYPE) | KEYS(META_IIFGROUP, META_OIFGROUP) | \
	 KEYS(META_SECPATH, META_OIFKIND) | KEYS(META_SDIF, META_SDIFNAME))
#define META_SET                                              \
	(KEYS(META_PRIORITY, META_MARK) | KEY(META_NFTRACE) | \
	 KEY(META_SECMARK) | KEY(META_PKTTYPE))
#define CT_SAME                                                        \
	(KEYS(CT_DIRECTION, CT_SECMARK) | KEYS(CT_HELPER, CT_LABELS) | \
	 KEYS(CT_ZONE, CT_ID))
#define CT_SET                                        \
	(KEYS(CT_MARK, CT_SECMARK) | KEY(CT_LABELS) | \
	 KEYS(CT_ZONE, CT_EVENTMASK))

/*
 * ESTABLISHED, UNTRACKED, or INVALID without conntrack.  Before it has seen a
 * packet that may be NEW as well, if a rule has set its zone.
 */
#define CT_STATES 0x43
/* of a connection's first packets: RELATED and NEW */
#define CT_STATES_FIRST 0x0c
#define CT_ESTABLISHED 0x02

/* Bits of TCP's byte of flags: which differ, which are known, and what they are. */
#define TCP_FLAGS_VARY 0xe8
#define TCP_FLAGS_KNOWN 0x17
#define TCP_FLAGS_VALUE 0x10

#include "hooks.h"
#include "xt_rules.h"

/* of nf_tables, which may be a module or built in; what is used of it */
struct nftables_pernet___some {
	struct list_head tables;
	struct list_head commit_list;
} __attribute__((preserve_access_index));

struct nft_table___some {
	struct list_head list;
	struct list_head chains;
	u16 family:6;
	char *name;
} __attribute__((preserve_access_index));

struct nft_chain___some {
	void *blob_gen_0;
	void *blob_gen_1;
	struct list_head list;
	u8 flags:5;
} __attribute__((preserve_access_index));

struct nft_base_chain___some {
	struct nf_hook_ops ops;
	struct nft_chain___some chain;
} __attribute__((preserve_access_index));

struct nft_rule_blob___some {
	unsigned char data[0];
} __attribute__((preserve_access_index));

struct nft_rule_dp___some {
	u64 is_last:1;
	u64 dlen:12;
	unsigned char data[0];
} __attribute__((preserve_access_index));

struct nft_expr_type___some {
	const char *name;
} __attribute__((preserve_access_index));

struct nft_expr_ops___some {
	unsigned int size;
	const struct nft_expr_type___some *type;
	void *data;
} __attribute__((preserve_access_index));

struct nft_expr___some {
	const struct nft_expr_ops___some *ops;
	unsigned char data[0];
} __attribute__((preserve_access_index));

struct nft_payload___some {
	enum { SOME_BASE } base:8;
	u8 offset;
	u8 len;
	u8 dreg;
} __attribute__((preserve_access_index));

struct nft_meta___some {
	enum { SOME_META } key:8;
	u8 dreg;
} __attribute__((preserve_access_index));

struct nft_ct___some {
	enum { SOME_CT } key:8;
	u8 dreg;
} __attribute__((preserve_access_index));

struct nft_rt___some {
	enum { SOME_RT } key:8;
	u8 dreg;
} __attribute__((preserve_access_index));

struct nft_exthdr___some {
	u8 op;
	u8 dreg;
	u8 flags;
} __attribute__((preserve_access_index));

struct nft_immediate_expr___some {
	struct {
		u32 data[4];
	} data;
	u8 dreg;
} __attribute__((preserve_access_index));

struct nft_bitwise___some {
	u8 sreg;
	u8 dreg;
	enum { SOME_BITWISE } op:8;
	u8 len;
	struct {
		u32 data[4];
	} mask, xor;
} __attribute__((preserve_access_index));

struct nft_bitwise_fast_expr___some {
	u32 mask, xor;
	u8 sreg;
	u8 dreg;
} __attribute__((preserve_access_index));

struct nft_cmp_fast_expr___some {
	u32 data;
	u32 mask;
	u8 sreg;
	bool inv;
} __attribute__((preserve_access_index));

struct nft_set___some {
	u16 flags:13;
} __attribute__((preserve_access_index));

/* the same of nft_dynset and nft_objref_map */
struct nft_lookup___some {
	struct nft_set___some *set;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, u64);
	__type(value, struct chimney_rule_walks);
} rule_walks SEC(".maps");

/* There was no room for a namespace: from then on, all flows stay in the host. */
bool rule_walks_lost;
/* Some walk has found something.  Before that, no map is looked into. */
bool walk_found;

/* Where nf_tables keeps what it has of a namespace; 0: not known (yet). */
__u32 nft_net_id;
/* Those of up to 32 bits have the same name as others, and other contents. */
__u64 nft_cmp_fast;
__u64 nft_bitwise_fast;

/*
 * What of the headers is the same in all packets of a flow that take the path.
 * Each has room for the four bytes of a register, wherever these begin.
 */
#define IP4_BYTES 20
#define IP6_BYTES 40
#define TCP_BYTES 20
#define HEADER_BYTES (IP6_BYTES + 3)
#define PORTS 4		 /* the TCP header begins with them */
#define IP4_ADDRESSES 12 /* and IP headers end with these */
#define IP6_ADDRESSES 8

/* bits that may differ: IPv4's TOS, length, id, DF, TTL and checksum ... */
static const u8 ip4_varies[HEADER_BYTES] = {
	[1 ... 5] = 0xff,
	[6] = 0xc0,
	[8] = 0xff,
	[10 ... 11] = 0xff,
};

/* ... IPv6's traffic class, flow label, length and hop limit ... */
static const u8 ip6_varies[HEADER_BYTES] = {
	[0] = 0x0f,
	[1 ... 5] = 0xff,
	[7] = 0xff,
};

/* ... and all of TCP's but the ports and FIN, SYN, RST and ACK */
static const u8 tcp_varies[HEADER_BYTES] = {
	[4 ... 12] = 0xff,
	[13] = TCP_FLAGS_VARY,
	[14 ... 19] = 0xff,
};

/* bits that are known; without ACK, TCP takes no notice of a packet */
static const u8 ip4_known[HEADER_BYTES] = {
	[0] = 0xff,
	[6] = 0x3f,
	[7] = 0xff,
	[9] = 0xff,
};

static const u8 ip6_known[HEADER_BYTES] = { [0] = 0xf0, [6] = 0xff };
static const u8 tcp_known[HEADER_BYTES] = { [13] = TCP_FLAGS_KNOWN };

/* and what they are */
static const u8 ip4_value[HEADER_BYTES] = {
	[0] = 0x45,
	[9] = IPPROTO_TCP,
};

static const u8 ip6_value[HEADER_BYTES] = {
	[0] = 0x60,
	[6] = IPPROTO_TCP,
};

static const u8 tcp_value[HEADER_BYTES] = { [13] = TCP_FLAGS_VALUE };

/* What is in a register of which more is known than that it never differs. */
struct rule_value {
	u32 varies;
	u32 known;
	u32 value;
	u32 reg;
};

/* Expressions of one kind have their operations in common. */
struct walk_kind {
	u64 ops;
	u64 name; /* as much of it as fits */
	u32 size;
};

#define WALK_KINDS 16

/*
 * A walk: tables, their chains, the rules of these, their expressions.  It is
 * not on the stack, whose contents the verifier would follow.
 */
struct walk {
	u64 tables; /* head of the list, and where it has got to */
	u64 table;
	u64 chains;
	u64 chain;
	u64 rule; /* the next one, or 0 */
	u64 expr;
	u64 end; /* of the rule */
	struct rule_value now;
	struct walk_sets sets;
	struct xt_walk xt;
	u32 step; /* in memory the verifier does not follow it */
	u32 family;
	bool v6;       /* a table of both is walked for each of them */
	bool tracked;  /* it is a chain for which conntrack comes before */
	bool counts;   /* it is one that the path passes by */
	bool met;      /* nothing has kept the path's packets from here */
	bool accepted; /* ... but those of what is established in conntrack */
	bool sure;     /* these do come here, in their chain and rule */
	u32 state;     /* what they have in this register as their state, */
	u32 state_reg; /* or 0 */
	bool behind;   /* what differs was found where they do not come */
	bool used_behind; /* likewise a set is used that rules change */
	bool gen_1;
	struct walk_kind kinds[WALK_KINDS]; /* of late */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct walk);
} walk_state SEC(".maps");

/* How much of a rule set is read: tables, chains, rules, expressions. */
#define WALK_MAX 262144

/* Only one value that differs is followed at a time. */
static __always_inline enum rule_step rule_load(struct rule_value *now, u32 reg,
						u32 varies, u32 known, u32 value)
{
	if (now->varies && now->reg != reg)
		return RULE_DIFFERS;
	now->varies = varies;
	now->known = known;
	now->value = value;
	now->reg = reg;
	return RULE_NEXT;
}

/* Something that does not load, or not only: it may use what differs. */
static __always_inline enum rule_step rule_use(struct rule_value *now)
{
	if (now->varies)
		return RULE_DIFFERS;
	now->known = 0;
	return RULE_NEXT;
}

/* Four bytes at @pos of a header, as they are in a register. */
#define REGISTER(bytes, pos)                                \
	((u32)(bytes)[pos] | (u32)(bytes)[(pos) + 1] << 8 | \
	 (u32)(bytes)[(pos) + 2] << 16 | (u32)(bytes)[(pos) + 3] << 24)

static __noinline enum rule_step rule_payload(struct rule_value *now, u64 priv,
					      bool v6)
{
	const struct nft_payload___some *payload = (void *)priv;
	u32 pos = BPF_CORE_READ(payload, offset);
	u32 len = BPF_CORE_READ(payload, len);
	u32 reg = BPF_CORE_READ(payload, dreg);
	u32 varies, known, value, mask, size, same_from = 0, same_to;
	u32 base = BPF_CORE_READ_BITFIELD_PROBED(payload, base);

	if (base == NFT_PAYLOAD_TRANSPORT_HEADER) {
		size = TCP_BYTES;
		same_to = PORTS;
	} else if (base == NFT_PAYLOAD_NETWORK_HEADER) {
		size = v6 ? IP6_BYTES : IP4_BYTES;
		same_from = v6 ? IP6_ADDRESSES : IP4_ADDRESSES;
		same_to = size;
	} else {
		return RULE_DIFFERS;
	}
	if (pos >= same_from && pos + len <= same_to)
		return rule_load(now, reg, 0, 0, 0);
	/* what a packet does not have ends the rule */
	if (pos + len > size || len > sizeof(u32) || pos >= IP6_BYTES)
		return RULE_DIFFERS;

	if (base == NFT_PAYLOAD_TRANSPORT_HEADER) {
		varies = REGISTER(tcp_varies, pos);
		known = REGISTER(tcp_known, pos);
		value = REGISTER(tcp_value, pos);
	} else if (v6) {
		varies = REGISTER(ip6_varies, pos);
		known = REGISTER(ip6_known, pos);
		value = REGISTER(ip6_value, pos);
	} else {
		varies = REGISTER(ip4_varies, pos);
		known = REGISTER(ip4_known, pos);
		value = REGISTER(ip4_value, pos);
	}
	/* the rest of a register is zero */
	mask = len < sizeof(u32) ? (1U << (8 * len)) - 1 : ~0U;
	return rule_load(now, reg, varies & mask, known | ~mask, value & mask);
}

/*
 * Not those of a bridge.  A statement that sets something looks the same: it
 * uses what is in the register.
 */
static __noinline enum rule_step rule_meta(struct rule_value *now, u64 priv,
					   bool v6)
{
	const struct nft_meta___some *meta = (void *)priv;
	u32 reg = BPF_CORE_READ(meta, dreg);
	u64 key = KEY(BPF_CORE_READ_BITFIELD_PROBED(meta, key) & 63);

	if (now->varies && key & META_SET)
		return RULE_DIFFERS;
	if (key & META_SAME)
		return rule_load(now, reg, 0, 0, 0);
	if (key == KEY(META_NFPROTO))
		return rule_load(now, reg, 0, ~0U,
				 v6 ? NFPROTO_IPV6 : NFPROTO_IPV4);
	if (key == KEY(META_L4PROTO))
		return rule_load(now, reg, 0, ~0U, IPPROTO_TCP);
	/* set or loaded: it counts when it is used */
	if (key == KEY(META_PRIORITY))
		return rule_load(now, reg, ~0U, 0, 0);
	return RULE_DIFFERS;
}

static __always_inline enum rule_step rule_ct(struct rule_value *now, u64 priv,
					      bool tracked)
{
	const struct nft_ct___some *ct = (void *)priv;
	u32 reg;
	u64 key;

	/* in a module of its own, which was not there when the gate was loaded */
	if (!bpf_core_type_exists(struct nft_ct___some))
		return RULE_DIFFERS;
	reg = BPF_CORE_READ(ct, dreg);
	key = KEY(BPF_CORE_READ_BITFIELD_PROBED(ct, key) & 63);
	if (now->varies && key & CT_SET)
		return RULE_DIFFERS;
	if (key == KEY(CT_STATE))
		return rule_load(now, reg, 0, tracked ? ~CT_STATES : 0, 0);
	if (key & CT_SAME)
		return rule_load(now, reg, 0, 0, 0);
	return RULE_DIFFERS;
}

/* The path's packets have TCP options, but none of IP and no further headers. */
static __always_inline enum rule_step rule_exthdr(struct rule_value *now, u64 priv)
{
	const struct nft_exthdr___some *exthdr = (void *)priv;
	u8 op = BPF_CORE_READ(exthdr, op);

	if (op != NFT_EXTHDR_OP_IPV4 && op != NFT_EXTHDR_OP_IPV6)
		return RULE_DIFFERS;
	if (!(BPF_CORE_READ(exthdr, flags) & NFT_EXTHDR_F_PRESENT))
		return RULE_ENDS;
	return rule_load(now, BPF_CORE_READ(exthdr, dreg), 0, ~0U, 0);
}

static __always_inline enum rule_step rule_mask(struct rule_value *now, u32 sreg,
						u32 dreg, u32 mask, u32 xor)
{
	if (sreg != now->reg || dreg != now->reg)
		return rule_use(now);
	now->varies &= mask;
	now->known |= ~mask;
	now->value = (now->value & mask) ^ xor;
	return RULE_NEXT;
}

static __always_inline enum rule_step rule_bitwise(struct rule_value *now,
						   u64 priv)
{
	const struct nft_bitwise___some *bitwise = (void *)priv;

	if (BPF_CORE_READ_BITFIELD_PROBED(bitwise, op) != NFT_BITWISE_MASK_XOR ||
	    BPF_CORE_READ(bitwise, len) > sizeof(u32))
		return rule_use(now);
	return rule_mask(now, BPF_CORE_READ(bitwise, sreg),
			 BPF_CORE_READ(bitwise, dreg),
			 BPF_CORE_READ(bitwise, mask.data[0]),
			 BPF_CORE_READ(bitwise, xor.data[0]));
}

/* the same for just 32 bits */
static __always_inline enum rule_step rule_bitwise_fast(struct rule_value *now,
							u64 priv)
{
	const struct nft_bitwise_fast_expr___some *bitwise = (void *)priv;

	return rule_mask(now, BPF_CORE_READ(bitwise, sreg),
			 BPF_CORE_READ(bitwise, dreg),
			 BPF_CORE_READ(bitwise, mask),
			 BPF_CORE_READ(bitwise, xor));
}

/* Of no more than 32 bits.  Others use a register in a way not followed. */
static __always_inline enum rule_step rule_cmp(struct rule_value *now, u64 priv)
{
	const struct nft_cmp_fast_expr___some *cmp = (void *)priv;
	u32 mask = BPF_CORE_READ(cmp, mask), data = BPF_CORE_READ(cmp, data);
	bool inv = BPF_CORE_READ(cmp, inv);

	/* other registers never differ */
	if (BPF_CORE_READ(cmp, sreg) != now->reg)
		return RULE_NEXT;
	if ((now->value ^ data) & now->known & mask)
		return inv ? RULE_NEXT : RULE_ENDS;
	if (now->varies & mask)
		return RULE_DIFFERS;
	return (now->known & mask) == mask && inv ? RULE_ENDS : RULE_NEXT;
}

/* A value or a verdict; the verdict's register is 0. */
static __always_inline enum rule_step rule_immediate(struct rule_value *now,
						     u64 priv)
{
	const struct nft_immediate_expr___some *immediate = (void *)priv;

	if (BPF_CORE_READ(immediate, dreg) == now->reg)
		now->varies = 0;
	now->known = 0;
	return RULE_NEXT;
}

/* Whether it was made for elements that time out, or that rules add. */
static __always_inline bool set_changes(const struct nft_set___some *set)
{
	return BPF_CORE_READ_BITFIELD_PROBED(set, flags) &
	       (NFT_SET_TIMEOUT | NFT_SET_EVAL);
}

/* In a set, or in a map, of objects as well. */
static __always_inline enum rule_step rule_lookup(struct walk *walk, u64 priv)
{
	const struct nft_lookup___some *lookup = (void *)priv;
	const struct nft_set___some *set = BPF_CORE_READ(lookup, set);

	if (!set || set_changes(set))
		return RULE_DIFFERS;
	if (!(BPF_CORE_READ_BITFIELD_PROBED(set, flags) & NFT_SET_CONSTANT))
		walk->sets.nft_used = true;
	return rule_use(&walk->now);
}

/* What a rule does with sets, whichever packets come to it. */
static __always_inline void rule_sets(struct walk *walk, u64 ops, u64 name)
{
	u64 priv = walk->expr +
		   bpf_core_field_offset(struct nft_expr___some, data);
	const struct nft_expr_ops___some *of = (void *)ops;
	const struct nft_lookup___some *dynset = (void *)priv;

	if (NAMED("target"))
		xt_target(&walk->sets, (u64)BPF_CORE_READ(of, data));
	/* a set that has been made for this is found by who looks it up */
	if (NAMED("dynset") && !set_changes(BPF_CORE_READ(dynset, set)))
		walk->sets.nft_changed = true;
}

/* Next hop and realm may be others tomorrow, on the same device. */
static __always_inline enum rule_step rule_rt(struct rule_value *now, u64 priv)
{
	const struct nft_rt___some *rt = (void *)priv;

	if (!bpf_core_type_exists(struct nft_rt___some) ||
	    BPF_CORE_READ_BITFIELD_PROBED(rt, key) != RT_XFRM)
		return RULE_DIFFERS;
	return rule_use(now);
}

static __noinline enum rule_step rule_expr(struct walk *walk, u64 ops, u64 name)
{
	u64 priv = walk->expr +
		   bpf_core_field_offset(struct nft_expr___some, data);
	const struct nft_expr_ops___some *of = (void *)ops;
	struct rule_value *now = &walk->now;

	if (ops == nft_cmp_fast)
		return rule_cmp(now, priv);
	if (ops == nft_bitwise_fast)
		return rule_bitwise_fast(now, priv);
	if (NAMED("payload"))
		return rule_payload(now, priv, walk->v6);
	if (NAMED("meta"))
		return rule_meta(now, priv, walk->v6);
	if (NAMED("ct"))
		return rule_ct(now, priv, walk->tracked);
	if (NAMED("exthdr"))
		return rule_exthdr(now, priv);
	if (NAMED("rt"))
		return rule_rt(now, priv);
	if (NAMED("bitwise"))
		return rule_bitwise(now, priv);
	if (NAMED("immedia"))
		return rule_immediate(now, priv);
	if (NAMED("inner"))
		return RULE_DIFFERS;
	if (NAMED("lookup"))
		return rule_lookup(walk, priv);
	/* one object, or a map */
	if (NAMED("objref"))
		return BPF_CORE_READ(of, size) <= NFT_EXPR_OF_POINTER ?
			       rule_use(now) :
			       rule_lookup(walk, priv);
	if (NAMED("match"))
		return xt_match(&walk->sets, (u64)BPF_CORE_READ(of, data), priv,
				walk->tracked);
	/* these use no register */
	if (NAMED("counter") || NAMED("log") || NAMED("limit") ||
	    NAMED("quota") || NAMED("target") || NAMED("reject"))
		return RULE_NEXT;
	return rule_use(now);
}

static __always_inline void rule_state(struct walk *walk, u32 reg, u32 state)
{
	walk->state_reg = reg;
	walk->state = state;
}

/* Follows what is established through an expression, "accept" in particular. */
static __noinline int rule_established(struct walk *walk, u64 ops, u64 name)
{
	u64 priv = walk->expr +
		   bpf_core_field_offset(struct nft_expr___some, data);
	const struct nft_immediate_expr___some *immediate = (void *)priv;
	const struct nft_bitwise_fast_expr___some *bitwise = (void *)priv;
	const struct nft_cmp_fast_expr___some *cmp = (void *)priv;
	const struct nft_ct___some *ct = (void *)priv;
	u32 reg = walk->state_reg;

	if (!walk->sure || NAMED("counter"))
		return 0;
	if (NAMED("ct") && bpf_core_type_exists(struct nft_ct___some) &&
	    BPF_CORE_READ_BITFIELD_PROBED(ct, key) == CT_STATE) {
		rule_state(walk, BPF_CORE_READ(ct, dreg), CT_ESTABLISHED);
	} else if (ops == nft_bitwise_fast && reg &&
		   BPF_CORE_READ(bitwise, sreg) == reg &&
		   BPF_CORE_READ(bitwise, dreg) == reg) {
		rule_state(walk, reg,
			   (walk->state & BPF_CORE_READ(bitwise, mask)) ^
				   BPF_CORE_READ(bitwise, xor));
	} else if (ops == nft_cmp_fast && reg && BPF_CORE_READ(cmp, sreg) == reg) {
		walk->sure = ((walk->state & BPF_CORE_READ(cmp, mask)) ==
			      BPF_CORE_READ(cmp, data)) !=
			     BPF_CORE_READ(cmp, inv);
	} else {
		walk->accepted |= NAMED("immedia") &&
				  BPF_CORE_READ(immediate, dreg) ==
					  NFT_REG_VERDICT &&
				  BPF_CORE_READ(immediate, data.data[0]) ==
					  NF_ACCEPT;
		walk->sure = false;
	}
	return 0;
}

static __always_inline struct walk_kind *walk_kind(struct walk *walk, u64 ops)
{
	struct walk_kind *kind = &walk->kinds[ops / 128 % WALK_KINDS];
	const struct nft_expr_ops___some *of = (void *)ops;

	if (kind->ops == ops)
		return kind;
	kind->ops = ops;
	kind->name = 0;
	bpf_probe_read_kernel_str(&kind->name, sizeof(kind->name),
				  BPF_CORE_READ(of, type, name));
	kind->size = BPF_CORE_READ(of, size);
	return kind;
}

static __always_inline enum walk_step walk_expr(struct walk *walk)
{
	const struct nft_expr___some *expr = (void *)walk->expr;
	u64 ops = (u64)BPF_CORE_READ(expr, ops);
	struct walk_kind *kind = walk_kind(walk, ops);

	rule_sets(walk, ops, kind->name);
	if (walk->met) {
		bool used = walk->sets.nft_used, ip_used = walk->sets.ipset_used;

		NOW(walk->step) = rule_expr(walk, ops, kind->name);
		if (NOW(walk->step) == RULE_DIFFERS && !walk->accepted)
			return WALK_FOUND;
		if (walk->accepted) {
			walk->behind |= NOW(walk->step) == RULE_DIFFERS;
			walk->used_behind |= walk->sets.nft_used != used ||
					     walk->sets.ipset_used != ip_used;
			walk->sets.nft_used = used;
			walk->sets.ipset_used = ip_used;
		}
		walk->met = NOW(walk->step) == RULE_NEXT;
		rule_established(walk, ops, kind->name);
	}
	walk->expr += kind->size;
	return kind->size ? WALK_ON : WALK_FOUND;
}

/* As packets meet them now: what is being changed has a walk of its own. */
static __always_inline enum walk_step walk_rule(struct walk *walk)
{
	const struct nft_rule_dp___some *rule = (void *)walk->rule;

	if (BPF_CORE_READ_BITFIELD_PROBED(rule, is_last)) {
		walk->rule = 0;
		return WALK_ON;
	}
	walk->expr = walk->rule +
		     bpf_core_field_offset(struct nft_rule_dp___some, data);
	walk->end = walk->expr + BPF_CORE_READ_BITFIELD_PROBED(rule, dlen);
	walk->rule = walk->end;
	walk->met = walk->counts;
	walk->sure = walk->met && walk->tracked && !walk->accepted;
	walk->state_reg = 0;
	__builtin_memset(&walk->now, 0, sizeof(walk->now));
	return WALK_ON;
}

/*
 * Whether the path passes by a chain.  Not by a router's, and not by those of
 * ingress either, through which its packets go.
 */
static __always_inline bool chain_counts(struct walk *walk, u64 chain)
{
	const struct nft_chain___some *any = (void *)chain;
	const struct nft_base_chain___some *base;
	u32 hook;

	walk->tracked = false;
	walk->accepted = false;
	if (!(BPF_CORE_READ_BITFIELD_PROBED(any, flags) & NFT_CHAIN_BASE))
		return true;
	base = (void *)(chain - bpf_core_field_offset(struct nft_base_chain___some,
						      chain));
	hook = BPF_CORE_READ(base, ops.hooknum);
	walk->tracked = BPF_CORE_READ(base, ops.priority) > NF_IP_PRI_CONNTRACK;
	return hook != NF_INET_FORWARD && hook <= NF_INET_POST_ROUTING;
}

static __always_inline enum walk_step walk_chain(struct walk *walk)
{
	const struct nft_chain___some *chain;
	u64 blob;

	walk->chain = list_next(walk->chain);
	if (!walk->chain)
		return WALK_FOUND;
	if (walk->chain == walk->chains) {
		if (walk->family == NFPROTO_INET && !walk->v6)
			walk->v6 = true;
		else
			walk->chains = 0;
		return WALK_ON;
	}
	chain = (void *)(walk->chain -
			 bpf_core_field_offset(struct nft_chain___some, list));
	walk->counts = chain_counts(walk, (u64)chain);
	blob = walk->gen_1 ? (u64)BPF_CORE_READ(chain, blob_gen_1) :
			     (u64)BPF_CORE_READ(chain, blob_gen_0);
	if (!blob)
		return WALK_FOUND;
	walk->rule = blob +
		     bpf_core_field_offset(struct nft_rule_blob___some, data);
	return WALK_ON;
}

static __always_inline enum walk_step walk_table(struct walk *walk)
{
	const struct nft_table___some *table;

	walk->table = list_next(walk->table);
	if (!walk->table)
		return WALK_FOUND;
	if (walk->table == walk->tables)
		return WALK_CLEAN;
	table = (void *)(walk->table -
			 bpf_core_field_offset(struct nft_table___some, list));
	walk->family = BPF_CORE_READ_BITFIELD_PROBED(table, family);
	/* the path's packets come by those of others */
	if (walk->family != NFPROTO_INET && !each_packet_ip(walk->family))
		return WALK_ON;
	walk->v6 = walk->family == NFPROTO_IPV6;
	walk->chains = (u64)table +
		       bpf_core_field_offset(struct nft_table___some, chains);
	walk->chain = walk->chains;
	return WALK_ON;
}

static __noinline enum walk_step walk_on(struct walk *walk)
{
	if (walk->expr < walk->end)
		return walk_expr(walk);
	if (walk->rule)
		return walk_rule(walk);
	if (walk->chains)
		return walk_chain(walk);
	return walk_table(walk);
}

/* A kernel that keeps its rules in another way than is known here? */
static __always_inline bool packet_rules_readable(void)
{
	return bpf_core_type_exists(struct nftables_pernet___some) &&
	       bpf_core_type_exists(struct nft_table___some) &&
	       bpf_core_field_exists(struct nft_chain___some, blob_gen_0) &&
	       bpf_core_type_exists(struct nft_base_chain___some) &&
	       bpf_core_type_exists(struct nft_rule_blob___some) &&
	       bpf_core_field_exists(struct nft_rule_dp___some, is_last) &&
	       bpf_core_type_exists(struct nft_expr___some) &&
	       bpf_core_type_exists(struct nft_payload___some) &&
	       bpf_core_type_exists(struct nft_meta___some) &&
	       bpf_core_type_exists(struct nft_exthdr___some) &&
	       bpf_core_type_exists(struct nft_immediate_expr___some) &&
	       bpf_core_type_exists(struct nft_bitwise___some) &&
	       bpf_core_type_exists(struct nft_bitwise_fast_expr___some) &&
	       bpf_core_type_exists(struct nft_cmp_fast_expr___some) &&
	       bpf_core_type_exists(struct nft_set___some) &&
	       bpf_core_type_exists(struct nft_lookup___some);
}

/* Whether nftables has none of these rules. */
static __noinline bool walk_nft(struct walk *walk, const struct net *net)
{
	u64 pernet = net_generic(net, nft_net_id);
	int i;

	/* a namespace that is just being made */
	if (!pernet)
		return true;
	walk->gen_1 = BPF_CORE_READ(net, nft.gencursor);
	walk->tables = pernet +
		       bpf_core_field_offset(struct nftables_pernet___some,
					     tables);
	walk->table = walk->tables;
	bpf_for(i, 0, WALK_MAX) {
		NOW(walk->step) = walk_on(walk);
		if (NOW(walk->step) != WALK_ON)
			break;
	}
	return NOW(walk->step) == WALK_CLEAN;
}

/* Whether iptables-legacy has none. */
static __noinline bool walk_xt(struct walk *walk, const struct net *net)
{
	int i;

	walk->xt.pernet = net_generic(net, xt_net_id);
	if (!walk->xt.pernet)
		return true;
	xt_walk_family(&walk->xt, false);
	bpf_for(i, 0, WALK_MAX) {
		NOW(walk->xt.step) = xt_walk_on(&walk->xt, &walk->sets);
		if (NOW(walk->xt.step) != WALK_ON)
			break;
	}
	return NOW(walk->xt.step) == WALK_CLEAN;
}

enum walk_finding {
	WALK_FINDS_NONE,
	WALK_FINDS_BEHIND, /* where nothing comes that is established */
	WALK_FINDS,
};

/*
 * What a namespace has of these rules; if they could not be read to the end, it
 * has them.  Where a module is not there, it has none of its rules.
 * Context: RCU read side, preemption disabled.
 */
static __noinline enum walk_finding walk_finds(const struct net *net)
{
	u32 zero = 0;
	struct walk *walk = bpf_map_lookup_elem(&walk_state, &zero);

	if (!walk)
		return WALK_FINDS;
	__builtin_memset(walk, 0, sizeof(*walk));
	walk->sets.ip_sets = ip_sets_of(net);
	if (packet_rules_readable() && !walk_nft(walk, net))
		return WALK_FINDS;
	if (xt_rules_readable() && !walk_xt(walk, net))
		return WALK_FINDS;
	if ((walk->sets.ipset_used && walk->sets.ipset_changed) ||
	    (walk->sets.nft_used && walk->sets.nft_changed))
		return WALK_FINDS;
	if (walk->behind || (walk->used_behind && (walk->sets.ipset_changed ||
						   walk->sets.nft_changed)))
		return WALK_FINDS_BEHIND;
	return WALK_FINDS_NONE;
}

/* It fails when another walk has ended at this moment. */
static __noinline int walk_note(u64 *last, u64 number)
{
	u64 was;
	int i;

	if (!last)
		return 0;
	bpf_for(i, 0, 100) {
		was = NOW(*last);
		if (was >= number ||
		    __sync_val_compare_and_swap(last, was, number) == was)
			break;
	}
	return 0;
}

/* Reads the rule set of a namespace when another program asks for that. */
SEC("fentry/chimney:chimney_rules_changed")
int BPF_PROG(packet_rules_walk, u64 address)
{
	const struct net *net = (void *)address;
	const struct chimney_rule_walks none = {};
	struct chimney_rule_walks *walks;
	enum walk_finding finding;
	u64 key, number;

	/* so that the verifier need not look at all of it with and without */
	if (!net)
		return 0;
	key = netns_cookie(net);
	walks = bpf_map_lookup_elem(&rule_walks, &key);
	if (!walks) {
		bpf_map_update_elem(&rule_walks, &key, &none, BPF_NOEXIST);
		walks = bpf_map_lookup_elem(&rule_walks, &key);
	}
	if (!walks) {
		rule_walks_lost = true;
		return 0;
	}
	number = __sync_fetch_and_add(&walks->begun, 1) + 1;
	if (hooks_known(net, walks->hook))
		walk_note(&walks->known, number);
	else
		walk_found = true;
	finding = walk_finds(net);
	if (finding != WALK_FINDS)
		walk_note(&walks->clean_established, number);
	if (finding == WALK_FINDS_NONE)
		walk_note(&walks->clean, number);
	else
		walk_found = true;
	return 0;
}

/*
 * Has it read by the program above, whose runs must not be skipped (gate.h).
 */
static __always_inline void packet_rules_read(const struct net *net)
{
	bpf_preempt_disable();
	chimney_rules_changed((u64)net);
	bpf_preempt_enable();
}

/* Before flows are revoked, so that verdicts given meanwhile go as well. */
static __always_inline void packet_rules_changed(const struct net *net)
{
	packet_rules_read(net);
	revoke_netns(netns_cookie(net), CHIMNEY_RULES);
}

static __always_inline u64 walk_reasons(u64 netns, bool established)
{
	struct chimney_rule_walks *walks;
	u64 reasons = 0, begun;

	if (rule_walks_lost)
		return CHIMNEY_MASK(PACKET_RULES);
	if (!walk_found)
		return 0;
	walks = bpf_map_lookup_elem(&rule_walks, &netns);
	if (!walks)
		return 0;
	begun = NOW(walks->begun);
	if (NOW(walks->clean) != begun &&
	    !(established && NOW(walks->clean_established) == begun))
		reasons |= CHIMNEY_MASK(PACKET_RULES);
	if (NOW(walks->known) != begun)
		reasons |= CHIMNEY_MASK(UNKNOWN_HOOK);
	return reasons;
}

static __always_inline u64 packet_rules_judge(const struct sk_buff *skb,
					      const struct chimney_packet *packet)
{
	return walk_reasons(packet->flow.netns, conntrack_established(skb));
}

/* A table that belongs to a process goes with it, without a transaction. */
SEC("fexit/nft_rcv_nl_event")
int BPF_PROG(packet_rules_owner, struct notifier_block *nb, unsigned long event,
	     struct netlink_notify *notify)
{
	struct net *net = BPF_CORE_READ(notify, net);

	if (event != NETLINK_URELEASE ||
	    BPF_CORE_READ(notify, protocol) != NETLINK_NETFILTER ||
	    !(walk_reasons(netns_cookie(net), false) & CHIMNEY_MASK(PACKET_RULES)))
		return 0;
	packet_rules_changed(net);
	return 0;
}

/* A namespace has gone, and with it whatever rules it had. */
SEC("fexit/netfilter_net_exit")
int BPF_PROG(packet_rules_exit, struct net *net)
{
	u64 key = netns_cookie(net);

	bpf_map_delete_elem(&rule_walks, &key);
	return 0;
}

/* A number that is a variable of a module; 0 when there is none. */
static __always_inline u32 number(const char *name, u32 size)
{
	u64 address = variable(name, size);
	u32 value = 0;

	if (address)
		bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
	return value;
}

static const char nft_id_name[] = "nf_tables_net_id";
static const char xt_id_name[] = "xt_pernet_id";
static const char ip_set_id_name[] = "ip_set_net_id";
static const char cmp_fast_name[] = "nft_cmp_fast_ops";
static const char bitwise_fast_name[] = "nft_bitwise_fast_ops";

/*
 * Run once by the loader, when the programs above and rules.h already follow
 * changes.  Returns 0, -ENOENT: rules of nftables cannot be read here, or
 * -ENXIO: those of iptables-legacy.
 */
SEC("syscall")
int scan_rules(void *ctx)
{
	u64 head = variable(nets_name, sizeof(nets_name));
	u64 pos = head;
	int i;

	nft_cmp_fast = variable(cmp_fast_name, sizeof(cmp_fast_name));
	nft_bitwise_fast = variable(bitwise_fast_name, sizeof(bitwise_fast_name));
	nft_net_id = number(nft_id_name, sizeof(nft_id_name));
	xt_net_id = number(xt_id_name, sizeof(xt_id_name));
	ip_set_net_id = number(ip_set_id_name, sizeof(ip_set_id_name));
	if (!head || !nft_net_id != !packet_rules_readable() ||
	    (nft_net_id && (!nft_cmp_fast || !nft_bitwise_fast)))
		return -ENOENT;
	if (!xt_net_id != !xt_rules_readable())
		return -ENXIO;
	bpf_rcu_read_lock();
	bpf_for(i, 0, SCAN_MAX) {
		pos = list_next(pos);
		if (!pos || pos == head)
			break;
		packet_rules_read((void *)(pos - bpf_core_field_offset(struct net,
								       list)));
	}
	bpf_rcu_read_unlock();
	return pos == head ? 0 : -ENOENT;
}
