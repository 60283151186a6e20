#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A device that has flows gets another on top of it, and loses it again, while they are busy. A bridge, bond, team, or
# macvlan in mode passthru or source takes what the device receives, or gets to see it, and has rules of its own: the flows
# stay in the host until it is gone. VLAN, macvlan and ipvlan take nothing of theirs: they come back. Topology veth of lib.sh:
#
#     netns host-a                                              netns host-b
#     talk ── [eth0 192.0.2.1  2001:db8::1] ──── veth ──── [eth0 192.0.2.2 ...] ── talk
#               └─ up0

source "$(dirname "$(readlink -f "$0")")"/lib.sh

# What answers to ARP and neighbour discovery is up0, which has no address.
neighbours() {
	local mac_a mac_b
	mac_a=$(mac host-a) mac_b=$(mac host-b)
	a sysctl -qw net.ipv6.conf.eth0.keep_addr_on_down=1 &&
		known host-a $B4 "$mac_b" && known host-a $B6 "$mac_b" && known host-b $A4 "$mac_a" && known host-b $A6 "$mac_a"
}
mac() { ip -n "$1" -br link show dev eth0 | awk '{ print $3 }'; }
known() { ip -n "$1" neigh replace "$2" lladdr "$3" dev eth0 nud permanent; }

enslave() {
	case $kind in
	bridge) ip -n host-a link add up0 type bridge forward_delay 0 && ip -n host-a link set eth0 master up0 ;;
	bond) ip -n host-a link add up0 type bond mode active-backup miimon 20 && as_port ;;
	team) teamd_start && as_port ;;
	source) ip -n host-a link add up0 link eth0 type macvlan mode source && sender ;;
	vlan) ip -n host-a link add up0 link eth0 type vlan id 5 ;;
	ipvlan) ip -n host-a link add up0 link eth0 type ipvlan mode l2 ;;
	macvlan) ip -n host-a link add up0 link eth0 type macvlan mode bridge ;;
	passthru) ip -n host-a link add up0 link eth0 type macvlan mode passthru ;;
	esac && ip -n host-a link set up0 up
}
# bond and team take no port that is up, and take it up themselves; what is permanent goes when it is down
as_port() { ip -n host-a link set eth0 down && ip -n host-a link set eth0 master up0 && neighbours; }
teamd_start() {
	ip netns exec host-a sh -c "mount -t tmpfs run /run && exec teamd -t up0 \
		-c '{ \"runner\": { \"name\": \"activebackup\" }, \"link_watch\": { \"name\": \"ethtool\" } }'" >/dev/null 2>&1 &
	teamd=$!
	pids+=("$teamd")
	until_true ip -n host-a link show dev up0 >/dev/null 2>&1
}
sender() { ip -n host-a link set up0 type macvlan macaddr set "$(mac host-b)"; }

release() {
	case $kind in
	bridge) ip -n host-a link set eth0 nomaster && ip -n host-a link del up0 ;;
	bond) ip -n host-a link set eth0 nomaster && ip -n host-a link del up0 && back_up ;;
	team) ip -n host-a link set eth0 nomaster && kill $teamd && { wait $teamd || :; } && back_up ;;
	*) ip -n host-a link del up0 ;;
	esac
}
back_up() { ip -n host-a link set eth0 up && neighbours; }

taken() { in_host_for "$1" rx-handler; }

v4=38500
# a port of a bond or team has no IPv6
talk_some() {
	if [[ $kind != @(bond|team) ]]; then
		talk_both -s 3000 -i 25
	else
		v4=$((v4 + 2))
		ports=$v4
		talk $v4 -s 3000 -i 25 -- $B4
	fi
}
start() { talk_some && all until_true both_offloaded; }
while_busy() { start && enslave && all off_path && all until_true taken && all progress && all taken; }

# What up0 drops does not arrive.
rules_decide() {
	local received
	a nft "add table netdev f; add counter netdev f dropped
		add chain netdev f in { type filter hook ingress device up0 priority 0; }
		add rule netdev f in tcp sport $PORT counter name dropped drop" && until_true has_counted 4 || return
	received=$(all received)
	until_true has_counted 8 && [ "$(all received)" = "$received" ] && a nft delete table netdev f && all progress &&
		all taken
}
# What comes by eth0 is seen there, too: each packet.
sees_all() {
	a nft "add table netdev f; add counter netdev f received; add counter netdev f seen
		add chain netdev f in { type filter hook ingress device eth0 priority 0; }
		add rule netdev f in tcp sport $PORT counter name received
		add chain netdev f up { type filter hook ingress device up0 priority 0; }
		add rule netdev f up tcp sport $PORT counter name seen" && pause && a nft reset counters >/dev/null &&
		go_on && until_true has_counted 100 seen && pause && until_true counts_agree
	local status=$?
	say "$(counted received) packets by eth0, $(counted seen) by up0"
	go_on && a nft delete table netdev f && all progress && return $status
}
pause() { all signal STOP && all until_true stopped && until_true at_rest counted received; }
go_on() { all signal CONT; }
signal() { kill "-$1" "${talk_pid[$2]}"; }
counted() { a nft -j list counter netdev f "$1" | jq '.nftables[1].counter.packets'; }
has_counted() { (($(counted "${2:-dropped}") >= $1)); }
counts_agree() { [ "$(counted seen)" = "$(counted received)" ]; }
received() { a ss -Htni "sport = :$1" | grep -o ' bytes_received:[0-9]*'; }

before() { all talk_stop && talk_some && all until_true taken && all progress && all taken; }
released() { release && all progress && all until_true both_offloaded; }

goes_on() { all progress && all until_true both_offloaded; }
left_alone() { start && enslave && goes_on && release && goes_on; }
# Which of its modes a macvlan is in may change at any time, also while it is down.
other_mode() {
	enslave && goes_on && ip -n host-a link set up0 type macvlan mode source && all off_path && all until_true taken &&
		all progress && all taken && ip -n host-a link set up0 type macvlan mode bridge && goes_on &&
		ip -n host-a link set up0 down && ip -n host-a link set up0 type macvlan mode source &&
		ip -n host-a link set up0 up && all off_path && all until_true taken && release && goes_on
}
bytes_right() { all talk_stop; }

ktap_print_header
ktap_set_plan 29
topology veth && neighbours && gate_load && listener || ktap_exit_fail_msg "topology"
for kind in bridge bond team passthru source; do
	ktap_test_result "$kind: while busy" while_busy
	if [ $kind = source ]; then
		ktap_test_result "$kind: it sees what eth0 receives" sees_all
	else
		ktap_test_result "$kind: its rules decide" rules_decide
	fi
	ktap_test_result "$kind: before the connection" before
	ktap_test_result "$kind: gone while busy" released
	ktap_test_result "$kind: every byte is right" bytes_right
done
for kind in vlan ipvlan macvlan; do
	ktap_test_result "$kind: it comes and goes" eval "left_alone && bytes_right"
done
ktap_test_result "macvlan: its mode changes while busy" eval "start && other_mode && bytes_right"
ktap_finished
