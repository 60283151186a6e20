#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# IPsec: the flows that an xfrm policy covers stay in the host, no others, and once the policy is in no segment of them
# leaves in clear text. ESP and AH, transport and tunnel mode, IPv4 and IPv6. Topology hub of lib.sh.
#
#     netns host-a                                                              netns host-b
#     ports 25000…25499 under a policy, [eth0] ====== ESP or AH ====== [eth0]   port 7000
#     ports 25500…25999 under none             ------ clear text -----

source "$(dirname "$(readlink -f "$0")")"/lib.sh
# shellcheck source=cleartext.sh
source "$DIR"/cleartext.sh

covered=25000-25499
KEY=0x0102030405060708090a0b0c0d0e0f10
BUSY=(-s 20000 -i 50)

# What follows is about these: $local_a and $local_b are the addresses, $mode and $proto the protection.
associate() {
	local h alg=(aead 'rfc4106(gcm(aes))' "${KEY}11121314" 128)
	[ $proto = esp ] || alg=(auth-trunc 'hmac(sha256)' "$KEY" 96)
	dissociate	# a case that has failed has left its own
	for h in host-a host-b; do
		ip -n $h xfrm state add src $local_a dst $local_b proto $proto spi 0x100 reqid 1 mode $mode "${alg[@]}" &&
			ip -n $h xfrm state add src $local_b dst $local_a proto $proto spi 0x101 reqid 1 mode $mode \
				"${alg[@]}" || return
	done
}
dissociate() { ip -n host-a xfrm state flush && ip -n host-b xfrm state flush; }

template() { echo "tmpl src $1 dst $2 proto $proto reqid 1 mode $mode"; } # FROM TO

# policy HOST add|delete in|out LPORT: policy of a host for the conversation that has LPORT in host-a; nothing comes
# between it and what the counter "late" counts.
policy() {
	local selector tmpl mark=true
	case $1-$3 in
	host-a-out | host-b-in)
		selector="src $local_a dst $local_b proto tcp sport $4 dport $PORT"
		tmpl=$(template $local_a $local_b) ;;
	*)
		selector="src $local_b dst $local_a proto tcp sport $PORT dport $4"
		tmpl=$(template $local_b $local_a) ;;
	esac
	[ "$2" = add ] || tmpl=
	[ "$2-$3" != add-out ] || mark='echo 77 >/sys/class/net/eth0/netdev_group'
	ip netns exec "$1" sh -c "ip xfrm policy $2 $selector dir $3 $tmpl && $mark"
}

# policies add|delete LPORT
policies() {
	policy host-a "$1" out "$2" && policy host-b "$1" in "$2" && policy host-b "$1" out "$2" &&
		policy host-a "$1" in "$2"
}
flush() { ip -n host-a xfrm policy flush && ip -n host-b xfrm policy flush; }

# Order one: the policies are there before the connection.
before() {
	local port=$1 came secured
	came=$(counters came) secured=$(counter host-b secured)
	associate && policies add "$port" || return
	talk "$port" "${BUSY[@]}" -- $local_b && until_true moved_on "$port" 0 300 || return
	tell "$port"
	both_in_host "$port" || return
	[ "$(counters came)" = "$came" ] && (($(counter host-b secured) > secured + 20))
}

# The policies go: the flow is offloaded.
after() {
	policies delete "$1" || return
	until_true both_offloaded "$1" && progress "$1"
}
after_flush() { flush && until_true both_offloaded "$1" && progress "$1"; }

# Order two: the policies come while the flow is offloaded and busy. Without waiting, it is off the path, and has gone
# to the host for IPsec (that is also what it is kept for, except while it looks for its new route). What is counted is judged
# whatever the flow's state is said to be.
during() {
	local port=$1 came late held=0
	offloaded "$port" || return
	group host-a 0 && group host-b 0 || return
	late=$(counters late)
	policy host-a add out "$port" || return
	off_path "$port" && uploaded_for "$port" ipsec || held=1
	policy host-b add in "$port" && policy host-b add out "$port" && policy host-a add in "$port" || return
	off_path_b "$port" || held=1
	settle
	came=$(counters came)
	progress "$port" && progress "$port" || held=1
	tell "$port"
	both_in_host "$port" || held=1
	settle
	say "clear text on egress before and after: $late, $(counters late); come after that: $came, $(counters came)"
	[ "$(counters late)" = "$late" ] && [ "$(counters came)" = "$came" ] && return $held
}

# ends LPORT: every byte was right; nothing is left of the policies.
ends() {
	talk_stop "$1"
	local status=$?
	flush && dissociate && return $status
}

# alone COMMAND…: with a conversation of its own, which has $port, is offloaded, and is again after it.
alone() {
	local port=$((port_next++))
	associate && talk $port "${BUSY[@]}" -- $local_b && until_true both_offloaded $port && "$@" &&
		until_true both_offloaded $port && ends $port && return
	# for the counters of the next case
	kill -9 "${talk_pid[$port]}"
	flush
	return 1
}
during_alone() { during $port && flush; }

# all_orders NAME
all_orders() {
	local port=$((port_next++))
	ktap_test_result "$1: policy before the connection" before $port
	ktap_test_result "$1: policy deleted, the flow is offloaded" after $port
	ktap_test_result "$1: policy added while busy, no clear text after it" during $port
	ktap_test_result "$1: policies flushed, the flow returns" after_flush $port
	ktap_test_result "$1: every byte is right" ends $port
	ktap_test_result "$1: a flow under no policy was offloaded all the time" always_offloaded $free
}

# input_only: host-a has a policy for what comes in, host-b for what goes out; host-a sends clear text.
input_only() {
	policy host-a add in $port && tell $port && off_path $port && uploaded_for $port ipsec || return
	policy host-b add out $port || return
	progress $port && progress $port && tell $port && in_host_for $port ipsec && in_host_b_for $port ipsec && flush
}

# Host-a's policy for what goes out, by a selector of any kind: it covers the flow …
selects() {
	local late
	group host-a 0
	late=$(counter host-a late)
	ip netns exec host-a sh -c "ip xfrm policy add ${*//LPORT/$port} && echo 77 >/sys/class/net/eth0/netdev_group" || return
	tell $port
	off_path $port && uploaded_for $port ipsec || return
	# one that expires may do so at any time from here on
	[[ $* != *limit* ]] || return 0
	[[ $* = *block* ]] || progress $port
	settle
	until_true kept "$*" && [ "$(counter host-a late)" = "$late" ] && flush
}
# what is blocked has no route, and shows no packet to judge
kept() { if [[ $1 = *block* ]]; then in_host $port; else in_host_for $port ipsec; fi; } # POLICY

# … or does not, and leaves alone the flow that is under none.
ignores() {
	ip -n host-a xfrm policy add "$@" && always_offloaded $free && flush && always_offloaded $free
}

# The socket has a policy of its own, from when its process says so until it says none.
of_the_socket() { # LEVEL NAME FAMILY: IP_XFRM_POLICY, or IPV6_XFRM_POLICY
	local late
	group host-a 0
	late=$(counter host-a late)
	ip netns exec host-a sh -c "$DIR/sock.py ${talk_pid[$port]} set $1 $2 xfrm:out@$3 &&
		echo 77 >/sys/class/net/eth0/netdev_group" && off_path $port && uploaded_for $port ipsec || return
	progress $port && in_host_for $port ipsec && settle || return
	say "clear text on egress before and after: $late, $(counter host-a late)"
	[ "$(counter host-a late)" = "$late" ] && sock $port set "$1" "$2" none
}

# A flow under no policy, for the cases of a family.
free_flow() {
	free=$1
	talk "$free" -i 20 -- $local_b && until_true both_offloaded "$free" || ktap_exit_fail_msg "a flow under no policy"
}
free_flow_ends() { talk_stop $free || ktap_exit_fail_msg "a flow under no policy"; }

port_next=25000
ktap_print_header
ktap_set_plan $((2 * 6 + 3 + 3 + 5 + 2))
topology hub && count_clear host-a && count_clear host-b && gate_load && listener || ktap_exit_fail_msg "topology"

local_a=$A4 local_b=$B4 proto=esp mode=transport
free_flow 25504
all_orders "IPv4 ESP transport"
ktap_test_result "a policy for what comes in only" alone input_only
tmpl=$(template 0.0.0.0 0.0.0.0)
ktap_test_result "not selected: another prefix" ignores src $A4 dst 192.0.2.128/25 dir out $tmpl
ktap_test_result "not selected: another protocol" ignores src $A4 dst $B4 proto udp dir out $tmpl
ktap_test_result "not selected: the other family" \
	ignores src ::/0 dst ::/0 dir out tmpl src :: dst :: proto esp mode $mode
# from here on the flow under none is under some
ktap_test_result "selected by port" alone selects "proto tcp sport LPORT dir out $tmpl"
ktap_test_result "selected by prefix" alone selects "src 192.0.2.0/25 dst 192.0.2.0/24 dir out $tmpl"
ktap_test_result "selected by a policy that blocks" alone selects "proto tcp sport LPORT dir out action block"
ktap_test_result "selected until the policy expires" alone selects "proto tcp sport LPORT dir out limit time-hard 4 $tmpl"
ktap_test_result "a policy of the socket's own" alone of_the_socket 0 17 inet
# the order that decides which packets AH misses; the others are the gate's, who sees no difference between it and ESP
proto=ah
ktap_test_result "IPv4 AH transport: policy added while busy, no clear text after it" alone during_alone
free_flow_ends

local_a=$A6 local_b=$B6 proto=esp mode=transport
free_flow 25506
ktap_test_result "IPv6 ESP transport: policy added while busy, no clear text after it" alone during_alone
mode=tunnel
all_orders "IPv6 ESP tunnel"
mode=transport
ktap_test_result "IPv6, selected by prefix and port" \
	alone selects "src 2001:db8::/64 dst ::/0 proto tcp sport LPORT dir out $(template :: ::)"
ktap_test_result "IPv6, a policy of the socket's own" alone of_the_socket 41 35 inet6
free_flow_ends
ktap_finished
