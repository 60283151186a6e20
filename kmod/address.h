/* SPDX-License-Identifier: GPL-2.0 */
#ifndef CHIMNEY_ADDRESS_H
#define CHIMNEY_ADDRESS_H

int chimney_addresses_init(void);
void chimney_addresses_exit(void);

#endif /* CHIMNEY_ADDRESS_H */
