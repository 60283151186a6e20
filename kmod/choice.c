// SPDX-License-Identifier: GPL-2.0
/*
 * Which flows the administrator wants on the path, of those that could take
 * it: by port, and by cgroup, which is what Linux has for an application.  In
 * /sys/kernel/chimney, each a condition of its own:
 *
 *   local_ports   ports and ranges, "443,8000-8099", or all
 *   remote_ports  the same for the other end's port
 *   cgroups       paths of cgroups (v2), a line each, or all; a cgroup stands
 *                 for those below it, too.  "+PATH" adds one, "-PATH" takes one
 *                 away; "all", and taking away the last one, stand for all.
 *
 * A cgroup is known by its path, and need not exist: that of a service is made
 * anew whenever it starts.  A socket belongs to the one it was opened in.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/cgroup.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/rculist.h>
#include <linux/sysfs.h>
#include <net/inet_sock.h>

#include "choice.h"
#include "flow.h"

#define CHIMNEY_NR_PORTS	65536
#define CHIMNEY_CGROUP_PATH	255

/* @bits: NULL for all */
struct port_list {
	struct kobj_attribute attr;
	unsigned long __rcu *bits;
};

static bool port_chosen(const struct port_list *list, u16 port)
{
	const unsigned long *bits = rcu_dereference(list->bits);

	return !bits || test_bit(port, bits);
}

static int ports_set(struct port_list *list, const char *buf)
{
	unsigned long *bits = NULL, *old;

	if (!sysfs_streq(buf, "all")) {
		bits = bitmap_zalloc(CHIMNEY_NR_PORTS, GFP_KERNEL);
		if (!bits)
			return -ENOMEM;
		/* what cannot be shown in a page is not taken either */
		if (bitmap_parselist(buf, bits, CHIMNEY_NR_PORTS) ||
		    bitmap_empty(bits, CHIMNEY_NR_PORTS) ||
		    snprintf(NULL, 0, "%*pbl\n", CHIMNEY_NR_PORTS, bits) >= PAGE_SIZE) {
			pr_warn("%s: \"%.*s\" is not allowed: ports and ranges from 0 to 65535, as in 443,8000-8099, or all\n",
				list->attr.attr.name, (int)strcspn(buf, "\n"),
				buf);
			bitmap_free(bits);
			return -EINVAL;
		}
	}

	mutex_lock(&chimney_mutex);
	old = rcu_replace_pointer(list->bits, bits,
				  lockdep_is_held(&chimney_mutex));
	chimney_flows_revoke_all(CHIMNEY_PORTS);
	mutex_unlock(&chimney_mutex);
	bitmap_free(old);
	return 0;
}

static ssize_t ports_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	struct port_list *list = container_of(attr, struct port_list, attr);
	const unsigned long *bits;
	ssize_t len;

	rcu_read_lock();
	bits = rcu_dereference(list->bits);
	len = bits ? sysfs_emit(buf, "%*pbl\n", CHIMNEY_NR_PORTS, bits) :
		     sysfs_emit(buf, "all\n");
	rcu_read_unlock();
	return len;
}

static ssize_t ports_store(struct kobject *kobj, struct kobj_attribute *attr,
			   const char *buf, size_t len)
{
	return ports_set(container_of(attr, struct port_list, attr), buf) ?: len;
}

static int ports_param_set(const char *buf, const struct kernel_param *kp)
{
	return ports_set(kp->arg, buf);
}

/* The module goes, or never came to be. */
static void ports_param_free(void *arg)
{
	struct port_list *list = arg;

	bitmap_free(rcu_replace_pointer(list->bits, NULL, true));
}

static const struct kernel_param_ops ports_param_ops = {
	.set = ports_param_set,
	.free = ports_param_free,
};

static struct port_list local_ports = {
	.attr = __ATTR(local_ports, 0644, ports_show, ports_store),
};
module_param_cb(local_ports, &ports_param_ops, &local_ports, 0);
MODULE_PARM_DESC(local_ports, "local ports whose flows may be offloaded, as in 443,8000-8099 (default: all)");

static struct port_list remote_ports = {
	.attr = __ATTR(remote_ports, 0644, ports_show, ports_store),
};
module_param_cb(remote_ports, &ports_param_ops, &remote_ports, 0);
MODULE_PARM_DESC(remote_ports, "remote ports whose flows may be offloaded (default: all)");

struct chosen_cgroup {
	struct list_head list;
	size_t len;
	char path[];
};

static LIST_HEAD(chosen_cgroups);	/* empty for all */

/* Paths of cgroups begin with a slash, and only that of the root ends in one. */
static bool path_is_below(const char *path, const struct chosen_cgroup *chosen)
{
	return chosen->len == 1 ||
	       (!strncmp(path, chosen->path, chosen->len) &&
		(path[chosen->len] == '/' || !path[chosen->len]));
}

static bool sock_cgroup_chosen(const struct sock *sk)
{
	const struct cgroup *cgrp = READ_ONCE(sk->sk_cgrp_data.cgroup);
	const struct chosen_cgroup *chosen;
	/* of a longer one, what does not fit makes no difference */
	char path[CHIMNEY_CGROUP_PATH + 2];

	if (list_empty(&chosen_cgroups))
		return true;
	if (cgroup_path((struct cgroup *)cgrp, path, sizeof(path)) < 0)
		return false;
	list_for_each_entry_rcu(chosen, &chosen_cgroups, list)
		if (path_is_below(path, chosen))
			return true;
	return false;
}

static struct chosen_cgroup *chosen_find(const char *path, size_t len)
{
	struct chosen_cgroup *chosen;

	list_for_each_entry(chosen, &chosen_cgroups, list)
		if (chosen->len == len && !memcmp(chosen->path, path, len))
			return chosen;
	return NULL;
}

/* Whether one more still fits into the page that shows them. */
static bool chosen_fits(size_t len)
{
	struct chosen_cgroup *chosen;

	list_for_each_entry(chosen, &chosen_cgroups, list)
		len += chosen->len + 1;
	return len + 1 < PAGE_SIZE;
}

static int chosen_add(const char *path, size_t len)
{
	struct chosen_cgroup *chosen;

	if (chosen_find(path, len))
		return 0;
	if (!chosen_fits(len)) {
		pr_warn("cgroups: there is no room for another: a page of paths is allowed\n");
		return -ENOSPC;
	}
	chosen = kmalloc(struct_size(chosen, path, len), GFP_KERNEL);
	if (!chosen)
		return -ENOMEM;
	chosen->len = len;
	memcpy(chosen->path, path, len);
	list_add_tail_rcu(&chosen->list, &chosen_cgroups);
	chimney_flows_revoke_all(CHIMNEY_CGROUP);
	return 0;
}

static int chosen_remove(const char *path, size_t len)
{
	struct chosen_cgroup *chosen = chosen_find(path, len);

	if (!chosen) {
		pr_warn("cgroups: \"%.*s\" is not in the list\n", (int)len, path);
		return -ENOENT;
	}
	list_del_rcu(&chosen->list);
	chimney_flows_revoke_all(CHIMNEY_CGROUP);
	kfree(chosen);
	return 0;
}

static void chosen_remove_all(void)
{
	struct chosen_cgroup *chosen, *next;
	LIST_HEAD(gone);

	list_splice_init_rcu(&chosen_cgroups, &gone, synchronize_rcu);
	chimney_flows_revoke_all(CHIMNEY_CGROUP);
	list_for_each_entry_safe(chosen, next, &gone, list)
		kfree(chosen);
}

static ssize_t cgroups_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	const struct chosen_cgroup *chosen;
	ssize_t len = 0;

	mutex_lock(&chimney_mutex);
	list_for_each_entry(chosen, &chosen_cgroups, list)
		len += sysfs_emit_at(buf, len, "%.*s\n", (int)chosen->len,
				     chosen->path);
	mutex_unlock(&chimney_mutex);
	return len ?: sysfs_emit(buf, "all\n");
}

static ssize_t cgroups_store(struct kobject *kobj, struct kobj_attribute *attr,
			     const char *buf, size_t count)
{
	size_t len = strcspn(buf, "\n");
	const char *path = buf + 1;
	int err = 0;

	/* "/a/" is "/a" */
	while (len > 2 && buf[len - 1] == '/')
		len--;
	if (!sysfs_streq(buf, "all") &&
	    ((*buf != '+' && *buf != '-') || *path != '/' ||
	     len - 1 > CHIMNEY_CGROUP_PATH)) {
		pr_warn("cgroups: \"%.*s\" is not allowed: +PATH or -PATH with a cgroup's path, as in +/system.slice/nginx.service, of at most %u bytes, or all\n",
			(int)strcspn(buf, "\n"), buf, CHIMNEY_CGROUP_PATH);
		return -EINVAL;
	}

	mutex_lock(&chimney_mutex);
	if (*buf == '+')
		err = chosen_add(path, len - 1);
	else if (*buf == '-')
		err = chosen_remove(path, len - 1);
	else
		chosen_remove_all();
	mutex_unlock(&chimney_mutex);
	return err ?: count;
}

static struct kobj_attribute cgroups_attr = __ATTR_RW(cgroups);

/* of /sys/kernel/chimney */
const struct attribute * const chimney_choice_attrs[] = {
	&local_ports.attr.attr,
	&remote_ports.attr.attr,
	&cgroups_attr.attr,
	NULL,
};

/**
 * chimney_choice_reasons() - whether the administrator wants a flow offloaded
 * @sk: its socket
 *
 * Context: RCU read side.
 * Return: mask of reasons, 0 for none.
 */
u64 chimney_choice_reasons(const struct sock *sk)
{
	const struct inet_sock *inet = inet_sk(sk);
	u64 reasons = 0;

	if (!port_chosen(&local_ports, ntohs(inet->inet_sport)) ||
	    !port_chosen(&remote_ports, ntohs(inet->inet_dport)))
		reasons |= CHIMNEY_MASK(PORTS);
	if (!sock_cgroup_chosen(sk))
		reasons |= CHIMNEY_MASK(CGROUP);
	return reasons;
}

/**
 * chimney_choice_exit() - forget what was chosen
 */
void chimney_choice_exit(void)
{
	mutex_lock(&chimney_mutex);
	chosen_remove_all();
	mutex_unlock(&chimney_mutex);
}
