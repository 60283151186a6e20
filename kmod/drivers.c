// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/chimney/drivers: the drivers on whose devices chimney is enabled
 * unless the administrator says otherwise for a device.  To begin with, these
 * are those that have a test, without those that mostly lead to a VPN ("tun")
 * or nowhere ("dummy").
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "device.h"
#include "drivers.h"
#include "netns.h"

static const char * const tested_drivers[] = {
	"virtio_net", "e1000e", "igb", "vmxnet3", "8139cp",
	"veth", "vlan", "bond", "team", "bridge", "macvlan", "ipvlan",
};

static bool default_enable = true;
module_param_named(enable, default_enable, bool, 0444);
MODULE_PARM_DESC(enable, "initial value of /sys/class/net/DEV/chimney/enable on the drivers that are tested (default: Y)");

struct listed_driver {
	struct list_head list;
	char name[];
};

static LIST_HEAD(listed_drivers);	/* under chimney_mutex */

static struct listed_driver *listed_find(const char *name)
{
	struct listed_driver *driver;

	list_for_each_entry(driver, &listed_drivers, list)
		if (!strcmp(driver->name, name))
			return driver;
	return NULL;
}

/**
 * chimney_driver_listed() - is chimney enabled on a driver's new devices?
 * @name: the driver
 *
 * Context: chimney_mutex held.
 */
bool chimney_driver_listed(const char *name)
{
	lockdep_assert_held(&chimney_mutex);
	return listed_find(name);
}

static int listed_add(const char *name)
{
	struct listed_driver *driver;
	size_t len = strlen(name) + 1;
	size_t shown = len;

	if (listed_find(name))
		return 0;
	/* one more has to fit into the page that shows them */
	list_for_each_entry(driver, &listed_drivers, list)
		shown += strlen(driver->name) + 1;
	if (shown >= PAGE_SIZE)
		return -ENOSPC;
	driver = kmalloc(struct_size(driver, name, len), GFP_KERNEL);
	if (!driver)
		return -ENOMEM;
	memcpy(driver->name, name, len);
	list_add_tail(&driver->list, &listed_drivers);
	return 0;
}

static int listed_remove(const char *name)
{
	struct listed_driver *driver = listed_find(name);

	if (!driver) {
		pr_warn("drivers: \"%s\" is not in the list\n", name);
		return -ENOENT;
	}
	list_del(&driver->list);
	kfree(driver);
	return 0;
}

static ssize_t drivers_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	struct listed_driver *driver;
	ssize_t len = 0;

	mutex_lock(&chimney_mutex);
	list_for_each_entry(driver, &listed_drivers, list)
		len += sysfs_emit_at(buf, len, "%s\n", driver->name);
	mutex_unlock(&chimney_mutex);
	return len ?: sysfs_emit(buf, "none\n");
}

static ssize_t drivers_store(struct kobject *kobj, struct kobj_attribute *attr,
			     const char *buf, size_t count)
{
	char name[MODULE_NAME_LEN];
	size_t len = strcspn(buf, "\n");
	int err;

	if ((*buf != '+' && *buf != '-') || len < 2 || len > sizeof(name) ||
	    strcspn(buf, " \t") < len) {
		pr_warn("drivers: \"%.*s\" is not allowed: +DRIVER or -DRIVER, as in -veth\n",
			(int)len, buf);
		return -EINVAL;
	}
	strscpy(name, buf + 1, len);

	mutex_lock(&chimney_mutex);
	err = *buf == '+' ? listed_add(name) : listed_remove(name);
	if (!err)
		chimney_driver_enable(name, *buf == '+');
	mutex_unlock(&chimney_mutex);
	return err ?: count;
}

/* of /sys/kernel/chimney */
struct kobj_attribute chimney_drivers_attr = __ATTR_RW(drivers);

/**
 * chimney_drivers_init() - list those that have a test
 *
 * Return: 0 or -ENOMEM.
 */
int chimney_drivers_init(void)
{
	int i, err = 0;

	mutex_lock(&chimney_mutex);
	for (i = 0; default_enable && !err && i < ARRAY_SIZE(tested_drivers); i++)
		err = listed_add(tested_drivers[i]);
	mutex_unlock(&chimney_mutex);
	if (err)
		chimney_drivers_exit();
	return err;
}

/**
 * chimney_drivers_exit() - forget the list
 */
void chimney_drivers_exit(void)
{
	struct listed_driver *driver, *next;

	mutex_lock(&chimney_mutex);
	list_for_each_entry_safe(driver, next, &listed_drivers, list) {
		list_del(&driver->list);
		kfree(driver);
	}
	mutex_unlock(&chimney_mutex);
}
