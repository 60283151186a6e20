#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Rules of nftables and iptables-legacy that tell packets of one connection apart by what does not show on those that they
# let through: their length, TCP flags, TTL, the time, what the connection has carried, when its entry expires. While
# there is one, the flows of its namespace stay in the host and it stops what it is to stop; no other rule, and none of
# another namespace, keeps them there. Topology veth of lib.sh; the rules are in host-a, unless said otherwise:
#
#     netns host-a                                   netns host-b
#     talk, IPv4 and IPv6 ── rules ── [eth0] ------ [eth0] ── talk

source "$(dirname "$(readlink -f "$0")")"/lib.sh

# What differs between packets, each in a rule of its own which refuses none of the conversations' ...
differs=(
	"meta length > 60000 drop"
	"meta random 5 accept"
	'meta time > "2100-01-01 00:00:00" drop'
	'meta hour "00:00"-"00:01" accept'
	"meta cpu 99 drop"
	"meta priority 7:7 drop"
	"ct bytes > 1000000000000 drop"
	"ct original packets > 1000000000000 drop"
	"ct expiration > 10d drop"
	"ip ttl 3 drop"
	"ip length > 60000 drop"
	"ip dscp ef drop"
	"ip frag-off & 0x4000 == 0 accept"
	"ip6 hoplimit 3 drop"
	"ip6 length > 60000 drop"
	"ip6 flowlabel 5 accept"
	"tcp flags psh accept"
	"tcp flags & (syn | psh) == psh accept"
	"tcp flags . tcp dport { psh . 9 } drop"
	"tcp flags vmap { syn : drop, ack : accept }"
	"tcp sequence 1 accept"
	"tcp doff > 14 drop"
	"@th,96,16 & 8 == 8 accept"
	"@ih,0,32 5 accept"
	"tcp option timestamp exists accept"
	"in ether saddr 02:00:00:00:00:09 drop"
	"tcp dport . meta length { 9 . 1000-1500 } drop"
	"ct state established meta length > 60000 drop"
	"tcp dport 9 jump { meta length > 1000 drop; }"
	"ip saddr @fades drop"
	"tcp dport . ip saddr vmap @grows"
	"ip saddr @named udp dport 9 add @named { ip saddr }"
	"counter name tcp dport map @counters drop"
	"rt ip nexthop 198.51.100.9 drop"
	"rt classid 9 drop"
	"meta cgroup 9 drop"
)
# ... and what does not, or is for packets that never take the path.
same=(
	"ip saddr 198.51.100.1 drop"
	"ip saddr . ip daddr . tcp dport { 198.51.100.1 . 198.51.100.2 . 9 } drop"
	"ip6 daddr 2001:db8::9 drop"
	"in ip6 saddr . tcp sport { 2001:db8::9 . 9 } drop"
	"tcp dport 8-9 drop"
	"th dport { 8, 9 } drop"
	"ip protocol udp drop"
	"ip6 nexthdr udp drop"
	"meta l4proto { udp, icmp } drop"
	'in iifname "eth9" drop'
	"meta mark 7 drop"
	"meta skuid 9 drop"
	"meta pkttype multicast drop"
	"ct mark 7 drop"
	"ct mark set meta mark"
	"ct state invalid,new counter"
	"ct state vmap { new : accept }"
	"ct direction original counter"
	"ct status assured counter"
	"tcp flags syn drop"
	"tcp flags & (fin | syn | rst | ack) == syn drop"
	"tcp flags & (fin | syn | rst | psh | ack | urg) == 0 drop"
	"tcp flags & (fin | syn | rst | psh | ack | urg) == fin | psh | urg drop"
	"tcp flags != syn ct state new counter"
	"tcp flags != syn counter"
	"ct state new tcp flags != syn counter"
	"ct state new meta length > 1000 counter"
	"tcp flags syn tcp option maxseg size 1-500 drop"
	"tcp flags syn tcp option maxseg size set 1400"
	"udp length > 100 drop"
	"meta l4proto udp meta length > 100 drop"
	"icmp type echo-request meta length > 1000 drop"
	"icmpv6 type nd-router-advert ip6 hoplimit != 255 drop"
	"ip frag-off & 0x1fff != 0 drop"
	"ip hdrlength > 5 drop"
	"ip option rr exists drop"
	"exthdr frag exists drop"
	"rt type 0 drop"
	"rt ipsec exists drop"
	"fib saddr type multicast drop"
	"tcp dport 9 reject with tcp reset"
	"ip saddr @named drop"
	"udp dport 9 add @unused { ip saddr }"
	"ct state new ip saddr @fades drop"
	"counter name stopped"
)
# Of iptables-legacy and ip6tables-legacy, for new rules (-A) of this kind: likewise.
differs_legacy=(
	"OUTPUT -p tcp --tcp-flags PSH PSH -j ACCEPT"
	"OUTPUT -p tcp ! --tcp-flags ALL ACK -j ACCEPT"
	"INPUT -p tcp --tcp-option 8 -j ACCEPT"
	"INPUT -m conntrack --ctexpire 1:2 -j DROP"
	"INPUT -p tcp -m tcpmss --mss 1:500 -j DROP"
	"PREROUTING -t mangle -p tcp ! --tcp-option 8 -j ACCEPT"
	"INPUT -m set --match-set fades src -j DROP"
	"INPUT -m set --match-set counts src --packets-gt 1000000000 -j DROP"
	"OUTPUT -m set --match-set sets src -j DROP"
	"INPUT -p tcp -m set --match-set named src -m tcp --dport 9 -j SET --add-set named src"
)
same_legacy=(
	"OUTPUT -p tcp --syn -j DROP"
	"OUTPUT -p tcp ! --syn -m conntrack --ctstate NEW -j ACCEPT"
	"OUTPUT -p tcp --tcp-flags ALL NONE -j DROP"
	"OUTPUT -p tcp --tcp-flags ALL FIN,PSH,URG -j DROP"
	"OUTPUT -p tcp --tcp-flags SYN,RST SYN -m tcpmss --mss 1:500 -j DROP"
	"OUTPUT -p tcp --tcp-flags SYN,RST SYN --tcp-option 8 -j DROP"
	"OUTPUT -p tcp --dport 9 -j DROP"
	"OUTPUT -m conntrack --ctstate NEW --ctexpire 1:2 -j ACCEPT"
	"INPUT -m conntrack --ctstate INVALID -j ACCEPT"
	"FORWARD -p tcp --tcp-flags PSH PSH -j ACCEPT"
	"INPUT -m set --match-set counts src -j DROP"
	"INPUT -p udp -m set --match-set fades src -j DROP"
)

# in_table RULES...: a transaction; host-a has these, and nothing else. They are for what it sends, or receives: "in ...".
in_table() {
	local nft rule
	nft="destroy table inet f
		table inet f {
			counter stopped { }
			set named { type ipv4_addr; }
			set fades { type ipv4_addr; flags timeout; }
			map grows { type inet_service . ipv4_addr : verdict; flags dynamic; size 9; }
			set unused { type ipv4_addr; flags dynamic; size 9; }
			map counters { type inet_service : counter; flags timeout; }
			chain forward { type filter hook forward priority 0; meta length > 1000 accept; }
			chain out { type filter hook output priority 0; ip daddr 198.51.100.1 drop; }
			chain in { type filter hook input priority 0; ip saddr 198.51.100.1 drop; }
		}"
	for rule; do
		case $rule in
		in\ *) nft+=$'\n'"add rule inet f $rule" ;;
		*) nft+=$'\n'"add rule inet f out $rule" ;;
		esac
	done
	a nft -f - <<<"$nft"
}
no_table() { a nft flush ruleset; }

# the same for iptables-legacy, of both families
sets_legacy() {
	a ipset create named bitmap:port range 0-9 && a ipset create fades bitmap:port range 0-9 timeout 1000 &&
		a ipset create counts bitmap:port range 0-9 counters && a ipset create sets list:set
}
in_legacy() {
	local rule
	for rule; do
		# shellcheck disable=SC2086 # a rule is many words
		a iptables-legacy -A $rule && a ip6tables-legacy -A $rule || return
	done
}
no_legacy() {
	local tool
	for tool in iptables-legacy ip6tables-legacy; do
		a $tool -F && a $tool -t mangle -F || return
	done
}

HELD='.state == "in-host" and (.reasons | index("packet-rules"))' FREE='.state == "offloaded"'

# all_are NETNS CONDITION: whether a namespace's connections meet a condition of jq.
all_are() { chimneyctl -j -n "$1" flows | jq -e "length > 0 and all(.[]; $2)" >/dev/null; }
held() { all_are host-a "$HELD"; }
free() { all_are host-a "$FREE"; }

kind() { # RULE: it keeps the flows in the host; they come back when it has gone
	"in_$tool" "$1" && not free && until_true held && "no_$tool" && until_true free && return
	say "rule: $1"
	return 1
}
kinds() { # RULES...
	local rule bad=0
	talk_both -i 25 && until_true free || return
	for rule; do kind "$rule" || bad=1; done
	all talk_stop && return $bad
}
harmless() { # RULES...
	local rule
	talk_both -i 25 && "in_$tool" "$@" && until_true free && all progress && free && "no_$tool" && all talk_stop && return
	for rule; do
		"in_$tool" "$rule" && until_true free || say "rule: $rule"
		"no_$tool"
	done
	return 1
}

received() { b ss -Htni "dport = :$1" | grep -o 'bytes_received:[0-9]*'; }
received_a() { a ss -Htni "sport = :$1" | grep -o 'bytes_received:[0-9]*'; }
stopped() { "stopped_$tool"; }
stopped_table() { a nft list counter inet f stopped | awk '/packets/ { print $2 }'; }
stopped_legacy() {
	{ a iptables-legacy -xnvL && a ip6tables-legacy -xnvL; } | awk '$3 == "DROP" { n += $1 } END { print n }'
}
more() { (($(stopped) > $1)); }

# What the rule is for, without any rule being changed: messages of one byte become longer ones; entries expire sooner.
bites_table() { kill -USR1 "${talk_pid[$1]}"; }
bites_legacy() { timeout_established 200; }
timeout_established() { a sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established="$1"; }

# All messages have come through so far; then, none does.
it_stops() { # LPORT
	local had
	"bites_$tool" "$1" && until_true more "$(stopped)" && had=$("$there" "$1") &&
		until_true more $(($(stopped) + 1)) && [ "$("$there" "$1")" = "$had" ] && in_host_for "$1" packet-rules
}
and_go_on() {
	if [ $tool = legacy ]; then timeout_established 432000; fi
	"no_$tool" && until_true all both_offloaded && all progress && all talk_stop
}
SHORT=(-w -s 1000 -i 5)

before() { # RULE
	"in_$tool" "$1" && talk_both "${SHORT[@]}" && until_true held || return
	all progress && held && all never_offloaded && all it_stops && and_go_on
}
offloads() { flow "$1" .offloads; }
never_offloaded() { [ "$(offloads "$1")" = 0 ]; }
during() { # RULE
	talk_both "${SHORT[@]}" && until_true all both_offloaded && "in_$tool" "$1" && all off_path || return
	all progress && until_true held && all it_stops && and_go_on
}
three_orders() { # NAME RULE
	ktap_test_result "$1, before the connection, and gone again" before "$2"
	ktap_test_result "$1, while it is busy, and gone again" during "$2"
}

# It takes both to go.
rules_first() {
	talk_both -i 25 && until_true held && all progress && held && all never_offloaded || return
	no_table && all progress && until_true held && no_legacy && until_true free && all talk_stop
}

elsewhere() {
	local had
	talk_both -i 25 && until_true all both_offloaded || return
	had=$(all offloads)
	b nft "table inet f { chain c { type filter hook input priority 0; meta length > 60000 drop; }; }"
	until_true all_are host-b "$HELD" && free && [ "$(all offloads)" = "$had" ] && b nft flush ruleset &&
		until_true all_are host-b "$FREE" && all talk_stop
}

# Rules that tell packets apart, behind one that accepts what is established: no flow's packets come to them ...
established() { # RULE...: in either direction before these rules; what is not to be is held, or dropped
	local rules
	rules="$1; meta length > 60000 drop; ip saddr @fades drop; tcp dport vmap @grows; ip ttl 3 drop;"
	a nft -f - <<-END
		destroy table inet f
		table inet f {
			set fades { type ipv4_addr; flags timeout; }
			map grows { type inet_service : verdict; flags dynamic; size 9; }
			chain out { type filter hook output priority ${2:-0}; $rules }
			chain in { type filter hook input priority ${2:-0}; $rules }
		}
	END
}
behind=("ct state established accept" "ct state established,related counter accept"
	"meta mark 7 drop; ct state new drop; ct state != new accept" "ct state & (established | new) != 0 accept")
# ... but for those that may come past it, or are not established for conntrack
not_behind=("ct state established" "ct state related accept" "ct state != established accept" "ct state established return"
	"ct state established meta mark 0 accept" "meta mark 0 ct state established accept" "ct mark 0 accept"
	"ct state established tcp dport 1-65535 accept" "ct state invalid,untracked accept")
after_accept() {
	local rule bad=0
	talk_both -i 25 && until_true free || return
	for rule in "${behind[@]}"; do
		established "$rule" && until_true free && all progress && free && continue
		say "held: $rule"
		bad=1
	done
	for rule in "${not_behind[@]}"; do
		established "$rule" && until_true held && no_table && until_true free && continue
		say "free: $rule"
		bad=1
	done
	established "ct state established accept" -250 && until_true held && no_table && until_true free || bad=1
	established "ct state established accept" && until_true free &&
		a nft "table inet raw { chain c { type filter hook output priority raw; tcp dport $PORT notrack; }; }" &&
		until_true held && no_table && until_true free || bad=1
	all talk_stop && return $bad
}

# Some of them are nftables' own, others matches of xtables.
iptables_nft() {
	local rule
	talk_both -i 25 && until_true free || return
	# shellcheck disable=SC2086 # a rule is many words
	for rule in "--tcp-flags PSH PSH" "--tcp-option 8" "-m conntrack --ctexpire 1:2"; do
		say "$rule"
		a iptables-nft -A OUTPUT -p tcp $rule -j ACCEPT && not free && until_true held &&
			a iptables-nft -F && until_true free || return
	done
	a iptables-nft -A OUTPUT -p tcp --syn -j DROP && a iptables-nft -A OUTPUT -p tcp --dport 9 -j DROP &&
		a iptables-nft -A OUTPUT -p tcp -m conntrack --ctstate NEW -j DROP &&
		until_true free && all progress && free && no_table && all talk_stop
}

# A table that goes with the process that has it.
owned() {
	talk_both -i 25 && until_true free || return
	coproc owner { nsenter --net=/run/netns/host-a nft -i 2>&1; }
	# shellcheck disable=SC2154 # that is what coproc calls it
	pids+=("$owner_PID")
	echo "table inet o { flags owner; chain c { type filter hook input priority 0; meta length > 60000 drop; }; }" \
		>&"${owner[1]}"
	until_true held && kill "$owner_PID" && until_true free && all talk_stop
}

v4=33000 v6=33001
ktap_print_header
ktap_set_plan 15
modprobe -qr chimney
topology veth && sets_legacy && in_table "meta length > 60000 drop" &&
	in_legacy "INPUT -p tcp --tcp-flags URG URG -j DROP" && gate_load && listener || ktap_exit_fail_msg "topology"
tool=table
ktap_test_result "rules that are older than the gate" rules_first
there=received
three_orders "what is long is dropped" "meta length > 500 counter name stopped drop"
there=received_a
three_orders "what is long is dropped, received" "in meta length > 500 counter name stopped drop"
ktap_test_result "rules in another namespace" elsewhere
ktap_test_result "behind a rule that accepts what is established" after_accept
ktap_test_result "rules of iptables-nft" iptables_nft
ktap_test_result "a table that ends with its owner" owned
ktap_test_result "${#differs[@]} rules that tell packets apart" kinds "${differs[@]}"
ktap_test_result "${#same[@]} rules that do not" harmless "${same[@]}"
tool=legacy there=received
three_orders "what expires soon is dropped by iptables-legacy" "OUTPUT -m conntrack --ctstate ESTABLISHED --ctexpire 100:250 -j DROP"
ktap_test_result "${#differs_legacy[@]} rules of iptables-legacy that tell packets apart" kinds "${differs_legacy[@]}"
ktap_test_result "${#same_legacy[@]} rules that do not" harmless "${same_legacy[@]}"
ktap_finished
