// SPDX-License-Identifier: GPL-2.0
/*
 * The contract with the gate.  The module owns the mechanism and knows nothing
 * of policy: a BPF struct_ops of type chimney_gate judges packets, and kfuncs
 * let the gate's programs offer flows and revoke them.  The link that attaches
 * the struct_ops holds the module; that it goes away is a callback here.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bpf.h>
#include <linux/bpf_verifier.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/module.h>
#include <net/sock.h>

#include "compat.h"
#include "device.h"
#include "flow.h"
#include "gate.h"
#include "knobs.h"
#include "netns.h"

static struct chimney_gate __rcu *chimney_gate;

/**
 * chimney_gate_attached() - is there a gate?
 */
bool chimney_gate_attached(void)
{
	return rcu_access_pointer(chimney_gate);
}

/**
 * chimney_gate_armed() - may flows be offloaded at all?
 *
 * Return: true while a gate is attached and mode is not disabled.
 */
bool chimney_gate_armed(void)
{
	return chimney_gate_attached() &&
	       READ_ONCE(chimney_mode) != CHIMNEY_MODE_DISABLED;
}

/**
 * chimney_gate_rearm() - put hooks where they belong after a switch was turned
 *
 * Context: process, chimney_mutex held.
 */
void chimney_gate_rearm(void)
{
	/* Flows leave with the devices' hooks, before nobody judges them. */
	chimney_dev_rearm();
	chimney_net_rearm();
}

/**
 * chimney_gate_show() - print the name of the attached gate, or "none"
 * @buf: a page
 *
 * Return: length.
 */
int chimney_gate_show(char *buf)
{
	const struct chimney_gate *gate;
	int len;

	rcu_read_lock();
	gate = rcu_dereference(chimney_gate);
	len = sysfs_emit(buf, "%s\n",
			 !gate ? "none" : gate->name[0] ? gate->name : "unnamed");
	rcu_read_unlock();
	return len;
}

/**
 * chimney_gate_judge() - ask the gate about a packet
 * @skb: the packet
 * @sk: its socket
 * @packet: what the gate is shown
 *
 * Context: RCU read side.
 * Return: mask of reasons against the flow.
 */
u64 chimney_gate_judge(struct sk_buff *skb, struct sock *sk,
		       const struct chimney_packet *packet)
{
	const struct chimney_gate *gate = rcu_dereference(chimney_gate);

	return gate ? gate->judge(skb, sk, packet) : CHIMNEY_MASK(NO_GATE);
}

/**
 * chimney_gate_changed() - tell the gate that a flow has changed its state
 * @event: what has happened
 *
 * Context: any but hard interrupts.
 */
void chimney_gate_changed(const struct chimney_event *event)
{
	const struct chimney_gate *gate;

	rcu_read_lock();
	gate = rcu_dereference(chimney_gate);
	if (gate && gate->changed)
		gate->changed(event);
	rcu_read_unlock();
}

/**
 * chimney_gate_stands() - does the verdict on an offloaded flow still stand?
 * @flow: which
 *
 * Context: RCU read side.
 */
bool chimney_gate_stands(const struct chimney_tuple *flow)
{
	const struct chimney_gate *gate = rcu_dereference(chimney_gate);

	return gate && (!gate->stands || gate->stands(flow));
}

__bpf_kfunc_start_defs();

/**
 * chimney_offer() - offer a flow for offloading
 * @skb: the packet that was judged; its conntrack entry is the flow's
 * @sk: the flow's socket
 * @packet: as passed to judge(), of direction CHIMNEY_OUT
 * @blind_taps: how many capture sockets for all EtherTypes, on the flow's device
 *	or on all of its namespace's, have filters that let none of its packets
 *	pass; with any more the flow leaves the path
 *
 * The flow is installed in a moment, if the epoch that @packet was judged in is
 * still the current one then.
 *
 * Return: 0 if it will be tried, -EINVAL for a packet received, -EAGAIN if the
 * flow has to stay in the host for now (changed() has told why).
 */
__bpf_kfunc int chimney_offer(struct sk_buff *skb, struct sock *sk,
			      const struct chimney_packet *packet,
			      u32 blind_taps)
{
	if (packet->dir != CHIMNEY_OUT)
		return -EINVAL;
	return chimney_flow_offer(sk, skb, packet, min_t(u32, blind_taps, U8_MAX)) ?
	       -EAGAIN : 0;
}

/**
 * chimney_hold_down() - tell how long a flow is to stay in the host
 * @flaps: how often it has left the path again soon; U64_MAX for the longest
 *
 * A flow that keeps leaving the path costs more there than in the host.  As
 * with the damping of flapping routes (RFC 2439), the time doubles.
 *
 * Return: nanoseconds since it left the path, by the knobs holddown_min and
 * holddown_max; 0 without hold-down.
 */
__bpf_kfunc u64 chimney_hold_down(u64 flaps)
{
	u64 min = READ_ONCE(chimney_holddown_min);
	u64 max = READ_ONCE(chimney_holddown_max);

	/* both are less than 2^22 */
	if (min)
		min = min_t(u64, min << min_t(u64, flaps, 22), max);
	return min * NSEC_PER_MSEC;
}

/**
 * chimney_revoke() - upload flows, and void all verdicts given so far
 * @selector: which flows
 * @reason: enum chimney_reason, why
 *
 * No packet of these flows takes the path once it has returned, but for one
 * that another CPU has in its hands at this moment (the host path, too, lets a
 * packet go that has passed the policy).  In each netns that @selector names,
 * verdicts given up to now no longer count for offers.
 *
 * Return: number of flows uploaded, or -EINVAL for a @reason that is none.
 */
__bpf_kfunc int chimney_revoke(const struct chimney_selector *selector,
			       u32 reason)
{
	if (reason == CHIMNEY_NONE || reason >= CHIMNEY_REASON_MAX)
		return -EINVAL;
	return chimney_flows_revoke(selector, reason);
}

/**
 * chimney_rules_changed() - an event of the gate's own
 * @net__ign: address of the struct net whose rules have changed; not looked at,
 *	and not by the verifier either, as its name tells that
 *
 * Does nothing.  Programs of a gate that see such a change call it, and the one
 * that reads rule sets is attached to it: each program has its own copy of the
 * functions that it calls, and the verifier looks at every copy, which takes
 * long for one that reads rule sets.
 *
 * Context: any.
 */
__bpf_kfunc void chimney_rules_changed(u64 net__ign)
{
}

/**
 * chimney_sock_info() - tell what is known of a TCP socket
 * @skc: the socket
 * @info: filled in
 *
 * Return: 0, or -EINVAL if @skc is not a connected TCP socket in full.
 */
__bpf_kfunc int chimney_sock_info(struct sock_common *skc,
				  struct chimney_sock_info *info)
{
	struct sock *sk = (struct sock *)skc;

	memset(info, 0, sizeof(*info));
	if (!sk_fullsock(sk) || !sk_is_tcp(sk) || sk->sk_state == TCP_LISTEN ||
	    sk->sk_state == TCP_CLOSE)
		return -EINVAL;
	chimney_flow_info(sk, info);
	return 0;
}

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(chimney_judge_kfuncs)
BTF_ID_FLAGS(func, chimney_offer, KF_TRUSTED_ARGS)
BTF_ID_FLAGS(func, chimney_hold_down)
BTF_ID_FLAGS(func, chimney_revoke)
BTF_KFUNCS_END(chimney_judge_kfuncs)

static const struct btf_kfunc_id_set chimney_judge_kfunc_set = {
	.owner = THIS_MODULE,
	.set = &chimney_judge_kfuncs,
};

BTF_KFUNCS_START(chimney_trace_kfuncs)
BTF_ID_FLAGS(func, chimney_hold_down)
BTF_ID_FLAGS(func, chimney_revoke)
BTF_ID_FLAGS(func, chimney_rules_changed)
BTF_ID_FLAGS(func, chimney_sock_info, KF_TRUSTED_ARGS)
BTF_KFUNCS_END(chimney_trace_kfuncs)

static const struct btf_kfunc_id_set chimney_trace_kfunc_set = {
	.owner = THIS_MODULE,
	.set = &chimney_trace_kfuncs,
};

static int gate_init(struct btf *btf)
{
	/* Programs take these types from the module's BTF. */
	BTF_TYPE_EMIT(struct chimney_flow_record);
	BTF_TYPE_EMIT(struct chimney_verdict);
	BTF_TYPE_EMIT(struct chimney_rule_change);
	BTF_TYPE_EMIT(struct chimney_rule_walks);
	BTF_TYPE_EMIT(enum chimney_state);
	BTF_TYPE_EMIT(enum chimney_reason);
	BTF_TYPE_EMIT(enum chimney_dir);
	return 0;
}

static int gate_init_member(const struct btf_type *t,
			    const struct btf_member *member,
			    void *kdata, const void *udata)
{
	const struct chimney_gate *from = udata;
	struct chimney_gate *to = kdata;

	switch (__btf_member_bit_offset(t, member) / 8) {
	case offsetof(struct chimney_gate, name):
		strscpy(to->name, from->name, sizeof(to->name));
		return 1;
	case offsetof(struct chimney_gate, version):
		to->version = from->version;
		return 1;
	}
	return 0;
}

static int gate_validate(void *kdata)
{
	const struct chimney_gate *gate = kdata;

	if (gate->version != CHIMNEY_GATE_VERSION) {
		pr_warn("gate \"%s\": version %u is not allowed: %u\n",
			gate->name, gate->version, CHIMNEY_GATE_VERSION);
		return -EINVAL;
	}
	if (!gate->judge) {
		pr_warn("gate \"%s\": it has to implement judge\n",
			gate->name);
		return -EINVAL;
	}
	return 0;
}

static int gate_reg(void *kdata, struct bpf_link *link)
{
	int err = -EBUSY;

	mutex_lock(&chimney_mutex);
	if (!chimney_gate_attached()) {
		rcu_assign_pointer(chimney_gate, kdata);
		chimney_gate_rearm();
		err = 0;
	}
	mutex_unlock(&chimney_mutex);
	return err;
}

static void gate_unreg(void *kdata, struct bpf_link *link)
{
	mutex_lock(&chimney_mutex);
	RCU_INIT_POINTER(chimney_gate, NULL);
	/* nobody calls the old gate afterwards */
	chimney_flows_revoke_all(CHIMNEY_NO_GATE);
	chimney_gate_rearm();
	mutex_unlock(&chimney_mutex);
}

static int gate_update(void *kdata, void *old_kdata, struct bpf_link *link)
{
	mutex_lock(&chimney_mutex);
	rcu_assign_pointer(chimney_gate, kdata);
	/* nobody calls the old gate afterwards */
	chimney_flows_revoke_all(CHIMNEY_NO_GATE);
	mutex_unlock(&chimney_mutex);
	return 0;
}

static const struct bpf_func_proto *
gate_func_proto(enum bpf_func_id id, const struct bpf_prog *prog)
{
	return bpf_base_func_proto(id, prog);
}

static bool gate_is_valid_access(int off, int size, enum bpf_access_type type,
				 const struct bpf_prog *prog,
				 struct bpf_insn_access_aux *info)
{
	return bpf_tracing_btf_ctx_access(off, size, type, prog, info);
}

static const struct bpf_verifier_ops gate_verifier_ops = {
	.get_func_proto = gate_func_proto,
	.is_valid_access = gate_is_valid_access,
};

/* Never called: they give the members their types for control-flow integrity. */
static u64 judge_stub(struct sk_buff *skb, struct sock *sk,
		      const struct chimney_packet *packet)
{
	return 0;
}

static void changed_stub(const struct chimney_event *event)
{
}

static bool stands_stub(const struct chimney_tuple *flow)
{
	return false;
}

static struct chimney_gate gate_stubs = {
	.judge = judge_stub,
	.changed = changed_stub,
	.stands = stands_stub,
};

static struct bpf_struct_ops bpf_chimney_gate = {
	.verifier_ops = &gate_verifier_ops,
	.init = gate_init,
	.init_member = gate_init_member,
	.validate = gate_validate,
	.reg = gate_reg,
	.unreg = gate_unreg,
	.update = gate_update,
	.cfi_stubs = &gate_stubs,
	.name = "chimney_gate",
	.owner = THIS_MODULE,
};

/**
 * chimney_gate_init() - offer the contract to BPF
 *
 * There is no reverse: BPF forgets the types with the module, which cannot go
 * while a gate is attached.
 *
 * Return: 0 or a negative errno.
 */
int chimney_gate_init(void)
{
	int err;

	err = register_btf_kfunc_id_set(BPF_PROG_TYPE_STRUCT_OPS,
					&chimney_judge_kfunc_set);
	err = err ?: register_btf_kfunc_id_set(BPF_PROG_TYPE_TRACING,
					       &chimney_trace_kfunc_set);
	err = err ?: register_btf_kfunc_id_set(BPF_PROG_TYPE_SYSCALL,
					       &chimney_trace_kfunc_set);
	return err ?: register_bpf_struct_ops(&bpf_chimney_gate, chimney_gate);
}
