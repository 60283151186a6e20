#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The header of each packet on the wire is the one that the host would have sent. A conversation is recorded at the peer
# while it is in the host and again while it is offloaded, and the two have the same headers, whatever its socket, its
# route and the host have been told about them. Topology veth of lib.sh.
#
#     netns host-a                                    netns host-b
#     talk ── [eth0, cuts segments itself] ------ [eth0, recorded] ── talk
#
# The recording takes host-b's end off the path; host-a sees nothing of it.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

dir=$(mktemp -d)

# record FILE: what the conversation puts on the wire in some hundred segments
record() {
	# what the last one said must not be taken for this one's words
	: >"$1.log"
	nsenter --net=/run/netns/host-b "$DIR"/capture.py listen "$1" dev=eth0 2>"$1.log" &
	local pid=$! status=0
	pids+=("$pid")
	until_true grep -q "^listening" "$1.log" && until_true moved_on $port "$(segments $port)" 200 && kill $pid || return
	wait $pid || status=$?
	[ $status = 0 ] || say "the recording ended with $status: $(<"$1.log")"
	return $status
}

# whole_by_path FILE: recorded without a packet that took the host path meanwhile. Any flow may leave the path for a
# moment; then it is done again.
whole_by_path() {
	local life _
	for _ in 1 2 3 4 5; do
		until_true both_offloaded $port && progress $port || return
		life=$(by_host)
		record "$1" || return
		if offloaded $port && [ "$(by_host)" = "$life" ]; then return; fi
		say "recorded again: offloaded and by the host $life times, then $(by_host)"
	done
	return 1
}
by_host() { echo "$(flow $port .offloads)/$(dev_a fallbacks)"; }

# alike SETUP ADDRESS [FIELD=VALUE]...: SETUP is a function that has the local port in $port. $mapped is -m or nothing.
alike() {
	port=$((port + 1))
	mode disabled
	# shellcheck disable=SC2086 # an option or nothing
	talk $port -s 20000 -i 20 $mapped -- "$2" && $1 && progress $port && record "$dir/host" && mode enabled &&
		whole_by_path "$dir/path" && talk_stop $port || return
	"$DIR"/headers.py "$dir/host" "$dir/path" $port "${@:3}" | sed 's/^/# /'
	((PIPESTATUS[0] == 0))
}

plain() { :; }
# 10 is IP_MTU_DISCOVER: no DF; 70 is IPV6_AUTOFLOWLABEL
told4() {
	sock $port set SOL_SOCKET SO_MARK 5 SOL_SOCKET SO_PRIORITY 3 SOL_IP IP_TOS 0x48 SOL_IP IP_TTL 33 SOL_IP 10 0
}
told6() {
	sock $port set SOL_SOCKET SO_MARK 5 SOL_SOCKET SO_PRIORITY 3 IPPROTO_IPV6 IPV6_TCLASS 0x48 \
		IPPROTO_IPV6 IPV6_UNICAST_HOPS 33 IPPROTO_IPV6 70 0
}
dctcp() { sock $port set IPPROTO_TCP TCP_CONGESTION s:dctcp; }

port=34000 mapped=
ktap_print_header
ktap_set_plan 10
topology veth && gate_load && listener || ktap_exit_fail_msg "topology"
# a label that does not change when something is sent again
a sysctl -qw net.core.txrehash=0
# or segments would be on the wire before they are cut
a ethtool -K eth0 tso off gso off >/dev/null
ktap_test_result "IPv4" alike plain $B4 tos=0 df=1 ttl=64
ktap_test_result "IPv4, TOS, TTL and no DF by the socket" alike told4 $B4 tos=48 df=0 ttl=33
ktap_test_result "IPv6" alike plain $B6 tos=0 ttl=64
ktap_test_result "IPv6, traffic class, hop limit and no flow label by the socket" alike told6 $B6 tos=48 label=0 ttl=33
mapped=-m
ktap_test_result "IPv4 on an IPv6 socket" alike plain $B4 tos=0 df=1 ttl=64
ktap_test_result "IPv4 on an IPv6 socket, TOS, TTL and no DF by the socket" alike told4 $B4 tos=48 df=0 ttl=33
mapped=
a sysctl -qw net.ipv4.tcp_ecn=1 net.ipv4.tcp_timestamps=0 net.ipv4.ip_default_ttl=44 net.ipv6.conf.eth0.hop_limit=55
ktap_test_result "IPv4, ECN, TTL by sysctl, no timestamps" alike plain $B4 tos=2 ttl=44 options=
ktap_test_result "IPv6, ECN, hop limit by sysctl, no timestamps" alike plain $B6 tos=2 ttl=55 options=
ip -n host-a route replace 192.0.2.0/24 dev eth0 src $A4 hoplimit 17
ip -n host-a route replace 2001:db8::/64 dev eth0 src $A6 metric 1 hoplimit 18
ktap_test_result "IPv4, DCTCP, TTL by the route" alike dctcp $B4 tos=2 ttl=17
ktap_test_result "IPv6, DCTCP, hop limit by the route" alike dctcp $B6 tos=2 ttl=18
ktap_finished
