#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Routes, neighbours, MTUs, addresses, links, NIC features and qdiscs change while a flow is busy: no byte is lost, nothing
# is sent to the old place after the change, and the flow is offloaded again.
#
#     netns host-a                     netns router                     netns host-b
#     [eth0 192.0.2.1   ] ---------- [a0 192.0.2.254   b0 203.0.113.254] ---------- [eth0 203.0.113.2 ]
#     [eth1 198.51.100.1] ---------- [a1 198.51.100.254]                             2001:db8:2::2
#      2001:db8:{0,1}::1              2001:db8:{0,1,2}::fe

source "$(dirname "$(readlink -f "$0")")"/lib.sh

A4=192.0.2.1 B4=203.0.113.2 A6=2001:db8::1 B6=2001:db8:2::2
SLOW=/sys/fs/bpf/changes WORKERS=/sys/devices/virtual/workqueue/cpumask
workers=$(cat $WORKERS)
trap 'rm -rf $SLOW; echo $workers >$WORKERS; lib_cleanup; ip netns del router 2>/dev/null' EXIT

r() { nsenter --net=/run/netns/router "$@"; }

address() { # NETNS DEV IPv4 IPv6
	ip -n "$1" link set "$2" up && ip -n "$1" addr add "$3" dev "$2" && ip -n "$1" addr add "$4" dev "$2" nodad
}

routed() {
	local n
	for n in host-a router host-b; do ip netns add $n && ip -n $n link set lo up || return; done
	r sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	cable host-a eth0 router a0 && cable host-a eth1 router a1 && cable router b0 host-b eth0 &&
		address host-a eth0 192.0.2.1/24 2001:db8::1/64 && address router a0 192.0.2.254/24 2001:db8::fe/64 &&
		address host-a eth1 198.51.100.1/24 2001:db8:1::1/64 &&
		address router a1 198.51.100.254/24 2001:db8:1::fe/64 &&
		address router b0 203.0.113.254/24 2001:db8:2::fe/64 && address host-b eth0 $B4/24 $B6/64 || return
	# what answers may come by either device
	a sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0
	# a probe looks for a route anew, and would hide that other segments do not
	a sysctl -qw net.ipv4.tcp_early_retrans=0
	via 0 && ip -n host-b route add default via 203.0.113.254 && ip -n host-b -6 route add default via 2001:db8:2::fe ||
		return
	reachable
}
via() { # 0|1: host-a's route to host-b is by eth0 or eth1
	local net=192.0.2.254 net6=2001:db8::fe
	[ "$1" = 0 ] || net=198.51.100.254 net6=2001:db8:1::fe
	# "ip -n" makes a mount namespace, and would wait for readers: those whom slow_offer holds up, too
	a ip route replace 203.0.113.0/24 via $net dev "eth$1" src 192.0.2.1 &&
		a ip -6 route replace 2001:db8:2::/64 via $net6 dev "eth$1" src 2001:db8::1
}

# Of two flows, one for each family: …
v4=32000
start() { talk_both -s 20000 -i 50 && all_offloaded; }
all_offloaded() { all until_true offloaded; }
goes_on() { all progress && all_offloaded; }
stop() { all talk_stop; }
on() { [ "$(flow "$2" .dev)" = "$1" ]; }

# Segments of TCP that a device of host-a has sent while it was in group 77, counted on its egress.
count() { # DEV
	a nft "add table netdev count; add chain netdev count $1 { type filter hook egress device $1 priority 0; }
		add counter netdev count $1; add rule netdev count $1 oifgroup 77 meta l4proto tcp counter name $1"
}
sent() { a nft -j list counter netdev count "$1" | jq '.nftables[1].counter.packets'; }
group() { ip netns exec host-a sh -c "echo $2 >/sys/class/net/$1/netdev_group"; } # DEV GROUP

# What other processors were sending when it was called has been sent: a device is not gone before.
grace_period() { ip -n host-a link add grace type dummy && ip -n host-a link del grace; }

# Once the command has returned, nothing leaves by the old device any more.
moves() { # OLD NEW COMMAND...
	local old=$1 new=$2 before
	shift 2
	before=$(sent "$old")
	all on "$old" && "$@" && grace_period && group "$old" 77 && goes_on && all on "$new" || return
	say "segments by the old device: $before before, $(sent "$old") now"
	[ "$(sent "$old")" = "$before" ] && group "$old" 0
}
# A route that is replaced takes along what was cached for it; one that another goes before is as good as ever.
route_replaced() { start && moves eth0 eth1 via 1 && moves eth1 eth0 via 0 && stop; }
better_route() { start && moves eth0 eth1 better add && moves eth1 eth0 better del && stop; }
better() { # add|del
	ip -n host-a route "$1" $B4/32 via 198.51.100.254 dev eth1 src 192.0.2.1 &&
		ip -n host-a -6 route "$1" $B6/128 via 2001:db8:1::fe dev eth1 src 2001:db8::1
}

# Likewise a route whose next hop is an object of its own.
next_hop() {
	a ip nexthop add id 1 via 192.0.2.254 dev eth0 && a ip -6 nexthop add id 2 via 2001:db8::fe dev eth0 &&
		a ip route replace 203.0.113.0/24 nhid 1 src 192.0.2.1 &&
		a ip -6 route replace 2001:db8:2::/64 nhid 2 src 2001:db8::1 || return
	start && moves eth0 eth1 next_hops_by 198.51.100.254 2001:db8:1::fe eth1 &&
		moves eth1 eth0 next_hops_by 192.0.2.254 2001:db8::fe eth0 && via 0 && goes_on && stop && a ip nexthop flush
}
next_hops_by() { a ip nexthop replace id 1 via "$1" dev "$3" && a ip -6 nexthop replace id 2 via "$2" dev "$3"; }

# A rule of policy routing has another table looked up.
policy_rule() {
	a ip route add default via 198.51.100.254 dev eth1 src 192.0.2.1 table 7 &&
		a ip -6 route add default via 2001:db8:1::fe dev eth1 src 2001:db8::1 table 7 &&
		start && moves eth0 eth1 rules add && moves eth1 eth0 rules del && stop
}
rules() { a ip rule "$1" to $B4 lookup 7 && a ip -6 rule "$1" to $B6 lookup 7; }

# The route changes when a flow has been judged by the rules for the old device, and is not yet offloaded.
route_meanwhile() {
	local port=32900 before
	# whatever is offered again meanwhile waits, too, and not on a processor of its own
	echo 2 >$WORKERS || return
	a nft "table ip only { chain c { type filter hook output priority 0; oifname eth1 tcp sport $port drop; }; }" &&
		bpftool prog loadall "$DIR"/slow_offer.bpf.o $SLOW autoattach && group eth1 77 && before=$(sent eth1) &&
		talk $port -s 2000 -i 2 -- $B4 && until_true offered $port && via 1 || return
	rm -r $SLOW
	echo "$workers" >$WORKERS
	until_true uploaded_for $port route && in_host $port && [ "$(sent eth1)" = "$before" ] && a nft delete table ip only &&
		until_true offloaded $port && on eth1 $port && group eth1 0 && via 0 && talk_stop $port
}
offered() { grep -q "a moment lasts: $1" $TRACE/trace; }

# Without early demux the host routes each packet that it receives, and may drop it for its source.
early_demux() {
	local knob before
	for knob in ip_early_demux tcp_early_demux; do
		start && a sysctl -qw net.ipv4.$knob=0 && grace_period && before=$(dev_a rx_packets) && all progress &&
			all in_host_for_route && [ "$(dev_a rx_packets)" = "$before" ] || return
		a sysctl -qw net.ipv4.$knob=1 && goes_on && stop || return
	done
}
in_host_for_route() { until_true in_host_for "$1" route; }

multipath() {
	start && a ip route replace 203.0.113.0/24 src 192.0.2.1 nexthop via 192.0.2.254 dev eth0 \
		nexthop via 198.51.100.254 dev eth1 && a ip -6 route replace 2001:db8:2::/64 src 2001:db8::1 \
		nexthop via 2001:db8::fe dev eth0 nexthop via 2001:db8:1::fe dev eth1 || return
	goes_on && via 0 && goes_on && stop
}

# The gateway is another machine from now on, or the same with another NIC: once that is known, nothing goes to the old one.
gateway() { # MAC COMMAND...: which makes it known
	local mac=$1 old before
	shift
	old=$(ip -n router -br link show dev a0 | awk '{ print $3 }')
	a nft "add table netdev old { counter sent { }; chain c { type filter hook egress device eth0 priority 0
		ether daddr $old tcp dport $PORT counter name sent; }; }" && start && (($(to_old) > 0)) &&
		ip -n router link set a0 address "$mac" && "$@" && until_true known "$mac" && grace_period || return
	before=$(to_old)
	goes_on && say "segments to the old gateway: $before before, $(to_old) now" && [ "$(to_old)" = "$before" ] &&
		a nft delete table netdev old && stop
}
to_old() { a nft -j list counter netdev old sent | jq '.nftables[1].counter.packets'; }
known() { [ "$(a ip neigh show dev eth0 | grep -E '^(192.0.2.254|2001:db8::fe) ' | grep -c "$1")" = 2 ]; }
gateway_mac() { gateway 02:00:00:00:00:99 told 02:00:00:00:00:99; }
told() {
	a ip neigh replace 192.0.2.254 lladdr "$1" dev eth0 nud reachable &&
		a ip neigh replace 2001:db8::fe lladdr "$1" dev eth0 nud reachable
}
gateway_announces() {
	r sysctl -qw net.ipv4.conf.a0.arp_notify=1 net.ipv6.conf.a0.ndisc_notify=1 && gateway 02:00:00:00:00:98 true
}

# Somewhere on the way the MTU is lower now: full segments are too big, the router says so.
path_mtu() {
	talk_both -s 0 && all_offloaded || return
	ip -n router link set b0 mtu 1300 && ip -n host-b link set eth0 mtu 1300 && goes_on && all has_pmtu 1300 && stop
	local status=$?
	ip -n router link set b0 mtu 1500
	ip -n host-b link set eth0 mtu 1500
	return $status
}
has_pmtu() { a ss -Htni "sport = :$2" | grep -q "pmtu:$1"; }

device_mtu() {
	start && ip -n host-a link set eth0 mtu 1280 && goes_on && ip -n host-a link set eth0 mtu 1500 && goes_on && stop
}

# Without its address a host receives nothing by it; with it, the connection goes on.
address_removed() {
	start && without 192.0.2.1/24 $v4 $v6 && without 2001:db8::1/64 $v6 $v4 && stop
}
without() { # ADDRESS LPORT OTHER
	local before status
	ip -n host-a addr del "$1" dev eth0 || return
	before=$(received "$2")
	until_true silent "$2" && [ "$(received "$2")" = "$before" ] && progress "$3"
	status=$?
	a ip addr add "$1" dev eth0 nodad && via 0 && goes_on && return $status
}
received() { a ss -Htni "sport = :$1" | grep -o 'bytes_received:[0-9]*'; }
# Nothing has come for a second.
silent() { (($(a ss -Htni "sport = :$1" | grep -o 'lastrcv:[0-9]*' | cut -d: -f2) > 1000)); }

link_down_up() {
	start && ip -n host-a link set eth0 down && not offloaded $v4 && not offloaded $v6 || return
	ip -n host-a link set eth0 up
	ip -n host-a addr add 2001:db8::1/64 dev eth0 nodad 2>/dev/null
	until_true via 0 && goes_on && stop
}

# A device goes for good, and the route by it; there is another. Nothing comes after this.
device_gone() { start && better add && goes_on && all on eth1 && ip -n host-a link del eth1 && goes_on && all on eth0 && stop; }

features() {
	local feature
	start || return
	for feature in tso gso gro tx rx sg; do
		a ethtool -K eth0 $feature off >/dev/null && all progress || return
	done
	for feature in sg rx tx gro gso tso; do
		a ethtool -K eth0 $feature on >/dev/null && all progress || return
	done
	goes_on && stop
}

qdiscs() {
	local qdisc
	start || return
	for qdisc in "htb default 1" "tbf rate 200mbit burst 64k latency 50ms" "netem delay 1ms" fq fq_codel pfifo noqueue; do
		# shellcheck disable=SC2086 # words
		a tc qdisc replace dev eth0 root $qdisc && all progress || { say "qdisc $qdisc"; return 1; }
	done
	goes_on && stop
}

# A rule stops what leaves by a device of another name, or in another group: the device becomes one, and is itself again.
comes_under() { # MATCH CHANGE BACK: the latter for "ip link set"
	a nft "table inet by { counter out { }; chain c { type filter hook output priority 0
		$1 tcp dport $PORT counter name out drop; }; }" && start || return
	# shellcheck disable=SC2086 # words
	ip -n host-a link set $2 && all off_path && until_true more_ruled_out 0 || return
	nothing_arrives until_true more_ruled_out $(($(ruled_out) + 4)) || return
	# shellcheck disable=SC2086
	ip -n host-a link set $3 && goes_on && stop && a nft delete table inet by
}
ruled_out() { a nft -j list counter inet by out | jq '.nftables[1].counter.packets'; }
more_ruled_out() { (($(ruled_out) > $1)); }
device_name() { comes_under "oifname up9" "eth0 name up9" "up9 name eth0"; }
device_group() { comes_under "oifgroup 9" "eth0 group 9" "eth0 group 0"; }

ktap_print_header
tests="route_replaced better_route next_hop policy_rule route_meanwhile early_demux multipath gateway_mac gateway_announces path_mtu device_mtu"
tests="$tests device_name device_group address_removed link_down_up features qdiscs device_gone"
ktap_set_plan "$(wc -w <<<"$tests")"
routed && count eth0 && count eth1 && gate_load && listener || ktap_exit_fail_msg "topology"
for t in $tests; do ktap_test_result "${t//_/ }" "$t"; done
ktap_finished
