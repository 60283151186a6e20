#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# TCP in all its shapes on offloaded flows: loss, reordering, duplicates, damage and ECN marks on the way; other
# congestion controls; urgent data, half close, simultaneous close, zero window, keep-alive, cork, fast open. Every byte
# arrives, and what is not the end of a connection does not end its offload. Topology veth of lib.sh.
#
#     netns host-a                                  netns host-b
#     talk ────── [eth0, netem] ------ [eth0, netem] ────── talk
#     scenario.py ─'                                '────── the same scenario.py

source "$(dirname "$(readlink -f "$0")")"/lib.sh

netem() { a tc qdisc replace dev eth0 root netem "$@" && b tc qdisc replace dev eth0 root netem "$@"; }
no_netem() { a tc qdisc del dev eth0 root; b tc qdisc del dev eth0 root; } 2>/dev/null

# rough KIND: the flows go through it, under `make check-long` a little, more, and much
percents=1%
if long; then percents="0.1% 1% 5%"; fi
rough() {
	local percent
	for percent in $percents; do
		case $1 in
		loss | duplicate | corrupt) netem "$1" $percent ;;
		reorder) netem delay 1ms reorder ${percent/5%/25%} ;;
		ecn) netem loss ${percent/1%/10%} ecn ;;		# marks, but what is not ECN-capable
		esac && all until_true both_offloaded && all begin && all goes_on "$1" || { say "$1 $percent"; return 1; }
	done
	no_netem
	all progress && all until_true both_offloaded
}
# By the path and no other, unless what comes is damaged: that is for the host to see.
declare -A had
begin() { had[$1]="$(segments "$1") $(flow "$1" | jq '.offloads, .tx_packets' | xargs)"; }
goes_on() { # KIND LPORT
	local segs offloads path
	read -r segs offloads path <<<"${had[$2]}"
	until_true moved_on "$2" "$segs" 200 || return
	[ "$1" = corrupt ] || flow "$2" | jq -e ".offloads == $offloads and .tx_packets > $path" >/dev/null
}

# Marks reach TCP, which tells the sender.
marks() {
	local before
	before=$(delivered_ce)
	rough ecn && say "marked: $before to $(delivered_ce)" && (($(delivered_ce) > before))
}
delivered_ce() { a nstat -asz TcpExtTCPDeliveredCE | awk '/DeliveredCE/ { print $2 }'; }

congestion() {
	local name
	for name in reno bbr dctcp cubic; do
		all set_congestion $name && all progress && all until_true both_offloaded || { say $name; return 1; }
	done
}
set_congestion() { sock "$2" set IPPROTO_TCP TCP_CONGESTION "s:$1"; }

# play SCENARIO ADDRESS: what scenario.py has to show, once offloaded. $at is run when it is at something.
play() {
	local out=$dir/out
	port=$((port + 1))
	: >"$out"
	"$DIR"/scenario.py "$1" $port "$2" >"$out" 2>&1 &
	talk_pid[$port]=$!
	pids+=($!)
	until_true at connected && until_true both_offloaded $port || { sed 's/^/# /' "$out"; return 1; }
	[ "$1" != both_close ] || netem delay 100ms
	kill -USR1 ${talk_pid[$port]}
	case $1 in
	keepalive)
		until_true at "cut me off" && offloaded $port && b tc qdisc replace dev eth0 root netem loss 100% &&
			kill -USR1 ${talk_pid[$port]} ;;
	urgent | zero_window | cork | fastopen)
		until_true at "done" && until_true both_offloaded $port && flow $port | jq -e '.offloads == 1' >/dev/null &&
			kill -USR1 ${talk_pid[$port]} ;;
	esac
	local status=$?
	wait ${talk_pid[$port]} || status=1
	sed 's/^/# /' "$out"
	no_netem
	return $status
}
at() { grep -q "^$1" "$dir/out"; }

fastopen() {
	play fastopen $B4 && play fastopen $B6 && b nstat -asz TcpExtTCPFastOpenPassive | tail -n 1 | grep -qv ' 0 '
}

dir=$(mktemp -d)
v4=36000 port=36100
ktap_print_header
ktap_set_plan 20
topology veth && gate_load && listener || ktap_exit_fail_msg "topology"
for h in a b; do $h sysctl -qw net.ipv4.tcp_ecn=1 net.ipv4.tcp_fastopen=3; done
for scenario in urgent half_close both_close zero_window keepalive cork; do
	ktap_test_result "${scenario/_/ }, IPv4" play $scenario $B4
	ktap_test_result "${scenario/_/ }, IPv6" play $scenario $B6
done
ktap_test_result "fast open" fastopen
talk_both -s 10000 -i 10 || ktap_exit_fail_msg "conversations"
for kind in loss reorder duplicate corrupt; do ktap_test_result "$kind" rough $kind; done
ktap_test_result "ECN: marks of congestion" marks
ktap_test_result "congestion controls" congestion
ktap_test_result "every byte of these was right" all talk_stop
ktap_finished
