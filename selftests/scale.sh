#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Many flows at once, both ends of each in this machine: all of them are offloaded, sent back to the host and offloaded
# again, and not a byte is lost; what they take of memory and time is reported. Then the flow table is given room for only
# a few, and short connections go through it. Topology veth of lib.sh.
#
# `make check-long` has 50,000 connections, which are 100,000 flows, and 10,000 short ones.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

MANY=$((2000 / ${PATIENCE:-1})) SHORT=$((1000 / ${PATIENCE:-1}))
WAIT=$((WAIT * 5))		# one step is thousands of messages
if long; then MANY=$((50000 / ${PATIENCE:-1})) SHORT=$((10000 / ${PATIENCE:-1})) WAIT=$((WAIT * 8)); fi
ROOM=64				# of the table that short connections go through
PER_FLOW=$((1024 * ${PATIENCE:-1}))	# bytes that a flow may take, at most

# But for the ports that talk is given: one in TIME_WAIT could not be bound.
many_ports() {
	a sh -c 'echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range
		echo 29000-29001 >/proc/sys/net/ipv4/ip_local_reserved_ports'
}

flows() { cat /sys/kernel/chimney/flows; }
flows_are() { [ "$(flows)" = "$1" ]; }
verdicts_are() { [ "$(chimneyctl -j gate status | jq .verdicts)" = "$1" ]; }
# Messages until a flow can have been judged in both directions, or has been once more.
all_offloaded() { flows_are $((2 * MANY)) || { many exchange 8 && flows_are $((2 * MANY)); }; }

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
# timed WORDS COMMAND...: says how long it took.
timed() {
	local from status=0
	from=$(now_ms)
	"${@:2}" || status=$?
	say "$1 took $(($(now_ms) - from)) ms"
	return $status
}

# To two addresses: connect() is slow to find a port when half of them are taken.
open_all() { many open $((MANY / 2)) $B4 $PORT && many open $((MANY / 2)) $B6 $PORT; }
offload_all() {
	timed "opening $MANY connections" open_all &&
		timed "17 messages on each" many exchange 17 && timed "what was left" until_true all_offloaded
}

# Pages that the allocator has taken for flows, whether they are filled or not, and the map's share for each verdict.
memory() {
	local flow verdict
	flow=$(($(awk '$1 == "chimney_flow" { print $15 * $6 * 4096 }' /proc/slabinfo) / (2 * MANY)))
	verdict=$(bpftool -j map show pinned /sys/fs/bpf/chimney/flows | jq '.bytes_memlock / .max_entries | ceil')
	say "$flow bytes for each of $((2 * MANY)) flows and $verdict for a verdict"
	((flow > 0 && flow + verdict <= PER_FLOW))
}

by_path() {
	local before
	before=$(dev_total tx_packets rx_packets)
	many exchange 1 || return
	before=$(($(dev_total tx_packets rx_packets) - before))
	say "$before packets by the path for $((2 * MANY)) messages"
	((before >= 2 * MANY * 99 / 100))
}

listed() { [ "$(chimneyctl -j -n host-a flows | jq '[.[] | select(.state == "offloaded")] | length')" = "$1" ]; }

none_by_path() {
	local before
	before=$(dev_total tx_packets rx_packets)
	many exchange 1 && [ "$(dev_total tx_packets rx_packets)" = "$before" ]
}

# By the administrator's choice; and by the gate, in the midst of a command that changes the rules of one end.
chosen() { echo "$1" >/sys/kernel/chimney/local_ports; }
none_chosen() { timed "choosing none" chosen 1 && flows_are 0 && none_by_path; }
rules_changed() { timed "nft" a nft add table ip filter && listed 0 && many exchange 1; }
come_back() { chosen all && timed "coming back" until_true all_offloaded; }

closed() { many close && until_true flows_are 0 && until_true verdicts_are 0; }

# A hundred at a time: more than there is room for, and a conversation that was there before.
churn() {
	local n most=0 full
	talk 29000 -s 1000 -i 5 -- $B4 && until_true both_offloaded 29000 || return
	full=$(reason_count table-full)
	echo $ROOM >/sys/kernel/chimney/max_flows
	for ((n = 0; n < SHORT; n += 100)); do
		many open 100 $B6 $PORT && many exchange 20 || return
		if (($(flows) > most)); then most=$(flows); fi
		many close || return
	done
	say "$most flows at most, $(($(reason_count table-full) - full)) times was the table full"
	((most <= 2 * ROOM && most > ROOM && $(reason_count table-full) > full)) &&
		until_true flows_are 2 && until_true verdicts_are 2 && until_true both_offloaded 29000
}
after_churn() {
	echo 65536 >/sys/kernel/chimney/max_flows
	talk 29001 -s 1000 -i 5 -- $B6 && until_true both_offloaded 29001 && talk_stop 29001 && talk_stop 29000
}

# Where there is no memory for a flow it stays in the host, and nobody hears of it but who looks at the counter.
no_alarm() {
	say "$(reason_count no-memory) times was there no memory for a flow"
	! dmesg | grep "allocation failure" | sed 's/^/# /' | grep .
}

ktap_print_header
ktap_set_plan 11
topology veth && gate_load && many_ports && many_start $PORT || ktap_exit_fail_msg "topology"
ktap_test_result "$MANY connections are offloaded at both ends" offload_all
ktap_test_result "no more than $PER_FLOW bytes for each of these flows" memory
ktap_test_result "all of them are listed" timed "chimneyctl flows" listed "$MANY"
ktap_test_result "their packets take the path" by_path
ktap_test_result "none is chosen: all leave the path at once" none_chosen
ktap_test_result "all come back" come_back
ktap_test_result "rules change at one end" rules_changed
ktap_test_result "all are closed, nothing is left of them" closed
ktap_test_result "$SHORT short connections, a table with room for $ROOM flows" timed "all of them" churn
ktap_test_result "flows are offloaded as ever afterwards" after_churn
ktap_test_result "no allocation has failed without being expected to" no_alarm
ktap_finished
