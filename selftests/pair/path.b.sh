#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The other end of path.a.sh.

source "$(dirname "$(readlink -f "$0")")"/../lib.sh

WAIT=$((WAIT * 20))
dev=$(nic hub 2)
ip link set "$dev" up && ip addr add $B4/24 dev "$dev" && ip addr add $B6/64 dev "$dev" nodad && gate_load || exit
"$DIR"/../talk listen $PORT >/dev/null 2>&1 &
pids+=($!)
touch /out/ready
until_true test -e /out/done || exit
path=$(cat /sys/class/net/"$dev"/chimney/tx_packets)
echo "# guest b: $path packets by the path"
((path > 400)) && echo "$path" >/out/peer
