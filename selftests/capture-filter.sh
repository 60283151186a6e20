#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A capture whose filter can let no packet of a flow pass leaves that flow on the path: tcpdump for port 22 beside a flow on
# another port. Topology hub of lib.sh:
#
#     netns host-a                               netns host-b
#     [eth0 192.0.2.1  2001:db8::1] ------ [eth0 192.0.2.2  2001:db8::2]
#       ^ captured, for port 22 or the like        talk on ports 7000 and 22

source "$(dirname "$(readlink -f "$0")")"/lib.sh

BUSY=(-s 2000 -i 20)
tmp=$(mktemp -d)
trap 'lib_cleanup; rm -rf "$tmp"' EXIT

# capture OPTIONS...: tcpdump in host-a, until it says that it listens.
capture() {
	: >"$tmp/said"
	nsenter --net=/run/netns/host-a tcpdump -U -s 128 -w "$tmp/pcap" "$@" 2>"$tmp/said" &
	capture_pid=$!
	pids+=($!)
	until_true grep -q "listening on" "$tmp/said"
}
capture_stop() { kill -TERM $capture_pid && wait $capture_pid && sed 's/^/# /' "$tmp/said"; }
captured() { "$DIR"/pcap.py ended "$tmp/pcap" "$1" both; } # LPORT

# stays LPORT: it is offloaded, goes on, and has not left the path meanwhile.
stays() {
	local offloads
	until_true both_offloaded "$1" && offloads=$(flow "$1" .offloads) && progress "$1" && offloaded "$1" &&
		[ "$(flow "$1" .offloads)" = "$offloads" ]
}
leaves() { until_true in_host_for "$1" capture && progress "$1" && in_host_for "$1" capture; }

# beside ADDRESS OPTIONS...: tcpdump for port 22, beside a flow that is none of it, and one that is.
beside() {
	local address=$1 other=$((port_next++)) ssh=$((port_next++)) after=$((port_next++)) offloads
	shift
	talk $other "${BUSY[@]}" -- "$address" && PORT=22 talk $ssh "${BUSY[@]}" -- "$address" &&
		until_true both_offloaded $other && until_true both_offloaded $ssh || return
	capture "$@" port 22 && stays $other && leaves $ssh || return
	talk $after "${BUSY[@]}" -- "$address" && stays $after && talk_stop $after || return
	offloads=$(flow $other .offloads)
	talk_stop $ssh && until_true captured $ssh && ! captured $after && capture_stop && stays $other &&
		[ "$(flow $other .offloads)" = "$offloads" ] && talk_stop $other
}

# It is there before the gate, which has to look at its filter when it finds it.
before_gate() {
	local other=$((port_next++)) ssh=$((port_next++))
	chimneyctl gate unload && capture -i eth0 port 22 && chimneyctl gate load || return
	talk $other "${BUSY[@]}" -- $B4 && PORT=22 talk $ssh "${BUSY[@]}" -- $B4 && stays $other && leaves $ssh || return
	capture_stop && stays $ssh && talk_stop $ssh && talk_stop $other
}

# Of two captures one wants it.
two() {
	local port=$((port_next++)) first
	talk $port "${BUSY[@]}" -- $B4 && capture -i eth0 port 22 && stays $port || return
	first=$capture_pid
	capture -i eth0 port $port && leaves $port && capture_stop && stays $port || return
	capture_pid=$first
	capture_stop && stays $port && talk_stop $port
}

# More captures than filters are looked at: what is not looked at wants everything.
many_captures() {
	local port=$((port_next++)) captures=()
	talk $port "${BUSY[@]}" -- $B4 || return
	for _ in {1..16}; do
		capture -i eth0 port 22 && captures+=("$capture_pid") || return
	done
	stays $port && capture -i eth0 port 22 && leaves $port && capture_stop && stays $port || return
	kill -TERM "${captures[@]}"
	wait "${captures[@]}"
	stays $port && talk_stop $port
}

# One that asks for what nobody can say beforehand.
uncertain() {
	local port=$((port_next++))
	talk $port "${BUSY[@]}" -- $B4 && until_true both_offloaded $port && capture -i eth0 'tcp[13] & 4 != 0' &&
		leaves $port && capture_stop && stays $port && talk_stop $port
}

random() { # ADDRESS ADDRESS
	local port=$((port_next++)) seed=${SEED:-$RANDOM} status
	say "seed $seed"
	talk $port -s 100 -i 5 -- "$2" && until_true both_offloaded $port || return
	"$DIR"/filters.py $port "$1" "$2" $rounds "$seed" | sed 's/^/# /'
	status=${PIPESTATUS[0]}
	talk_stop $port && return "$status"
}

port_next=27100
rounds=$(long && echo 500 || echo 15)
ktap_print_header
ktap_set_plan 8
topology hub && gate_load && listener && PORT=22 listener || ktap_exit_fail_msg "topology"
# what leaves with each capture is not to wait longer and longer
echo 0 >/sys/kernel/chimney/holddown_min || ktap_exit_fail_msg "hold-down"
ktap_test_result "tcpdump for port 22 on the device" beside $B4 -i eth0
ktap_test_result "tcpdump for port 22 on all devices, IPv6" beside $B6 -i any
ktap_test_result "the capture is there before the gate" before_gate
ktap_test_result "two captures, one of which wants the flow" two
ktap_test_result "more captures than the gate looks at the filters of" many_captures
ktap_test_result "a filter for a TCP flag" uncertain
ktap_test_result "$rounds random filters, IPv4" random $A4 $B4
ktap_test_result "$rounds random filters, IPv6" random $A6 $B6
ktap_finished
