// SPDX-License-Identifier: GPL-2.0
/*
 * The global knobs: /sys/kernel/chimney/, with module parameters of the same
 * names for their initial values.  A value that is not understood is refused
 * with a line in the log that tells what is allowed; nothing changes then.
 *
 *   mode             disabled, enabled or automatic
 *   max_flows        flows per network namespace, 0 to 16777216
 *   automatic_speed  automatic mode: least link speed, Mbit/s (devices that
 *                    report none pass)
 *   automatic_rtt    automatic mode: longest smoothed round trip, microseconds
 *   automatic_bytes  automatic mode: least payload exchanged, bytes
 *   holddown_min     milliseconds that a flow stays in the host after it has left
 *                    the path; doubled each time it leaves again soon; 0: none
 *   holddown_max     milliseconds, up to which it is doubled; a flow that stays
 *                    on the path for longer begins with holddown_min again
 *   local_ports, remote_ports, cgroups
 *                    which flows are wanted: see choice.c
 *   gate             name of the attached gate, or none (read only)
 *   flows            flows offloaded now, all namespaces (read only)
 *   reasons/NAME     uploads, refused offers and judgements that found NAME
 *                    (read only)
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "choice.h"
#include "drivers.h"
#include "flow.h"
#include "gate.h"
#include "knobs.h"
#include "netns.h"

unsigned int chimney_mode __read_mostly = CHIMNEY_MODE_ENABLED;
unsigned int chimney_max_flows __read_mostly = 65536;
/* the three tests of Server 2008 R2: 10 GbE, 20 ms, 130 KB */
unsigned int chimney_automatic_speed __read_mostly = 10000;
unsigned int chimney_automatic_rtt __read_mostly = 20000;
unsigned int chimney_automatic_bytes __read_mostly = 130 * 1024;
/* short enough not to be noticed, once */
unsigned int chimney_holddown_min __read_mostly = 10;
unsigned int chimney_holddown_max __read_mostly = 1000;
atomic64_t chimney_reason_count[CHIMNEY_REASON_MAX];

static const char * const mode_names[] = {
	[CHIMNEY_MODE_DISABLED] = "disabled",
	[CHIMNEY_MODE_ENABLED] = "enabled",
	[CHIMNEY_MODE_AUTOMATIC] = "automatic",
};

struct knob {
	struct kobj_attribute attr;
	unsigned int *value;
	unsigned int max;
	enum chimney_reason reason;
};

/* _reason: for which flows leave the path if automatic mode finds it too much */
#define KNOB(_name, _max, _reason)					\
static struct knob knob_##_name = {					\
	.attr = __ATTR(_name, 0644, knob_show, knob_store),		\
	.value = &chimney_##_name,					\
	.max = _max,							\
	.reason = CHIMNEY_##_reason,					\
};									\
module_param_cb(_name, &knob_param_ops, &knob_##_name, 0)

static int knob_parse(const struct knob *knob, const char *buf)
{
	unsigned int value;

	if (kstrtouint(buf, 0, &value) || value > knob->max) {
		pr_warn("%s: \"%.*s\" is not allowed: a number from 0 to %u\n",
			knob->attr.attr.name, (int)strcspn(buf, "\n"), buf,
			knob->max);
		return -EINVAL;
	}
	WRITE_ONCE(*knob->value, value);
	return 0;
}

static int knob_param_set(const char *buf, const struct kernel_param *kp)
{
	return knob_parse(kp->arg, buf);
}

static const struct kernel_param_ops knob_param_ops = {
	.set = knob_param_set,
};

static ssize_t knob_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	const struct knob *knob = container_of(attr, struct knob, attr);

	return sysfs_emit(buf, "%u\n", READ_ONCE(*knob->value));
}

static ssize_t knob_store(struct kobject *kobj, struct kobj_attribute *attr,
			  const char *buf, size_t len)
{
	const struct knob *knob = container_of(attr, struct knob, attr);
	int err;

	mutex_lock(&chimney_mutex);
	err = knob_parse(knob, buf);
	if (!err && knob->reason && chimney_mode == CHIMNEY_MODE_AUTOMATIC)
		chimney_flows_revoke_all(knob->reason);
	mutex_unlock(&chimney_mutex);
	return err ?: len;
}

KNOB(max_flows, 1 << 24, NONE);
MODULE_PARM_DESC(max_flows, "flows per network namespace (default: 65536)");
KNOB(automatic_speed, INT_MAX, SPEED);
MODULE_PARM_DESC(automatic_speed, "automatic mode: least link speed in Mbit/s (default: 10000)");
KNOB(automatic_rtt, INT_MAX, RTT);
MODULE_PARM_DESC(automatic_rtt, "automatic mode: longest round trip in microseconds (default: 20000)");
KNOB(automatic_bytes, INT_MAX, BYTES);
MODULE_PARM_DESC(automatic_bytes, "automatic mode: least bytes exchanged (default: 133120)");
KNOB(holddown_min, 3600000, NONE);
MODULE_PARM_DESC(holddown_min, "milliseconds in the host after a flow has left the path, doubled when it leaves again soon (default: 10)");
KNOB(holddown_max, 3600000, NONE);
MODULE_PARM_DESC(holddown_max, "milliseconds up to which that is doubled (default: 1000)");

static int mode_parse(const char *buf)
{
	int mode = sysfs_match_string(mode_names, buf);

	if (mode < 0)
		pr_warn("mode: \"%.*s\" is not allowed: disabled, enabled or automatic\n",
			(int)strcspn(buf, "\n"), buf);
	return mode;
}

static int mode_param_set(const char *buf, const struct kernel_param *kp)
{
	int mode = mode_parse(buf);

	if (mode < 0)
		return mode;
	chimney_mode = mode;
	return 0;
}

static const struct kernel_param_ops mode_param_ops = {
	.set = mode_param_set,
};
module_param_cb(mode, &mode_param_ops, NULL, 0);
MODULE_PARM_DESC(mode, "disabled, enabled (default) or automatic");

static ssize_t mode_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	return sysfs_emit(buf, "%s\n", mode_names[READ_ONCE(chimney_mode)]);
}

static ssize_t mode_store(struct kobject *kobj, struct kobj_attribute *attr,
			  const char *buf, size_t len)
{
	int mode = mode_parse(buf);

	if (mode < 0)
		return mode;
	mutex_lock(&chimney_mutex);
	WRITE_ONCE(chimney_mode, mode);
	if (mode != CHIMNEY_MODE_ENABLED)
		chimney_flows_revoke_all(CHIMNEY_MODE);
	chimney_gate_rearm();
	mutex_unlock(&chimney_mutex);
	return len;
}

static struct kobj_attribute mode_attr = __ATTR_RW(mode);

static ssize_t gate_show(struct kobject *kobj, struct kobj_attribute *attr,
			 char *buf)
{
	return chimney_gate_show(buf);
}

static struct kobj_attribute gate_attr = __ATTR_RO(gate);

static ssize_t flows_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	const struct chimney_net *cnet;
	unsigned int flows = 0;

	rcu_read_lock();
	list_for_each_entry_rcu(cnet, &chimney_nets, node)
		flows += atomic_read(&cnet->nr_offloaded);
	rcu_read_unlock();
	return sysfs_emit(buf, "%u\n", flows);
}

static struct kobj_attribute flows_attr = __ATTR_RO(flows);

static const struct attribute *knob_attrs[] = {
	&mode_attr.attr,
	&knob_max_flows.attr.attr,
	&knob_automatic_speed.attr.attr,
	&knob_automatic_rtt.attr.attr,
	&knob_automatic_bytes.attr.attr,
	&knob_holddown_min.attr.attr,
	&knob_holddown_max.attr.attr,
	&chimney_drivers_attr.attr,
	&gate_attr.attr,
	&flows_attr.attr,
	NULL,
};

static ssize_t reason_show(struct kobject *kobj, struct kobj_attribute *attr,
			   char *buf);

#define REASON_ATTR(id, _name, words)					\
	[CHIMNEY_##id] = {						\
		.attr = { .name = _name, .mode = 0444 },		\
		.show = reason_show,					\
	},
static struct kobj_attribute reason_attr[] = {
	CHIMNEY_REASONS(REASON_ATTR)
};

static ssize_t reason_show(struct kobject *kobj, struct kobj_attribute *attr,
			   char *buf)
{
	return sysfs_emit(buf, "%lld\n",
			  atomic64_read(&chimney_reason_count[attr - reason_attr]));
}

/* all but "none", NULL at the end */
static struct attribute *reason_attrs[CHIMNEY_REASON_MAX];

static const struct attribute_group reason_group = {
	.name = "reasons",
	.attrs = reason_attrs,
};

static struct kobject *chimney_kobj;

/**
 * chimney_knobs_init() - create /sys/kernel/chimney
 *
 * Return: 0 or a negative errno.
 */
int chimney_knobs_init(void)
{
	int i, err;

	for (i = 0; i < CHIMNEY_REASON_MAX - 1; i++)
		reason_attrs[i] = &reason_attr[i + 1].attr;

	chimney_kobj = kobject_create_and_add("chimney", kernel_kobj);
	if (!chimney_kobj)
		return -ENOMEM;
	err = sysfs_create_files(chimney_kobj, knob_attrs);
	err = err ?: sysfs_create_files(chimney_kobj, chimney_choice_attrs);
	err = err ?: sysfs_create_group(chimney_kobj, &reason_group);
	if (err)
		kobject_put(chimney_kobj);
	return err;
}

/**
 * chimney_knobs_exit() - the reverse
 */
void chimney_knobs_exit(void)
{
	kobject_put(chimney_kobj);
}
