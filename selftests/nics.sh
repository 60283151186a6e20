#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Other NICs than virtio-net: flows take the path on each, whatever it can do by itself (checksums, TSO, scatter/gather)
# and whatever its MTU is: of e1000e alone, but under `make check-long`. Topologies e1000e, igb, vmxnet3 and rtl8139 of
# lib.sh.

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

bare() { # COMMAND...: with all that the NIC does for TCP switched off
	local host status
	local -A on
	for host in host-a host-b; do
		on[$host]=$(nsenter --net=/run/netns/$host ethtool -k eth0 | sed -En "s/^\s*($switchable): on$/\1 on/p")
		offloads $host "${on[$host]// on/ off}"
	done
	reachable && "$@"
	status=$?
	for host in host-a host-b; do offloads $host "${on[$host]}"; done
	reachable && return $status
}
switchable="rx-checksumming|tx-(checksum-|scatter-gather|tcp).*|generic-(segmentation|receive)-offload"
# shellcheck disable=SC2086 # words
offloads() { nsenter --net=/run/netns/"$1" ethtool -K eth0 $2 >/dev/null; }

# model: what the module finds the driver to be called is what lib.sh calls the NIC, but for one.
declare -A driver=([e1000e]=e1000e [igb]=igb [vmxnet3]=vmxnet3 [rtl8139]=8139cp)
on_by_default() { [ "$(dev_a enable)$(dev_b enable)" = 11 ]; }
is_driven_by() { a ethtool -i eth0 | grep -qx "driver: $1"; }

port_next=29000
models="e1000e igb vmxnet3 rtl8139"
ktap_print_header
ktap_set_plan "$(long && echo 24 || echo 18)"
gate_load || ktap_exit_fail_msg "the gate"
for model in $models; do
	modprobe "${driver[$model]}" && topology "$model" && listener ||
		ktap_exit_fail_msg "topology $model"
	ktap_test_result "$model: on by default" eval "is_driven_by ${driver[$model]} && on_by_default"
	ktap_test_result "$model: IPv4, small messages" takes_path $B4 1 1000
	ktap_test_result "$model: IPv6, bulk" takes_path $B6 0 4000000
	if [ "$model" = e1000e ] || long; then
		ktap_test_result "$model: MTU 1280, IPv6, bulk" mtu 1280 takes_path $B6 0 3000000
		# the 8139 has no jumbo frames
		if [ "$model" = rtl8139 ]; then jumbo=1500; else jumbo=9000; fi
		ktap_test_result "$model: MTU $jumbo, IPv4, bulk" mtu $jumbo takes_path $B4 0 4000000
	fi
	ktap_test_result "$model: without offloads of its own, IPv4, bulk" bare takes_path $B4 0 6000000
	hosts_gone
done
ktap_finished
