#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Policy that changes although no rule does: the sets of ipset, the mark of a connection's entry. When the command that
# changes it returns, an offloaded flow that is refused now reaches the other end no more, others go on; when it is taken
# back, the flow goes on where it was. And sets that change although no command does: while rules look them up, flows are
# in the host, where an element that times out, or that a packet of somebody else adds, has its effect as ever. Topology
# veth of lib.sh; host-b refuses, and counts what it refuses:
#
#     netns host-a                          netns host-b
#     talk ── [eth0] ------ [eth0] ── rules, which look up sets and marks ── talk

source "$(dirname "$(readlink -f "$0")")"/lib.sh

BUSY=(-s 100 -i 25)

refused() { b nft list counter inet f refused | awk '/packets/ { print $2 }'; }
refused_legacy() { b ${ip}tables-legacy -xnvL INPUT | awk '/refused/ { n += $1 } END { print n }'; }
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
	b ipset create refused-$ip hash:ip,port $family && sets_rule
}
sets_rule() {
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

# Sets of ports that change by themselves. fades: who is in it no more is refused; knock: for whom a UDP packet has come.
nft_set() { # FLAGS RULES...
	local rules
	rules=$(printf '%s\n' "${@:2}")
	b nft "table inet s { counter refused { }; set ports { type inet_service; $1 }
		chain in { type filter hook input priority 0; $rules
		}; }"
}
nft_element() { b nft "$1 element inet s ports { ${*:2} }"; }
gone_nft() { b nft delete table inet s; }
refused_nft() { b nft list counter inet s refused | awk '/packets/ { print $2 }'; }

fades_nft() {
	nft_set "flags timeout;" "tcp dport $PORT tcp sport != @ports counter name refused drop" && stay_nft "$flow" && stay_nft "$other"
}
fade_nft() { b nft "delete element inet s ports { $1 }; add element inet s ports { $1 timeout 2s }"; }
stay_nft() { nft_element add "$1" timeout 1d; }
knock_nft() {
	nft_set "flags dynamic; size 99;" "tcp dport $PORT tcp sport @ports counter name refused drop" "udp dport 9 add @ports { udp sport }"
}
forget_nft() { nft_element delete "$1"; }

ipset_rule() { b ${ip}tables-legacy "$1" INPUT "${@:2}"; }
ipset_drops() { ipset_rule "$1" -p tcp --dport $PORT -m set "${@:2}" src -m comment --comment refused -j DROP; }
gone_ipset() {
	b ${ip}tables-legacy -F && b ipset destroy ports && sets_rule
}
fades_ipset() {
	b ipset create ports bitmap:port range 0-65535 timeout 86400 && stay_ipset "$flow" && stay_ipset "$other" &&
		ipset_drops -I ! --match-set ports
}
fade_ipset() { b ipset -exist add ports "$1" timeout 2; }
stay_ipset() { b ipset -exist add ports "$1" timeout 86400; }
knock_ipset() {
	b ipset create ports bitmap:port range 0-65535 && ipset_drops -I --match-set ports &&
		ipset_rule -A -p udp --dport 9 -j SET --add-set ports src
}
forget_ipset() { b ipset del ports "$1"; }
refused_ipset() { refused_legacy; }

knock() { echo | a socat - "UDP${ipv#ipv}-SENDTO:$to:9,sourceport=$1"; }

# by_itself before|during SET TOOL REFUSE ALLOW: the rules come before the connections, or while they are offloaded and busy.
by_itself() {
	local order=$1 rules=$2_$3 tool=$3 refuse=$4 allow=$5 flow=$((port_next++)) other=$((port_next++)) had
	[ "$order" = during ] || "$rules" || return
	talk $flow "${BUSY[@]}" -- $peer && talk $other "${BUSY[@]}" -- $peer || return
	if [ "$order" = during ]; then
		until_true both_offloaded $flow && until_true both_offloaded $other && "$rules" || return
	fi
	until_true in_host_b_for $flow packet-rules && until_true in_host_b_for $other packet-rules &&
		progress $flow && "$refuse" $flow && until_true more "refused_$tool" "$("refused_$tool")" || return
	had=$(segments_b $flow)
	until_true more "refused_$tool" $(($("refused_$tool") + 1)) && progress $other || return
	say "host-b's socket had $had when it was refused, and has $(segments_b $flow) now"
	[ "$(segments_b $flow)" = "$had" ] && in_host_b_for $flow packet-rules && in_host_b_for $other packet-rules || return
	[ "$order" = during ] || [ "$(flow_b $other .offloads)" = 0 ] || return
	"$allow" $flow && progress $flow && not offloaded_b $flow && "gone_$tool" || return
	until_true both_offloaded $flow && until_true both_offloaded $other && talk_stop $flow && talk_stop $other
}

# A table of iptables-legacy is its namespace's: flows of others stay where they are.
other_namespace() {
	local flow=$((port_next++)) before
	talk $flow "${BUSY[@]}" -- $peer && until_true both_offloaded $flow || return
	before=$(flow_b $flow .offloads)
	a ${ip}tables-legacy -A OUTPUT -p udp -j ACCEPT && uploaded_for $flow rules && offloaded_b $flow || return
	[ "$(flow_b $flow .offloads)" = "$before" ] && until_true offloaded $flow && talk_stop $flow
}

# of_family "TOOL..." ORDER...
of_family() {
	local tool order
	ktap_test_result "$ip: ipset add and del" cut_off refused_legacy add del
	ktap_test_result "$ip: ipset swap and flush" cut_off refused_legacy swap flush
	ktap_test_result "$ip: conntrack mark" cut_off refused mark unmark
	ktap_test_result "$ip: iptables-legacy in another namespace" other_namespace
	for order in "${@:2}"; do
		for tool in $1; do
			ktap_test_result "$ip: $tool, elements time out, rules put $order" \
				by_itself "$order" fades "$tool" "fade_$tool" "stay_$tool"
			ktap_test_result "$ip: $tool, a rule adds, put $order" by_itself "$order" knock "$tool" knock "forget_$tool"
		done
	done
}

ktap_print_header
ktap_set_plan "$(long && echo 20 || echo 18)"
port_next=29000
topology veth && marks && gate_load && listener || ktap_exit_fail_msg "topology"
ip=ip ipv=ipv4 family='' from=$A4 peer=$B4 to=$B4
sets || ktap_exit_fail_msg "sets"
of_family "nft ipset" during before
ip=ip6 ipv=ipv6 family='family inet6' from=$A6 peer=$B6 to=[$B6]
sets || ktap_exit_fail_msg "sets"
# a rule of nftables does the same with a set whatever the family
of_family "ipset $(long && echo nft)" during
ktap_finished
