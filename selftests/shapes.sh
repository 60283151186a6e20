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

# What tells that it has happened, for each of these; nothing would, were the packets of netem those of TSO, of which
# there are too few.
declare -A sign=([loss]=TcpRetransSegs [reorder]=TcpExtTCPOFOQueue [duplicate]=TcpExtTCPDSACKOldSent
	[corrupt]=TcpInCsumErrors [ecn]=TcpExtTCPDeliveredCE)
signs() { { a nstat -asz "${sign[$1]}"; b nstat -asz "${sign[$1]}"; } | awk '!/^#/ { n += $2 } END { print n }'; }
has_happened() { (($(signs "$1") >= $2)); }
no_tso() { a ethtool -K eth0 tso off gso off >/dev/null && b ethtool -K eth0 tso off gso off >/dev/null; }

# rough KIND: the flows go through it, under `make check-long` a little, more, and much
percents=1%
if long; then percents="0.1% 1% 5%"; fi
rough() {
	local percent before
	for percent in $percents; do
		before=$(signs "$1")
		case $1 in
		loss | duplicate | corrupt) netem "$1" $percent ;;
		reorder) netem delay 1ms reorder ${percent/5%/25%} ;;
		ecn) netem loss ${percent/1%/10%} ecn ;;		# marks, but what is not ECN-capable
		esac && all until_true both_offloaded && all begin && until_true has_happened "$1" $((before + 3)) &&
			all goes_on "$1" || { say "$1 $percent"; return 1; }
		say "$1 $percent: ${sign[$1]} from $before to $(signs "$1")"
	done
	no_netem
	all progress && all until_true both_offloaded
}
# By the path, and never off it, unless what comes is damaged: that is for the host to see.
declare -A had
begin() { had[$1]="$(segments "$1") $(flow "$1" | jq '.offloads, .tx_packets' | xargs)"; }
goes_on() { # KIND LPORT
	local segs offloads path
	read -r segs offloads path <<<"${had[$2]}"
	until_true moved_on "$2" "$segs" 200 || return
	[ "$1" != corrupt ] || offloads=.offloads
	flow "$2" | jq -e ".offloads == $offloads and .tx_packets > $path" >/dev/null
}

# Marks reach TCP, which tells the sender, of each flow.
marks() { rough ecn && all marked; }
marked() { info "$1" | grep -q ' delivered_ce:[1-9]'; }

# Congestion controls while they are busy, and from the start at both ends: the four that are used most; under `make
# check-long`, all that the kernel has.
controls() {
	modprobe -a tcp_bbr tcp_dctcp || return
	# shellcheck disable=SC2046 # words
	! long || modprobe -qa $(find "/lib/modules/$(uname -r)/kernel/net/ipv4" -name 'tcp_*.ko*' -printf '%f\n' | sed 's/\.ko.*//')
	names=$(sysctl -n net.ipv4.tcp_available_congestion_control)
	say "$names"
	# or a namespace cannot have them from the start
	sysctl -qw net.ipv4.tcp_allowed_congestion_control="$names"
}
congestion() {
	local name
	[ -n "${names:-}" ] || return
	for name in $names; do
		all set_congestion "$name" && all progress && all until_true both_offloaded || { say "$name"; return 1; }
	done
}
set_congestion() { sock "$2" set IPPROTO_TCP TCP_CONGESTION "s:$1"; }
congestion_before() {
	local name ports
	controls || return
	for name in $names; do
		a sysctl -qw net.ipv4.tcp_congestion_control=$name && b sysctl -qw net.ipv4.tcp_congestion_control=$name &&
			talk_both -s 10000 -i 10 && all until_true both_offloaded && all has_congestion $name && all progress &&
			all talk_stop || { say $name; return 1; }
	done
	a sysctl -qw net.ipv4.tcp_congestion_control=cubic && b sysctl -qw net.ipv4.tcp_congestion_control=cubic
}
has_congestion() { a ss -Htni "sport = :$2" | grep -qw "$1" && b ss -Htni "dport = :$2" | grep -qw "$1"; }

# Without SACK, window scaling and timestamps, which each connection has otherwise; something is lost meanwhile.
options="sack wscale ts"
plain() {
	local ports before
	talk_both -s 10000 -i 10 && all has_options && all talk_stop && set_options 0 && talk_both -s 10000 -i 10 &&
		all until_true both_offloaded && all has_no_options && before=$(signs loss) && netem loss 2% &&
		until_true has_happened loss $((before + 3)) && no_netem && all progress && all until_true both_offloaded &&
		all talk_stop && set_options 1
}
set_options() {
	local host
	for host in a b; do
		$host sysctl -qw net.ipv4.tcp_sack="$1" net.ipv4.tcp_window_scaling="$1" net.ipv4.tcp_timestamps="$1" || return
	done
}
info() { a ss -Htnio "sport = :$1"; }
has_options() { local o; for o in $options; do info "$1" | grep -qwE "$o|$o:[0-9,]+" || return; done; }
has_no_options() { local o; for o in $options; do not grep -qwE "$o|$o:[0-9,]+" <(info "$1") || return; done; }

# Nagle's algorithm, on and off.
nagle() {
	local delay
	for delay in 0 1; do all set_nodelay $delay && all progress && all until_true both_offloaded || return; done
}
set_nodelay() { sock "$2" set IPPROTO_TCP TCP_NODELAY "$1"; }

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
	local address before
	for address in $B4 $B6; do
		before=$(passive)
		play fastopen $address && (($(passive) > before)) || return
	done
}
passive() { b nstat -asz TcpExtTCPFastOpenPassive | awk '/FastOpenPassive / { print $2 }'; }

dir=$(mktemp -d)
v4=36000 port=36100
ktap_print_header
ktap_set_plan 23
topology veth && gate_load && listener || ktap_exit_fail_msg "topology"
for h in a b; do $h sysctl -qw net.ipv4.tcp_ecn=1 net.ipv4.tcp_fastopen=3; done
for scenario in urgent half_close both_close zero_window keepalive cork; do
	ktap_test_result "${scenario/_/ }, IPv4" play $scenario $B4
	ktap_test_result "${scenario/_/ }, IPv6" play $scenario $B6
done
ktap_test_result "fast open" fastopen
ktap_test_result "congestion controls from the start" congestion_before
no_tso && talk_both -s 10000 -i 10 || ktap_exit_fail_msg "conversations"
for kind in loss reorder duplicate corrupt; do ktap_test_result "$kind" rough $kind; done
ktap_test_result "ECN: marks of congestion" marks
ktap_test_result "congestion controls" congestion
ktap_test_result "no SACK, no window scaling, no timestamps" plain
ktap_test_result "Nagle" nagle
ktap_test_result "every byte of these was right" all talk_stop
ktap_finished
