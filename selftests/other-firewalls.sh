#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Rules that have to see each packet, of nftables and of iptables as legacy and as nft: they keep just those flows in
# the host whose packets come to them, when they are there before the connection, come while it is busy, and go again.
# Topology veth of lib.sh; the rules are in host-a, and none of them ever refuses a packet:
#
#     netns host-a                                             netns host-b
#     talk, a conversation for each rule ── rules ── [eth0] ------ [eth0] ── talk
#           nfqueue.py, for one of the rules ──┘

source "$(dirname "$(readlink -f "$0")")"/lib.sh

# NAME|TOOL|RULE: PORT is the local port of the rule's conversation, IP the keyword of its family, HOPS its target for
# TTL or hop limit.
kinds=(
	"nft limit|nft|add rule inet f out tcp sport PORT limit rate 1000000/second accept"
	"nft limit in bytes, received|nft|add rule inet f in tcp dport PORT limit rate over 1000 mbytes/second drop"
	"nft quota|nft|add rule inet f out tcp sport PORT quota over 10000 mbytes drop"
	"nft quota object|nft|add rule inet f out tcp sport PORT quota name q drop"
	"nft log|nft|add rule inet f out tcp sport PORT log group 5"
	"nft queue without a consumer|nft|add rule inet f out tcp sport PORT queue flags bypass to 9"
	"nft queue, received|nft|add rule inet f in tcp dport PORT queue to 8"
	"nft numgen|nft|add rule inet f out tcp sport PORT numgen random mod 1000 < 1 accept"
	"nft set with limits|nft|add rule inet f out tcp sport PORT update @to_IP { IP daddr limit rate 1000000/second }"
	"nft connection limit|nft|add rule inet f out tcp sport PORT ct count over 1000 drop"
	"nft trace|nft|add rule inet f out tcp sport PORT meta nftrace set 1"
	"iptables-legacy limit|legacy|-A OUTPUT -p tcp --sport PORT -m limit --limit 10000/s --limit-burst 10000 -j ACCEPT"
	"iptables-legacy NFLOG|legacy|-A OUTPUT -p tcp --sport PORT -j NFLOG --nflog-group 5"
	"iptables-legacy NFQUEUE|legacy|-A OUTPUT -p tcp --sport PORT -j NFQUEUE --queue-num 9 --queue-bypass"
	"iptables-legacy hashlimit, received|legacy|-A INPUT -p tcp --dport PORT -m hashlimit --hashlimit-name PORT
		--hashlimit-above 10000/sec -j DROP"
	"iptables-legacy length, received|legacy|-A INPUT -p tcp --dport PORT -m length --length 65000:65535 -j DROP"
	"iptables-legacy DSCP, received|legacy|-t mangle -A PREROUTING -p tcp --dport PORT -j DSCP --set-dscp 10"
	"iptables-nft TTL or hop limit, received|nft-ipt|-t mangle -A PREROUTING -p tcp --dport PORT -j HOPS 70"
	"iptables-nft limit|nft-ipt|-A OUTPUT -p tcp --sport PORT -m limit --limit 10000/s --limit-burst 10000 -j ACCEPT"
	"iptables-nft statistic|nft-ipt|-A OUTPUT -p tcp --sport PORT -m statistic --mode nth --every 100 --packet 0 -j ACCEPT"
	"iptables-legacy realm|legacy|-A OUTPUT -p tcp --sport PORT -m realm --realm 9 -j DROP"
	"iptables-legacy cgroup|legacy|-A OUTPUT -p tcp --sport PORT -m cgroup --cgroup 9 -j DROP"
	# from here on, nothing that a packet of the conversation comes to
	"no rule|none|"
	"nft limit on new connections|nft|add rule inet f out tcp sport PORT ct state new limit rate 1000000/second accept"
	"nft limit on another port|nft|add rule inet f out tcp sport 9 limit rate 1000000/second accept"
	"iptables-legacy limit on SYNs|legacy|-A OUTPUT -p tcp --sport PORT --syn -m limit --limit 10000/s -j ACCEPT"
)
free=22				# index of the first of the latter
WAIT=$((2 * WAIT))		# all at once take longer than one

rules() {
	local i tool rule nft=$'add table inet f\nadd quota inet f q { over 10000 mbytes }
		add set inet f to_ip { type ipv4_addr; flags dynamic; }\nadd set inet f to_ip6 { type ipv6_addr; flags dynamic; }
		add chain inet f out { type filter hook output priority 0; }
		add chain inet f in { type filter hook input priority 0; }\n'
	for i in "${!kinds[@]}"; do
		IFS='|' read -rd '' _ tool rule <<<"${kinds[i]}"
		rule=${rule//PORT/$((base + i))}
		rule=${rule//IP/$ip}
		rule=${rule//HOPS/$hops}
		# shellcheck disable=SC2086 # a rule is many words
		case $tool in
		nft) nft+=$rule ;;
		legacy) a ${ip}tables-legacy $rule || return ;;
		nft-ipt) a ${ip}tables-nft $rule || return ;;
		esac
	done
	a nft -f - <<<"$nft"
}
no_rules() {
	local ip
	a nft flush ruleset && for ip in ip ip6; do a ${ip}tables-legacy -F && a ${ip}tables-legacy -t mangle -F || return; done
}

tmp=$(mktemp -d)
trap 'lib_cleanup; rm -rf "$tmp"' EXIT

# snapshot WHEN: what all conversations are like now: state, number of times offloaded, reasons.
declare -A seen
snapshot() {
	local lport now
	while read -r lport now; do seen[$1.$lport]=$now; done < <(chimneyctl -j -n host-a flows |
		jq -r '.[] | "\(.lport) \(.state) \(.offloads) \(.reasons | join(","))"')
}
offloads() { awk '{ print $2 }' <<<"${seen[$1.$2]}"; } # WHEN PORT

# WHEN PORT: a conversation is in the host for the rule alone; it is offloaded; either, as the rules have it.
held() { [[ ${seen[$1.$2]} = "in-host "*" each-packet" ]]; }
on_path() { [[ ${seen[$1.$2]} = offloaded* ]]; }
as_ruled() { if (($2 - base < free)); then held "$1" "$2"; else on_path "$1" "$2"; fi; }

# settled WHEN CONDITION: whether all conversations meet it, in a snapshot that is taken now.
settled() {
	local i
	snapshot "$1"
	for i in "${!kinds[@]}"; do "$2" "$1" $((base + i)) || return; done
}

# phase WHEN CONDITION: waits for that, and for some more traffic, and looks again.
phase() {
	until_true settled "$1" "$2"
	progress $base
	progress $((base + free))
	snapshot "$1"
}

all_phases() {
	local i
	rules || return
	for i in "${!kinds[@]}"; do
		talk $((base + i)) -i 100 -- $peer || return
	done
	phase before as_ruled
	no_rules && phase gone on_path && rules || return
	# each command has taken some flows off the path, and what it does not concern may be back by now
	snapshot busy
	phase during as_ruled
	no_rules && phase after on_path
}

ruled() { (($1 - base < free)); }
before() { as_ruled before "$1" && { ! ruled "$1" || [ "$(offloads before "$1")" = 0 ]; }; }
during() {
	on_path gone "$1" && as_ruled during "$1" &&
		{ ! ruled "$1" || [ "$(offloads during "$1")" = "$(offloads busy "$1")" ]; }
}
after() { on_path after "$1" && talk_stop "$1"; }
told() {
	"$@" && return
	say "state, times offloaded, reasons: ${seen[$1.$2]:-none} (earlier: ${seen[gone.$2]:-none}, ${seen[busy.$2]:-none})"
	return 1
}

family() {
	local i name
	all_phases || ktap_exit_fail_msg "rules and conversations"
	for i in "${!kinds[@]}"; do
		name="$ip: ${kinds[i]%%|*}"
		ktap_test_result "$name, before the connection" told before $((base + i))
		ktap_test_result "$name, while it is busy" told during $((base + i))
		ktap_test_result "$name, gone again" told after $((base + i))
	done
}

ktap_print_header
ktap_set_plan $((3 * (${#kinds[@]} + 9)))
topology veth && gate_load && listener || ktap_exit_fail_msg "topology"
nsenter --net=/run/netns/host-a python3 "$DIR"/nfqueue.py 8 >"$tmp/queue" &
pids+=($!)
until_true grep -q listening "$tmp/queue" || ktap_exit_fail_msg "queue"

ip=ip hops='TTL --ttl-set' base=28000 peer=$B4
family
# one of each tool and direction; the rest is the same for both
all=("${kinds[@]}") kinds=()
for i in 0 6 8 11 14 17 18 22 25; do kinds+=("${all[i]}"); done
ip=ip6 hops='HL --hl-set' base=28100 peer=$B6 free=7
family
ktap_finished
