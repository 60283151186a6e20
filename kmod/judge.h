/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHIMNEY_JUDGE_H
#define CHIMNEY_JUDGE_H

struct chimney_net;
struct net_device;

int chimney_judge_register(struct chimney_net *cnet);
void chimney_judge_unregister(struct chimney_net *cnet);
bool chimney_late_rules(const struct chimney_net *cnet,
			const struct net_device *dev, u16 family);

#endif /* CHIMNEY_JUDGE_H */
