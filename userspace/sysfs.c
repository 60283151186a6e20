// SPDX-License-Identifier: GPL-2.0
/* Reading the module's files, one value each, in the right network namespace. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "chimneyctl.h"

/**
 * sysfs_text() - read a file of one line
 * @dir: folder, or AT_FDCWD
 * @path: path below @dir
 * @buf: gets the line without its newline
 * @len: room in @buf
 *
 * Return: 0 or a negative errno.
 */
int sysfs_text(int dir, const char *path, char *buf, size_t len)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, len - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n < 0)
		return n;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return 0;
}

/**
 * sysfs_number() - read a file of one number
 * @dir: folder, or AT_FDCWD
 * @path: path below @dir
 * @number: gets the number
 *
 * Return: 0 or a negative errno.
 */
int sysfs_number(int dir, const char *path, __u64 *number)
{
	char buf[32];
	char *end;
	int err;

	err = sysfs_text(dir, path, buf, sizeof(buf));
	if (err)
		return err;
	*number = strtoull(buf, &end, 10);
	return *buf && !*end ? 0 : -EINVAL;
}

/**
 * sysfs_write() - write a value into a file
 * @dir: folder, or AT_FDCWD
 * @path: path below @dir
 * @text: the value
 *
 * Return: 0 or a negative errno, that of the file's if it refuses the value.
 */
int sysfs_write(int dir, const char *path, const char *text)
{
	int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

/**
 * sysfs_net_devices() - open /sys/class/net of this process' network namespace
 *
 * What is mounted on /sys shows the devices of whoever mounted it.  A mount of
 * our own, attached nowhere, shows ours and covers nothing.  Without the
 * privilege for that, /sys is as good as it gets.
 *
 * Return: folder, or a negative errno.
 */
int sysfs_net_devices(void)
{
	int fs, mnt = -1, dir;

	fs = fsopen("sysfs", FSOPEN_CLOEXEC);
	if (fs >= 0) {
		if (!fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
			mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
		close(fs);
	}
	dir = openat(mnt, mnt < 0 ? "/sys/class/net" : "class/net",
		     O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		dir = -errno;
	if (mnt >= 0)
		close(mnt);
	return dir;
}

/**
 * no_device() - complain that there is no such device
 * @name: how it was called
 *
 * Return: exit code.
 */
int no_device(const char *name)
{
	return complain(ABSENT,
			"no device \"%s\" that chimney knows in this network namespace",
			name);
}

/**
 * module_present() - whether a module is loaded
 * @module: its name
 */
bool module_present(const char *module)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/module/%s", module);
	return !access(path, F_OK);
}

/**
 * need_module() - complain unless the module is loaded
 *
 * Return: exit code.
 */
int need_module(void)
{
	if (!access(CHIMNEY_SYSFS, F_OK))
		return DONE;
	return complain(ABSENT, "the module is not loaded: modprobe chimney");
}

/**
 * need_same_version() - complain unless the module is of this version
 *
 * For commands to which more than text crosses the border: after an upgrade the
 * module that is loaded may still be the old one.
 *
 * Return: exit code.
 */
int need_same_version(void)
{
	char version[64] = "unknown";
	int err = need_module();

	if (err)
		return err;
	if (sysfs_text(AT_FDCWD, "/sys/module/chimney/version", version,
		       sizeof(version)) ||
	    strcmp(version, CHIMNEY_VERSION))
		return complain(FAILED,
				"the module that is loaded is version %s, this is chimneyctl %s: systemctl restart chimney, or modprobe -r chimney and modprobe chimney",
				version, CHIMNEY_VERSION);
	return DONE;
}
