#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The main job: an established flow takes the path in both directions, every byte arrives, and the packets are counted.
# Topologies hub and veth of lib.sh; two guests are pair/path.*.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

counters_agree() {
	(($(dev_a tx_packets) > 0 && $(dev_a rx_packets) > 0 && $(dev_a offloads) > 0 && $(dev_b offloads) > 0))
}

# Segments of more than 64 KB arrive in host-b.
big_tcp() {
	local h
	for h in a b; do
		$h ip link set eth0 gso_max_size 200000 gro_max_size 200000 gso_ipv4_max_size 200000 gro_ipv4_max_size 200000 ||
			return
	done
	b nft -f - <<-END
		table netdev big
		delete table netdev big
		table netdev big {
			counter seen { }
			counter wrong { }
			chain in {
				type filter hook ingress device eth0 priority 0
				meta length > 65576 counter name "seen"
				meta length > 65576 ip length != 0 counter name "wrong"
			}
		}
	END
}
big_packets() { b nft -j list counter netdev big "$1" | jq '.nftables[1].counter.packets'; }
# No length fits into the header then.
big4() {
	big_tcp && takes_path $B4 0 12000000 && say "$(big_packets seen) of more than 64 KB, $(big_packets wrong) wrong" &&
		(($(big_packets seen) > 0 && $(big_packets wrong) == 0))
}
# Over IPv6 these take the host path, which makes their jumbo header; the flow stays where it is.
big6() {
	local port=$((port_next++)) before
	before=$(big_packets seen)
	talk $port -s 0 -- $B6 && until_true both_offloaded $port && until_true more_big_packets "$before" &&
		progress $port && both_offloaded $port && [ "$(flow $port .offloads)" = 1 ] && talk_stop $port
}
more_big_packets() { (($(big_packets seen) > $1)); }

port_next=20000
ktap_print_header
ktap_set_plan 16
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
	if [ $topo = veth ]; then
		ktap_test_result "$topo: BIG TCP, IPv4, bulk" big4
		ktap_test_result "$topo: BIG TCP, IPv6, bulk" big6
	fi
	hosts_gone
done
ktap_finished
