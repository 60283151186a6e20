#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Gate and module go at any moment: 10 times under load every flow returns to the host with no byte lost, 25 times by
# `make check-long`; with the gate attached rmmod is refused. Topology veth of lib.sh, four conversations that never stop.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

ROUNDS=$((20 / ${PATIENCE:-1})) FAST=5	# a slow kernel takes more than a minute for one
if ! long; then ROUNDS=$((ROUNDS < 7 ? ROUNDS : 7)) FAST=3; fi
ports="22000 22001 22002 22003"

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

# Without waiting for anything: whatever state the flows are in.
unload_load_fast() {
	local i
	for ((i = 1; i <= $1; i++)); do
		modprobe -r chimney && gate_load || { say "failed in round $i"; return 1; }
	done
	until_true all offloaded
}

stop_all() { all talk_stop; }

ktap_print_header
ktap_set_plan 5
topology veth && gate_load && listener && start_all || ktap_exit_fail_msg "topology"
ktap_test_result "four conversations are offloaded" until_true all offloaded
ktap_test_result "rmmod with the gate attached: in use" rmmod_refused
ktap_test_result "modprobe -r under load, $ROUNDS times" unload_load_n $ROUNDS
ktap_test_result "modprobe -r at any moment, $FAST times" unload_load_fast $FAST
ktap_test_result "no byte was lost" stop_all
ktap_finished
