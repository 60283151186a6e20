#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# TUN and TAP, whose other end is a program: mostly a VPN, whose flows stay in the host unless the administrator says
# otherwise, or a virtual machine, on a bridge, whose flows with the host are those of the bridge. A TAP device is an
# Ethernet device and can be switched on; a TUN device cannot, and says so. The same goes for the kernel's own tunnels and
# VPNs, and for dummy devices, from which tc takes what is sent.
#
#     netns host-a                                                          netns host-b
#     [eth0 192.0.2.1  2001:db8::1] --- TAP or TUN, tap.py --- [eth0 192.0.2.2  2001:db8::2]
#
#     [eth0 192.0.2.1  2001:db8::1] VXLAN, GRE, WireGuard or dummy [eth0 192.0.2.2  2001:db8::2]
#        '-- [under0 198.51.100.1] --------- veth --------- [under0 198.51.100.2] --'

source "$(dirname "$(readlink -f "$0")")"/lib.sh

cable() {
	case $kind in
	tap | tun)
		"$DIR"/tap.py "$kind" cable-a cable-b &
		pids+=($!)
		until_true made && ip link set cable-a netns "$1" name "$2" && ip link set cable-b netns "$3" name "$4" ;;
	*)
		ip link add under0 netns "$1" type veth peer name under0 netns "$3" && over "$1" 1 2 && over "$3" 2 1 ;;
	esac
}
made() { ip link show cable-a && ip link show cable-b; } >/dev/null 2>&1

over() { # HOST NUMBER PEER: eth0 on under0
	local ends=(local "198.51.100.$2" remote "198.51.100.$3")
	ip -n "$1" addr add "198.51.100.$2/24" dev under0 && ip -n "$1" link set under0 up || return
	case $kind in
	vxlan) ip -n "$1" link add eth0 type vxlan id 100 "${ends[@]}" dstport 4789 ;;
	gre*) ip -n "$1" link add eth0 type $kind "${ends[@]}" ;;
	wireguard)
		ip -n "$1" link add eth0 type wireguard &&
			nsenter --net=/run/netns/"$1" wg set eth0 listen-port 51820 private-key <(key "$2") \
				peer "$(key "$3" | wg pubkey)" endpoint "198.51.100.$3:51820" allowed-ips 0.0.0.0/0,::/0 ;;
	dummy)
		ip -n "$1" link add eth0 type dummy && ip -n "$1" link set eth0 arp on \
			address "$(ip -n "$1" -j link show dev under0 | jq -r '.[].address')" &&
			redirect "$1" eth0 egress under0 && redirect "$1" under0 ingress eth0 ;;
	esac
}
key() { printf '%032d' "$1" | base64; } # NUMBER: a private key
redirect() { # HOST FROM ingress|egress TO
	tc -n "$1" qdisc add dev "$2" clsact && tc -n "$1" filter add dev "$2" "$3" matchall action mirred "$3" redirect dev "$4"
}

enable() { # HOST 0|1
	ip netns exec "$1" bash -c "echo $2 >/sys/class/net/eth0/chimney/enable"
}
enable_both() { enable host-a "$1" && enable host-b "$1"; }

# Of two conversations, one for each family, that are busy:
v4=39000
start() { talk_both -s 2000 -i 25; }
kept() { all until_true both_in_host && all progress && all both_in_host; }
both_in_host() { in_host_for "$1" device && in_host_b_for "$1" device; }

by_default() { [ "$(dev_a enable)$(dev_b enable)" = 00 ] && start && kept; }
switched_on() { enable_both 1 && all until_true both_offloaded && all progress && all both_offloaded; }
switched_off() { enable_both 0 && all off_path && all uploaded_for_device && kept && all talk_stop; }
uploaded_for_device() { uploaded_for "$1" device; }

# host-a as the host of a virtual machine, which host-b is: the TAP is a port of its bridge.
bridged() {
	ip -n host-a link set eth0 down && ip -n host-a addr flush dev eth0 && ip -n host-a link set eth0 name tap0 &&
		ip -n host-a link add eth0 type bridge forward_delay 0 && ip -n host-a link set tap0 master eth0 &&
		ip -n host-a link set tap0 up && ip -n host-a addr add $A4/24 dev eth0 &&
		ip -n host-a addr add $A6/64 dev eth0 nodad && ip -n host-a link set eth0 up && reachable &&
		start && all until_true offloaded && all progress && all offloaded && all talk_stop
}

not_supported() {
	local text
	text=$(enable host-a 1 2>&1) && return 1
	say "$text"
	[[ $text = *"not supported"* ]] && kept && all talk_stop
}

port_next=39500		# for takes_path
ktap_print_header
ktap_set_plan 21
modprobe -q tun
gate_load || ktap_exit_fail_msg "the gate"
kind=tap
topology veth && listener || ktap_exit_fail_msg "TAP"
ktap_test_result "TAP: in the host by default" by_default
ktap_test_result "TAP: switched on while busy" switched_on
ktap_test_result "TAP: switched off again while busy" switched_off
enable_both 1
ktap_test_result "TAP, on before the connection: IPv4, small messages" takes_path $B4 1 1000
ktap_test_result "TAP, on before the connection: IPv6, bulk" takes_path $B6 0 2000000
ktap_test_result "TAP as a port of a bridge" bridged
hosts_gone
for kind in vxlan gretap dummy; do
	topology veth && listener || ktap_exit_fail_msg "$kind"
	ktap_test_result "$kind: in the host by default" by_default
	ktap_test_result "$kind: switched on while busy" switched_on
	ktap_test_result "$kind: switched off again while busy" switched_off
	hosts_gone
done
for kind in tun gre wireguard; do
	topology veth && listener || ktap_exit_fail_msg "$kind"
	ktap_test_result "$kind: in the host" by_default
	ktap_test_result "$kind: cannot be switched on" not_supported
	hosts_gone
done
ktap_finished
