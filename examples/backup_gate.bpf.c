// SPDX-License-Identifier: GPL-2.0
/*
 * A site's own rules, as an example: of all connections only those of
 * backup.slice, and of the cgroups below it, to 192.0.2.0/24 may be offloaded,
 * if the gate finds nothing else against them.  bpf/site.h tells how to link and
 * load it.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "site.h"

#define SLICE "backup.slice"
#define PREFIX 0xc0000200 /* 192.0.2.0, ... */
#define MASK 0xffffff00	  /* ... /24 */
#define AF_INET 2

/* A slice is a cgroup right below the root. */
static bool of_slice(const struct sock *sk)
{
	const struct cgroup *cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	const struct cgroup *slice;
	char name[sizeof(SLICE)] = {};

	if (BPF_CORE_READ(cgroup, level) < 1)
		return false;
	slice = BPF_CORE_READ(cgroup, ancestors[1]);
	/* a longer name has no zero at its end */
	bpf_probe_read_kernel(name, sizeof(name), BPF_CORE_READ(slice, kn, name));
	return !bpf_strncmp(name, sizeof(name), SLICE);
}

static bool in_prefix(const struct chimney_tuple *flow)
{
	return flow->family == AF_INET &&
	       (bpf_ntohl(*(__be32 *)(flow->remote + 12)) & MASK) == PREFIX;
}

u64 site_judge(struct sock *sk __arg_trusted,
	       const struct chimney_tuple *flow __arg_nonnull)
{
	return of_slice(sk) && in_prefix(flow) ? 0 : CHIMNEY_MASK(SITE);
}
