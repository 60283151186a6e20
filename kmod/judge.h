/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHIMNEY_JUDGE_H
#define CHIMNEY_JUDGE_H

struct chimney_net;

int chimney_judge_register(struct chimney_net *cnet);
void chimney_judge_unregister(struct chimney_net *cnet);

#endif /* CHIMNEY_JUDGE_H */
