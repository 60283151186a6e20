#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# ipvlan, the device of a container that shares its host's NIC. In modes l2 and l3 its flows are offloaded, and what the
# host below decides about their packets still holds: its firewall, its captures. In mode l3s the host below delivers
# what is received by its own IP and netfilter, so that no packet comes by the device: such flows stay in the host.
#
#     netns host-a
#     [eth0 203.0.113.1  2001:db8:1::1]  (ipvlan)
#        |
#     netns below                                             netns host-b
#     [eth0 192.0.2.1  2001:db8::1] ---------- veth ---------- [eth0 192.0.2.2  2001:db8::2]

source "$(dirname "$(readlink -f "$0")")"/lib.sh

below() { nsenter --net=/run/netns/below "$@"; }

stack() { # MODE
	A4=192.0.2.1 A6=2001:db8::1
	topology veth && ip netns add below && ip -n host-a link set eth0 netns below && ip -n below link set lo up &&
		ip -n below addr add 192.0.2.1/24 dev eth0 && ip -n below addr add 2001:db8::1/64 dev eth0 nodad &&
		ip -n below link set eth0 up &&
		ip -n below link add link eth0 name up0 netns host-a type ipvlan mode "$1" &&
		ip -n host-a link set up0 name eth0 || return
	A4=203.0.113.1 A6=2001:db8:1::1
	ip -n host-a addr add $A4/24 dev eth0 && ip -n host-a addr add $A6/64 dev eth0 nodad &&
		ip -n host-a link set eth0 up && ip -n host-a route add 192.0.2.0/24 dev eth0 &&
		ip -n host-a -6 route add 2001:db8::/64 dev eth0 &&
		ip -n host-b route add 203.0.113.0/24 via 192.0.2.1 &&
		ip -n host-b -6 route add 2001:db8:1::/64 via 2001:db8::1 || return
	reachable
}

# Of two conversations, one for each family, that are busy: …
v4=38000
start() { talk_both -s 3000 -i 25; }
all_offloaded() { all until_true both_offloaded; }
goes_on() { all progress && all_offloaded; }
for_device() { in_host_for "$1" device; }

by_device() { start && all_offloaded && [ "$(flow $v4 .dev)" = eth0 ]; }

# … nothing gets past a rule of the host below: what it drops does not arrive.
firewall_below() {
	local table=netdev hook="egress device eth0" arrived
	[ $mode = l2 ] || { table=inet hook=output; }
	all offloaded && below nft "add table $table f; add counter $table f dropped
		add chain $table f out { type filter hook $hook priority 0; }
		add rule $table f out tcp dport $PORT counter name dropped drop" && until_true has_dropped $table 4 &&
		arrived=$(all acked) && until_true has_dropped $table 6 && [ "$(all acked)" = "$arrived" ] &&
		below nft delete table $table f && goes_on
}
has_dropped() { (($(below nft -j list counter "$1" f dropped | jq '.nftables[1].counter.packets') >= $2)); }
acked() { a ss -Htni "sport = :$1" | grep -o ' bytes_acked:[0-9]*'; }

# … a capture below gets every packet, while the flow stays where it is: none can pass it by.
capture_below() {
	local file from
	file=$(mktemp)
	python3 "$DIR"/capture.py listen "$file" netns=/run/netns/below dev=eth0 2>"$file.said" &
	pids+=($!)
	until_true grep -q "listening on" "$file.said" || return
	from=$(a ss -Htni "sport = :$v4" | grep -oE '\<bytes_(sent|received):[0-9]+' | sort -r | cut -d: -f2 | xargs)
	progress $v4 && all offloaded && talk_stop $v4 && ports=$v6 &&
		until_true "$DIR"/pcap.py ended "$file" $v4 both || return
	# shellcheck disable=SC2086 # OUT and IN are two words
	"$DIR"/pcap.py covers "$file" $v4 "$(awk '/^talk:/ { print $2 }' "$talk_out.$v4")" $from both |
		sed 's/^/# /'
	return "${PIPESTATUS[0]}"
}

# … the mode changes, of this device and all others of the host below.
to_mode() { ip -n host-a link set eth0 type ipvlan mode "$1" && goes_on; }
to_other_mode() {
	if [ $mode = l2 ]; then to_mode l3; else to_mode l2; fi
	to_mode $mode
}
kept() { all until_true for_device && all progress && all for_device; }
to_l3s() { ip -n host-a link set eth0 type ipvlan mode l3s && kept; }
below_down_and_up() {
	ip -n below link set eth0 down && until_true without_carrier && ip -n below link set eth0 up &&
		ip -n below addr replace 2001:db8::1/64 dev eth0 nodad && goes_on
}
without_carrier() { ip -n host-a link show dev eth0 | grep -qE 'NO-CARRIER|LOWERLAYERDOWN|M-DOWN'; }

gone() {
	hosts_gone
	ip netns del below 2>/dev/null
}

trap 'gone; lib_cleanup' EXIT
ktap_print_header
ktap_set_plan 16
modprobe -q ipvlan
gate_load || ktap_exit_fail_msg "the gate"
for mode in l2 l3; do
	stack $mode && listener || ktap_exit_fail_msg "mode $mode"
	ktap_test_result "$mode: offloaded" by_device
	ktap_test_result "$mode: the firewall below" firewall_below
	ktap_test_result "$mode: the NIC below goes down and up" below_down_and_up
	ktap_test_result "$mode: becomes another mode while busy, and $mode again" to_other_mode
	ktap_test_result "$mode: a capture below" capture_below
	ktap_test_result "$mode: every byte is right" all talk_stop
	gone
done
mode=l3s
stack $mode && listener || ktap_exit_fail_msg "mode $mode"
ktap_test_result "l3s: in the host" eval "start && kept"
ktap_test_result "l3s: becomes l3 while busy" to_mode l3
ktap_test_result "l3s: again while busy" to_l3s
ktap_test_result "l3s: every byte is right" all talk_stop
ktap_finished
