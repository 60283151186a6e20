#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# NICs: flows take the path on each, whatever it can do by itself (checksums, TSO, scatter/gather, queues), whatever its
# MTU is, and when that changes while they are busy. Of virtio-net there are three: as vm's hub has it (no offloads), plain
# (neither mergeable buffers nor event index), and with checksums, TSO and two queues. `make check` has the MTUs of
# virtio-net and e1000e, check-long all. Topologies hub, virtio-plain, virtio-mq, e1000e, igb, vmxnet3, rtl8139 of lib.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

mtu() { # BYTES COMMAND...: with this MTU on both ends
	local bytes=$1 status
	shift
	ip -n host-a link set eth0 mtu "$bytes" && ip -n host-b link set eth0 mtu "$bytes" && reachable || return
	"$@"
	status=$?
	ip -n host-a link set eth0 mtu 1500
	ip -n host-b link set eth0 mtu 1500
	reachable && return $status
}

# Of what the NIC does for TCP, that which it is told to leave: off HOST, on HOST.
switchable="rx-checksumming|tx-(checksum-|scatter-gather|tcp).*|generic-(segmentation|receive)-offload"
declare -A had
off() {
	had[$1]=$(nsenter --net=/run/netns/"$1" ethtool -k eth0 | sed -En "s/^\s*($switchable): on$/\1 on/p")
	offloads "$1" "${had[$1]// on/ off}"
}
on() { offloads "$1" "${had[$1]}"; }
# shellcheck disable=SC2086 # words
offloads() { nsenter --net=/run/netns/"$1" ethtool -K eth0 $2 >/dev/null; }

bare() { # COMMAND...: with all of it switched off
	local status
	off host-a
	off host-b
	reachable && "$@"
	status=$?
	on host-a
	on host-b
	reachable && return $status
}

# Features, rings, queues and MTU change while two conversations are busy. What a NIC has not it refuses.
v4=29500
changes() {
	talk_both -s 20000 -i 50 && all until_true both_offloaded && off host-a && goes_on && on host-a && goes_on || return
	# when it has begun anew, for other rings or another MTU, QEMU's vmxnet3 may send no TCP over IPv6 any more, also where
	# there is no chimney
	if [ "$model" = vmxnet3 ]; then
		all talk_stop
		return
	fi
	local rings queues
	rings=$(rings)
	if a ethtool -G eth0 rx 128 tx 128 2>/dev/null; then
		say "rings: ${rings:-none}, then $(rings)"
		# shellcheck disable=SC2086 # words
		[ "$(rings)" = "rx 128 tx 128" ] && goes_on && a ethtool -G eth0 $rings && goes_on || return
	fi
	queues=$(queues)
	if a ethtool -L eth0 combined $((3 - queues)) 2>/dev/null; then
		say "queues: $queues, then $(queues)"
		goes_on && a ethtool -L eth0 combined "$queues" && goes_on || return
	fi
	ip -n host-a link set eth0 mtu 1400 && goes_on && ip -n host-a link set eth0 mtu 1500 && goes_on && all talk_stop
}
rings() { a ethtool -g eth0 2>/dev/null | awk '/^Current/ { now = 1 } now && /^(RX|TX):/ { print tolower($1), $2 }' | tr -d : | xargs; }
queues() { a ethtool -l eth0 2>/dev/null | awk '/^Current/ { now = 1 } now && /^Combined:/ { print $2 + 0 }'; }
goes_on() { all progress && all until_true both_offloaded; }

# SO_BUSY_POLL (46): who waits for data takes it from the NIC's queue himself, before the connection, not, and while busy.
busy_poll() {
	local port=$((port_next++)) before
	sysctl -qw net.core.busy_poll=200 && before=$(polled) &&
		talk_prepared $port sock $port set SOL_SOCKET 46 200 -- $B4 && until_true both_offloaded $port &&
		until_true polls "$before" && sock $port set SOL_SOCKET 46 0 && progress $port && before=$(polled) &&
		progress $port && [ "$(polled)" = "$before" ] && sock $port set SOL_SOCKET 46 200 &&
		until_true polls "$before" && offloaded $port && say "$before to $(polled) packets polled" && talk_stop $port
	local status=$?
	sysctl -qw net.core.busy_poll=0
	return $status
}
polled() { a nstat -asz TcpExtBusyPollRxPackets | awk '/BusyPoll/ { print $2 }'; }
polls() { (($(polled) > $1 + 20)); }

# The NIC's driver, and what virtio-net has agreed on with the device: has_features BIT..., each a number or no-NUMBER.
declare -A driver=([e1000e]=e1000e [igb]=igb [vmxnet3]=vmxnet3 [rtl8139]=8139cp)
on_by_default() { [ "$(dev_a enable)$(dev_b enable)" = 11 ]; }
is_driven_by() { a ethtool -i eth0 | grep -qx "driver: $1"; }
CSUM=0 TSO4=11 MRG_RXBUF=15 MQ=22 EVENT_IDX=29
declare -A features=([hub]="no-$CSUM no-$TSO4 $MRG_RXBUF no-$MQ $EVENT_IDX" [virtio-plain]="no-$MRG_RXBUF no-$EVENT_IDX"
	[virtio-mq]="$CSUM $TSO4 $MRG_RXBUF $MQ $EVENT_IDX")
has_features() {
	local all bit
	(($# > 0)) || return 0
	all=$(ip netns exec host-a cat /sys/class/net/eth0/device/features)
	for bit; do [ "${all:${bit#no-}:1}" = "$([ "$bit" = "${bit#no-}" ] && echo 1 || echo 0)" ] || return; done
}
# shellcheck disable=SC2086 # words
is_itself() {
	is_driven_by "$1" && has_features ${features[$model]:-} && on_by_default &&
		{ [ $model != virtio-mq ] || [ "$(queues)" = 2 ]; }
}
# it has begun with as many queues as there were processors then
two_queues() { a ethtool -L eth0 combined 2 && b ethtool -L eth0 combined 2; }

port_next=29000
models="hub virtio-plain virtio-mq e1000e igb vmxnet3 rtl8139"
all_sizes() { [[ $1 = @(hub|virtio-*|e1000e) ]] || long; }
cases=0
for model in $models; do cases=$((cases + $(all_sizes "$model" && echo 7 || echo 5))); done
ktap_print_header
ktap_set_plan $((cases + 1))
gate_load || ktap_exit_fail_msg "the gate"
for model in $models; do
	modprobe "${driver[$model]:-virtio_net}" && topology "$model" && listener && { [ $model != virtio-mq ] || two_queues; } ||
		ktap_exit_fail_msg "topology $model"
	ktap_test_result "$model: on by default" is_itself "${driver[$model]:-virtio_net}"
	ktap_test_result "$model: IPv4, small messages" takes_path $B4 1 1000
	ktap_test_result "$model: IPv6, bulk" takes_path $B6 0 4000000
	if all_sizes "$model"; then
		ktap_test_result "$model: MTU 1280, IPv6, bulk" mtu 1280 takes_path $B6 0 3000000
		# the 8139 has no jumbo frames, virtio-net has none without mergeable buffers
		if [[ $model = @(rtl8139|virtio-plain) ]]; then jumbo=1500; else jumbo=9000; fi
		ktap_test_result "$model: MTU $jumbo, IPv4, bulk" mtu $jumbo takes_path $B4 0 4000000
	fi
	ktap_test_result "$model: without offloads of its own, IPv4, bulk" bare takes_path $B4 0 6000000
	[ "$model" != hub ] || ktap_test_result "$model: SO_BUSY_POLL" busy_poll
	ktap_test_result "$model: features, rings, queues and MTU change while busy" changes
	hosts_gone
done
ktap_finished
