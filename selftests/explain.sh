#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# chimneyctl explain says which object is at fault: the capture with its process, the IPsec policy, who changed the rules,
# and no others that are there beside them. Topology veth of lib.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

# explain LPORT: what is said of a conversation's flow, as JSON
explain() {
	local local_end remote_end
	read -r local_end remote_end < <(flow "$1" | jq -r '"\(.local) \(.remote)"')
	chimneyctl -j -n host-a explain "$local_end" "$remote_end"
}
# names LPORT REASON FILTER: whether the objects behind that reason are what jq's FILTER says
names() {
	local said
	said=$(explain "$1") && jq -e ".explain[] | select(.reason == \"$2\").culprits | $3" <<<"$said" >/dev/null && return
	say "$said"
	return 1
}
text() { # LPORT PATTERN: as people see it
	local said
	said=$(chimneyctl -n host-a explain "$A4:$1" "$B4:$PORT") && grep -qE "$2" <<<"$said" && return
	say "${said//$'\n'/; }"
	return 1
}

declare -A capture_pid
capture() { # DEV
	: >"$said.$1"
	nsenter --net=/run/netns/host-a tcpdump -i "$1" -w /dev/null 2>"$said.$1" &
	capture_pid[$1]=$!
	pids+=($!)
	until_true grep -q "listening on" "$said.$1"
}
capture_stop() { kill "${capture_pid[$1]}" && wait "${capture_pid[$1]}"; }

by_capture() {
	capture dummy0 && all offloaded && capture eth0 && all names_capture eth0 &&
		text "$v4" "^    process tcpdump pid ${capture_pid[eth0]} dev eth0$" && capture_stop eth0 || return
	capture any && all names_capture any && capture_stop any && capture_stop dummy0 && until_true all both_offloaded
}
names_capture() { # DEV LPORT
	until_true in_host_for "$2" capture &&
		names "$2" capture ". == [{process: \"tcpdump\", pid: ${capture_pid[$1]}, dev: \"$1\"}]"
}

policy() { ip -n host-a xfrm policy "$@"; }
by_policy() { # LPORT PREFIX-HERE PREFIX-THERE OTHER-PREFIX
	policy add src "$4" dst "$3" dir out action block priority 1 && offloaded "$1" &&
		policy add src "$3" dst "$2" proto tcp dport "$1" dir in action block priority 8 &&
		until_true in_host_for "$1" ipsec || return
	names "$1" ipsec ". == [{dir: \"in\", src: \"$3\", dst: \"$2\", priority: 8}]" || return
	# one that blocks what is sent leaves it no route
	policy flush && until_true both_offloaded "$1" &&
		policy add src "$2" dst "$3" proto tcp sport "$1" dir out action block priority 7 &&
		until_true in_host_for "$1" route || return
	names "$1" route ". == [{dir: \"out\", src: \"$2\", dst: \"$3\", priority: 7}]" || return
	policy flush && until_true both_offloaded "$1"
}
by_policy_text() {
	policy add src 192.0.2.0/24 dst $A4/32 dir in action block && until_true in_host_for "$v4" ipsec &&
		text "$v4" "^    dir in src 192\.0\.2\.0/24 dst $A4/32 priority 0$" || return
	policy flush && until_true both_offloaded "$v4"
}

# A rule that stops what the flow sends: it is never judged again, and somebody asks why.
changed_by() { # LPORT COMMAND TABLE
	names "$1" rules "length == 1 and (.[0] | .process == \"$2\" and .table == $3 and .pid > 0 and .seconds < 60)"
}
by_rules() {
	a nft 'table ip fw { chain c { type filter hook output priority 0; }; }; add rule ip fw c tcp sport '"$v4"' drop' &&
		until_true in_host_for "$v4" rules && changed_by "$v4" nft '"fw"' &&
		text "$v4" "^    process nft pid [0-9]+ table fw seconds [0-9]+$" || return
	a nft delete table ip fw && until_true both_offloaded "$v4" && until_true both_offloaded "$v6" || return
	a iptables-legacy -A OUTPUT -p tcp --sport "$v4" -j DROP && until_true in_host_for "$v4" rules &&
		changed_by "$v4" iptables-legacy null && a iptables-legacy -F && until_true all both_offloaded
}
# Of a rule that looks at each packet the flow is not rid by being judged.
by_packet_rules() {
	a nft 'table ip6 each { chain c { type filter hook output priority 0; meta length > 60000 drop; }; }' &&
		until_true in_host_for "$v6" packet-rules && names "$v6" packet-rules 'map(.process + " " + .table) == ["nft each"]' &&
		a nft delete table ip6 each && until_true all both_offloaded
}

by_nobody() {
	mode disabled && all in_host_for_mode && text "$v4" '^  mode: ' && mode enabled && until_true all both_offloaded
}
in_host_for_mode() { until_true in_host_for "$1" mode && names "$1" mode '. == []'; }

said=$(mktemp)
trap 'lib_cleanup; rm -f "$said"*' EXIT
v4=38100
ktap_print_header
ktap_set_plan 8
topology veth && gate_load && listener && ip -n host-a link add dummy0 type dummy && ip -n host-a link set dummy0 up ||
	ktap_exit_fail_msg "topology"
talk_both -s 3000 -i 25 && until_true all both_offloaded || ktap_exit_fail_msg "conversations"
ktap_test_result "a capture, its process and device" by_capture
ktap_test_result "an IPsec policy" by_policy "$v4" $A4/32 192.0.2.0/24 192.0.2.128/25
ktap_test_result "an IPsec policy, IPv6" by_policy "$v6" 2001:db8::/65 $B6/128 2001:db8:1::/48
ktap_test_result "an IPsec policy, in words" by_policy_text
ktap_test_result "who changed the rules" by_rules
ktap_test_result "who made a rule that looks at each packet" by_packet_rules
ktap_test_result "a switch is no object" by_nobody
ktap_test_result "every byte is right" all talk_stop
ktap_finished
