#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The switches and knobs: mode and per-device enable act at once, on busy flows too; values that are not understood
# change nothing, answer EINVAL and leave a line in the kernel log that names what is allowed. Topology veth of lib.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

K=/sys/kernel/chimney
busy=24000

# No packet of the busy flow takes the path any more, while the conversation goes on.
path_stands_still() {
	local before
	before=$(dev_a tx_packets)
	progress $busy && [ "$(dev_a tx_packets)" = "$before" ]
}

mode_disabled() {
	until_true both_offloaded $busy && echo disabled >$K/mode || return
	off_path $busy && path_stands_still && in_host $busy && has_reason $busy mode
}
mode_enabled() { echo enabled >$K/mode && until_true both_offloaded $busy; }

device_off() {
	set_dev_a enable 0 || return
	[ "$(dev_a enable)" = 0 ] && path_stands_still && in_host $busy && has_reason $busy device && offloaded_b $busy
}
device_on() { set_dev_a enable 1 && until_true both_offloaded $busy; }

refused_all() {
	refused $K/mode bogus "disabled, enabled or automatic" &&
		refused $K/mode "" "disabled, enabled or automatic" &&
		refused $K/max_flows -1 "a number from 0 to 16777216" &&
		refused $K/max_flows 16777217 "a number from 0 to 16777216" &&
		refused $K/automatic_speed fast "a number from 0 to 2147483647" &&
		refused $K/automatic_rtt 1ms "a number from 0 to 2147483647" &&
		refused $K/automatic_bytes 4294967296 "a number from 0 to 2147483647"
}
device_refused() {
	ip netns exec host-a bash -c "source $DIR/lib.sh; trap - EXIT
		refused /sys/class/net/eth0/chimney/enable maybe '0 or 1'"
}
loopback_refused() { bash -c 'echo 1 >/sys/class/net/lo/chimney/enable' 2>&1 | grep -q "not supported"; }
read_only() { not bash -c "echo 1 >$K/flows" 2>/dev/null && not bash -c "echo x >$K/gate" 2>/dev/null; }

parameters() {
	modprobe -r chimney &&
		modprobe chimney mode=automatic max_flows=7 automatic_rtt=5 enable=0 local_ports=22,80-90 || return
	[ "$(cat $K/mode $K/max_flows $K/automatic_rtt $K/local_ports | xargs)" = "automatic 7 5 22,80-90" ] || return
	[ "$(dev_a enable)" = 0 ] || return
	modprobe -r chimney
}
parameter_refused() {
	not modprobe chimney local_ports=22 mode=bogus && dmesg | tail -n 5 | grep -qF 'mode: "bogus" is not allowed' &&
		[ ! -d /sys/module/chimney ]
}

ktap_print_header
ktap_set_plan 11
topology veth && gate_load && listener && talk $busy -s 0 -- $B4 || ktap_exit_fail_msg "topology"
ktap_test_result "mode disabled, busy flow" mode_disabled
ktap_test_result "mode enabled again" mode_enabled
ktap_test_result "device switched off, busy flow" device_off
ktap_test_result "device switched on again" device_on
ktap_test_result "no byte of it was lost" talk_stop $busy
ktap_test_result "bad values are refused" refused_all
ktap_test_result "bad value for a device is refused" device_refused
ktap_test_result "loopback is refused" loopback_refused
ktap_test_result "read-only files" read_only
ktap_test_result "module parameters" parameters
ktap_test_result "bad module parameter is refused" parameter_refused
ktap_finished
