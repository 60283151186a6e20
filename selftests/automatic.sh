#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Automatic mode: only flows that pass three tests are offloaded, those of Windows with its figures: a link of 10 Gbit/s, a
# round trip of 20 ms, 130 KB exchanged. Each test is a knob, acts at once, and names itself. Topology veth of lib.sh, whose
# devices say that they have 10 Gbit/s; topology hub, whose devices do not say.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

K=/sys/kernel/chimney
set_knob() { echo "$2" >$K/"$1"; }
defaults() { set_knob mode enabled && set_knob automatic_speed 10000 && set_knob automatic_rtt 20000 &&
	set_knob automatic_bytes 133120; }

# keeps KNOB VALUE DEFAULT REASON: VALUE is too much for a flow …
before() { # … that begins under it
	local port=$((++port_next))
	set_knob mode automatic && set_knob "$1" "$2" && talk $port -s 1000 -i 1 -- "$peer" || return
	until_true moved_on $port 0 600 && in_host_for $port "$4" && [ "$(flow $port .offloads)" = 0 ] || return
	set_knob "$1" "$3" && until_true both_offloaded $port && talk_stop $port
}
during() { # … that is offloaded and busy
	local port=$((++port_next))
	set_knob mode automatic && talk $port -s 1000 -i 1 -- "$peer" && until_true both_offloaded $port || return
	set_knob "$1" "$2" && off_path $port && uploaded_for $port "$4" && progress $port && in_host_for $port "$4" || return
	set_knob "$1" "$3" && until_true both_offloaded $port && progress $port && talk_stop $port
}
switched() { # … when the mode becomes automatic
	local port=$((++port_next))
	set_knob mode enabled && set_knob "$1" "$2" && talk $port -s 1000 -i 1 -- "$peer" || return
	until_true both_offloaded $port && set_knob mode automatic && off_path $port && progress $port &&
		in_host_for $port "$4" && set_knob mode enabled && until_true both_offloaded $port && talk_stop $port
}
case_of() { # COMMAND...: nothing of it is left for the next
	"$@"
	local status=$?
	defaults && return $status
}

# The real thing: a path of 30 ms, one way, and one that gets shorter.
far_away() {
	local port=$((++port_next))
	set_knob mode automatic && tc -n host-b qdisc add dev eth0 root netem delay 30ms || return
	talk $port -s 20000 -- $B4 && until_true moved_on $port 0 600 && in_host_for $port rtt || return
	tc -n host-b qdisc del dev eth0 root && until_true both_offloaded $port && talk_stop $port
}

# … and a conversation that reaches 130 KB.
reaches_bytes() {
	local port=$((++port_next))
	set_knob mode automatic && talk $port -w -s 1000 -i 1 -- $B4 && until_true moved_on $port 0 600 &&
		in_host_for $port bytes && kill -USR1 "${talk_pid[$port]}" && until_true both_offloaded $port && talk_stop $port
}

no_speed() {
	local port=$((++port_next))
	set_knob mode automatic && set_knob automatic_speed 1000000 && talk $port -s 1000 -i 1 -- $B4 &&
		until_true both_offloaded $port && talk_stop $port
}

port_next=34000
ktap_print_header
ktap_set_plan 12
topology veth && gate_load && listener || ktap_exit_fail_msg "topology"
peer=$B4
while read -r what knob value default reason; do
	ktap_test_result "$what, before the connection" case_of before "$knob" "$value" "$default" "$reason"
	ktap_test_result "$what, while busy" case_of during "$knob" "$value" "$default" "$reason"
	ktap_test_result "$what, mode automatic while busy" case_of switched "$knob" "$value" "$default" "$reason"
	peer=$B6
done <<-END
	bytes automatic_bytes 2000000000 133120 bytes
	round-trip automatic_rtt 0 20000 rtt
	speed automatic_speed 100000 10000 speed
END
ktap_test_result "a round trip of 30 ms" case_of far_away
ktap_test_result "130 KB are reached" case_of reaches_bytes
hosts_gone
topology hub && listener || ktap_exit_fail_msg "topology hub"
ktap_test_result "a device that does not tell its speed passes" case_of no_speed
ktap_finished
