#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What a socket is told about its packets holds from the next one on, also while its flow is offloaded and busy: TOS,
# TTL, priority, mark (with a route of its own), device, IP options, MD5. What the path does not serve keeps the flow in
# the host, its reason named, as long as it is there. So do MPTCP and a VRF. ECMP.
#
#     netns host-a                                                                  netns host-b
#     [eth0 192.0.2.1     2001:db8::1  ] -------------------- [eth0 192.0.2.2     2001:db8::2  ]
#     [eth1 198.51.100.1  2001:db8:1::1] -------------------- [eth1 198.51.100.2  2001:db8:1::2]
#
# Segments of host-a are counted where they leave and where they arrive, those as they were before a change and those as
# they are after it.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

two_cables() {
	topology veth && cable host-a eth1 host-b eth1 || return
	ip -n host-a addr add 198.51.100.1/24 dev eth1 && ip -n host-b addr add 198.51.100.2/24 dev eth1 &&
		ip -n host-a addr add 2001:db8:1::1/64 dev eth1 nodad &&
		ip -n host-b addr add 2001:db8:1::2/64 dev eth1 nodad &&
		ip -n host-a link set eth1 up && ip -n host-b link set eth1 up || return
	for h in a b; do
		$h sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0
	done
	# what has mark 5 goes by the other cable; answers come by the first
	ip -n host-a rule add fwmark 5 table 5 && ip -n host-a -6 rule add fwmark 5 table 5 &&
		ip -n host-a route add default via 198.51.100.2 table 5 &&
		ip -n host-a -6 route add default via 2001:db8:1::2 table 5
}

# A socket that is bound to eth0 has another route to eth1's network than the best.
by_eth0() { # add|del
	ip -n host-a route "$1" 198.51.100.0/24 dev eth0 metric 2000 &&
		ip -n host-a -6 route "$1" 2001:db8:1::/64 via $B6 dev eth0 metric 2000
}

# watch HOST WAS IS: counts host-a's segments that match WAS and IS, as they leave host-a or arrive in host-b.
watch() {
	local hook=ingress match="tcp dport $PORT"
	[ "$1" != a ] || hook=egress
	watched=$1
	$1 nft -f - <<-END
		table netdev watch
		delete table netdev watch
		table netdev watch {
			counter was { }
			counter is { }
			chain eth0 {
				type filter hook $hook device eth0 priority 0
				$match $2 counter name "was"
				$match $3 counter name "is"
			}
			chain eth1 {
				type filter hook $hook device eth1 priority 0
				$match $2 counter name "was"
				$match $3 counter name "is"
			}
		}
	END
}
counts() { $watched nft list counters netdev | awk '/packets/ { printf "%s ", $2 }'; } # "WAS IS "

# What was sent before is in the counters.
settle() { a ping -q -c 1 -W 5 $B4 >/dev/null; }

# now was|is: from here on there are segments as in this counter, and no more as in the other.
now() {
	local was is
	settle
	read -r was is < <(counts)
	progress $port && settle || return
	# shellcheck disable=SC2046 # two words
	set -- "$1" $(counts)
	say "as it was: $was to $2, as it is: $is to $3"
	case $1 in
	was) (($2 > was && $3 == is)) ;;
	is) (($2 == was && $3 > is)) ;;
	esac
}

opt() { sock $port set "$@"; }

# obeyed, ${row[@]} is ADDRESS HOST WAS IS ON OFF: options that turn segments from WAS to IS and back are there before the
# connection, off again, and put on while the flow is offloaded and busy. It is offloaded with and without.
# shellcheck disable=SC2086 # words
obeyed() {
	set -- "${row[@]}"
	watch "$2" "$3" "$4" && port=$((port + 1)) && talk_prepared $port opt $5 -- "$1" &&
		until_true offloaded $port &&
		now is && opt $6 && now was && until_true both_offloaded $port && opt $5 && now is &&
		until_true offloaded $port && now is && talk_stop $port
}
kept_for() { in_host_for $port "$1"; }

# refused, ${row[@]} is REASON ADDRESS WAS IS ON OFF: likewise, but with IS the flow stays in the host.
# shellcheck disable=SC2086 # words
refused() {
	set -- "${row[@]}"
	local reason=$1 on=$5 off=$6
	watch b "$3" "$4" && port=$((port + 1)) || return
	talk_prepared $port opt $on -- "$2" && until_true kept_for "$reason" && progress $port && kept_for "$reason" &&
		now is && opt $off && now was && until_true both_offloaded $port &&
		opt $on && now is && kept_for "$reason" && opt $off && until_true both_offloaded $port &&
		now was && talk_stop $port
}

# 14 is TCP_MD5SIG. Either end has its socket; segments between the two changes are sent again.
key() { # KEY or nothing
	local child
	child=$(b ss -Htnp "dport = :$port" | grep -o 'pid=[0-9]*' | tail -n 1)
	"$DIR"/sock.py "${child#pid=}" set IPPROTO_TCP 14 "md5:$1@::ffff:$A4" && opt IPPROTO_TCP 14 "md5:$1@$B4"
}
signed() {
	local PORT=7001
	listener && "$DIR"/sock.py "${pids[-1]}" set IPPROTO_TCP 14 "md5:secret@::ffff:$A4" && port=$((port + 1)) &&
		talk_prepared $port opt IPPROTO_TCP 14 "md5:secret@$B4" -- $B4 && until_true kept_for signed &&
		progress $port && kept_for signed && key "" && progress $port && until_true both_offloaded $port &&
		key other && until_true kept_for signed && progress $port && kept_for signed && key "" &&
		until_true both_offloaded $port && progress $port && talk_stop $port
}

mptcp() {
	port=$((port + 1))
	local PORT=7002
	talk $port -M -s 2000 -i 10 -- "$1" && until_true kept_for mptcp &&
		progress $port && kept_for mptcp && talk_stop $port
}

# Bound to the VRF from the start; a flow whose device joins a VRF while it is busy, and leaves it.
vrf_before() {
	vrf_joined && port=$((port + 1)) && talk_prepared $port opt SOL_SOCKET SO_BINDTODEVICE s:vrf0 -- 198.51.100.2 &&
		until_true kept_for vrf && progress $port && kept_for vrf && talk_stop $port && vrf_left
}
vrf_joined() {
	ip -n host-a link add vrf0 type vrf table 10 && ip -n host-a link set vrf0 up &&
		ip -n host-a link set eth1 master vrf0
}
vrf_left() { ip -n host-a link del vrf0; }
vrf_busy() {
	local path
	a sysctl -qw net.ipv4.tcp_l3mdev_accept=1
	port=$((port + 1))
	talk $port -s 2000 -i 10 -- 198.51.100.2 && until_true both_offloaded $port && vrf_joined && off_path $port ||
		return
	path=$(flow $port .tx_packets)
	settle
	off_path $port && [ "$(flow $port .tx_packets)" = "$path" ] && vrf_left && progress $port &&
		until_true both_offloaded $port && talk_stop $port
}

# Flows share two routes: each is offloaded where its route leads, and on the other when that is the only one left. Their
# address is of neither device: newer kernels prefer the next hop that has the source address.
ecmp() {
	local first=$((port + 1)) own=203.0.113.1
	a ip addr add $own/32 dev lo && b ip route add $own via $A4 && b ip addr add 203.0.113.2/32 dev lo &&
		a sysctl -qw net.ipv4.fib_multipath_hash_policy=1 &&
		a ip route add 203.0.113.2 src $own nexthop via $B4 dev eth0 nexthop via 198.51.100.2 dev eth1 || return
	ports=$(seq -s ' ' $first $((port += 8)))
	all_talk 203.0.113.2 && all until_true offloaded && on_device eth0 && on_device eth1 &&
		a ip route replace 203.0.113.2 src $own via $B4 dev eth0 && all progress && all until_true offloaded &&
		not on_device eth1 && all talk_stop
}
# Of a route that has more to say about packets than IP does: no flow is offloaded, and one that gets it leaves the path.
encapsulated() {
	local route=("$B4/32" dev eth0) encap=(encap ip id 5 dst 203.0.113.9)
	port=$((port + 1))
	a ip route add "${route[@]}" "${encap[@]}" && talk $port -s 2000 -i 10 -- $B4 && until_true kept_for tunnel &&
		progress $port && kept_for tunnel && a ip route replace "${route[@]}" && until_true offloaded $port &&
		a ip route replace "${route[@]}" "${encap[@]}" && off_path $port && until_true kept_for tunnel &&
		progress $port && kept_for tunnel && a ip route del "${route[@]}" && until_true both_offloaded $port &&
		talk_stop $port
}
all_talk() { for p in $ports; do talk "$p" -s 2000 -i 20 -- "$1" || return; done; }
on_device() { for p in $ports; do [ "$(flow "$p" .dev)" != "$1" ] || return 0; done; return 1; }

rows() { # COMMAND: each line is a name and the arguments, which ktap_test_result would split
	local name arguments
	while IFS='|' read -r name arguments; do
		IFS='|' read -ra row <<<"$arguments"
		ktap_test_result "$name" "$1"
	done
}

port=35000
ktap_print_header
ktap_set_plan 20
two_cables && by_eth0 add && gate_load && listener && PORT=7002 listener -M || ktap_exit_fail_msg "topology"
v6=IPPROTO_IPV6
rows obeyed <<END
IP_TOS|$B4|b|ip dscp 0|ip dscp 18|SOL_IP IP_TOS 0x48|SOL_IP IP_TOS 0
IPV6_TCLASS|$B6|b|ip6 dscp 0|ip6 dscp 18|$v6 IPV6_TCLASS 0x48|$v6 IPV6_TCLASS 0
IP_TTL|$B4|b|ip ttl 64|ip ttl 33|SOL_IP IP_TTL 33|SOL_IP IP_TTL -1
IPV6_UNICAST_HOPS|$B6|b|ip6 hoplimit 64|ip6 hoplimit 33|$v6 IPV6_UNICAST_HOPS 33|$v6 IPV6_UNICAST_HOPS -1
SO_PRIORITY|$B4|a|meta priority none|meta priority 0:5|SOL_SOCKET SO_PRIORITY 5|SOL_SOCKET SO_PRIORITY 0
SO_MARK|$B4|a|meta mark 0|meta mark 6|SOL_SOCKET SO_MARK 6|SOL_SOCKET SO_MARK 0
SO_MARK with a route, IPv4|$B4|b|iifname eth0|iifname eth1|SOL_SOCKET SO_MARK 5|SOL_SOCKET SO_MARK 0
SO_BINDTODEVICE, IPv4|198.51.100.2|b|iifname eth1|iifname eth0|SOL_SOCKET SO_BINDTODEVICE s:eth0|SOL_SOCKET SO_BINDTODEVICE s:
SO_BINDTODEVICE, IPv6|2001:db8:1::2|b|iifname eth1|iifname eth0|SOL_SOCKET SO_BINDTODEVICE s:eth0|SOL_SOCKET SO_BINDTODEVICE s:
SO_MARK with a route, IPv6|$B6|b|iifname eth0|iifname eth1|SOL_SOCKET SO_MARK 5|SOL_SOCKET SO_MARK 0
END
by_eth0 del
# hop-by-hop and destination options of padding alone
rows refused <<END
IP_OPTIONS|ip-options|$B4|ip hdrlength 5|ip hdrlength 6|SOL_IP IP_OPTIONS x:01010101|SOL_IP IP_OPTIONS x:
IPV6_DSTOPTS|ip-options|$B6|exthdr dst missing|exthdr dst exists|$v6 IPV6_DSTOPTS x:0000010400000000|$v6 IPV6_DSTOPTS x:
IPV6_HOPOPTS|ip-options|$B6|exthdr hbh missing|exthdr hbh exists|$v6 IPV6_HOPOPTS x:0000010400000000|$v6 IPV6_HOPOPTS x:
END
ktap_test_result "TCP_MD5SIG" signed
ktap_test_result "MPTCP, IPv4" mptcp $B4
ktap_test_result "MPTCP, IPv6" mptcp $B6
ktap_test_result "ECMP" ecmp
ktap_test_result "a lightweight tunnel" encapsulated
ktap_test_result "VRF, bound to it before the connection" vrf_before
ktap_test_result "VRF, joined and left while busy" vrf_busy
ktap_finished
