// SPDX-License-Identifier: GPL-2.0
/* Network devices that keep flows in the host: switched off, not served, too slow. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

static void link_found(const struct net_link *link, void *data)
{
	struct check *check = data;
	struct net_link *links;

	links = reallocarray(check->links, check->nr_links + 1, sizeof(*links));
	if (!links)
		return;
	check->links = links;
	links[check->nr_links++] = *link;
}

/**
 * check_link() - a network device
 * @check: after check_devices()
 * @ifindex: which
 *
 * Return: what is known of it, or NULL if it has gone.
 */
const struct net_link *check_link(const struct check *check, unsigned int ifindex)
{
	size_t i;

	for (i = 0; i < check->nr_links; i++)
		if (check->links[i].ifindex == ifindex)
			return &check->links[i];
	return NULL;
}

/**
 * check_carries_flows() - may a route lead to it?
 * @link: network device
 *
 * What belongs to a bond, bridge or team has none of its own, and what stays on
 * the loopback device does not leave the host.
 */
bool check_carries_flows(const struct net_link *link)
{
	return link->flags & IFF_UP && !(link->flags & IFF_LOOPBACK) &&
	       strcmp(link->kind, "vrf") && (!link->master || link->in_vrf);
}

/**
 * check_link_has() - has a device another above or below it?
 * @check: with the folder of devices
 * @link: network device
 * @prefix: how its link to the other begins in sysfs: upper_ or lower_
 */
bool check_link_has(const struct check *check, const struct net_link *link,
		    const char *prefix)
{
	int fd = openat(check->net, link->name,
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool found = false;
	struct dirent *entry;
	DIR *dir;

	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && !found && (entry = readdir(dir)))
		found = !strncmp(entry->d_name, prefix, strlen(prefix));
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
	return found;
}

/* As the module calls it in "drivers". */
static const char *link_driver(const struct check *check,
			       const struct net_link *link)
{
	static char target[256];
	char path[64];
	const char *base;
	ssize_t len;

	if (*link->kind)
		return link->kind;
	snprintf(path, sizeof(path), "%s/device/driver", link->name);
	len = readlinkat(check->net, path, target, sizeof(target) - 1);
	if (len < 0)
		return "unknown";
	target[len] = '\0';
	base = strrchr(target, '/');
	return base ? base + 1 : target;
}

/* Whether a list with blanks between has a word. */
static bool lists(const char *list, const char *word)
{
	size_t len = strlen(word);

	while (*list) {
		if (!strncmp(list, word, len) && (list[len] == ' ' || !list[len]))
			return true;
		list += strcspn(list, " ");
		list += strspn(list, " ");
	}
	return false;
}

static void check_enabled(struct check *check, const struct net_link *link,
			  const char *drivers)
{
	bool ethernet = link->type == ARPHRD_ETHER;
	const char *driver, *why;
	struct json_object *obj;
	__u64 enabled;
	char path[64];

	snprintf(path, sizeof(path), "%s/chimney/enable", link->name);
	/* it may have gone meanwhile */
	if (sysfs_number(check->net, path, &enabled) || (enabled && !link->l3s))
		return;
	driver = link_driver(check, link);
	obj = check_finding(check, CHIMNEY_DEVICE);
	check_tell(obj, "scope", "flows by %s", link->name);
	if (!ethernet)
		why = "not Ethernet";
	else
		why = enabled ? "mode l3s" : "off";
	check_tell(obj, "object", "device %s driver %s: %s", link->name, driver,
		   why);
	if (!ethernet)
		check_tell(obj, "advice",
			   "none: only Ethernet devices are served");
	else if (enabled)
		check_tell(obj, "advice", "use ipvlan in mode l2 or l3");
	else if (lists(drivers, driver))
		check_tell(obj, "advice", "chimneyctl%s set dev %s on",
			   check->netns, link->name);
	else
		check_tell(obj, "advice",
			   "chimneyctl%s set dev %s on (its driver is not among those with a test)",
			   check->netns, link->name);
}

static void check_vrf(struct check *check, const struct net_link *link)
{
	const struct net_link *vrf = check_link(check, link->master);
	struct json_object *obj;

	if (!link->in_vrf)
		return;
	obj = check_finding(check, CHIMNEY_VRF);
	check_tell(obj, "scope", "flows by %s", link->name);
	check_tell(obj, "object", "device %s in VRF %s", link->name,
		   vrf ? vrf->name : "unknown");
	check_tell(obj, "advice", "take it out of the VRF");
}

static void check_speed(struct check *check, const struct net_link *link,
			long least)
{
	char path[64], text[32];
	struct json_object *obj;
	long speed;

	snprintf(path, sizeof(path), "%s/speed", link->name);
	/* those that report none pass */
	if (sysfs_text(check->net, path, text, sizeof(text)))
		return;
	speed = strtol(text, NULL, 10);
	if (speed <= 0 || speed >= least)
		return;
	obj = check_finding(check, CHIMNEY_SPEED);
	check_tell(obj, "scope", "flows by %s", link->name);
	check_tell(obj, "object", "device %s speed %ld", link->name, speed);
	check_tell(obj, "advice", "chimneyctl set automatic_speed %ld", speed);
}

/**
 * check_devices() - devices that keep flows in the host
 * @check: also gets the list of devices
 *
 * Return: exit code, after a complaint.
 */
int check_devices(struct check *check)
{
	char mode[CHECK_KNOB_LEN], least[CHECK_KNOB_LEN], drivers[CHECK_KNOB_LEN];
	const struct net_link *link;
	int err;

	err = check_knob("mode", mode);
	if (!err)
		err = check_knob("automatic_speed", least);
	if (!err)
		err = check_knob("drivers", drivers);
	if (err)
		return err;
	err = links_each(link_found, check);
	if (err)
		return complain(FAILED, "reading devices: %s", strerror(-err));
	for (link = check->links; link < check->links + check->nr_links; link++) {
		if (!check_carries_flows(link))
			continue;
		check_enabled(check, link, drivers);
		check_vrf(check, link);
		if (!strcmp(mode, "automatic"))
			check_speed(check, link, strtol(least, NULL, 10));
	}
	return DONE;
}
