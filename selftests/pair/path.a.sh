#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The path between two kernels: this guest talks, the other (path.b.sh) echoes; both have module and gate.
#
#     guest a                                                    guest b
#     [virtio-net 192.0.2.1 2001:db8::1] --- QEMU socket --- [virtio-net 192.0.2.2 2001:db8::2]

source "$(dirname "$(readlink -f "$0")")"/../lib.sh

port_next=26000

# Messages or bulk: offloaded here, and there (its word is in the shared folder).
takes_path() { # ADDRESS MESSAGE TOTAL
	local port=$((port_next++)) path
	talk_here $port -s "$2" -n "$3" send "$1" $PORT || return
	path=$(cat /sys/class/net/"$dev"/chimney/tx_packets)
	say "$path packets by the path so far"
	((path > before + 100)) && before=$path
}
talk_here() { # LPORT ARGS
	"$DIR"/../talk -p "$1" "${@:2}" | sed 's/^/# /'
	((PIPESTATUS[0] == 0))
}
peer_took_path() { (($(cat /sys/class/net/"$dev"/chimney/rx_packets) > 200)) && until_true test -s /out/peer; }

before=0
dev=$(nic hub 1)
ktap_print_header
ktap_set_plan 5
rm -f /out/done /out/peer
ip link set "$dev" up && ip addr add $A4/24 dev "$dev" && ip addr add $A6/64 dev "$dev" nodad && gate_load &&
	until_true test -e /out/ready && until_true ping -q -c 1 -W 1 $B4 >/dev/null || ktap_exit_fail_msg "set-up"
ktap_test_result "IPv4, small messages" takes_path $B4 1 500
ktap_test_result "IPv6, small messages" takes_path $B6 1 500
ktap_test_result "IPv4, bulk" takes_path $B4 0 8000000
ktap_test_result "IPv6, bulk" takes_path $B6 0 8000000
touch /out/done
ktap_test_result "the other guest took the path, too" peer_took_path
ktap_finished
