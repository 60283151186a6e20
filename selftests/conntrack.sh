#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Conntrack stays right while it sees nothing: entries live, count, and know the window when the flow comes back; what
# conntrack gives up, the firewall decides about. Topology veth of lib.sh; both hosts have a stateful firewall.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

# A packet that conntrack calls INVALID is counted, and dropped when it comes in.
firewall() { # HOST
	"$1" nft -f - <<EOF
table inet filter {
	counter invalid {}
	counter refused {}
	chain input {
		type filter hook input priority filter; policy drop;
		meta l4proto { icmp, icmpv6 } accept
		ct state invalid counter name invalid drop
		ct state established,related accept
		tcp dport { $PORT, 7001 } tcp flags & (syn | ack) == syn ct state new accept
		counter name refused drop
	}
	chain output {
		type filter hook output priority filter; policy accept;
		ct state invalid counter name invalid
		tcp sport { $PORT, 7001 } ct state new counter name refused drop
	}
}
EOF
}
counter() { "$1" nft -j list counter inet filter "$2" | jq '.nftables[] | .counter? // empty | .packets'; }
entry() { a conntrack -L -p tcp --orig-port-src "$1" "${@:2}" 2>/dev/null; }
entry_is() { entry "$1" | grep -q "$2"; }

established() { entry "$1" | grep ESTABLISHED | grep -q ASSURED; }

# Traffic for three times as long as the time-out of five seconds: the entry is still the same one, and the flow has
# never had to go back to the host for it.
kept_alive() {
	local id
	a sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=5
	talk 25000 -i 20 -- $B4 && until_true both_offloaded 25000 || return
	id=$(entry 25000 -o id | grep -o 'id=[0-9]*')
	for ((t = SECONDS + 15; SECONDS < t; )); do
		established 25000 && [ "$(entry 25000 -o id | grep -o 'id=[0-9]*')" = "$id" ] || return
	done
	flow 25000 | jq -e '.state == "offloaded" and .offloads == 1 and .uploaded == null' >/dev/null && talk_stop 25000
}

# Idle, it is back in the host when the time-out strikes, as if it had never left.
idle_expires() {
	talk 25001 -i 1 -- $B4 && until_true both_offloaded 25001 || return
	kill -STOP "${talk_pid[25001]}"
	until_true uploaded_for 25001 idle && until_true not entry_is 25001 ESTABLISHED || return
	a sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=432000
	b sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=432000
	kill -CONT "${talk_pid[25001]}"
	progress 25001 && talk_stop 25001
}

# SYN and SYN/ACK carry 60 bytes of headers here, all other segments 52.
accounting() {
	local segs_out segs_in sent packets bytes
	talk 25002 -i 1 -- $B4 && until_true both_offloaded 25002 && until_true moved_on 25002 0 1000 || return
	kill -STOP "${talk_pid[25002]}"
	until_true at_rest told 25002 || return
	read -r segs_out segs_in sent < <(a ss -Htni "sport = :25002" |
		sed 's/.* bytes_sent:\([0-9]*\).* segs_out:\([0-9]*\) segs_in:\([0-9]*\).*/\2 \3 \1/;t;d')
	mapfile -t packets < <(entry 25002 | grep -o 'packets=[0-9]*' | cut -d= -f2)
	mapfile -t bytes < <(entry 25002 | grep -o 'bytes=[0-9]*' | cut -d= -f2)
	say "socket: $segs_out out, $segs_in in, $sent bytes; entry: ${packets[*]} packets, ${bytes[*]} bytes"
	((packets[0] == segs_out && packets[1] == segs_in)) || return
	((bytes[0] == segs_out * 52 + 8 + sent && bytes[1] == segs_in * 52 + 8 + sent)) || return
	(($(path_packets 25002) > 700)) || return
	kill -CONT "${talk_pid[25002]}"
	talk_stop 25002
}
told() { segments "$1"; entry "$1"; }
path_packets() { flow "$1" | jq '.tx_packets + .rx_packets'; }

# Off the path and on it again under load: what comes back is inside conntrack's window.
window_known() {
	talk 25003 -s 0 -- $B4 && talk 25004 -s 0 -- $B6 && talk 25005 -s 100 -- $B4 || return
	for _ in 1 2 3 4 5; do
		until_true both_offloaded 25003 && until_true both_offloaded 25004 || return
		echo disabled >/sys/kernel/chimney/mode
		progress 25003 && progress 25004 && progress 25005 || return
		echo enabled >/sys/kernel/chimney/mode
	done
	say "invalid: $(counter a invalid) in host-a, $(counter b invalid) in host-b"
	talk_stop 25003 && talk_stop 25004 && talk_stop 25005 || return
	(($(counter a invalid) == 0 && $(counter b invalid) == 0))
}

# A forged RST outside the window is INVALID for conntrack, whether the flow is offloaded or not.
forged_rst() {
	local before
	talk 25006 -i 10 -- $B4 && until_true both_offloaded 25006 || return
	before=$(counter a invalid)
	for seq in 1 1000000000 2000000000 3000000000 4000000000; do
		b python3 "$DIR"/forge-rst.py $B4 $PORT $A4 25006 $seq
	done
	until_true more_invalid "$before" && established 25006 && progress 25006 && talk_stop 25006
}
more_invalid() { (($(counter a invalid) > $1)); }

# Deleted: the flow leaves the path, and host-b's firewall does not know it any more.
deleted() { # LPORT ADDRESS OPTION...: of conntrack
	local port=$1 before
	talk "$port" -i 10 -- "$2" && until_true both_offloaded "$port" || return
	before=$(counter b refused)
	b conntrack "${@:3}" >/dev/null 2>&1 || return
	until_true more_refused "$before" && in_host_b "$port" || return
	before=$(segments_b "$port")
	until_true more_refused $(($(counter b refused) + 2)) || return
	say "delivered to host-b's socket: $before segments before, $(segments_b "$port") after"
	[ "$(segments_b "$port")" = "$before" ] || return
	b nft insert rule inet filter input tcp sport "$port" accept
	progress "$port" && until_true both_offloaded "$port" && talk_stop "$port"
}
more_refused() { (($(counter b refused) > $1)); }

ktap_print_header
ktap_set_plan 7
topology veth && modprobe nf_conntrack && a sysctl -qw net.netfilter.nf_conntrack_acct=1 && firewall a && firewall b &&
	b sysctl -qw net.netfilter.nf_conntrack_acct=1 && gate_load && listener || ktap_exit_fail_msg "topology"
ktap_test_result "kept alive over 15 s with a time-out of 5 s" kept_alive
ktap_test_result "idle flow is in the host when its entry expires" idle_expires
ktap_test_result "accounting equals what was sent" accounting
ktap_test_result "no packet is INVALID after an upload" window_known
ktap_test_result "forged RST is INVALID" forged_rst
ktap_test_result "deleted entry: the firewall decides" deleted 25007 $B4 -D -p tcp --orig-port-src 25007
ktap_test_result "all entries deleted, IPv6: the firewall decides" deleted 25008 $B6 -F
ktap_finished
