#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The main job: an established flow takes the path in both directions, every byte arrives, and the packets are counted.
# Topologies hub and veth of lib.sh; two guests are pair/path.*.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

# dev_total COUNTERS: their sum over what host-a has sent and received by the path so far.
dev_total() {
	local counter sum=0
	for counter; do sum=$((sum + $(dev_a "$counter"))); done
	echo $sum
}

# takes_path ADDRESS MESSAGE TOTAL [OPTION]: at least 99 per cent of TOTAL bytes, once offloaded, take the path: for
# messages counted in packets, for bulk, where GSO and GRO make one packet of many segments, in bytes.
takes_path() {
	local address=$1 message=$2 total=$3 port=$((port_next++)) packets bytes segs
	shift 3
	packets=$(dev_total tx_packets rx_packets) bytes=$(dev_total tx_bytes rx_bytes)
	talk $port -s "$message" -n "$total" "$@" -- "$address" && talk_wait $port || return
	packets=$(($(dev_total tx_packets rx_packets) - packets))
	bytes=$(($(dev_total tx_bytes rx_bytes) - bytes))
	segs=$(awk -F'[, ]+' '/^talk:/ { print $7 + $10 }' "$talk_out.$port")
	say "$packets packets with $bytes bytes by the path, of $segs segments with $((total * 2)) bytes payload"
	if [ "$message" != 0 ]; then
		# the first segments, the closing ones, and one judged in each direction after that
		((packets >= (segs - 60) * 99 / 100 && segs > 1000))
	else
		((bytes >= (total * 2 - 600000) * 99 / 100))
	fi
}

counters_agree() {
	(($(dev_a tx_packets) > 0 && $(dev_a rx_packets) > 0 && $(dev_a offloads) > 0 && $(dev_b offloads) > 0))
}

port_next=20000
ktap_print_header
ktap_set_plan 14
for topo in hub veth; do
	topology $topo && gate_load && listener || ktap_exit_fail_msg "topology $topo"
	ktap_test_result "$topo: IPv4, small messages" takes_path $B4 1 1000
	ktap_test_result "$topo: IPv6, small messages" takes_path $B6 1 1000
	ktap_test_result "$topo: IPv4, bulk" takes_path $B4 0 12000000
	ktap_test_result "$topo: IPv6, bulk" takes_path $B6 0 12000000
	ktap_test_result "$topo: IPv4 on an IPv6 socket, small messages" takes_path $B4 1 1000 -m
	ktap_test_result "$topo: IPv4 on an IPv6 socket, bulk" takes_path $B4 0 12000000 -m
	ktap_test_result "$topo: devices count packets" counters_agree
	lib_cleanup
	until_true not test -e /run/netns/host-a
done
ktap_finished
