#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Policy that changes although no rule does: the sets of ipset, the mark of a connection's entry. When the command that
# changes it returns, an offloaded flow that is refused now reaches the other end no more, others go on; when it is taken
# back, the flow goes on where it was. Topology veth of lib.sh; host-b refuses, and counts what it refuses:
#
#     netns host-a                          netns host-b
#     talk ── [eth0] ------ [eth0] ── rules, which look up sets and marks ── talk

source "$(dirname "$(readlink -f "$0")")"/lib.sh

BUSY=(-s 100 -i 10)

segments_b() { b ss -Htni "dport = :$1" | grep -o 'segs_in:[0-9]*'; }
refused() { b nft list counter inet f refused | awk '/packets/ { print $2 }'; }
refused_legacy() { b ${ip}tables-legacy -xnvL INPUT | awk '/refused/ { print $1 }'; }
more() { (($($1) > $2)); }

# cut_off COUNTER OFF ON: OFF, given its port, has a flow refused, and ON takes that back.
cut_off() {
	local counter=$1 off=$2 on=$3 flow=$((port_next++)) other=$((port_next++)) had
	talk $flow "${BUSY[@]}" -- $peer && talk $other "${BUSY[@]}" -- $peer &&
		until_true both_offloaded $flow && until_true both_offloaded $other || return
	$off $flow || return
	had=$(segments_b $flow)
	# what is refused is sent again: some of it has to come
	until_true more "$counter" $(($("$counter") + 1)) && progress $other || return
	say "host-b's socket had $had when it was refused, and has $(segments_b $flow) now"
	[ "$(segments_b $flow)" = "$had" ] && not offloaded_b $flow || return
	$on $flow || return
	progress $flow && until_true both_offloaded $flow && until_true both_offloaded $other &&
		talk_stop $flow && talk_stop $other
}

element() { b ipset "$1" refused-$ip $from,tcp:"$2"; }
add() { element add "$1"; }
del() { element del "$1"; }
# shellcheck disable=SC2086 # a family is two words, or none
swap() {
	b ipset create new hash:ip,port $family && b ipset add new $from,tcp:"$1" && b ipset swap new refused-$ip
}
flush() { b ipset flush refused-$ip && b ipset destroy new; }
mark() { b conntrack -U -f $ipv -p tcp --orig-port-src "$1" --mark "${2:-7}" >/dev/null 2>&1; }
unmark() { mark "$1" 0; }

# shellcheck disable=SC2086 # likewise
sets() {
	b ipset create refused-$ip hash:ip,port $family &&
		b ${ip}tables-legacy -A INPUT -m set --match-set refused-$ip src,src -m comment --comment refused -j DROP
}
marks() {
	b nft -f - <<-END
		table inet f {
			counter refused {}
			chain in {
				type filter hook input priority 0
				ct mark 7 counter name refused drop
			}
		}
	END
}

# A table of iptables-legacy is its namespace's: flows of others stay where they are.
other_namespace() {
	local flow=$((port_next++)) before
	talk $flow "${BUSY[@]}" -- $peer && until_true both_offloaded $flow || return
	before=$(flow_b $flow .offloads)
	a ${ip}tables-legacy -A OUTPUT -p udp -j ACCEPT && uploaded_for $flow rules && offloaded_b $flow || return
	[ "$(flow_b $flow .offloads)" = "$before" ] && until_true offloaded $flow && talk_stop $flow
}

families() {
	ktap_test_result "$ip: ipset add and del" cut_off refused_legacy add del
	ktap_test_result "$ip: ipset swap and flush" cut_off refused_legacy swap flush
	ktap_test_result "$ip: conntrack mark" cut_off refused mark unmark
	ktap_test_result "$ip: iptables-legacy in another namespace" other_namespace
}

ktap_print_header
ktap_set_plan 8
port_next=29000
topology veth && marks && gate_load && listener || ktap_exit_fail_msg "topology"
ip=ip ipv=ipv4 family='' from=$A4 peer=$B4
sets || ktap_exit_fail_msg "sets"
families
ip=ip6 ipv=ipv6 family='family inet6' from=$A6 peer=$B6
sets || ktap_exit_fail_msg "sets"
families
ktap_finished
