#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# TUN and TAP, whose other end is a program: mostly a VPN, whose flows stay in the host unless the administrator says
# otherwise, or a virtual machine, on a bridge, whose flows with the host are those of the bridge. A TAP device is an
# Ethernet device and can be switched on; a TUN device cannot, and says so.
#
#     netns host-a                                                          netns host-b
#     [eth0 192.0.2.1  2001:db8::1] --- TAP or TUN, tap.py --- [eth0 192.0.2.2  2001:db8::2]

source "$(dirname "$(readlink -f "$0")")"/lib.sh

cable() {
	"$DIR"/tap.py "$kind" cable-a cable-b &
	pids+=($!)
	until_true made && ip link set cable-a netns "$1" name "$2" && ip link set cable-b netns "$3" name "$4"
}
made() { ip link show cable-a && ip link show cable-b; } >/dev/null 2>&1

enable() { # HOST 0|1
	ip netns exec "$1" bash -c "echo $2 >/sys/class/net/eth0/chimney/enable"
}
enable_both() { enable host-a "$1" && enable host-b "$1"; }

# Of two conversations, one for each family, that are busy:
v4=39000
start() { talk_both -s 2000 -i 10; }
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
ktap_set_plan 8
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
kind=tun
topology veth && listener || ktap_exit_fail_msg "TUN"
ktap_test_result "TUN: in the host" by_default
ktap_test_result "TUN: cannot be switched on" not_supported
ktap_finished
