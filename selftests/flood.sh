#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What fills tables takes nothing from those who are there: a flood of SYNs with forged addresses gets neither verdicts nor
# flows; a flow whose verdict is gone goes back to the host; so do those for whose verdicts there is no room.
#
#     netns host-a: talk, many [eth0 192.0.2.1] ---- veth ---- [eth0 192.0.2.2] talk, many :netns host-b
#     netns flooder: hping3 [eth0 198.51.100.1] ---- veth ---- [eth1 198.51.100.2]
#
# `make check-long` sends ten times as many SYNs.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

trap 'rm -f "$log"; lib_cleanup; ip netns del flooder 2>/dev/null' EXIT
log=$(mktemp)
VERDICTS=/sys/fs/bpf/chimney/flows

verdicts() { chimneyctl -j gate status | jq .verdicts; }
flows() { cat /sys/kernel/chimney/flows; }
flows_at_most() { (($(flows) <= $1)); }

SYNS=$((20000 / ${PATIENCE:-1}))
if long; then SYNS=$((200000 / ${PATIENCE:-1})) WAIT=$((WAIT * 4)); fi
syn_flood() {
	local from hping
	talk 30000 -s 1000 -i 5 -- $B4 && until_true both_offloaded 30000 || return
	from=$(cookies)
	nsenter --net=/run/netns/flooder hping3 -q --flood --rand-source -S -p $PORT 198.51.100.2 >"$log" 2>&1 &
	hping=$!
	pids+=("$hping")
	until_true cookies_more "$from" || { sed 's/^/# /' "$log"; return 1; }
	# its own SYN is one among thousands
	talk 30001 -s 1000 -i 5 -- $B4 && until_true both_offloaded 30001 && until_true cookies_more $((from + SYNS)) || return
	say "$(($(cookies) - from)) SYNs answered with a cookie, $(verdicts) verdicts, $(flows) flows"
	[ "$(verdicts)" = 4 ] && [ "$(flows)" = 4 ] && both_offloaded 30000 && [ "$(flow 30000 .offloads)" = 1 ] &&
		kill $hping && progress 30000 && talk_stop 30000 && talk_stop 30001
}
flooder() {
	ip netns add flooder && cable flooder eth0 host-b eth1 && ip -n flooder addr add 198.51.100.1/24 dev eth0 &&
		ip -n host-b addr add 198.51.100.2/24 dev eth1 && ip -n flooder link set eth0 up &&
		ip -n host-b link set eth1 up || return
	# without a route to who is said to have sent them, SYNs are not answered
	ip -n host-b route add default via 198.51.100.1 && b sysctl -qw net.ipv4.tcp_syncookies=1
}
cookies() { b nstat -asz TcpExtSyncookiesSent | awk '$1 == "TcpExtSyncookiesSent" { print $2 }'; }
cookies_more() { (($(cookies) > $1)); }

# As if it had been evicted. The flow is judged afresh, comes back, and has a verdict that knows nothing of the old one.
verdict_gone() {
	local key uploads
	talk 30002 -s 1000 -i 5 -- $B4 && until_true both_offloaded 30002 || return
	key=$(bpftool -j map dump pinned $VERDICTS |
		jq -r '.[] | select(.formatted.key.lport == 30002).key | join(" ")') || return
	uploads=$(reason_count not-judged)
	# shellcheck disable=SC2086 # that many bytes
	bpftool map delete pinned $VERDICTS key $key && until_true uploads_more "$uploads" &&
		until_true both_offloaded 30002 && talk_stop 30002
}
uploads_more() { (($(reason_count not-judged) > $1)); }

MANY=2000

# The gate is loaded with as little room for verdicts as it makes at all; flows may be as many as ever.
little_room() {
	local room most=0
	echo 1 >/sys/kernel/chimney/max_flows
	chimneyctl -q gate unload
	chimneyctl gate load || return
	echo 65536 >/sys/kernel/chimney/max_flows
	room=$(bpftool -j map show pinned $VERDICTS | jq .max_entries)
	((room < MANY)) && many_start 7100 && many open $MANY $B4 7100 || return
	for _ in {1..5}; do
		many exchange 10 || return
		if (($(verdicts) > most)); then most=$(verdicts); fi
	done
	say "$most verdicts at most, there is room for $room; $(flows) flows; not-judged $(reason_count not-judged)"
	((most > 0 && most <= room)) && until_true busy_in_room "$room" && many close && until_true flows_at_most 0
}
# Whose verdict has been evicted is found out when it is busy.
busy_in_room() { many exchange 1 && flows_at_most "$1"; }

after_all() {
	chimneyctl -q gate unload
	chimneyctl gate load && talk 30003 -s 1000 -i 5 -- $B6 && until_true both_offloaded 30003 && talk_stop 30003
}

ktap_print_header
ktap_set_plan 4
topology veth && flooder && gate_load && listener || ktap_exit_fail_msg "topology"
ktap_test_result "$SYNS SYNs with forged addresses" syn_flood
ktap_test_result "the verdict on an offloaded flow is gone" verdict_gone
ktap_test_result "$MANY connections, and room for fewer verdicts" little_room
ktap_test_result "flows are offloaded as ever afterwards" after_all
ktap_finished
