#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The firewall decides: the gate never lets a packet through that the rules in force would have stopped, nor does a flow
# fail that they let through. Two pairs of hosts with the same addresses, one of them without chimney, make random
# changes of rules and say the same under them; what arrives is the same. `make check T=firewall SEED=N` repeats a run.
#
#     netns host-a                                                        netns host-b
#     [eth0 192.0.2.1  198.51.100.1  2001:db8::1] --- [eth0 192.0.2.2  198.51.100.2  2001:db8::2]
#                                                                                   offloaded
#     netns twin-a                                                        netns twin-b
#     [eth0, the same] ------------------------------------------------- [eth0, the same]
#                                                                                   chimney/enable is 0

source "$(dirname "$(readlink -f "$0")")"/lib.sh

trap 'rm -rf $SLOW; lib_cleanup; ip netns del twin-a 2>/dev/null; ip netns del twin-b 2>/dev/null' EXIT

host() { # NETNS NUMBER
	ip -n "$1" link set lo up && ip -n "$1" link set eth0 up && ip -n "$1" addr add "192.0.2.$2/24" dev eth0 &&
		ip -n "$1" addr add "198.51.100.$2/24" dev eth0 &&
		ip -n "$1" addr add "2001:db8::$2/64" dev eth0 nodad || return
	# refusals are told each time; what was stopped is tried again soon
	nsenter --net=/run/netns/"$1" sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 \
		net.ipv4.icmp_msgs_per_sec=100000 net.ipv4.icmp_msgs_burst=100000 \
		net.ipv4.tcp_rto_min_us=50000 net.ipv4.tcp_thin_linear_timeouts=1 net.ipv4.tcp_no_metrics_save=1
}
pair() { # NAME
	ip netns add "$1-a" && ip netns add "$1-b" && cable "$1-a" eth0 "$1-b" eth0 && host "$1-a" 1 && host "$1-b" 2
}
without_chimney() {
	local n
	for n in twin-a twin-b; do ip netns exec $n sh -c 'echo 0 >/sys/class/net/eth0/chimney/enable' || return; done
}

# other rounds each time only where there is somebody to look into it
rounds=40 seed=12345
long && rounds=1000 seed=$RANDOM

random_rules() { "$DIR"/twins.py "${SEED:-$seed}" $rounds | sed -u 's/^/# /'; ((PIPESTATUS[0] == 0)); }

# Of chains at the last priority those that are older than chimney's hooks come after them: what these stop, the gate would
# not see. It is made anew, and comes before.
late() { # PLACE...: table and hook
	local chain="late late { type filter hook $2 priority 2147483647; }"
	port=$((port + 1))
	mode disabled
	a nft "add table $1 late; add chain $1 $chain" && mode enabled && talk $port -s 2000 -i 2 -- "$3" &&
		until_true in_host_for $port late-rules && until_true moved_on $port "$(segments $port)" 200 &&
		in_host_for $port late-rules && [ "$(flow $port .offloads)" = 0 ] || return
	a nft "delete table $1 late; add table $1 late; add chain $1 $chain" && until_true offloaded $port &&
		a nft "delete table $1 late" && talk_stop $port
}

# A rule that stops a flow comes while that is being installed: it does not take the path at all.
while_installed() {
	local by_path
	port=$((port + 1))
	bpftool prog loadall "$DIR"/slow_install.bpf.o $SLOW autoattach && talk $port -s 2000 -i 2 -- $B4 &&
		until_true offered $port || return
	a nft "table ip stop { chain c { type filter hook output priority 0; tcp sport $port drop; }; }" || return
	by_path=$(dev_total tx_packets rx_packets)
	rm -r $SLOW
	until_true in_host_for $port rules && [ "$(dev_total tx_packets rx_packets)" = "$by_path" ] || return
	a nft delete table ip stop && until_true offloaded $port && talk_stop $port
}
offered() { grep -q "chimney_offload: .*local=\[[^ ]*\]:$1 " $TRACE/trace; }

SLOW=/sys/fs/bpf/firewall port=31000
ktap_print_header
ktap_set_plan 6
pair host && pair twin && reachable && gate_load && without_chimney || ktap_exit_fail_msg "topology"
ktap_test_result "$rounds rounds of random rules: the same with chimney and without" random_rules
listener || ktap_exit_fail_msg "listener"
ktap_test_result "a rule comes while a flow is being installed" while_installed
ktap_test_result "older rules of the last priority: postrouting" late ip postrouting $B4
ktap_test_result "older rules of the last priority: input" late inet input $B6
ktap_test_result "older rules of the last priority: ingress, IPv4" late netdev "ingress device eth0" $B4
ktap_test_result "older rules of the last priority: ingress, IPv6" late netdev "ingress device eth0" $B6
ktap_finished
