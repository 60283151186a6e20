// SPDX-License-Identifier: GPL-2.0
/* The path of a cgroup (v2), of which the kernel tells the id alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chimneyctl.h"

/* enum fid_type of the kernel's include/linux/exportfs.h */
#define FILEID_KERNFS 0xfe

/**
 * cgroup_exists() - whether there is such a cgroup
 * @path: its path from the root of cgroup v2
 */
bool cgroup_exists(const char *path)
{
	char full[PATH_MAX];
	struct stat st;

	snprintf(full, sizeof(full), CGROUP_ROOT "%s", path);
	return !stat(full, &st) && S_ISDIR(st.st_mode);
}

/* As cgroup_path(), but not remembered. */
static const char *find_path(__u64 id, char *buf, size_t size)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + sizeof(id)];
	} fh = { .handle = { sizeof(id), FILEID_KERNFS } };
	char link[64];
	int root, fd;
	ssize_t len;

	memcpy(fh.handle.f_handle, &id, sizeof(id));
	root = open(CGROUP_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return NULL;
	fd = open_by_handle_at(root, &fh.handle, O_PATH | O_CLOEXEC);
	close(root);
	if (fd < 0)
		return NULL;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, buf, size - 1);
	close(fd);
	if (len < (ssize_t)strlen(CGROUP_ROOT))
		return NULL;
	buf[len] = '\0';
	buf += strlen(CGROUP_ROOT);
	return *buf ? buf : "/";
}

/**
 * cgroup_path() - where a cgroup is
 * @id: its id
 *
 * Return: its path from the root of cgroup v2, until the next call; NULL if it
 * is gone, or out of sight.
 */
const char *cgroup_path(__u64 id)
{
	static char buf[PATH_MAX];
	static const char *path;
	static __u64 last;

	/* sockets of one cgroup often follow one another */
	if (id != last)
		path = find_path(id, buf, sizeof(buf));
	last = id;
	return path;
}
