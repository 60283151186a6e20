#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What is put between TCP and an application: kTLS, socket filters, BPF sockmaps and sockops do their work on flows that
# are offloaded, whenever they come and go; TCP_REPAIR keeps its flow in the host. Listeners that share a port
# (SO_REUSEPORT) have connections that are offloaded. Topology veth of lib.sh.
#
#     netns host-a                                                    netns host-b
#     ends.py, end a: [eth0] ---------------------------------------- [eth0] ends.py, end b, port 7100
#     talk                                                                   two of talk listen, port 7000

source "$(dirname "$(readlink -f "$0")")"/lib.sh

BPF=/sys/fs/bpf/ktls-sockmap CGROUP=/sys/fs/cgroup
trap 'bpftool cgroup detach $CGROUP sock_ops pinned $BPF/round_trip 2>/dev/null; rm -rf $BPF; lib_cleanup' EXIT

# ends COMMAND…: of ends.py
ends() {
	local answer=
	echo "$*" >&"${ENDS[1]}" && read -rt $WAIT answer <&"${ENDS[0]}"
	say "ends.py: $answer"
	[[ $answer = ok* ]]
} 2>/dev/null

# conversation ADDRESS [COMMAND…]: begins one, which has $port, and waits until it is offloaded.
conversation() {
	# an earlier one may have failed
	if [ -n "$ENDS_PID" ]; then kill -9 "$ENDS_PID"; wait "$ENDS_PID"; fi 2>/dev/null
	coproc ENDS { exec "$DIR"/ends.py; }
	pids+=("$ENDS_PID")
	port=$((port_next++))
	ends connect "$1" $port "${@:2}" && until_true both_offloaded $port
}

# Both ends have been offloaded all the time, and segments take the path.
goes_on() {
	local before
	before=$(path_bytes)
	until_true path_moved_on "$before" && flow $port | jq -e "$never_uploaded" >/dev/null &&
		flow_b $port | jq -e "$never_uploaded" >/dev/null
}
never_uploaded='.state == "offloaded" and .offloads == 1 and .uploaded == null'
path_bytes() { flow $port | jq '.tx_bytes + .rx_bytes'; }
path_moved_on() { (($(path_bytes) > $1 + 200000)); }

leaves_and_returns() {
	set_dev_a enable 0 && off_path $port && progress $port && until_true in_host $port &&
		set_dev_a enable 1 && until_true both_offloaded $port && progress $port
}

encrypted() {
	a ss -Htni "sport = :$port" | grep -q 'tcp-ulp-tls.*cipher: aes-gcm-128 rxconf: sw txconf: sw'
}
tls_before() { conversation "$1" tls && encrypted && goes_on && ends stop; }
tls_during() {
	conversation "$1" && goes_on && ! encrypted && ends tls && encrypted && goes_on && leaves_and_returns && ends stop
}

# What the socket filter of end b drops comes by the path and not to the application.
filter_before() { conversation "$1" filter b look && goes_on && ends filter b none && goes_on && ends stop; }
filter_during() {
	conversation "$1" && ends filter b accept && goes_on || return
	ends filter b look && ends filter a look && goes_on && drops && goes_on &&
		ends filter a none && ends filter b look && goes_on && ends stop
}
drops() {
	local before path
	ends filter b drop || return
	settle
	before=$(received_b) path=$(flow_b $port .rx_packets)
	until_true retransmitted $(($(retransmits) + 2)) && settle && [ "$(received_b)" = "$before" ] || return
	both_offloaded $port && (($(flow_b $port .rx_packets) > path)) && ends filter b none
}
settle() { a ping -q -c 1 -W 5 $B4 >/dev/null; }
received_b() { b ss -Htni "dport = :$port" | grep -o 'bytes_received:[0-9]*'; }
retransmits() { a ss -Htni "sport = :$port" | grep -o ' retrans:[0-9/]*' | awk -F/ '{ n = $2 } END { print n + 0 }'; }
retransmitted() { (($(retransmits) >= $1)); }

# seen NUMBER: how often a program of sockmap.bpf.c has run.
seen() { bpftool -j map lookup pinned $BPF/maps/seen key "$1" 0 0 0 | jq .formatted.value; }
sees() { # NUMBER...
	local n before
	for n; do
		before=$(seen "$n")
		until_true seen_more "$n" "$before" || return
	done
}
seen_more() { (($(seen "$1") > $2 + 20)); }
sees_nothing() { # NUMBER...
	local before
	before=$(all_seen "$@")
	goes_on && [ "$(all_seen "$@")" = "$before" ]
}
all_seen() { for n; do seen "$n"; done; }

sockmap_before() {
	conversation "$1" map add $BPF/maps/sockets && sees 0 1 && goes_on &&
		ends map delete $BPF/maps/sockets && sees_nothing 0 1 && ends stop
}
sockmap_during() {
	conversation "$1" && sees_nothing 0 1 && ends map add $BPF/maps/sockets && sees 0 1 && goes_on || return
	leaves_and_returns && sees 0 1 && ends map delete $BPF/maps/sockets && progress $port &&
		ends map add $BPF/maps/sockets && sees 0 1 && ends stop
}
sockops() {
	bpftool cgroup attach $CGROUP sock_ops pinned $BPF/round_trip && conversation "$1" || return
	sees 0 1 2 && goes_on && bpftool cgroup detach $CGROUP sock_ops pinned $BPF/round_trip && goes_on &&
		ends map delete $BPF/maps/sockets && sees_nothing 0 1 2 && ends stop
}

repair() {
	conversation $B4 && ends repair on && until_true in_host $port || return
	uploaded_for $port repair && has_reason $port repair && ends repair off && progress $port || return
	until_true both_offloaded $port && progress $port && ends stop
}

# Another socket takes the connection over: the flow of the old one is gone, the new one has its own.
restored() {
	conversation "$1" && ends restore && progress $port && until_true both_offloaded $port && progress $port && ends stop
}

# With TCP_REPAIR a socket becomes another connection's without a packet: what comes for the old one is not for it, and
# what it sends does not take the path on the old one's verdict.
moved() {
	local before
	conversation "$1" && ends pause && settle || return
	before=$(dev_a tx_packets)
	ends move $((port_next++)) && ends stop && settle && [ "$(dev_a tx_packets)" = "$before" ]
}

# Two listeners share a port: connections of both are offloaded, and stay so when a listener has gone.
reuseport() {
	local first=${pids[-1]} second ports=
	listener && until_true eval '[ "$(b ss -Hltn "sport = :$PORT" | wc -l)" = 2 ]' || return
	second=${pids[-1]}
	while [ -z "$(pgrep -P "$first")" ] || [ -z "$(pgrep -P "$second")" ]; do
		(($(wc -w <<<"$ports") < 30)) || return
		talk $port_next -s 5000 -i 20 -- $B4 || return
		ports+=" $((port_next++))"
	done
	all until_true both_offloaded && all talk_stop
}

port_next=34000
tests="tls_before tls_during filter_before filter_during sockmap_before sockmap_during sockops restored moved"
tests6="tls_during filter_during sockmap_during moved"
ktap_print_header
ktap_set_plan $(($(wc -w <<<"$tests $tests6") + 2))
mkdir -p $BPF/maps && bpftool prog loadall "$DIR"/sockmap.bpf.o $BPF pinmaps $BPF/maps &&
	bpftool prog attach pinned $BPF/message sk_msg_verdict pinned $BPF/maps/sockets &&
	bpftool prog attach pinned $BPF/segment sk_skb_stream_verdict pinned $BPF/maps/sockets ||
	ktap_exit_fail_msg "programs"
topology veth && gate_load && listener || ktap_exit_fail_msg "topology"
ktap_test_result "reuseport" reuseport
for t in $tests; do ktap_test_result "IPv4: ${t//_/ }" "$t" $B4; done
for t in $tests6; do ktap_test_result "IPv6: ${t//_/ }" "$t" $B6; done
ktap_test_result "repair" repair
ktap_finished
