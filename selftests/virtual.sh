#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Virtual devices: a host's own flows are offloaded on VLAN, QinQ, bridge and macvlan devices, also on NICs; those of the
# containers behind its bridge are forwarded, and none of the host's business. More NICs under `make check-long`.
#
#     netns host-a                                              netns host-b
#     [up0 203.0.113.1  2001:db8:1::1]                [up0 203.0.113.2  2001:db8:1::2]
#       '-- eth0 ------------------------ veth ------------------------ eth0 --'
#       '-- port1 (bridge only) -- [eth0 203.0.113.3] netns guest

source "$(dirname "$(readlink -f "$0")")"/lib.sh

upper() { # HOST KIND: up0 on eth0
	case $2 in
	bond) ip -n "$1" link add up0 type bond mode active-backup miimon 20 && ip -n "$1" link set eth0 down &&
		ip -n "$1" link set eth0 master up0 ;;
	vlan) ip -n "$1" link add up0 link eth0 type vlan id 100 ;;
	qinq) ip -n "$1" link add mid0 link eth0 type vlan id 200 proto 802.1ad &&
		ip -n "$1" link set mid0 up && ip -n "$1" link add up0 link mid0 type vlan id 100 ;;
	bridge) ip -n "$1" link add up0 type bridge forward_delay 0 && ip -n "$1" link set eth0 master up0 ;;
	macvlan) ip -n "$1" link add up0 link eth0 type macvlan mode bridge ;;
	esac
}

stack() { # KIND NIC: the two hosts talk by up0 from here on
	A4=192.0.2.1 B4=192.0.2.2 A6=2001:db8::1 B6=2001:db8::2
	topology "$2" && upper host-a "$1" && upper host-b "$1" || return
	A4=203.0.113.1 B4=203.0.113.2 A6=2001:db8:1::1 B6=2001:db8:1::2
	ip -n host-a addr add $A4/24 dev up0 && ip -n host-b addr add $B4/24 dev up0 &&
		ip -n host-a addr add $A6/64 dev up0 nodad && ip -n host-b addr add $B6/64 dev up0 nodad &&
		ip -n host-a link set up0 up && ip -n host-b link set up0 up || return
	reachable
}

offloaded_on_up0() { # ADDRESS
	local port=$((port_next++))
	talk $port -s 10000 -i 50 -- "$1" && until_true both_offloaded $port || return
	[ "$(flow $port .dev)" = up0 ] && progress $port && talk_stop $port
}

# What is below goes down and comes back while a flow is busy above.
below_down_and_up() {
	local port=$((port_next++))
	talk $port -s 10000 -i 50 -- $B4 && until_true both_offloaded $port && ip -n host-a link set eth0 down || return
	until_true without_carrier && ip -n host-a link set eth0 up && progress $port &&
		until_true both_offloaded $port && talk_stop $port
}
without_carrier() { ip -n host-a link show dev up0 | grep -qE 'NO-CARRIER|LOWERLAYERDOWN|M-DOWN'; }

# A container behind the bridge: its flows pass the host by its bridge alone, while the host's own are offloaded.
guest() {
	local own=$((port_next++)) theirs=$((port_next++))
	ip netns add guest && ip link add port1 netns host-a type veth peer name eth0 netns guest &&
		ip -n host-a link set port1 master up0 && ip -n host-a link set port1 up &&
		ip -n guest addr add 203.0.113.3/24 dev eth0 && ip -n guest link set eth0 up || return
	until_true nsenter --net=/run/netns/guest ping -q -c 1 -W 1 $B4 >/dev/null || return
	talk $own -s 10000 -i 50 -- $B4 && until_true both_offloaded $own || return
	nsenter --net=/run/netns/guest "$DIR"/talk -p $theirs -s 2000 -n 600000 send $B4 $PORT | sed 's/^/# guest: /'
	((PIPESTATUS[0] == 0)) && [ -z "$(flow $theirs)" ] && offloaded $own && talk_stop $own
}

# The bridge gets another port instead of the one it has, at both ends.
other_port() {
	local port=$((port_next++)) host
	cable host-a eth1 host-b eth1 && talk $port -s 10000 -i 50 -- $B4 && until_true both_offloaded $port || return
	for host in host-a host-b; do
		ip -n $host link set eth0 nomaster && ip -n $host link set eth1 up && ip -n $host link set eth1 master up0 ||
			return
	done
	progress $port && until_true both_offloaded $port && talk_stop $port
}

# Rules of iptables may go by the port of a bridge that a packet comes by, and the next one may come by another. What they
# are made of brings br_netfilter along, so that it is not loaded for the gate to watch it.
by_port() {
	local port=$((port_next++)) rule=(INPUT -m physdev --physdev-in port9 -j DROP)
	talk $port -s 10000 -i 50 -- $B4 && until_true both_offloaded $port && [ ! -e /sys/module/br_netfilter ] &&
		a iptables-legacy -A "${rule[@]}" && off_path $port && until_true in_host_for $port unknown-rules &&
		chimneyctl gate unload && chimneyctl gate load && until_true in_host_for $port each-packet &&
		progress $port && in_host_for $port each-packet && a iptables-legacy -D "${rule[@]}" &&
		until_true both_offloaded $port && a iptables-legacy -A "${rule[@]}" && off_path $port &&
		until_true in_host_for $port each-packet && a iptables-legacy -D "${rule[@]}" &&
		until_true both_offloaded $port && talk_stop $port
	local status=$?
	chimneyctl gate unload && modprobe -r xt_physdev br_netfilter && chimneyctl gate load && return $status
}

port_next=31000
kinds="vlan:veth qinq:veth bridge:veth macvlan:veth vlan:e1000e bond:virtio-mq"
if long; then
	kinds+=" vlan:hub vlan:virtio-mq vlan:igb vlan:vmxnet3 vlan:rtl8139 qinq:igb bridge:hub bridge:e1000e macvlan:igb bond:e1000e"
fi
ktap_print_header
ktap_set_plan $(($(wc -w <<<"$kinds") * 3 + 3))
gate_load || ktap_exit_fail_msg "the gate"
for kind in $kinds; do
	nic=${kind#*:}
	stack "${kind%:*}" "$nic" && listener || ktap_exit_fail_msg "$kind"
	kind=${kind%:veth}
	ktap_test_result "$kind: IPv4" offloaded_on_up0 $B4
	ktap_test_result "$kind: IPv6" offloaded_on_up0 $B6
	ktap_test_result "$kind: the device below goes down and up" below_down_and_up
	if [ "$kind" = bridge ]; then
		ktap_test_result "a container behind the bridge" guest
		ktap_test_result "another port of the bridge" other_port
		# takes the bridges along with the module
		ktap_test_result "a rule for a port of the bridge" by_port
	fi
	hosts_gone
	ip netns del guest 2>/dev/null
done
ktap_finished
