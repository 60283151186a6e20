#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Teaming: flows are offloaded on a bond or team device in every mode and survive a failover without a byte lost; in the
# modes that are used most a NIC leaves and comes back meanwhile. `make check` has the modes that differ in how they
# choose a port and in who has to agree; the others are variants of these, for `make check-long`.
#
#     netns host-a                                                netns host-b
#     [bond0 203.0.113.1  2001:db8:1::1]                [bond0 203.0.113.2  2001:db8:1::2]
#        port0 ------------------------ veth ------------------------ port0
#        port1 ------------------------ veth ------------------------ port1
#
# Likewise team0, which teamd looks after. In modes that need no help of the switch, one is between them: netns switch,
# a bridge with four ports.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

A4=203.0.113.1 B4=203.0.113.2 A6=2001:db8:1::1 B6=2001:db8:1::2
hosts="host-a host-b"

wire() { # MODE
	local host port
	if [[ $1 = @(active-backup|balance-tlb|balance-alb|activebackup) ]]; then
		ip netns add switch && ip -n switch link add br0 type bridge forward_delay 0 &&
			ip -n switch link set br0 up || return
		for host in $hosts; do
			for port in 0 1; do
				cable $host port$port switch $host$port &&
					ip -n switch link set $host$port master br0 up || return
			done
		done
	else
		for port in 0 1; do cable host-a port$port host-b port$port || return; done
	fi
}

declare -A teamd
upper() { # HOST KIND MODE
	if [ "$2" = bond ]; then
		ip -n "$1" link add bond0 type bond mode "$3" miimon 20
		return
	fi
	# in a mount namespace of its own, for what teamd keeps in /run is named after the device alone
	ip netns exec "$1" sh -c "mount -t tmpfs run /run && exec teamd -t team0 \
		-c '{ \"runner\": { \"name\": \"$3\" }, \"link_watch\": { \"name\": \"ethtool\" } }'" >/dev/null 2>&1 &
	pids+=($!)
	teamd[$1]=$!
	until_true ip -n "$1" link show dev team0 >/dev/null 2>&1
}
# A team takes no port that is up, and takes it up itself, as a bond does.
enslave() { ip -n "$1" link set "$2" down && ip -n "$1" link set "$2" master $dev; } # HOST PORT

team() { # KIND MODE: the two hosts, joined by bonds or team devices of this mode
	local host port
	ip netns add host-a && ip netns add host-b && wire "$2" || return
	for host in $hosts; do
		ip -n $host link set lo up
		upper $host "$1" "$2" || return
		for port in 0 1; do enslave $host port$port || return; done
		ip -n $host link set $dev up
	done
	ip -n host-a addr add $A4/24 dev $dev && ip -n host-b addr add $B4/24 dev $dev &&
		ip -n host-a addr add $A6/64 dev $dev nodad && ip -n host-b addr add $B6/64 dev $dev nodad || return
	reachable
}

# Of two conversations, one for each family, that are busy: …
v4=30000
start() { talk_both -s 3000 -i 25 && all_offloaded; }
all_offloaded() { all until_true both_offloaded; }

works() { # HOST PORT
	case $dev in
	bond0) grep -A 1 "Slave Interface: $2" <(in_host_netns "$1" cat /proc/net/bonding/bond0) | grep -q "MII Status: up" ;;
	team0) in_host_netns "$1" teamnl team0 ports | grep -q "$2: up" ;;
	esac
}
in_host_netns() { nsenter --net=/run/netns/"$1" "${@:2}"; }
has_failed() { not works "$@"; }
all_work() { works host-a "$1" && works host-b "$1"; }

# … a port fails here, then the other one at the other end, while the first is back.
failover() {
	local host port
	while read -r host port; do
		ip -n "$host" link set "$port" down && until_true has_failed "$host" "$port" && all progress && all_offloaded &&
			ip -n "$host" link set "$port" up && until_true all_work "$port" && all progress || return
	done <<<"$(printf '%s\n' "host-a port0" "host-b port1")"
	all_offloaded
}

# … the administrator has another port carry everything, and the first one again.
active() {
	local port others="port1 port0"
	if is_active port1; then others="port0 port1"; fi
	for port in $others; do
		not is_active $port || return
		case $dev in
		bond0) ip -n host-a link set bond0 type bond active_slave $port ;;
		team0) nsenter --mount=/proc/${teamd[host-a]}/ns/mnt --net=/run/netns/host-a teamdctl team0 \
			state item set runner.active_port $port ;;
		esac && until_true is_active $port && all progress && all_offloaded || return
	done
}
is_active() {
	case $dev in
	bond0) a grep -q "Currently Active Slave: $1" /proc/net/bonding/bond0 ;;
	team0) [ "$(a teamnl team0 getoption activeport)" = "$(ip -n host-a -j link show dev "$1" | jq '.[].ifindex')" ] ;;
	esac
}

# … a port leaves and comes back. That of a team goes down first: how soon teamd finds another is not our business.
release() {
	if [ $dev = team0 ]; then
		ip -n host-a link set port0 down && ip -n host-b link set port0 down && all progress || return
	fi
	ip -n host-a link set port0 nomaster && ip -n host-b link set port0 nomaster && all progress && all_offloaded &&
		enslave host-a port0 && enslave host-b port0 && until_true all_work port0 && all progress && all_offloaded
}

on_dev() { [ "$(flow $v4 .dev)" = $dev ]; }

gone() {
	hosts_gone
	ip netns del switch 2>/dev/null
}

trap 'gone; lib_cleanup' EXIT
declare -A modes=([bond]="active-backup balance-rr 802.3ad" [team]="activebackup loadbalance")
most_used="${modes[*]}"
if long; then
	modes[bond]+=" balance-alb balance-tlb balance-xor broadcast"
	modes[team]+=" roundrobin random broadcast"
fi
ktap_print_header
ktap_set_plan $(($(wc -w <<<"${modes[*]}") * 3 + $(wc -w <<<"$most_used") + 2))
modprobe -q bonding max_bonds=0
gate_load || ktap_exit_fail_msg "the gate"
for kind in bond team; do
	dev=${kind}0
	for mode in ${modes[$kind]}; do
		team $kind "$mode" && listener || ktap_exit_fail_msg "a $kind of mode $mode"
		ktap_test_result "$kind $mode: offloaded on the $kind" eval "start && on_dev"
		ktap_test_result "$kind $mode: failover" failover
		[[ $mode != @(active-backup|activebackup) ]] ||
			ktap_test_result "$kind $mode: another port is made the active one" active
		[[ " $most_used " != *" $mode "* ]] ||
			ktap_test_result "$kind $mode: a port is released and enslaved" release
		ktap_test_result "$kind $mode: every byte is right" all talk_stop
		gone
	done
done
ktap_finished
