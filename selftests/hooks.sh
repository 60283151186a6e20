#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A netfilter hook that is neither a firewall's nor a known part of the stack may do anything with a packet, and need not
# show it: a BPF program that counts. While a namespace has one its flows stay in the host, all of their packets are
# counted, and explain names it. Topology veth of lib.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

BPF=/sys/fs/bpf/hooks
trap 'rm -rf $BPF "$said"; ip netns del host-c 2>/dev/null; lib_cleanup' EXIT
said=$(mktemp)

# hook NETNS FAMILY HOOK: the program is there, from now on until unhook.
hook() {
	: >"$said"
	nsenter --net="/run/netns/$1" "$DIR"/hook.py $BPF/program "$2" "$3" >"$said" &
	hook_pid=$!
	pids+=($!)
	until_true grep -qx attached "$said"
}
unhook() { kill "$hook_pid" && until_true not is_hooked; }
is_hooked() { bpftool -j link show | jq -e 'any(.type == "netfilter")' >/dev/null; }
counted() { bpftool -j map dump pinned $BPF/maps/packets | jq '.[].formatted.value'; }

explained() { # LPORT PEER
	chimneyctl -n host-a explain "$1" "$2" | grep -qxE '    hook nf_hook_run_bpf( \[.*\])?'
}
explain_all() { explained "$A4:$v4" "$B4:$PORT" && explained "[$A6]:$v6" "[$B6]:$PORT"; }

# What a socket sends and what the hook counts, while the conversations go on.
counts_all() { # LPORT
	local sent before
	before=$(counted) sent=$(sent_by "$1")
	until_true moved_on "$1" "$(segments "$1")" 100 || return
	sent=$(($(sent_by "$1") - sent)) before=$(($(counted) - before))
	say "$before packets counted, $sent segments sent by then"
	((before >= sent && sent > 0))
}
sent_by() { a ss -Htni "sport = :$1" | grep -o 'data_segs_out:[0-9]*' | cut -d: -f2; }

# Told beforehand, too, in so far as it is there.
foretold() { chimneyctl -j -n host-a check | jq -e 'map(.reason + " " + .object) == ["unknown-hook netfilter hook nf_hook_run_bpf"]' >/dev/null; }

during() { # FAMILY HOOK LPORT
	hook host-a "$1" "$2" && all off_path && all uploaded_for_rules && until_true all kept || return
	counts_all "$3" && explain_all && foretold && unhook && ! foretold && until_true all both_offloaded
}
uploaded_for_rules() { uploaded_for "$1" rules; }
kept() { in_host_for "$1" unknown-hook; }

before() { # FAMILY HOOK
	hook host-a "$1" "$2" && talk_both "${BUSY[@]}" && until_true all kept && all never_offloaded || return
	unhook && until_true all both_offloaded && all talk_stop
}
never_offloaded() { [ "$(flow "$1" .offloads)" = 0 ]; }

# What a router forwards does not matter, nor does another namespace.
elsewhere() {
	hook host-a ipv4 forward && back && unhook && back && hook host-c ipv4 output && all both_offloaded && unhook
}
back() { until_true all both_offloaded; }

# A gate that is loaded later finds it.
found() {
	hook host-a ipv6 input && chimneyctl gate replace && until_true all kept && unhook && until_true all both_offloaded
}

BUSY=(-s 1000 -i 25)
v4=38700
ktap_print_header
ktap_set_plan 7
topology veth && gate_load && echo 0 >/sys/kernel/chimney/holddown_min && listener && ip netns add host-c && mkdir $BPF $BPF/maps &&
	bpftool prog load "$DIR"/count_packets.bpf.o $BPF/program type netfilter pinmaps $BPF/maps ||
	ktap_exit_fail_msg "topology"
ktap_test_result "there before a connection, IPv4" before ipv4 postrouting
ktap_test_result "there before a connection, IPv6" before ipv6 prerouting
talk_both "${BUSY[@]}" && until_true all both_offloaded || ktap_exit_fail_msg "conversations"
ktap_test_result "comes while they are busy, IPv4" during ipv4 output "$v4"
ktap_test_result "comes while they are busy, IPv6" during ipv6 postrouting "$v6"
ktap_test_result "a router's, and another namespace's" elsewhere
ktap_test_result "there before the gate" found
ktap_test_result "every byte is right" all talk_stop
ktap_finished
