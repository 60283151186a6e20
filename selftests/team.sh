#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Teaming: flows are offloaded on a bond in every mode and survive a failover without a byte lost; in the modes that are
# used most a NIC leaves the bond and comes back meanwhile.
#
#     netns host-a                                                netns host-b
#     [bond0 203.0.113.1  2001:db8:1::1]                [bond0 203.0.113.2  2001:db8:1::2]
#        port0 ------------------------ veth ------------------------ port0
#        port1 ------------------------ veth ------------------------ port1
#
# In modes that need no help of the switch, one is between them: netns switch, a bridge with four ports.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

A4=203.0.113.1 B4=203.0.113.2 A6=2001:db8:1::1 B6=2001:db8:1::2
hosts="host-a host-b"

wire() { # MODE
	local host port
	if [[ $1 = @(active-backup|balance-tlb|balance-alb) ]]; then
		ip netns add switch && ip -n switch link add br0 type bridge forward_delay 0 &&
			ip -n switch link set br0 up || return
		for host in $hosts; do
			for port in 0 1; do
				cable $host port$port switch $host$port && ip -n switch link set $host$port master br0 up || return
			done
		done
	else
		for port in 0 1; do cable host-a port$port host-b port$port || return; done
	fi
}

team() { # MODE: the two hosts, joined by bonds of this mode
	local host port
	ip netns add host-a && ip netns add host-b && wire "$1" || return
	for host in $hosts; do
		ip -n $host link set lo up
		ip -n $host link add bond0 type bond mode "$1" miimon 20 || return
		for port in 0 1; do ip -n $host link set port$port master bond0 || return; done
		ip -n $host link set bond0 up
	done
	ip -n host-a addr add $A4/24 dev bond0 && ip -n host-b addr add $B4/24 dev bond0 &&
		ip -n host-a addr add $A6/64 dev bond0 nodad && ip -n host-b addr add $B6/64 dev bond0 nodad || return
	reachable
}

# Of two conversations, one for each family, that are busy: …
v4=30000
start() {
	v4=$((v4 + 2))
	ports="$v4 $((v4 + 1))"
	talk $v4 -s 10000 -i 5 -- $B4 && talk $((v4 + 1)) -s 10000 -i 5 -- $B6 && all_offloaded
}
all_offloaded() { all until_true both_offloaded; }
stop() { all talk_stop; }

port_up() { ip -n host-a link set "$1" up && until_true works "$1"; }
works() { grep -A 1 "Slave Interface: $1" <(a cat /proc/net/bonding/bond0) | grep -q "MII Status: up"; }
has_failed() { not works "$1"; }

# … one port fails, then the other while the first is back.
failover() {
	local port
	for port in port0 port1; do
		ip -n host-a link set $port down && until_true has_failed $port && all progress && all_offloaded &&
			port_up $port && all progress || return
	done
	all_offloaded
}

# … a port leaves the bond and comes back.
release() {
	ip -n host-a link set port0 nomaster && ip -n host-b link set port0 nomaster && all progress && all_offloaded &&
		ip -n host-a link set port0 master bond0 && ip -n host-b link set port0 master bond0 &&
		until_true works port0 && all progress && all_offloaded
}

on_bond() { [ "$(flow $v4 | jq -r .dev)" = bond0 ]; }

trap 'lib_cleanup; ip netns del switch 2>/dev/null' EXIT
ktap_print_header
modes="active-backup balance-rr 802.3ad balance-xor broadcast balance-tlb balance-alb"
ktap_set_plan $(($(wc -w <<<"$modes") * 3 + 3))
modprobe -q bonding max_bonds=0
for mode in $modes; do
	team "$mode" && gate_load && listener || ktap_exit_fail_msg "a bond of mode $mode"
	ktap_test_result "$mode: offloaded on the bond" eval "start && on_bond"
	ktap_test_result "$mode: failover" failover
	[[ $mode != @(active-backup|balance-rr|802.3ad) ]] ||
		ktap_test_result "$mode: a port is released and enslaved" release
	ktap_test_result "$mode: every byte is right" stop
	lib_cleanup
	ip netns del switch 2>/dev/null
done
ktap_finished
