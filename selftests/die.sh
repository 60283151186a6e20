#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Sockets die in every way while their flow is offloaded; nothing of it stays behind, and the same ports serve again.
# Topology veth of lib.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

no_flows() { [ "$(cat /sys/kernel/chimney/flows)" = 0 ]; }
no_verdicts() { [ "$(bpftool -j map dump pinned /sys/fs/bpf/chimney/flows | jq length)" = 0 ]; }
nothing_left() { until_true no_flows && until_true no_verdicts; }

offload() { # LPORT [OPTIONS]: an offloaded conversation
	talk "$1" "${@:2}" -- "${address:-$B4}" && until_true both_offloaded "$1"
}

by_close() { offload 23000 -e close && talk_stop 23000 && nothing_left; }
by_reset() { offload 23001 -e reset && talk_stop 23001 && nothing_left; }
by_kill() { offload 23002 -s 0 && kill -9 "${talk_pid[23002]}" && not connected 23002 && nothing_left; }
by_kill_of_peer() {
	offload 23003 -i 10 || return
	# the echoing process of this connection: it gets our end's RST or FIN
	b ss -Htnp "dport = :23003" | grep -o 'pid=[0-9]*' | cut -d= -f2 | xargs kill -9
	! talk_wait 23003 && nothing_left
}
by_ss_kill() { offload 23004 -i 10 && a ss -K "sport = :23004" >/dev/null && ! talk_wait 23004 && nothing_left; }

# Nothing gets through any more, and the user time-out strikes: the socket dies without sending or receiving.
by_timeout() {
	offload 23005 -i 10 -u 3000 || return
	ip -n host-b link set eth0 down
	! talk_wait 23005
	local status=$?
	ip -n host-b link set eth0 up
	ip -n host-b addr add $B6/64 dev eth0 nodad 2>/dev/null
	until_true a ping -q -c 1 -W 1 $B4 >/dev/null
	kill_peer 23005
	((status == 0)) && nothing_left
}
kill_peer() { b ss -K "dport = :$1" >/dev/null; }

# connect(AF_UNSPEC) makes the socket a new one. It then listens, and its children must not be what it was.
child_of() { # LPORT: host-b connects to what was our socket, and that is offloaded as any other
	until_true grep -q listening "$talk_out.$1" || return
	b "$DIR"/talk -n 400 send $A4 "$1" | sed 's/^/# /'
	((PIPESTATUS[0] == 0)) && wait "${talk_pid[$1]}"
}
by_disconnect() { offload 23008 -i 10 -e relisten && kill -TERM "${talk_pid[23008]}" && child_of 23008 && nothing_left; }
by_disconnect_after_reset() {
	offload 23009 -i 10 -e relisten || return
	kill_peer 23009
	child_of 23009 && nothing_left
}

# The namespace goes with its last process.
by_netns() {
	ip netns add host-c
	ip link add veth-c netns host-c type veth peer name veth-d netns host-b
	ip -n host-c addr add 198.51.100.1/24 dev veth-c && ip -n host-c link set veth-c up
	ip -n host-b addr add 198.51.100.2/24 dev veth-d && ip -n host-b link set veth-d up
	until_true nsenter --net=/run/netns/host-c ping -q -c 1 -W 1 198.51.100.2 >/dev/null
	nsenter --net=/run/netns/host-c "$DIR"/talk -p 23006 -s 0 send 198.51.100.2 $PORT &
	local pid=$!
	until_true offloaded_b 23006 || return
	ip netns del host-c
	kill -9 $pid
	until_true not ip -n host-b link show dev veth-d >/dev/null 2>&1 || return
	kill_peer 23006
	nothing_left
}

by_device() {
	offload 23007 -i 10 || return
	ip -n host-b link del eth0
	a ss -K "sport = :23007" >/dev/null
	kill_peer 23007
	nothing_left
}

ktap_print_header
tests="by_close by_reset by_kill by_kill_of_peer by_ss_kill by_timeout by_disconnect by_disconnect_after_reset by_netns by_device"
ktap_set_plan $(($(wc -w <<<"$tests") + 1))
topology veth && gate_load && listener || ktap_exit_fail_msg "topology"
for t in $tests; do
	ktap_test_result "${t//_/ }" "$t"
	[ "$t" != by_reset ] || { address=$B6; ktap_test_result "by reset, IPv6" by_reset; unset address; }
done
ktap_finished
