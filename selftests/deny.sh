#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Default deny: without a gate, with a gate that died while it was loaded, with a full verdict map or flow table, no flow
# takes the path, and each tells why. Topology veth of lib.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

# stays_in_host LPORT REASON: a conversation of 400 messages, long enough to be judged, does not take the path.
stays_in_host() {
	local port=$1 reason=$2 before
	before=$(dev_a tx_packets)
	talk "$port" -i 1 -- $B4 && until_true moved_on "$port" 0 400 || return
	flow "$port" | jq -r '"# " + .state + " " + (.reasons | join(","))'
	in_host "$port" && has_reason "$port" "$reason" || return
	[ "$(dev_a tx_packets)" = "$before" ] && talk_stop "$port"
}

# dies_at STEP: the loader is killed after STEP; what it leaves must not offload anything, and a new load works.
dies_at() {
	CHIMNEY_DIE_AFTER=$1 chimneyctl gate load >/dev/null 2>&1
	(($? == 137)) || return
	[ "$(cat /sys/kernel/chimney/gate)" = none ] || return
	stays_in_host $((port_next++)) no-gate
}

load_after_death() {
	chimneyctl gate load 2>&1 | sed 's/^/# /'
	[ "$(cat /sys/kernel/chimney/gate)" = chimney ] || return
	talk $((++port_next)) -- $B4 && until_true both_offloaded $port_next && talk_stop $port_next
}

# The gate dies as a whole when its link goes: everything leaves the path at once.
gate_gone_while_busy() {
	local port=$((++port_next)) before
	talk $port -s 0 -- $B4 && until_true both_offloaded $port || return
	rm /sys/fs/bpf/chimney/gate
	until_true grep -qx none /sys/kernel/chimney/gate || return
	before=$(dev_a tx_packets)
	progress $port && in_host $port && has_reason $port no-gate || return
	[ "$(dev_a tx_packets)" = "$before" ] && talk_stop $port
}

# Unloaded in the ordinary way, and loaded again: the same flow comes back.
gate_unload_and_back() {
	local port=$((++port_next))
	gate_reload
	talk $port -s 20000 -i 50 -- $B4 && until_true both_offloaded $port || return
	chimneyctl gate unload && progress $port && in_host $port || return
	chimneyctl gate load && until_true both_offloaded $port && talk_stop $port
}
gate_reload() { chimneyctl -q gate unload; chimneyctl gate load; }

# The flow table is full: the next flow stays in the host, and comes once there is room.
table_full() {
	local port=$((port_next + 1))
	port_next=$((port_next + 2))
	echo 0 >/sys/kernel/chimney/max_flows
	stays_in_host $port table-full || return
	echo 1 >/sys/kernel/chimney/max_flows
	talk $port -s 0 -- $B4 && until_true offloaded $port || return
	talk $((port + 1)) -s 0 -- $B4 && until_true has_reason $((port + 1)) table-full || return
	in_host $((port + 1)) && offloaded $port && talk_stop $port || return
	until_true offloaded $((port + 1)) && talk_stop $((port + 1))
	local status=$?
	echo 65536 >/sys/kernel/chimney/max_flows
	return $status
}

# A module brings rules that the gate could not watch, because it was not there: nothing is offloaded until the gate is
# loaded again, which then finds it.
unknown_rules() {
	local port=$((++port_next)) conf=/run/modprobe.d/no-quota.conf
	chimneyctl -q gate unload
	modprobe -r nft_quota && mkdir -p /run/modprobe.d && echo "install nft_quota /bin/false" >$conf || return
	chimneyctl gate load
	rm $conf
	talk $port -s 20000 -i 50 -- $B4 && until_true both_offloaded $port && watching nft_quota_eval missing || return
	modprobe nft_quota && off_path $port && uploaded_for $port unknown-rules || return
	progress $port && in_host $port && has_reason $port unknown-rules && watching nft_quota unknown || return
	gate_reload
	watching nft_quota_eval attached && until_true both_offloaded $port && talk_stop $port
}
watching() {
	chimneyctl -j gate status |
		jq -e --arg f "$1" --arg s "$2" '.triggers[] | select(.watches == $f) | .state == $s' >/dev/null
}

# The gate cannot know of the captures that are running already.
kernel_hides_symbols() {
	local was out status
	chimneyctl -q gate unload
	was=$(sysctl -n kernel.kptr_restrict)
	sysctl -qw kernel.kptr_restrict=2
	out=$(chimneyctl gate load 2>&1)
	status=$?
	sysctl -qw kernel.kptr_restrict="$was"
	say "$out"
	[ $status = 1 ] && [[ $out = *kptr_restrict* ]] && [ ! -e /sys/fs/bpf/chimney ] &&
		[ "$(cat /sys/kernel/chimney/gate)" = none ] && chimneyctl gate load
}

port_next=21000
steps="open load pin links scan"
ktap_print_header
ktap_set_plan $((7 + $(wc -w <<<"$steps")))
modprobe -qr chimney
topology veth && modprobe chimney && listener || ktap_exit_fail_msg "topology"
ktap_test_result "no gate" stays_in_host $((port_next++)) no-gate
for step in $steps; do
	ktap_test_result "gate killed after $step" dies_at "$step"
done
ktap_test_result "a new load after that" load_after_death
ktap_test_result "gate removed while busy" gate_gone_while_busy
ktap_test_result "gate unloaded and loaded while busy" gate_unload_and_back
ktap_test_result "flow table full" table_full
ktap_test_result "rules that the gate could not watch" unknown_rules
ktap_test_result "a kernel that hides its symbols" kernel_hides_symbols
ktap_finished
