#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# IPVS: connections that it balances stay in the host on the balancer, whether its server is the balancer itself, the
# client is, or both are elsewhere; all others there are offloaded, and so are the balanced ones in client and server.
#
#     netns host-a                         netns host-b: balancer                    netns host-c: server
#     [eth0 192.0.2.1  2001:db8::1] ---- [eth0 192.0.2.2  2001:db8::2]
#     [eth1 192.0.2.129]                 [eth1 198.51.100.1] -------------------- [eth0 198.51.100.2]
#       |                                 lo: 203.0.113.9  2001:db8:9::9           lo: 203.0.113.11
#       '------------------------------------------------------------------------ [eth1 192.0.2.130]
#
#     service                           server    how
#     203.0.113.9, 2001:db8:9::9 :7000  host-b    as it is
#     203.0.113.9  :7001                host-c    NAT
#     192.0.2.200  :7002                host-c    direct routing; host-c answers by its eth1
#     203.0.113.10 :7003                host-c    NAT, and the client is host-b
#     203.0.113.11 :7000                host-c    direct routing, and the client is host-b

source "$(dirname "$(readlink -f "$0")")"/lib.sh

BUSY=(-s 2000 -i 25)
VIP4=203.0.113.9 VIP6=2001:db8:9::9
trap 'lib_cleanup; ip netns del host-c 2>/dev/null' EXIT

c() { nsenter --net=/run/netns/host-c "$@"; }

balancer() {
	ip netns add host-c && cable host-b eth1 host-c eth0 && cable host-a eth1 host-c eth1 &&
		ip -n host-c link set lo up && ip -n host-c link set eth0 up && ip -n host-c link set eth1 up &&
		ip -n host-b link set eth1 up && ip -n host-a link set eth1 up &&
		ip -n host-b addr add 198.51.100.1/24 dev eth1 && ip -n host-c addr add 198.51.100.2/24 dev eth0 &&
		ip -n host-b addr add $VIP4/32 dev lo && ip -n host-b addr add $VIP6/128 dev lo &&
		ip -n host-a addr add 192.0.2.129/32 dev eth1 && ip -n host-c addr add 192.0.2.130/32 dev eth1 || return
	# what it is for is no address of the balancer's: the client of these is
	ip -n host-b route add 203.0.113.10/32 via 198.51.100.2 && ip -n host-b route add 203.0.113.11/32 via 198.51.100.2 &&
		ip -n host-c addr add 203.0.113.11/32 dev lo || return
	# direct routing: the answer does not pass the balancer
	ip -n host-b addr add 192.0.2.200/32 dev lo && ip -n host-c addr add 192.0.2.200/32 dev lo &&
		ip -n host-c rule add from 192.0.2.200 lookup 100 &&
		ip -n host-c route add default dev eth1 table 100 && ip -n host-c neigh add 192.0.2.1 dev eth1 \
			lladdr "$(ip -n host-a -j link show dev eth1 | jq -r '.[].address')" || return
	ip -n host-a route add 203.0.113.0/24 via $B4 && ip -n host-a route add 192.0.2.200/32 via $B4 &&
		ip -n host-a -6 route add $VIP6/128 via $B6 && ip -n host-c route add default via 198.51.100.1 || return
	b sysctl -qw net.ipv4.ip_forward=1
	a sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0
	c sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0
	for port in $PORT 7002; do
		nsenter --net=/run/netns/host-c "$DIR"/talk listen $port &
		pids+=($!)
	done
	until_true c_listens
}
c_listens() { [ "$(c ss -Hltn | wc -l)" = 2 ]; }

# One service that nobody uses: IPVS has its hooks, and what changes from then on is told by nothing else.
some_service() { b ipvsadm -A -t 203.0.113.99:80 -s rr; }
services() {
	b ipvsadm -R <<-END
		-A -t $VIP4:$PORT -s rr
		-a -t $VIP4:$PORT -r $B4:$PORT -g
		-A -t [$VIP6]:$PORT -s rr
		-a -t [$VIP6]:$PORT -r [$B6]:$PORT -g
		-A -t $VIP4:7001 -s rr
		-a -t $VIP4:7001 -r 198.51.100.2:$PORT -m
		-A -t 192.0.2.200:7002 -s rr
		-a -t 192.0.2.200:7002 -r 198.51.100.2:7002 -g
		-A -t 203.0.113.10:7003 -s rr
		-a -t 203.0.113.10:7003 -r 198.51.100.2:$PORT -m
		-A -t 203.0.113.11:$PORT -s rr
		-a -t 203.0.113.11:$PORT -r 198.51.100.2:$PORT -g
	END
}
no_services() { b ipvsadm -C; }

# A conversation of host-b's own, to be asked after as those of host-a are.
talk_b() { # LPORT ADDRESS PORT
	nsenter --net=/run/netns/host-b "$DIR"/talk -p "$1" "${BUSY[@]}" send "$2" "$3" >"$talk_out.$1" 2>&1 &
	talk_pid[$1]=$!
	pids+=($!)
	until_true connected_b "$1"
}
connected_b() { [ -n "$(own_flow "$1")" ]; }
own_flow() { chimneyctl -j -n host-b flows | jq -c ".[] | select(.lport == $1)"; }
server_flow() { chimneyctl -j -n host-c flows | jq -c ".[] | select(.rport == $1)"; }

# is STATE FLOW LPORT: FLOW tells of flow_b, own_flow or server_flow.
is() { [ "$("$2" "$3" | jq -r .state)" = "$1" ]; }
for_ipvs() { "$1" "$2" | jq -e '.state == "in-host" and (.reasons | index("ipvs"))' >/dev/null; }
never() { "$1" "$2" | jq -e '.offloads == 0' >/dev/null; }
segments_b() { b ss -Htni "( sport = :$1 or dport = :$1 )" | grep -o ' segs_in:[0-9]*' | cut -d: -f2; }
moved_b() { (($(segments_b "$1") > $2)); }
goes_on_b() { # LPORT
	local from
	from=$(segments_b "$1")
	until_true moved_b "$1" $((from + 300))
}

# held FLOW LPORT: by IPVS, after more than enough to be judged.
held() {
	goes_on_b "$2" || return
	"$1" "$2" | jq -r '"# host-b: " + .local + " " + .remote + " " + .state + " " + (.reasons | join(","))'
	for_ipvs "$1" "$2"
}

# The services are there first; when they are gone the flow is any other.
before() { # FLOW LPORT COMMAND...
	services && "${@:3}" && held "$1" "$2" && never "$1" "$2"
}
after() {
	no_services && until_true is offloaded "$1" "$2" && goes_on_b "$2" && is offloaded "$1" "$2" && talk_stop "$2"
}

# They come while the flow is offloaded and busy, and are told to take connections that they have not seen begin.
during() { # FLOW LPORT COMMAND...
	some_service && b sysctl -qw net.ipv4.vs.sloppy_tcp=1 && "${@:3}" && until_true is offloaded "$1" "$2" || return
	services || return
	"$1" "$2" | jq -e '.uploaded == "ipvs" and .state != "offloaded"' >/dev/null && held "$1" "$2" && after "$1" "$2"
	local status=$?
	no_services && b sysctl -qw net.ipv4.vs.sloppy_tcp=0 && return $status
}

# Between client and server elsewhere: both of them have a flow like any other, and so has the balancer.
passes() { # LPORT ADDRESS PORT
	local own=$(($1 + 1))
	services && PORT=$3 talk "$1" "${BUSY[@]}" -- "$2" && talk_b $own 198.51.100.2 $PORT || return
	until_true offloaded "$1" && until_true is offloaded server_flow "$1" && until_true is offloaded own_flow $own &&
		progress "$1" && [ -z "$(flow_b "$1")" ] && talk_stop "$1" && talk_stop $own && no_services
}

# Not every change is one of a flow's: it comes back.
comes_back() { # COMMAND...: changes something of IPVS
	local port=$((port_next++))
	some_service && talk $port "${BUSY[@]}" -- $B4 && until_true both_offloaded $port && "$@" || return
	flow_b $port | jq -e '.uploaded == "ipvs"' >/dev/null && until_true both_offloaded $port && progress $port &&
		talk_stop $port && no_services
}
edit() { b ipvsadm -E -t 203.0.113.99:80 -s rr -p 60; }
# IP_VS_SO_SET_ZERO of linux/ip_vs.h, for all services
by_sockopt() {
	b python3 -c 'import socket
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).setsockopt(socket.IPPROTO_IP, 1152 + 15, bytes(44))'
}

# To begin with, nothing is at the address that it connects to: the services have to stay.
client_nat() { before own_flow "$1" talk_b "$1" 203.0.113.10 7003 && talk_stop "$1" && no_services; }

port_next=33000
ktap_print_header
ktap_set_plan $((3 * 3 + 1 + 2 + 2))
topology veth && balancer && gate_load && listener || ktap_exit_fail_msg "topology"
ktap_test_result "IPv4, server on the balancer: services before the connection" \
	before flow_b 33100 talk 33100 "${BUSY[@]}" -- $VIP4
ktap_test_result "IPv4, server on the balancer: services gone" after flow_b 33100
ktap_test_result "IPv4, server on the balancer: services while busy" \
	during flow_b 33101 talk 33101 "${BUSY[@]}" -- $VIP4
ktap_test_result "IPv6, server on the balancer: services before the connection" \
	before flow_b 33102 talk 33102 "${BUSY[@]}" -- $VIP6
ktap_test_result "IPv6, server on the balancer: services gone" after flow_b 33102
ktap_test_result "IPv6, server on the balancer: services while busy" \
	during flow_b 33103 talk 33103 "${BUSY[@]}" -- $VIP6
ktap_test_result "client on the balancer, direct routing: services before the connection" \
	before own_flow 33104 talk_b 33104 203.0.113.11 $PORT
ktap_test_result "client on the balancer, direct routing: services gone" after own_flow 33104
ktap_test_result "client on the balancer, direct routing: services while busy" \
	during own_flow 33105 talk_b 33105 203.0.113.11 $PORT
ktap_test_result "client on the balancer, NAT" client_nat 33106
ktap_test_result "balanced by NAT between two others" passes 33107 $VIP4 7001
ktap_test_result "balanced by direct routing between two others" passes 33109 192.0.2.200 7002
ktap_test_result "a service changes: the others' flows come back" comes_back edit
ktap_test_result "the same by setsockopt" comes_back by_sockopt
ktap_finished
