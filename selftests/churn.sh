#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What keeps flows in the host comes and goes all the time: captures that start and stop, rules that are loaded again and
# again, a mode that is switched. The conversations go on meanwhile, no byte is lost, and when it is over all of them are
# offloaded. Flows that leave the path too often wait in the host, ever longer. Topology veth of lib.sh. More rounds under `make check-long`.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

CAPTURES=20 SECONDS_OF_RULES=10 SWITCHES=20
if long; then CAPTURES=100 SECONDS_OF_RULES=60 SWITCHES=200; fi

# through COMMAND...: the conversations get on while it runs, have left the path by it, and are back afterwards
through() {
	local from to
	until_true all both_offloaded || return
	from=$(dev_a uploads)
	all begin && "$@" && all has_gone_on && until_true all both_offloaded && all progress || return
	to=$(dev_a uploads)
	say "uploads: $from to $to"
	((to > from))
}
declare -A had
begin() { had[$1]=$(segments "$1"); }
has_gone_on() { moved_on "$1" "${had[$1]}"; }

captures() {
	local i said
	for ((i = 0; i < CAPTURES; i++)); do
		# ends after five packets
		said=$(a timeout "$WAIT" tcpdump -i eth0 -c 5 -w /dev/null 2>&1) ||
			{ say "capture $i: status $?, ${said//$'\n'/; }"; return 1; }
	done
}

rules() {
	local end=$((SECONDS + SECONDS_OF_RULES)) n=0
	while ((SECONDS < end)); do
		a nft -f - <<-END || return
			table inet filter
			delete table inet filter
			table inet filter {
				chain in { type filter hook input priority 0; tcp dport $((n % 1000 + 1)) drop; }
				chain out { type filter hook output priority 0; tcp dport $((n % 1000 + 1)) drop; }
			}
		END
		n=$((n + 1))
		tick 0.1
	done
	say "loaded $n times"
}

switches() {
	local i
	for ((i = 0; i < SWITCHES; i++)); do mode disabled && mode enabled || return; done
}

all_of_it() {
	local started=() status=0 p
	captures & started+=($!)
	rules & started+=($!)
	switches || status=1
	for p in "${started[@]}"; do wait "$p" || status=1; done
	return $status
}

# Hold-down: the knobs in milliseconds, and a flow that waits.
knob() { echo "$2" >/sys/kernel/chimney/holddown_"$1"; }
held() { in_host_for "$1" hold-down; }
flap() { mode disabled && mode enabled; }
stays_held() { moved_on "$1" "${had[$1]}" 300 && held "$1"; }

waits() {
	knob min 3600000 && knob max 3600000 && until_true all both_offloaded && flap && until_true all held &&
		all begin && until_true all stays_held && knob min 0 && until_true all both_offloaded
}

# a flow that has been on the path for longer than the longest wait begins anew
forgive() { knob max 1 && knob min 1 && until_true all both_offloaded && all progress && flap && knob max 3600000; }

# doubled 9 times, a second is more than eight minutes; another flow has left the path only once
FLAPS=9 NOVICE=38010
waits_longer() {
	local i
	forgive || return
	for ((i = 0; i < FLAPS; i++)); do until_true all both_offloaded && flap || return; done
	until_true all both_offloaded && talk $NOVICE -s 3000 -i 10 -- $B4 && until_true both_offloaded $NOVICE &&
		knob min 1000 && flap || return
	until_true both_offloaded $NOVICE && talk_stop $NOVICE && all begin && until_true all stays_held
}

forgiven() { knob min 0 && forgive && until_true all both_offloaded && knob min 1000 && flap && until_true all both_offloaded; }

v4=38000
ktap_print_header
ktap_set_plan 8
topology veth && gate_load && listener || ktap_exit_fail_msg "topology"
talk_both -s 3000 -i 10 || ktap_exit_fail_msg "conversations"
ktap_test_result "captures come and go, $CAPTURES times" through captures
ktap_test_result "rules are loaded every 100 ms, $SECONDS_OF_RULES s" through rules
ktap_test_result "the mode is switched, $SWITCHES times" through switches
ktap_test_result "all of it at a time" through all_of_it
ktap_test_result "a flow that has left the path waits" waits
ktap_test_result "… and longer when it has left it often" waits_longer
ktap_test_result "… unless it stays there for long" forgiven
ktap_test_result "every byte is right" all talk_stop
ktap_finished
