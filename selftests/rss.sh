#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Which CPU receives and which queue sends stays as it is configured, for offloaded flows too: RSS with the affinity of
# the queues' interrupts (on igb), RPS, RFS and XPS (on veth) are obeyed when they are set before the connection, are
# changed while the flow is busy, and are taken away; no offload and no upload touches them. Topologies igb and veth of
# lib.sh, with two queues and two CPUs:
#
#     netns host-a                              netns host-b
#     talk ── [eth0, queues 0, 1] ------ [eth0, queues 0, 1] ── its echo
#
# /proc/net/softnet_stat tells where packets are received; mq's qdiscs, which queue they leave by.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

cable() {
	ip link add cable-a netns "$1" numtxqueues 2 numrxqueues 2 type veth peer name cable-b netns "$3" \
		numtxqueues 2 numrxqueues 2 &&
		ip -n "$1" link set cable-a name "$2" && ip -n "$3" link set cable-b name "$4"
}

start() { port=$((port + 1)) && talk $port -s 500 -i 2 -- "$1"; }

# Packets that a CPU has received so far.
processed() { echo $((0x$(awk -v line=$(($1 + 1)) 'NR == line { print $1 }' /proc/net/softnet_stat))); }

# alone THIS OTHER COUNTER FIELD: COUNTER of THIS grows, and hardly that of OTHER, by no less than the flow's FIELD,
# which is read in between.
alone() {
	local this other path segs
	other=$($3 "$2") this=$($3 "$1") path=$(flow $port ".$4") segs=$(segments $port)
	until_true moved_on $port "$segs" 200 || return
	path=$(($(flow $port ".$4") - path)) this=$(($($3 "$1") - this)) other=$(($($3 "$2") - other))
	say "$3: $this by $1, $other by $2; $path by the path"
	((this > 19 * other && this >= path && path >= 40))
}
received_on() { until_true both_offloaded $port && until_true alone "$1" $((1 - $1)) processed rx_packets; } # CPU
sent_by() { until_true both_offloaded $port && until_true alone "$1" $((1 - $1)) queue tx_packets; } # QUEUE
queue() { a tc -s -j qdisc show dev eth0 | jq "[.[] | select(.parent == \"1:$(($1 + 1))\").packets] | add"; }

# Queue N of either NIC interrupts CPU N. RSS spreads connections; here it has one queue to choose from, so as to tell.
two_queues() {
	local queue irq irqs
	a ethtool -L eth0 combined 2 && b ethtool -L eth0 combined 2 && reachable || return
	for queue in 0 1; do
		irqs=$(awk -v name="^eth0-.*-$queue$" '$NF ~ name { print +$1 }' /proc/interrupts)
		[ -n "$irqs" ] || return
		for irq in $irqs; do echo $queue >/proc/irq/"$irq"/smp_affinity_list || return; done
	done
}
rss() { a ethtool -X eth0 "$@" && b ethtool -X eth0 "$@"; }
rss_before() { rss weight 0 1 && start $B4 && received_on 1; }
rss_busy() { rss weight 1 0 && received_on 0 && rss weight 0 1 && received_on 1; }
rss_default() { rss default && progress $port && until_true both_offloaded $port && talk_stop $port; }

knob() { # HOST FILES VALUE
	ip netns exec "$1" sh -c "for f in /sys/class/net/eth0/queues/$2; do echo $3 >\$f || exit; done"
}
knobs() { ip netns exec host-a sh -c 'cd /sys/class/net/eth0/queues && grep -r . */rps_* */xps_cpus'; }

# Without RPS, a packet is received where it was sent, so that is on the other CPU.
pin() { # CPU_A CPU_B: talk and its echo
	local echo
	echo=$(b ss -Htnp "dport = :$port" | grep -o 'pid=[0-9]*' | tail -n 1)
	taskset -cp "$1" "${talk_pid[$port]}" >/dev/null && taskset -cp "$2" "${echo#pid=}" >/dev/null
}
rps() { knob host-a 'rx-*/rps_cpus' "$1" && knob host-b 'rx-*/rps_cpus' "$1"; } # MASK
rps_before() { rps 2 && start $B4 && pin 0 0 && received_on 1; }
rps_busy() { rps 1 && received_on 0 && rps 2 && received_on 1; }
rps_off() { rps 0 && received_on 0 && talk_stop $port; }

# RFS: host-a receives where talk reads; host-b, without, where that sends from.
rfs() { echo "$1" >/proc/sys/net/core/rps_sock_flow_entries && knob host-a 'rx-*/rps_flow_cnt' "$2"; }
rfs_before() { rfs 2048 1024 && knob host-a 'rx-*/rps_cpus' 3 && start $B6 && pin 1 0 && received_on 1; }
rfs_busy() { pin 0 1 && received_on 0 && pin 1 0 && received_on 1; }
rfs_off() { rfs 0 0 && rps 1 && received_on 0 && rps 0 && talk_stop $port; }

xps() { knob host-a tx-0/xps_cpus "$1" && knob host-a tx-1/xps_cpus "$2"; } # MASK MASK
xps_before() { a tc qdisc replace dev eth0 root handle 1: mq && xps 0 3 && start $B4 && sent_by 1; }
xps_busy() { xps 3 0 && sent_by 0 && xps 0 3 && sent_by 1; }
xps_off() { xps 0 0 && progress $port && until_true both_offloaded $port && talk_stop $port; }

# Settings before a flow is offloaded, while it is, and when it has been sent back.
untouched() {
	local before
	rps 3 && rfs 2048 1024 && xps 1 2 && before=$(knobs) && start $B4 && until_true both_offloaded $port &&
		[ "$(knobs)" = "$before" ] && mode disabled && until_true in_host $port && [ "$(knobs)" = "$before" ] &&
		mode enabled && until_true both_offloaded $port && talk_stop $port && [ "$(knobs)" = "$before" ]
}

port=37000
ktap_print_header
[ "$(nproc)" = 2 ] || { ktap_skip_all "needs two CPUs"; exit "$KSFT_SKIP"; }
ktap_set_plan 13
gate_load || ktap_exit_fail_msg "the gate"
modprobe -q igb
if has_nics igb; then
	topology igb && two_queues && listener || ktap_exit_fail_msg "topology igb"
	ktap_test_result "RSS, set before the connection" rss_before
	ktap_test_result "RSS, changed while busy" rss_busy
	ktap_test_result "RSS, taken away" rss_default
	hosts_gone
else
	for order in before busy off; do ktap_test_skip "RSS, $order: no igb"; done
fi
topology veth && listener || ktap_exit_fail_msg "topology veth"
ktap_test_result "RPS, set before the connection" rps_before
ktap_test_result "RPS, changed while busy" rps_busy
ktap_test_result "RPS, taken away" rps_off
ktap_test_result "RFS, set before the connection" rfs_before
ktap_test_result "RFS, the reader moves while busy" rfs_busy
ktap_test_result "RFS, taken away" rfs_off
ktap_test_result "XPS, set before the connection" xps_before
ktap_test_result "XPS, changed while busy" xps_busy
ktap_test_result "XPS, taken away" xps_off
ktap_test_result "settings are untouched by offload and upload" untouched
ktap_finished
