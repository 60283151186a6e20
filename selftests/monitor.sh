#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# chimneyctl monitor: whoever listens is told what becomes of the flows of his namespace, when it happens, and why.
# Several may listen at once, as text and as JSON. Topology veth of lib.sh; what is listened to is host-a.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

K=/sys/kernel/chimney
dir=$(mktemp -d)

listen_in() { # FILE OPTION...
	chimneyctl -n host-a "${@:2}" monitor >"$1" 2>"$1.said" &
	listeners+=($!)
	pids+=($!)
	until_true grep -q listening "$1.said"
}
listeners=()
both_listen() { listen_in "$dir/json" -j && listen_in "$dir/text"; }

# event LPORT EVENT REASON N: it is the N-th of this flow that is listed, in JSON and as text.
event() {
	local line
	line=$(jq -c "select(.lport == $1)" "$dir/json" | sed -n "$4p")
	[ -n "$line" ] && [ "$(jq -r '.event, (.reason // "-"), .dev, .raddr' <<<"$line" | xargs)" = "$2 $3 eth0 $peer" ] ||
		return
	line=$(grep -F ":$1 " "$dir/text" | sed -n "$4p")
	case $3 in
	-) [[ $line = *" $2 "*" dev eth0" ]] ;;
	*) [[ $line = *" $2 "*" dev eth0 reason $3" ]] ;;
	esac
}
told() { until_true event "$@" || { say "$*"; sed 's/^/# /' "$dir/json" "$dir/text"; return 1; }; }

life() { # LPORT
	talk "$1" -s 1000 -i 25 -- $peer && told "$1" offloaded - 1 || return
	echo disabled >$K/mode && told "$1" uploaded mode 2 && echo enabled >$K/mode && told "$1" offloaded - 3 || return
	a nft add table inet f && told "$1" uploaded rules 4 && told "$1" offloaded - 5 && a nft flush ruleset &&
		told "$1" uploaded rules 6 && told "$1" offloaded - 7 || return
	talk_stop "$1" && told "$1" uploaded closing 8
}
refused() {
	echo 0 >$K/max_flows && talk 37003 -s 1000 -i 25 -- $peer && until_true listed 37003 refused '"table-full"'
	local status=$?
	echo 65536 >$K/max_flows
	[ $status = 0 ] && until_true listed 37003 offloaded null && talk_stop 37003
}
listed() { # LPORT EVENT REASON
	jq -se "any(.lport == $1 and .event == \"$2\" and .reason == $3)" "$dir/json" >/dev/null
}

# In the order of time, counted, and of no other namespace: there 7000 is the local port.
in_order() {
	jq -se 'map(.time) | . == sort and length > 10' "$dir/json" >/dev/null &&
		jq -se 'map(select(.event == "uploaded" and .reason == "rules")) | all(.tx_packets > 0 and .rx_bytes > 0)' \
			"$dir/json" >/dev/null && jq -se 'all(.rport == 7000 and .tx_packets != null)' "$dir/json" >/dev/null
}
end_well() {
	local p
	for p in "${listeners[@]}"; do kill -TERM "$p" && wait "$p" || return; done
	[ "$(jq -s length "$dir/json")" = "$(wc -l <"$dir/text")" ]
}

# What nobody can listen to.
status_of() { # STATUS WORDS COMMAND...
	local status=0 text
	text=$("${@:3}" 2>&1) || status=$?
	say "$text"
	[ $status = "$1" ] && [[ $text = *"$2"* ]]
}
bad_use() {
	status_of 2 'unexpected word "on"' chimneyctl monitor on &&
		status_of 3 'network namespace "nowhere"' chimneyctl -n nowhere monitor && modprobe -r chimney &&
		status_of 3 "" chimneyctl monitor
}

trap 'lib_cleanup; rm -rf "$dir"' EXIT
ktap_print_header
ktap_set_plan 7
topology veth && gate_load && listener || ktap_exit_fail_msg "topology"
ktap_test_result "two listen" both_listen
peer=$B4
ktap_test_result "the life of a flow, IPv4" life 37001
peer=$B6
ktap_test_result "the life of a flow, IPv6" life 37002
ktap_test_result "an offer that is refused" refused
ktap_test_result "in order, with what the path has carried" in_order
ktap_test_result "both end when told to, and have heard the same" end_well
ktap_test_result "bad use is refused" bad_use
ktap_finished
