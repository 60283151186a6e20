/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHIMNEY_JUDGE_H
#define CHIMNEY_JUDGE_H

struct net;

int chimney_judge_register(struct net *net);
void chimney_judge_unregister(struct net *net);

#endif /* CHIMNEY_JUDGE_H */
