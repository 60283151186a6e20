/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Can a socket's filter let a packet of a flow pass?  tcpdump hands the kernel
 * what it is asked to look for as a classic BPF program
 * (Documentation/networking/filter.rst).  Here that is run with what is certain
 * of the flow's packets: addresses, ports, protocols, the device.  Where it
 * branches on anything else, both ways are tried.  If no way ends by letting a
 * packet pass, the capture has no use for the flow.
 */

#define BPF_CLASS(code) ((code) & 0x07)
#define BPF_LD 0x00
#define BPF_LDX 0x01
#define BPF_ST 0x02
#define BPF_STX 0x03
#define BPF_ALU 0x04
#define BPF_JMP 0x05
#define BPF_MISC 0x07
#define BPF_SIZE(code) ((code) & 0x18)
#define BPF_W 0x00
#define BPF_H 0x08
#define BPF_B 0x10
#define BPF_MODE(code) ((code) & 0xe0)
#define BPF_IMM 0x00
#define BPF_ABS 0x20
#define BPF_IND 0x40
#define BPF_MSH 0xa0
#define BPF_OP(code) ((code) & 0xf0)
#define BPF_AND 0x50
#define BPF_JA 0x00
#define BPF_JEQ 0x10
#define BPF_JGT 0x20
#define BPF_JGE 0x30
#define BPF_JSET 0x40
#define BPF_X 0x08
#define BPF_A 0x10
#define BPF_RVAL(code) ((code) & 0x18)
#define BPF_MISCOP(code) ((code) & 0xf8)
#define BPF_TXA 0x80
#define SKF_AD_OFF -0x1000
#define SKF_AD_PROTOCOL 0
#define SKF_AD_IFINDEX 8
#define SKF_NET_OFF -0x100000
#define SOCK_DGRAM 2
#define ETH_HLEN 14

/* An IP header, the ports behind it, and what a load there may touch. */
#define FILTER_HEAD 44
#define FILTER_ROOM 48
/* What takes more than that, of all filters together, may let everything pass. */
#define FILTER_STEPS 2048
#define FILTER_BRANCHES 16

/*
 * What is certain of those packets of a flow that may take the path, in one
 * direction, on a device with Ethernet's link layer header.
 */
struct filter_packet {
	u8 head[FILTER_ROOM];
	u8 known[FILTER_ROOM]; /* bits of it */
	u32 ifindex;
	u16 ethertype;
};

/* a register, and which of its bits are certain */
struct filter_value {
	u32 value;
	u32 known;
};

static __always_inline struct filter_value filter_constant(u32 value)
{
	return (struct filter_value){ .value = value, .known = ~0U };
}

/* They have no IP options or extension headers and are no fragments. */
static __always_inline void filter_packet_of(struct filter_packet *to,
					     const struct chimney_tuple *flow,
					     u32 ifindex, bool out)
{
	const u8 *src = out ? flow->local : flow->remote;
	const u8 *dst = out ? flow->remote : flow->local;
	u16 ports[2];

	ports[0] = bpf_htons(out ? flow->lport : flow->rport);
	ports[1] = bpf_htons(out ? flow->rport : flow->lport);

	__builtin_memset(to, 0, sizeof(*to));
	to->ifindex = ifindex;
	if (flow->family == AF_INET6) {
		to->ethertype = ETH_P_IPV6;
		to->head[0] = 0x60;
		to->known[0] = 0xf0;
		to->head[6] = IPPROTO_TCP;
		to->known[6] = 0xff;
		__builtin_memcpy(to->head + 8, src, 16);
		__builtin_memcpy(to->head + 24, dst, 16);
		__builtin_memcpy(to->head + 40, ports, 4);
		__builtin_memset(to->known + 8, 0xff, 36);
	} else {
		to->ethertype = ETH_P_IP;
		to->head[0] = 0x45;
		to->known[0] = 0xff;
		/* but for "don't fragment" */
		to->known[6] = 0x3f;
		to->known[7] = 0xff;
		to->head[9] = IPPROTO_TCP;
		to->known[9] = 0xff;
		__builtin_memcpy(to->head + 12, src + 12, 4);
		__builtin_memcpy(to->head + 16, dst + 12, 4);
		__builtin_memcpy(to->head + 20, ports, 4);
		__builtin_memset(to->known + 12, 0xff, 12);
	}
}

static __always_inline u32 filter_word(const u8 *at)
{
	return (u32)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

/* What a load finds at an offset, which counts from where the socket's packets begin. */
static __always_inline struct filter_value
filter_load(const struct filter_packet *packet, u32 off, u16 code, bool raw)
{
	u32 unused = BPF_SIZE(code) == BPF_W ? 0 :
		     BPF_SIZE(code) == BPF_H ? 16 :
					       24;
	struct filter_value to = {};

	if (BPF_MODE(code) == BPF_ABS &&
	    off == (u32)(SKF_AD_OFF + SKF_AD_PROTOCOL))
		return filter_constant(packet->ethertype);
	if (BPF_MODE(code) == BPF_ABS && off == (u32)(SKF_AD_OFF + SKF_AD_IFINDEX))
		return filter_constant(packet->ifindex);
	if (off >= (u32)SKF_NET_OFF) {
		off -= (u32)SKF_NET_OFF;
	} else if (raw) {
		if (off == ETH_HLEN - 2 && BPF_SIZE(code) == BPF_H)
			return filter_constant(packet->ethertype);
		/* what is before it wraps around */
		off -= ETH_HLEN;
	}
	if (off >= FILTER_HEAD)
		return to;
	to.value = filter_word(packet->head + off) >> unused;
	to.known = filter_word(packet->known + off) >> unused | ~(~0U >> unused);
	return to;
}

static __always_inline struct filter_value filter_and(struct filter_value a,
						      struct filter_value b)
{
	return (struct filter_value){
		.value = a.value & b.value,
		.known = (a.known & b.known) | (a.known & ~a.value) |
			 (b.known & ~b.value),
	};
}

enum filter_truth { FILTER_NO, FILTER_YES, FILTER_UNCERTAIN };

static __always_inline enum filter_truth
filter_compare(u16 code, struct filter_value a, struct filter_value b)
{
	u32 known = a.known & b.known;
	struct filter_value both;

	switch (BPF_OP(code)) {
	case BPF_JEQ:
		if ((a.value ^ b.value) & known)
			return FILTER_NO;
		return known == ~0U ? FILTER_YES : FILTER_UNCERTAIN;
	case BPF_JSET:
		both = filter_and(a, b);
		if (both.value & both.known)
			return FILTER_YES;
		return both.known == ~0U ? FILTER_NO : FILTER_UNCERTAIN;
	case BPF_JGT:
		if (known != ~0U)
			return FILTER_UNCERTAIN;
		return a.value > b.value ? FILTER_YES : FILTER_NO;
	case BPF_JGE:
		if (known != ~0U)
			return FILTER_UNCERTAIN;
		return a.value >= b.value ? FILTER_YES : FILTER_NO;
	}
	return FILTER_UNCERTAIN;
}

/*
 * Bit n of a way tells where it goes at the nth branch that is not certain.  The
 * next one goes the other way at the last branch where that is left; 0 if there
 * is none.
 */
static __always_inline u32 filter_next_way(u32 way, u32 branches)
{
	u32 left = ~way & ((1U << branches) - 1);

	left |= left >> 1;
	left |= left >> 2;
	left |= left >> 4;
	left |= left >> 8;
	return left ? (way & (left >> 1)) | (left - (left >> 1)) : 0;
}

/* a filter that runs; addresses are the kernel's */
struct filter_machine {
	u64 program;
	u32 len;
	u32 pc;
	struct filter_value a;
	struct filter_value x;
	u32 way;
	u32 branches; /* that it has come to on this way */
	u32 steps;    /* that are left */
	bool raw;     /* packets begin with their link layer header */
};

enum filter_end { FILTER_GOES_ON, FILTER_PASSES, FILTER_PASSES_NEVER };

/*
 * One instruction.  Not static: verified once, with whatever may be in the
 * machine, and not again for each turn of the loop.
 */
__noinline int filter_step(struct filter_machine *m,
			   const struct filter_packet *packet)
{
	struct sock_filter insn;
	enum filter_truth truth;
	struct filter_value b;

	if (!m || !packet || !m->steps || m->pc >= m->len ||
	    bpf_probe_read_kernel(&insn, sizeof(insn),
				  (struct sock_filter *)m->program + m->pc))
		return FILTER_PASSES;
	m->steps--;
	m->pc++;
	b = filter_constant(insn.k);
	switch (BPF_CLASS(insn.code)) {
	case BPF_LD:
	case BPF_LDX:
		if (BPF_MODE(insn.code) == BPF_ABS ||
		    BPF_MODE(insn.code) == BPF_MSH)
			b = filter_load(packet, insn.k, insn.code, m->raw);
		else if (BPF_MODE(insn.code) == BPF_IND && m->x.known == ~0U)
			b = filter_load(packet, m->x.value + insn.k, insn.code,
					m->raw);
		else if (BPF_MODE(insn.code) != BPF_IMM)
			b.known = 0;
		if (BPF_MODE(insn.code) == BPF_MSH) {
			b.value = (b.value & 0xf) << 2;
			b.known = (b.known & 0xf) << 2 | ~0x3c;
		}
		if (BPF_CLASS(insn.code) == BPF_LD)
			m->a = b;
		else
			m->x = b;
		break;
	case BPF_ST:
	case BPF_STX:
		/* what is loaded from there is not certain */
		break;
	case BPF_ALU:
		m->a = filter_and(m->a, insn.code & BPF_X ? m->x : b);
		if (BPF_OP(insn.code) != BPF_AND)
			m->a.known = 0;
		break;
	case BPF_JMP:
		if (BPF_OP(insn.code) == BPF_JA) {
			m->pc += insn.k;
			break;
		}
		truth = filter_compare(insn.code, m->a,
				       insn.code & BPF_X ? m->x : b);
		if (truth == FILTER_UNCERTAIN) {
			if (m->branches >= FILTER_BRANCHES)
				return FILTER_PASSES;
			truth = m->way >> m->branches & 1;
			m->branches++;
		}
		m->pc += truth == FILTER_YES ? insn.jt : insn.jf;
		break;
	case BPF_RET:
		if (BPF_RVAL(insn.code) == BPF_A)
			b = m->a;
		if (BPF_RVAL(insn.code) == BPF_X || b.value || b.known != ~0U)
			return FILTER_PASSES;
		m->way = filter_next_way(m->way, m->branches);
		if (!m->way)
			return FILTER_PASSES_NEVER;
		m->pc = 0;
		m->branches = 0;
		m->a = filter_constant(0);
		m->x = filter_constant(0);
		break;
	default:
		if (BPF_MISCOP(insn.code) == BPF_TXA)
			m->a = m->x;
		else
			m->x = m->a;
	}
	return FILTER_GOES_ON;
}

/**
 * filter_may_pass() - might a socket's filter let a flow's packets pass?
 * @socket: address of a packet socket
 * @packet: what is certain of the packets
 * @steps: how many instructions may be looked at, less those that were
 *
 * Not static, either.
 *
 * Context: RCU read side.
 * Return: 0 if it certainly lets none pass.
 */
__noinline int filter_may_pass(u64 socket, const struct filter_packet *packet,
			       u32 *steps)
{
	const struct sock *sk = (void *)socket;
	const struct sock_fprog_kern *prog = BPF_CORE_READ(sk, sk_filter, prog,
							   orig_prog);
	struct filter_machine m = {
		.a = filter_constant(0),
		.x = filter_constant(0),
	};
	enum filter_end end = FILTER_PASSES;
	int i;

	if (!prog || !packet || !steps)
		return 1;
	m.program = (u64)BPF_CORE_READ(prog, filter);
	m.len = BPF_CORE_READ(prog, len);
	m.raw = BPF_CORE_READ(sk, sk_type) != SOCK_DGRAM;
	m.steps = *steps;
	bpf_for(i, 0, FILTER_STEPS) {
		end = filter_step(&m, packet);
		if (end != FILTER_GOES_ON)
			break;
	}
	*steps = m.steps;
	return end != FILTER_PASSES_NEVER;
}
