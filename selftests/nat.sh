#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# NAT: connections that nftables translates stay in the host on the host that translates them; all others there are
# offloaded, those of a router as well. IPv6 has the kinds of translation, IPv4 the rest, too: when rules come and go.
#
#     netns host-c                          netns host-a                          netns host-b
#     [eth0 198.51.100.2] -- [eth1 198.51.100.1  eth0 192.0.2.1, .11] -- [eth0 192.0.2.2] 203.0.113.9, .10 as DNAT has it
#           2001:db8:c::2          2001:db8:c::1      2001:db8::1, ::11         2001:db8::2  2001:db8:9::9, ::10
#
# host-a to host-b is topology veth of lib.sh. host-a translates its own connections (SNAT, masquerade, DNAT in output)
# and those of host-c that it forwards; host-b translates what comes to it (redirect, DNAT to a local address).

source "$(dirname "$(readlink -f "$0")")"/lib.sh

BUSY=(-s 20000 -i 50)
c() { nsenter --net=/run/netns/host-c "$@"; }

router() {
	ip netns add host-c && cable host-a eth1 host-c eth0 &&
		ip -n host-a addr add 198.51.100.1/24 dev eth1 && ip -n host-c addr add 198.51.100.2/24 dev eth0 &&
		ip -n host-a addr add 2001:db8:c::1/64 dev eth1 nodad &&
		ip -n host-c addr add 2001:db8:c::2/64 dev eth0 nodad &&
		ip -n host-a link set eth1 up && ip -n host-c link set eth0 up &&
		ip -n host-c route add default via 198.51.100.1 && ip -n host-c route add default via 2001:db8:c::1 &&
		ip -n host-a addr add 192.0.2.11/24 dev eth0 &&
		ip -n host-a addr add 2001:db8::11/64 dev eth0 nodad preferred_lft 0 && # no source address unless told
		ip -n host-a route add 203.0.113.0/24 via $B4 && ip -n host-a route add 2001:db8:9::/64 via $B6 &&
		a sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
}
trap 'ip netns del host-c 2>/dev/null; lib_cleanup' EXIT

nft_in() { nsenter --net=/run/netns/"$1" nft -f -; } # HOST

# What is translated, by local port of the connection: those that end in 0 to 4 are not.
rules_a() {
	nft_in host-a <<-END
		table $table nat {
			chain postrouting {
				type nat hook postrouting priority srcnat
				tcp sport { 26005, 26015, 26025, 26026, 26105, 26115, 26125, 26126 } snat to $snat
				tcp sport { 26006, 26106 } masquerade to :26900-26999
				oifname "eth0" $table saddr $net_c masquerade
				oifname "eth0" masquerade
			}
			chain output {
				type nat hook output priority dstnat
				$table daddr $vip_a dnat to $remote
			}
		}
	END
}
rules_b() {
	nft_in host-b <<-END
		table $table nat {
			chain prerouting {
				type nat hook prerouting priority dstnat
				tcp dport 7001 redirect to :$PORT
				$table daddr $vip_b dnat to $remote
			}
		}
	END
}
no_rules() { a nft flush ruleset && b nft flush ruleset; }

offloads() { flow "$1" .offloads; }
# judged LPORT: it has carried more than enough to be judged
judged() { until_true moved_on "$1" 0 400; }
in_host_for_nat() { in_host "$1" && has_reason "$1" nat && [ "$(offloads "$1")" = 0 ]; }
in_host_for_nat_b() { in_host_b "$1" && has_reason_b "$1" nat && [ "$(flow_b "$1" .offloads)" = 0 ]; }
tell() { flow "$1" | jq -r '"# host-a: " + .local + " " + .remote + " " + .state + " " + (.reasons | join(","))'; }

# translated_here LPORT ADDRESS: by host-a; in host-b, which knows nothing of it, the flow is offloaded.
translated_here() {
	local there=$1
	talk "$1" "${BUSY[@]}" -- "$2" && judged "$1" || return
	tell "$1"
	in_host_for_nat "$1" || return
	case $1 in *6) there=$(b ss -Htn "sport = :$PORT" | grep -oE ':269[0-9]{2}' | tail -n 1 | tr -d :) ;; esac
	until_true offloaded_b "$there" && progress "$1" && in_host_for_nat "$1" && talk_stop "$1"
}

# translated_there LPORT ADDRESS: by host-b; in host-a the flow is offloaded.
translated_there() {
	talk "$1" "${BUSY[@]}" -- "$2" && judged "$1" && until_true offloaded "$1" || return
	tell "$1"
	in_host_for_nat_b "$1" && progress "$1" && in_host_for_nat_b "$1" && offloaded "$1" && talk_stop "$1"
}
redirected() { local PORT=7001; translated_there "$1" "$remote"; }

# A masquerading host's own connection from the address that it masquerades with is not changed by that.
own() {
	talk "$1" "${BUSY[@]}" -- "$remote" && until_true both_offloaded "$1" && progress "$1" || return
	tell "$1"
	both_offloaded "$1" && talk_stop "$1"
}

# host-c's connection, masqueraded by host-a on its way; host-a's own stays offloaded beside it.
forwarded() {
	local own=$(($1 + 1)) pid status
	talk "$own" -i 10 -- "$remote" && until_true both_offloaded "$own" || return
	c "$DIR"/talk -p "$1" -s 4000 -n 1000000 send "$remote" $PORT >"$talk_out.$1" 2>&1 &
	pid=$!
	pids+=("$pid")
	wait "$pid"
	status=$?
	sed 's/^/# host-c: /' "$talk_out.$1"
	[ "$(offloads "$own")" = 1 ] && offloaded "$own" && talk_stop "$own" && return $status
}

# Rules that come while a tracked connection is offloaded do not change it: judged again, it is offloaded again.
during() {
	local before
	echo "table $table track { chain c { type filter hook input priority 0; ct state established accept; }; }" |
		nft_in host-a
	talk "$1" "${BUSY[@]}" -- "$remote" && until_true both_offloaded "$1" || return
	before=$(offloads "$1")
	rules_a || return
	uploaded_for "$1" rules && until_true returned "$1" "$before" && progress "$1" && offloaded "$1" || return
	tell "$1"
}
returned() { offloaded "$1" && (($(offloads "$1") > $2)); }

# … and the same when they go, while it is still tracked or not any more.
after() {
	local before
	before=$(offloads "$1")
	a nft delete table $table nat && uploaded_for "$1" rules && until_true returned "$1" "$before" || return
	before=$(offloads "$1")
	a nft flush ruleset && until_true returned "$1" "$before" && progress "$1" && offloaded "$1" && talk_stop "$1"
}

# The rules are flushed: a connection that they would have translated is an ordinary one. (One that has begun under them
# may be reset, with and without chimney.)
flushed() { a nft flush table $table nat && own "$1"; }

# Midway conntrack picks up a connection that it did not know, and if the rules translate it, it is reset, since the peer
# does not know it any more. Whatever the host does without chimney has to happen with it. The rules are for packets
# that host-a sends: for the first one that conntrack sees to be one of them, host-a is silent while they come.
picked_up() { # LPORT LOADED
	local status=0
	talk "$1" "${BUSY[@]}" -- "$remote" || return
	if [ "$2" = yes ]; then until_true both_offloaded "$1" || return; else judged "$1" || return; fi
	kill -STOP "${talk_pid[$1]}"
	until_true acknowledged "$1" && rules_a || return
	kill -CONT "${talk_pid[$1]}"
	WAIT=20 until_true not connected "$1" || status=$?
	kill -TERM "${talk_pid[$1]}" 2>/dev/null
	talk_wait "$1" || status="$status $?"
	no_rules
	outcome=$status
}
# Stopped, it sends nothing new, and nothing is on its way.
acknowledged() { stopped "$1" && not unacked "$1" && quiet_b "$1"; }
unacked() { a ss -Htni "sport = :$1" | grep -q unacked; }
quiet_b() { [ "$(b ss -Htn "dport = :$1" | awk '{ print $2 + $3 }')" = 0 ]; }
picked_up_alike() {
	local without
	chimneyctl -q gate unload && modprobe -r chimney || return
	picked_up "$1" no || return
	without=$outcome
	gate_load && picked_up $(($1 + 1)) yes || return
	say "without chimney it ended with $without, with it $outcome"
	[ "$without" = "$outcome" ] && [ "$outcome" = "0 1" ]
}

# Picked up as well, but no rule translates it: it goes on, and is offloaded.
picked_up_plain() {
	local before
	talk "$1" "${BUSY[@]}" -- "$remote" && until_true both_offloaded "$1" || return
	before=$(offloads "$1")
	rules_a && uploaded_for "$1" rules && until_true returned "$1" "$before" && progress "$1" && talk_stop "$1" || return
	no_rules
}

# What both families have; the rest is the same for both. LPORT ends in what the rules go by.
translations() {
	no_rules && rules_a && rules_b
	ktap_test_result "$table: SNAT" translated_here $((base + 5)) $remote
	ktap_test_result "$table: masquerade" translated_here $((base + 6)) $remote
	ktap_test_result "$table: DNAT in output" translated_here $((base + 7)) $vip_a
	ktap_test_result "$table: redirect" redirected $((base + 8))
}

ktap_print_header
ktap_set_plan $((3 + 4 + 5 + 4))
topology veth && router && gate_load && listener || ktap_exit_fail_msg "topology"

table=ip remote=$B4 snat=192.0.2.11 vip_a=203.0.113.9 vip_b=203.0.113.10 net_c=198.51.100.0/24 base=26000
ktap_test_result "NAT rules that come while busy, no translation" picked_up_plain $base
ktap_test_result "NAT rules that come while busy, tracked" during $((base + 1))
ktap_test_result "NAT rules that go while busy" after $((base + 1))
translations
ktap_test_result "DNAT to a local address" translated_there $((base + 9)) $vip_b
ktap_test_result "own connection of a host that masquerades" own $((base + 2))
ktap_test_result "connections forwarded and masqueraded, and one of the router" forwarded $((base + 3))
ktap_test_result "rules flushed" flushed $((base + 15))
no_rules
ktap_test_result "picked up midway and translated, as without chimney" picked_up_alike $((base + 25))

table=ip6 remote=$B6 snat=2001:db8::11 vip_a=2001:db8:9::9 vip_b=2001:db8:9::10 net_c=2001:db8:c::/64 base=26100
translations
ktap_finished
