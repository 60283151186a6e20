#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Gate and module go at any moment: every flow returns to the host, no byte is lost, and a new gate has them back; with the
# gate attached rmmod is refused. A hundred times under mixed load by `make check-long`, on the debug kernel by `make
# check-debug LONG=1 T=unload`. Topology veth of lib.sh:
#
#     netns host-a                                            netns host-b
#     talk, four conversations that never stop     ──┐
#     talk, a stream that 4 Mbit/s hold back       ──┤
#     talk, one short connection after the other   ──┼── veth ── talk
#     the mode is switched, rules come and go: all
#     flows leave the path three times a second

source "$(dirname "$(readlink -f "$0")")"/lib.sh

ROUNDS=$((20 / ${PATIENCE:-1})) MIXED=100	# a slow kernel takes more than a minute for one
if ! long; then ROUNDS=$((ROUNDS < 5 ? ROUNDS : 5)) MIXED=3; fi
ports="22000 22001 22002 22003" STREAM=22004
churned=$(mktemp)
trap 'lib_cleanup; rm -f "$churned"' EXIT

start_all() {
	# paced: loading a gate is work for the processor, too, and an emulated one is slow
	talk 22000 -s 20000 -i 200 -- $B4 && talk 22001 -s 20000 -i 200 -- $B6 &&
		talk 22002 -i 50 -- $B4 && talk 22003 -s 1000 -i 50 -- $B6
}

rmmod_refused() {
	rmmod chimney 2>&1 | tee /dev/stderr | grep -q "in use" && [ -d /sys/module/chimney ]
}

# As a whole by modprobe -r, which takes the gate away first.
unload_load() {
	modprobe -r chimney || return
	[ ! -d /sys/module/chimney ] && [ ! -e /sys/fs/bpf/chimney ] || return
	all progress || return
	gate_load && until_true all offloaded
}

unload_load_n() {
	local i
	for ((i = 1; i <= $1; i++)); do
		unload_load || { say "failed in round $i"; return 1; }
	done
}

# Each ends when it is killed, but the connections also when a byte of one is wrong.
# shellcheck disable=SC2016 # for the shell in the background
connections() {
	nsenter --net=/run/netns/host-a bash -c 'while "$@"; do :; done' - \
		"$DIR"/talk -s 1000 -i 10 -n 40000 send $B4 $PORT >"$churned" 2>&1 &
	connections=$!
	pids+=("$connections")
}
# shellcheck disable=SC2016
storm() {
	nsenter --net=/run/netns/host-a bash -c 'exec {never}<> <(:)
		while read -rt 0.3 -u $never || :; do
			for mode in disabled enabled; do echo $mode >/sys/kernel/chimney/mode; done
			nft "add table inet storm; delete table inet storm"
		done' 2>/dev/null &
	storm=$!
	pids+=("$storm")
}

churned() { grep -c "^talk: 40000 bytes" "$churned"; }
some_offloaded() { (($(cat /sys/kernel/chimney/flows) > 0)); }

# mixed N: every second time there are flows on the path, the others come as soon as there is a gate.
mixed() {
	local i held=0
	a tc qdisc add dev eth0 root tbf rate 4mbit burst 20k latency 100ms && talk $STREAM -s 0 -- $B6 || return
	connections
	storm
	for ((i = 1; i <= $1; i++)); do
		if ((i % 2)); then
			until_true some_offloaded && held=$((held + 1)) || return
		fi
		modprobe -r chimney && gate_load || { say "failed in round $i"; return 1; }
	done
	kill $storm && { wait $storm || :; } && mode enabled || return
	kill $connections || { sed 's/^/# /' "$churned"; return 1; }
	say "$1 times, $held of them with flows on the path; $(churned) connections have come and gone"
	(($(churned) > 0)) && a tc qdisc del dev eth0 root && talk_stop $STREAM && until_true all offloaded
}

stop_all() { all talk_stop; }

ktap_print_header
ktap_set_plan 5
topology veth && gate_load && listener && start_all || ktap_exit_fail_msg "topology"
ktap_test_result "four conversations are offloaded" until_true all offloaded
ktap_test_result "rmmod with the gate attached: in use" rmmod_refused
ktap_test_result "modprobe -r under load, $ROUNDS times" unload_load_n $ROUNDS
ktap_test_result "modprobe -r at any moment under mixed load, $MIXED times" mixed $MIXED
ktap_test_result "no byte was lost" stop_all
ktap_finished
