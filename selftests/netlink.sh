#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The generic netlink family tells what chimneyctl and sysfs do, to those who may know. It is asked by the kernel's own YNL
# library with the specification that is installed. Topology veth of lib.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

tmp=$(mktemp -d)
trap 'lib_cleanup; rm -rf "$tmp"' EXIT

ynl() { a "$DIR"/netlink.py "$@"; }

# Flows that are offloaded, in one form.
flows_by_netlink() {
	ynl dump flow-get | jq -cS '[.[] | { laddr: (.local4 // .local6), lport: ."local-port",
		raddr: (.remote4 // .remote6), rport: ."remote-port", ifindex, state,
		tx_packets: ."tx-packets", tx_bytes: ."tx-bytes", rx_packets: ."rx-packets", rx_bytes: ."rx-bytes" }] |
		sort_by(.lport)'
}
flows_by_chimneyctl() {
	chimneyctl -j -n host-a flows state offloaded | jq -cS --argjson ifindex "$ifindex" '[.[] | { laddr, lport, raddr,
		rport, ifindex: $ifindex, state, tx_packets, tx_bytes, rx_packets, rx_bytes }] | sort_by(.lport)'
}
same_flows() { # NUMBER
	local told
	told=$(flows_by_netlink)
	[ "$(jq length <<<"$told")" = "$1" ] && [ "$told" = "$(flows_by_chimneyctl)" ]
}
signal() { kill "-$1" "${talk_pid[$2]}"; }
flows() {
	talk_both -s 1000 -i 5 && all until_true both_offloaded && all progress || return
	# at rest their counters can be compared
	all signal STOP && until_true same_flows 2 || return
	flows_by_netlink | jq -c '.[]' | sed 's/^/# /'
	all signal CONT && all talk_stop
}

# More than one message holds, some dozens each: none is left out where one ends, none is there twice.
MANY=500
all_offloaded() { many exchange 17 && [ "$(chimneyctl -j -n host-a flows state offloaded | jq length)" = $MANY ]; }
all_told() {
	local told
	told=$(ynl dump flow-get | jq -c '[.[]."local-port"]')
	say "$(jq length <<<"$told") flows, $(jq 'unique | length' <<<"$told") of them different"
	[ "$(jq length <<<"$told")" = $MANY ] && [ "$(jq 'unique | length' <<<"$told")" = $MANY ]
}
many_flows() {
	many_start 7100 && many open $MANY $B4 7100 && until_true all_offloaded || return
	all_told && all_told && many close
}

listen() {
	nsenter --net=/run/netns/host-a "$DIR"/netlink.py listen >"$tmp/events" &
	pids+=($!)
	until_true grep -q listening "$tmp/events"
}
# Changes of the flow with this local port: of its state, not offers that were refused.
changes() {
	tail -n +2 "$tmp/events" | jq -r --argjson port "$1" \
		'select(."local-port" == $port and .from != .state) | "\(.from) \(.state) \(.reason)"'
}
# told CHANGE PORT: in any order, as one may overtake another
told() { changes "$2" | grep -qxF "$1"; }
all_changes() { # CHANGE...
	local change
	for change; do all until_true told "$change" || return; done
}
events() {
	listen && talk_both -s 1000 -i 5 && all until_true both_offloaded && all progress &&
		all_changes 'in-host offloading none' 'offloading offloaded none' || return
	a nft 'table inet t { chain c { type filter hook output priority 0; tcp dport 9 drop; }; }' &&
		all_changes 'offloaded uploading rules' 'uploading in-host none' && a nft delete table inet t &&
		all until_true both_offloaded && all talk_stop && all_changes 'offloaded uploading closing' || return
	# with what it has carried until rules changed first, on its device; and nothing of host-b
	tail -n +2 "$tmp/events" | jq -se --arg a4 $A4 --arg a6 $A6 --argjson ifindex "$ifindex" '
		all(.[]; .local4 == $a4 or .local6 == $a6) and
		([.[] | select(.state == "uploading" and .reason == "rules")] | all(.[]; .ifindex == $ifindex) and
			(map(select(."tx-packets" > 0 and ."rx-bytes" > 0)) | unique_by(."local-port") | length == 2))' >/dev/null
}

# device DEV: what netlink and sysfs tell of it, in one form
by_sysfs() {
	local file
	for file in tx_packets tx_bytes rx_packets rx_bytes offloads uploads fallbacks enable; do
		echo "$file $(ip netns exec host-a cat "/sys/class/net/$1/chimney/$file")"
	done | sort
}
by_netlink() {
	ynl get dev-get "{ \"ifindex\": $(a ip -j link show "$1" | jq '.[].ifindex') }" |
		jq -r 'del(.ifindex, .driver) | to_entries[] | "\(.key | gsub("-"; "_")) \(.value)"' | sort
}
same_device() { [ "$(by_netlink "$1")" = "$(by_sysfs "$1")" ]; }
devices() {
	local all
	# connections that close may count until then
	until_true same_device eth0 && set_dev_a enable 0 && until_true same_device eth0 &&
		set_dev_a enable 1 && same_device lo || return
	all=$(ynl dump dev-get | jq -c '[.[].ifindex] | sort')
	say "devices: $all; eth0: $(by_netlink eth0 | tr '\n' ' ')"
	[ "$all" = "$(a ip -j link | jq -c '[.[].ifindex] | sort')" ] &&
		[ "$(ynl dump dev-get | jq -r ".[] | select(.ifindex == $ifindex).driver")" = veth ]
}

refuses() { # WORDS COMMAND...
	local said
	said=$("${@:2}" 2>&1) && return 1
	say "$said"
	[[ $said = *"$1"* ]]
}
refused_all() {
	refuses "ENODEV {'msg': 'no such device in this network namespace', 'bad-attr': '.ifindex'}" \
		ynl get dev-get '{ "ifindex": 4711 }' && refuses ERANGE ynl get dev-get '{ "ifindex": 0 }' &&
		refuses EINVAL ynl get dev-get '{}'
}

# Those that others count in between count on.
reasons() {
	local name count words n=0
	while IFS=$'\t' read -r name count words; do
		n=$((n + 1))
		(($(reason_count "$name") >= count)) && [ -n "$words" ] || return
	done < <(ynl dump reason-get | jq -r '.[] | "\(.name)\t\(.count)\t\(.words)"')
	[ "$n" = "$(find /sys/kernel/chimney/reasons -type f | wc -l)" ] &&
		[ "$(ynl dump reason-get | jq '.[] | select(.name == "rules").count')" = "$(reason_count rules)" ]
}

nobody() { nsenter --net=/run/netns/host-a setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
permission() {
	talk_both -s 1000 -i 5 && all until_true both_offloaded &&
		refuses EPERM nobody "$DIR"/netlink.py dump flow-get &&
		refuses EPERM nobody timeout "$WAIT" "$DIR"/netlink.py listen &&
		nobody "$DIR"/netlink.py dump dev-get | jq -e 'length > 1' >/dev/null &&
		nobody "$DIR"/netlink.py dump reason-get | jq -e 'length > 1' >/dev/null || return
	# of a namespace of his own he is told all there is, and nothing of others
	[ "$(nobody unshare --user --map-root-user --net "$DIR"/netlink.py dump flow-get)" = "[]" ] && all talk_stop
}

# Nobody keeps the module by listening; he hears why flows have gone.
unload() {
	talk_both -s 1000 -i 5 && all until_true both_offloaded && chimneyctl gate unload && modprobe -r chimney &&
		all_changes 'offloaded uploading no-gate' && refuses "'chimney' not supported" ynl dump flow-get && all talk_stop
}

v4=41000
ktap_print_header
ktap_set_plan 8
topology veth && gate_load && listener || ktap_exit_fail_msg "topology"
ifindex=$(a ip -j link show eth0 | jq '.[].ifindex')
ktap_test_result "flows, as chimneyctl has them" flows
ktap_test_result "$MANY flows, in many messages" many_flows
ktap_test_result "changes of flows" events
ktap_test_result "devices, as sysfs has them" devices
ktap_test_result "what cannot be asked for" refused_all
ktap_test_result "reasons, as sysfs has them" reasons
ktap_test_result "who may know" permission
ktap_test_result "the module is unloaded while somebody listens" unload
ktap_finished
