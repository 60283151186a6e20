#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Captures miss nothing from the moment that they say they listen: what they hold is compared with what the receiver got.
# Only flows that a capture can see leave the path, and they return when it ends. Topology hub of lib.sh, and a second
# pair of devices:
#
#     netns host-a                                         netns host-b
#     [eth0 192.0.2.1     2001:db8::1] -------------- [eth0 192.0.2.2     2001:db8::2]
#     [eth1 198.51.100.1             ] -------------- [eth1 198.51.100.2             ]
#       ^ captured: by tcpdump, and by sockets that
#         capture.py opens from another netns               netns apart: a capture on all of its devices

source "$(dirname "$(readlink -f "$0")")"/lib.sh

BUSY=(-s 20000 -i 50)
tmp=$(mktemp -d)

second_pair() {
	cable host-a eth1 host-b eth1 &&
		ip -n host-a addr add 198.51.100.1/24 dev eth1 && ip -n host-b addr add 198.51.100.2/24 dev eth1 &&
		ip -n host-a link set eth1 up && ip -n host-b link set eth1 up && ip netns add apart
}
trap 'ip netns del apart 2>/dev/null; lib_cleanup; rm -rf "$tmp"' EXIT

# capture COMMAND...: starts it, FILE standing for its file, and waits until it says that it listens.
capture() {
	# what the last one said must not be taken for this one's words; its file is tcpdump's own, not root's
	rm -f "$tmp/pcap"
	: >"$tmp/said"
	"${@//FILE/$tmp/pcap}" 2>"$tmp/said" &
	capture_pid=$!
	pids+=($!)
	# dumpcap says which file it writes, when it does
	until_true grep -qE "listening on|^File: " "$tmp/said" && return
	sed 's/^/# /' "$tmp/said"
	return 1
}
# by no function: it would be a shell that is ended, not the capture
capture_stop() {
	kill -TERM $capture_pid
	wait $capture_pid
	sed 's/^/# /' "$tmp/said"
	! grep -qE "^[1-9][0-9]* packets? dropped by kernel|dropped on interface '.*': [0-9]+/[1-9]" "$tmp/said"
}
in_a=(nsenter --net=/run/netns/host-a)
tcpdump=("${in_a[@]}" tcpdump -U -s 128 -B 8192 -w FILE)
dumpcap=("${in_a[@]}" dumpcap -q -F pcap -s 128 -B 8 -w FILE)	# what Wireshark and tshark have do it
sockets=(python3 "$DIR"/capture.py listen FILE netns=/run/netns/host-a)

# capture_ended LPORT out|in|both: tcpdump does not empty its ring when it is stopped, so that has to wait.
capture_ended() { until_true "$DIR"/pcap.py ended "$tmp/pcap" "$1" "$2" && capture_stop; }

# How much a conversation has sent and received, for sure.
positions() {
	a ss -Htni "sport = :$1" | grep -oE '\<bytes_(sent|received):[0-9]+' | sort -r | cut -d: -f2 | xargs
}
holds() { # LPORT SENT RECEIVED out|in|both: to be asked when the conversation has ended
	local total
	total=$(awk '/^talk:/ { print $2 }' "$talk_out.$1")
	# shellcheck disable=SC2086 # OUT and IN are two words
	"$DIR"/pcap.py covers "$tmp/pcap" "$1" "$total" $2 "$3" "$4" | sed 's/^/# /'
	return "${PIPESTATUS[0]}"
}

seen() { off_path "$1" && has_reason "$1" capture; } # LPORT
untouched() { offloaded "$1" && [ "$(flow "$1" .offloads)" = 1 ]; }

# during out|in|both ADDRESS COMMAND...: the capture starts while two flows are offloaded and busy. One of them goes on
# until its end under the capture, the other returns when that ends. In host-b, where nobody captures, they stay.
during() {
	local which=$1 address=$2 flow=$((port_next++)) other=$((port_next++)) from
	shift 2
	talk $flow "${BUSY[@]}" -- "$address" && talk $other "${BUSY[@]}" -- "$address" &&
		until_true both_offloaded $flow && until_true both_offloaded $other || return
	capture "$@" && from=$(positions $flow) && seen $flow && seen $other && uploaded_for $flow capture || return
	progress $flow && progress $other && seen $flow && seen $other && offloaded_b $flow || return
	talk_stop $flow && capture_ended $flow "$which" || return
	# shellcheck disable=SC2086 # two words
	holds $flow $from "$which" || return
	until_true both_offloaded $other && talk_stop $other
}

# The capture is there before the flow, which is offloaded when it ends.
before_flow() {
	local port=$((port_next++))
	capture "${tcpdump[@]}" -i eth0 && talk $port "${BUSY[@]}" -- $B4 && until_true moved_on $port 0 400 || return
	seen $port && [ "$(flow $port .offloads)" = 0 ] && capture_stop || return
	until_true both_offloaded $port && progress $port && talk_stop $port
}

# The capture is there before the gate, of each kind: the gate has to find it.
before_gate() {
	local port=$((port_next++))
	chimneyctl gate unload && capture "$@" && chimneyctl gate load || return
	talk $port "${BUSY[@]}" -- $B4 && until_true moved_on $port 0 400 || return
	seen $port && [ "$(flow $port .offloads)" = 0 ] && talk_stop $port && capture_ended $port $which || return
	holds $port 0 0 "$which" || return
	talk $((++port_next)) -- $B4 && until_true both_offloaded $port_next && talk_stop $((port_next++))
}

# One device is captured: flows of the other are left alone.
one_device() {
	local on=$((port_next++)) off=$((port_next++)) from
	talk $on "${BUSY[@]}" -- 198.51.100.2 && talk $off -i 5 -- $B4 && until_true both_offloaded $on &&
		until_true both_offloaded $off || return
	capture "${sockets[@]}" dev=eth1 && from=$(positions $on) && seen $on && untouched $off || return
	progress $on && progress $off && seen $on && untouched $off && talk_stop $on && capture_ended $on both || return
	# shellcheck disable=SC2086 # two words
	holds $on $from both && untouched $off && talk_stop $off
}

# A capture in another namespace sees nothing of this one.
elsewhere() {
	local port=$((port_next++)) dir=apart
	talk $port "${BUSY[@]}" -- $B4 && until_true both_offloaded $port || return
	capture nsenter --net=/run/netns/$dir tcpdump -w FILE -i any && untouched $port && progress $port || return
	untouched $port && capture_stop && progress $port && untouched $port && talk_stop $port
}

# A capture that can see packets of the other family only, or none of IP's.
sees_others() { # ADDRESS OPTION...: of capture.py
	local port=$((port_next++))
	talk $port "${BUSY[@]}" -- "$1" && until_true both_offloaded $port || return
	capture "${sockets[@]}" "${@:2}" && progress $port && untouched $port && capture_stop && progress $port &&
		untouched $port && talk_stop $port
}
# A capture that has seen nothing of a flow does from now on, until the flow ends.
comes_to_hear() { # LPORT out|in|both
	local from
	kill -USR1 $capture_pid && until_true grep -q hears "$tmp/said" && from=$(positions "$1") && seen "$1" &&
		uploaded_for "$1" capture && progress "$1" && seen "$1" || return
	talk_stop "$1" && capture_ended "$1" "$2" || return
	# shellcheck disable=SC2086 # two words
	holds "$1" $from "$2"
}
# One whose filter lets nothing pass, as soon as it has one; when that is taken away, it is a capture like any other.
deaf() {
	local port=$((port_next++)) offloads
	talk $port "${BUSY[@]}" -- $B6 && until_true both_offloaded $port && capture "${sockets[@]}" type=ipv6 deaf=1 &&
		until_true offloaded $port && offloads=$(flow $port .offloads) && progress $port && offloaded $port &&
		[ "$(flow $port .offloads)" = "$offloads" ] && comes_to_hear $port in
}

# One that is bound to another device, and then to this one.
rebound() {
	local port=$((port_next++))
	talk $port "${BUSY[@]}" -- $B4 && until_true both_offloaded $port && capture "${sockets[@]}" first=eth1 dev=eth0 &&
		untouched $port && progress $port && untouched $port && comes_to_hear $port both
}

# alone COMMAND…: a case, of which nothing is left if it fails.
alone() {
	"$@" && return
	kill -9 "${talk_pid[@]}" $capture_pid 2>/dev/null
	return 1
}

port_next=27000
ktap_print_header
ktap_set_plan 18
topology hub && second_pair && gate_load && listener || ktap_exit_fail_msg "topology"
ktap_test_result "tcpdump on the device, while busy" alone during both $B4 "${tcpdump[@]}" -i eth0
ktap_test_result "tcpdump on all devices, while busy, IPv6" alone during both $B6 "${tcpdump[@]}" -i any
ktap_test_result "Wireshark's dumpcap on the device, while busy" alone during both $B4 "${dumpcap[@]}" -i eth0
ktap_test_result "socket for IPv4 alone, on the device" alone during in $B4 "${sockets[@]}" type=ip dev=eth0
ktap_test_result "socket for IPv6 alone, on all devices" alone during in $B6 "${sockets[@]}" type=ipv6
ktap_test_result "sockets in a fanout group" alone during both $B4 "${sockets[@]}" dev=eth0 fanout=3
ktap_test_result "the capture is there before the flow" alone before_flow
which=both
ktap_test_result "tcpdump on the device is there before the gate" alone before_gate "${tcpdump[@]}" -i eth0
ktap_test_result "tcpdump on all devices is there before the gate" alone before_gate "${tcpdump[@]}" -i any
which=in
ktap_test_result "socket for IPv4 alone is there before the gate" alone before_gate "${sockets[@]}" type=ip dev=eth0
ktap_test_result "the same, on all devices" alone before_gate "${sockets[@]}" type=ip
ktap_test_result "a flow of another device is left alone" alone one_device
ktap_test_result "a capture in another namespace" alone elsewhere
ktap_test_result "a socket for IPv6 alone leaves IPv4 alone" alone sees_others $B4 type=ipv6
ktap_test_result "a socket for IPv4 alone, on the device, leaves IPv6 alone" alone sees_others $B6 type=ip dev=eth0
ktap_test_result "a socket for ARP alone, on the device" alone sees_others $B4 type=arp dev=eth0
ktap_test_result "a filter that lets nothing pass, and is taken away" alone deaf
ktap_test_result "a socket of another device, bound to this one" alone rebound
ktap_finished
