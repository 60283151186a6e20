// SPDX-License-Identifier: GPL-2.0
/* IPsec policies and the flows that they are for. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/xfrm.h>
#include <string.h>

#include "check.h"

static void prefix_text(int family, const xfrm_address_t *addr,
			unsigned int plen, char *text)
{
	inet_ntop(family, addr, text, INET6_ADDRSTRLEN);
	sprintf(text + strlen(text), "/%u", plen);
}

static void print_port(FILE *to, const char *end, __be16 port, __be16 mask)
{
	if (mask == 0xffff)
		fprintf(to, " %s port %u", end, ntohs(port));
	else if (mask)
		fprintf(to, " %s port %#x/%#x", end, ntohs(port), ntohs(mask));
}

/* Which flows a policy covers, as they are seen from this host. */
static char *policy_scope(const struct check *check, const struct policy *policy,
			  const char *src, const char *dst)
{
	const struct xfrm_selector *sel = &policy->info->sel;
	bool out = policy->info->dir == XFRM_POLICY_OUT;
	const struct net_link *link = check_link(check, sel->ifindex);
	unsigned int here = out ? sel->prefixlen_s : sel->prefixlen_d;
	unsigned int there = out ? sel->prefixlen_d : sel->prefixlen_s;
	char *text = NULL;
	size_t len;
	FILE *to;

	to = open_memstream(&text, &len);
	if (!to)
		return NULL;
	fputs(here || there ? "flows" : check_family(sel->family), to);
	if (here)
		fprintf(to, " from %s", out ? src : dst);
	if (there)
		fprintf(to, " to %s", out ? dst : src);
	print_port(to, "local", out ? sel->sport : sel->dport,
		   out ? sel->sport_mask : sel->dport_mask);
	print_port(to, "remote", out ? sel->dport : sel->sport,
		   out ? sel->dport_mask : sel->sport_mask);
	if (sel->ifindex)
		fprintf(to, " by %s",
			link ? link->name : "a device that is gone");
	if (policy->mark_mask)
		fprintf(to, " with mark %#x/%#x", policy->mark,
			policy->mark_mask);
	fclose(to);
	return text;
}

/*
 * One with no templates that allows is a hole in others.  One that blocks takes
 * from the route what is sent (culprit.c), and what comes in TCP refuses.  Flows
 * of an xfrm interface are refused for their device.
 */
static void policy_found(const struct policy *policy, void *data)
{
	const struct xfrm_userpolicy_info *info = policy->info;
	const struct xfrm_selector *sel = &info->sel;
	char src[INET6_ADDRSTRLEN + 4], dst[INET6_ADDRSTRLEN + 4];
	bool blocks = info->action == XFRM_POLICY_BLOCK;
	bool out = info->dir == XFRM_POLICY_OUT;
	struct check *check = data;
	struct json_object *obj;
	char *scope;

	if ((sel->proto && sel->proto != IPPROTO_TCP) || policy->if_id ||
	    (!policy->transforms && !blocks))
		return;
	prefix_text(sel->family, &sel->saddr, sel->prefixlen_s, src);
	prefix_text(sel->family, &sel->daddr, sel->prefixlen_d, dst);
	scope = policy_scope(check, policy, src, dst);
	obj = check_finding(check, blocks && out ? CHIMNEY_ROUTE : CHIMNEY_IPSEC);
	check_tell(obj, "scope", "%s", scope ?: "flows");
	free(scope);
	check_tell(obj, "object",
		   "xfrm policy dir %s src %s dst %s priority %u%s",
		   out ? "out" : "in", src, dst, info->priority,
		   blocks ? " action block" : "");
	check_tell(obj, "advice",
		   "delete it, or let it cover less: other flows are not concerned");
}

/**
 * check_ipsec() - policies, and the flows that each is for
 * @check: gets them
 *
 * Return: exit code, after a complaint.
 */
int check_ipsec(struct check *check)
{
	int err = policies_each(policy_found, check);

	return err ? complain(FAILED, "reading IPsec policies: %s",
			      strerror(-err)) :
		     DONE;
}
