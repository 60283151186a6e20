/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHIMNEY_CHOICE_H
#define CHIMNEY_CHOICE_H

#include <linux/types.h>

struct attribute;
struct sock;

extern const struct attribute * const chimney_choice_attrs[];

u64 chimney_choice_reasons(const struct sock *sk);
void chimney_choice_exit(void);

#endif /* CHIMNEY_CHOICE_H */
