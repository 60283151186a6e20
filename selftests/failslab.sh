#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Memory runs out: allocations that the module makes, or that are made on its behalf, fail one after the other or at
# random, while it is loaded, namespaces and devices come, a gate is attached, flows are offloaded and busy, and while all
# of that goes. Traffic flows on, and afterwards flows are offloaded as ever. What leaks or warns is for the harness to
# see (kmemleak, kernel log). Topology veth of lib.sh.
#
# Needs a kernel with fault injection, as `make check-debug` has it: skipped on any other.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

F=/sys/kernel/debug/failslab
if [ ! -e $F/require-start ]; then
	ktap_skip_all "the kernel has no fault injection (CONFIG_FAULT_INJECTION_STACKTRACE_FILTER)"
	exit "$KSFT_SKIP"
fi
trap 'fail 0; lib_cleanup' EXIT

MANY=1000000000
ports="28000 28001"			# conversations that last

# An allocation fails only if FROM <= one of its callers < TO.
callers() { echo "$1" >$F/require-start && echo "$2" >$F/require-end; }
callers_module() {
	local text
	mapfile -t text < <(awk '$4 == "[chimney]" && $2 ~ /[tT]/ { print $1 }' /proc/kallsyms | sort)
	callers "0x${text[0]}" "$(printf '0x%x' $((16#${text[-1]} + 4096)))"
}
# The function that calls module_init(): what it calls has no name yet when it begins.
callers_init() {
	local text
	mapfile -t text < <(grep -A 1 ' do_one_initcall$' <(sort /proc/kallsyms) | cut -d ' ' -f 1)
	callers "0x${text[0]}" "0x${text[1]}"
}

fail() { echo "$1" >$F/probability; } # PERCENT
failed() { echo $((MANY - $(cat $F/times))); } # so far

# in_turn CHECK COMMAND...: COMMAND again and again, of whose allocations first one and then another fails, until there
# are no more; after each time CHECK is told its status. All of the first ones have their turn, of the others every
# sixteenth part; by `make check-debug LONG=1` all of them.
in_turn() {
	local n before status part=16
	! long || part=$MANY
	for ((n = 1; ; n += 1 + n / part)); do
		before=$(failed)
		status=0
		(echo $n >/proc/self/fail-nth && exec "${@:2}") >/dev/null 2>&1 || status=$?
		"$1" $status || { say "failed after allocation $n, status $status"; return 1; }
		(($(failed) > before)) || break
	done
	say "$((n - 1)) allocations"
	((n > 1 && status == 0))
}

# Loaded or not, and nothing in between.
loaded() { # STATUS
	if [ "$1" = 0 ]; then
		[ -e /sys/kernel/chimney/gate ] && modprobe -r chimney || return
	fi
	[ ! -d /sys/module/chimney ] && [ ! -e /sys/kernel/chimney ] && ! compgen -G "/sys/class/net/*/chimney" >/dev/null
}
load() { callers_init && in_turn loaded modprobe chimney; }

netns_added() { ip netns del host-c 2>/dev/null || [ "$1" != 0 ]; }
netns() { in_turn netns_added ip netns add host-c; }

device_added() { ip link del veth-c 2>/dev/null || [ "$1" != 0 ]; }
device() { in_turn device_added ip link add veth-c type veth peer name veth-d; }

# Whatever is allocated for a gate is for that one, too, which is attached in a hundredth of the time.
idle_gate=("$DIR/idle_gate.py" "$DIR/idle_gate.bpf.o" /sys/fs/bpf/idle)
gate_is() { [ "$(cat /sys/kernel/chimney/gate)" = "$1" ]; }
gate_attached() {
	if [ "$1" = 0 ]; then gate_is idle && rm /sys/fs/bpf/idle || return; fi
	until_true gate_is none && all progress
}
gate() { chimneyctl gate unload && in_turn gate_attached "${idle_gate[@]}" && chimneyctl gate load; }

# A knob has the new value or the old one, and no other.
knob_is() { # STATUS
	local want=$old
	[ "$1" != 0 ] || want=$new
	[ "$(cat "$knob")" = "$want" ] && echo "$back" >"$knob" && [ "$(cat "$knob")" = "$old" ]
}
knobs() {
	local knob word new old back
	while read -r knob word new back; do
		knob=/sys/kernel/chimney/$knob
		old=$(cat "$knob")
		[ "$new" != more ] || new=$old$'\n'${word#+}
		in_turn knob_is sh -c "echo '$word' >$knob" || { say "$knob"; return 1; }
	done <<-END
		local_ports 1-65535 1-65535 all
		remote_ports 1-65535 1-65535 all
		cgroups +/ / all
		drivers +dummy more -dummy
	END
	until_true all both_offloaded
}

# What is asked is answered, or it fails; there is no half an answer.
answered() { # STATUS
	if [ "$1" = 0 ] || [ -s "$answer" ]; then jq -e . "$answer" >/dev/null; fi
}
questions() {
	local question
	answer=$(mktemp)
	for question in flows stats status; do
		in_turn answered sh -c "chimneyctl -j $question >$answer" || { say "$question"; return 1; }
	done
	rm "$answer"
	all both_offloaded
}

# More flows than the table was made for: it grows meanwhile, or does not.
grows() { # PERCENT
	local status
	many_start 7001 && fail "$1" && many open 200 $B4 7001 && many open 200 $B6 7001 && many exchange 20
	status=$?
	say "$(cat /sys/kernel/chimney/flows) flows while allocations fail"
	fail 0
	((status == 0)) && until_true all_many && many close && until_true all_gone
}
all_many() { many exchange 8 && flows_are 804; }
all_gone() { flows_are 4; }
flows_are() { [ "$(cat /sys/kernel/chimney/flows)" = "$1" ]; }

start_all() { talk 28000 -s 20000 -i 10 -- $B4 && talk 28001 -s 20000 -i 10 -- $B6; }

# No flow can be offloaded, and that is what it says.
no_memory() {
	fail 100
	talk 28010 -i 5 -- $B4 && until_true moved_on 28010 0 400 && in_host 28010 && has_reason 28010 no-memory || return
	fail 0
	until_true both_offloaded 28010 && talk_stop 28010
}

# Off the path and on it again while allocations fail, also for packets on the path.
busy() { # PERCENT
	local before
	before=$(failed)
	for _ in 1 2 3; do
		fail "$1"
		echo disabled >/sys/kernel/chimney/mode && all progress && echo enabled >/sys/kernel/chimney/mode || return
		until_true all offloaded && all progress || return
	done
	fail 0
	say "$(($(failed) - before)) allocations failed"
	(($(failed) > before)) && until_true all both_offloaded
}

unload() {
	fail 100
	modprobe -r chimney && [ ! -d /sys/module/chimney ] && all progress
	local status=$?
	fail 0
	return $status
}
load_again() { gate_load && callers_module && until_true all both_offloaded; }
stop_all() { all talk_stop; }

ktap_print_header
ktap_set_plan 14
modprobe -qr chimney
echo 0 >$F/verbose && echo 32 >$F/stacktrace-depth && echo N >$F/ignore-gfp-wait && echo $MANY >$F/times && fail 0 &&
	topology veth && listener && start_all || ktap_exit_fail_msg "set-up"
ktap_test_result "module load, one allocation after the other" load
gate_load && callers_module && until_true all both_offloaded || ktap_exit_fail_msg "gate"
ktap_test_result "new namespace, one allocation after the other" netns
ktap_test_result "new device, one allocation after the other" device
ktap_test_result "gate attached, one allocation after the other" gate
ktap_test_result "no memory for a flow: it stays in the host and comes later" no_memory
for percent in 2 10 30; do
	ktap_test_result "busy flows, $percent per cent fail" busy $percent
done
ktap_test_result "400 connections, 30 per cent fail" grows 30
ktap_test_result "knobs, one allocation after the other" knobs
ktap_test_result "flows, stats and status asked, one allocation after the other" questions
ktap_test_result "gate and module unload while busy, all fail" unload
ktap_test_result "loaded again: flows are offloaded" load_again
ktap_test_result "no byte was lost" stop_all
ktap_finished
