#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Shaping is obeyed by offloaded flows: what was configured is there before the connection, put on while it
# is offloaded and busy, and taken off again. Each rate holds within 5 per cent, and is the host path's within 5.
# Topology veth of lib.sh.
#
#     netns host-a                             netns host-b
#     talk ── [eth0, shaped] ------ [eth0] ── talk, which echoes
#
# The rate is low, so that it is never emulation that limits it, and taken from the bytes that are acknowledged, with the
# headers that their frames had.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

RATE=3000000 BYTES=2000000	# 5 s: acknowledgements that come late at either end are a small part of it

qdisc() { a tc qdisc replace dev eth0 root "$@"; }
no_qdisc() { a tc qdisc del dev eth0 root; }

# a burst makes up for timers that are late
htb_on() {
	qdisc handle 1: htb default 1 && a tc class add dev eth0 parent 1: classid 1:1 htb rate $RATE burst 10k cburst 10k
}
tbf_on() { qdisc tbf rate $RATE burst 10k latency 300ms; }
netem_on() { qdisc netem rate $RATE delay 5ms; }
# above its low_rate_threshold, fq makes a packet of less than its quantum wait for one: up to a tenth below the rate
fq_on() { qdisc fq maxrate $RATE low_rate_threshold $RATE; }
pacing_on() { qdisc fq low_rate_threshold $RATE && pace $((RATE / 8)); }
pace() { sock $port set SOL_SOCKET 47 "$1"; }	# SO_MAX_PACING_RATE, in bytes of payload per second

# Of frames, in bit/s.
rate() {
	local frames again
	read -r _ frames again < <(sock $port rate $BYTES "$headers") || return
	((again == 0)) || say "$again bit/s were sent again" >&2
	echo "$frames"
}

# steady: sets $rate. That it is below may be the machine's doing, and is looked at again; that it is above may not.
steady() {
	for _ in {1..6}; do
		rate=$(rate) || return
		((rate < RATE * 97 / 100)) || break
	done
	within_5_percent "$rate" $RATE
}
within_5_percent() { (($1 > $2 * 95 / 100 && $1 < $2 * 105 / 100)); } # RATE RATE

# What was under way when things changed is none of it: more than a window.
settle() { until_true moved_on $port "$(segments $port)" 400; }

# The conversation without the path: what the host makes of it.
in_host_rate() {
	settle && in_host $port && steady
	local status=$?
	host=$rate
	say "in the host: $host bit/s"
	return $status
}

# measure WHEN: the rate of the offloaded flow, all of whose bytes take the path meanwhile
measure() {
	local path status=1 _
	until_true both_offloaded $port && settle || return
	path=$(flow $port .tx_bytes)
	for _ in 1 2 3; do
		steady || break
		# two rates that are each a little off may be too far from each other
		if within_5_percent "$rate" "$host"; then status=0; break; fi
	done
	path=$(($(flow $port .tx_bytes) - path))
	say "$1: $rate bit/s with $path bytes by the path, $host in the host"
	[ $status = 0 ] && both_offloaded $port && ((path >= BYTES))
}

# Faster than the shaper had it.
unlimited() { until_true faster && both_offloaded $port; }
faster() {
	rate=$(BYTES=$((BYTES / 4)) rate) && say "taken off: $rate bit/s" && ((rate > RATE * 3 / 2))
}

before() { mode disabled && talk $port -s 0 -- $peer && "$1"_on && in_host_rate && mode enabled && measure "before"; }
while_busy() { both_offloaded $port && "$1"_on && measure "put on while busy"; }
taken_off() { no_qdisc && pace -1 && unlimited; }
last() { taken_off && talk_stop $port; }

shaped() { # NAME ADDRESS
	local name="$1, IPv4"
	peer=$2 headers=66 host=0 rate=0
	[ "$peer" = $B4 ] || name="$1, IPv6" headers=86
	[ "$1" != pacing ] || headers=0
	port=$((port + 1))
	ktap_test_result "$name: there before the flow is offloaded" before "$1"
	mode enabled	# should that have failed
	ktap_test_result "$name: taken off" taken_off
	ktap_test_result "$name: put on while the flow is busy" while_busy "$1"
	ktap_test_result "$name: taken off again, every byte right" last
}

port=33000
ktap_print_header
ktap_set_plan "$(long && echo 20 || echo 16)"
topology veth && gate_load && listener || ktap_exit_fail_msg "topology"
for h in a b; do $h sysctl -qw net.ipv4.tcp_rmem="4096 65536 65536" net.ipv4.tcp_wmem="4096 65536 65536"; done
shaped htb $B4
shaped tbf $B6
shaped fq $B6
shaped pacing $B4
if long; then shaped netem $B4; fi
ktap_finished
