#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The main job: an established flow takes the path in both directions, every byte arrives, and the packets are counted.
# Topologies hub and veth of lib.sh; two guests are pair/path.*.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

counters_agree() {
	(($(dev_a tx_packets) > 0 && $(dev_a rx_packets) > 0 && $(dev_a offloads) > 0 && $(dev_b offloads) > 0))
}

port_next=20000
ktap_print_header
ktap_set_plan 14
gate_load || ktap_exit_fail_msg "the gate"
for topo in hub veth; do
	topology $topo && listener || ktap_exit_fail_msg "topology $topo"
	ktap_test_result "$topo: IPv4, small messages" takes_path $B4 1 1000
	ktap_test_result "$topo: IPv6, small messages" takes_path $B6 1 1000
	ktap_test_result "$topo: IPv4, bulk" takes_path $B4 0 6000000
	ktap_test_result "$topo: IPv6, bulk" takes_path $B6 0 6000000
	ktap_test_result "$topo: IPv4 on an IPv6 socket, small messages" takes_path $B4 1 1000 -m
	ktap_test_result "$topo: IPv4 on an IPv6 socket, bulk" takes_path $B4 0 6000000 -m
	ktap_test_result "$topo: devices count packets" counters_agree
	hosts_gone
done
ktap_finished
