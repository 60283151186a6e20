/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHIMNEY_DRIVERS_H
#define CHIMNEY_DRIVERS_H

#include <linux/types.h>

struct kobj_attribute;

extern struct kobj_attribute chimney_drivers_attr;

bool chimney_driver_listed(const char *name);
int chimney_drivers_init(void);
void chimney_drivers_exit(void);

#endif /* CHIMNEY_DRIVERS_H */
