#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The administrator chooses what is offloaded: by local and remote port, by cgroup, and by the driver of the device. What is
# not chosen stays in the host and says so, and a choice acts at once on busy flows. Topology veth of lib.sh:
#
#     netns host-a                                              netns host-b
#     cgroup /chosen/inner: talk ──┐
#     cgroup /chosen-not:   talk ──┼── [eth0] ------ [eth0] ── talk, port 7000, in the root cgroup
#     root cgroup:          talk ──┘

source "$(dirname "$(readlink -f "$0")")"/lib.sh

K=/sys/kernel/chimney
CG=/sys/fs/cgroup
BUSY=(-s 1000 -i 25)
choose() { echo "$2" >$K/"$1"; } # KNOB VALUE
is_set() { [ "$(cat $K/"$1")" = "$2" ]; }

# ports KNOB ADDRESS LPORT OTHER CHOICE REST: a flow with LPORT is not among CHOICE, but one with OTHER is, and among REST
# are both.
ports() {
	local knob=$1 peer=$2 out=$3 in=$4 choice=$5 rest=$6
	choose "$knob" "$choice" && talk "$out" "${BUSY[@]}" -- "$peer" && talk "$in" "${BUSY[@]}" -- "$peer" || return
	until_true moved_on "$out" 0 400 && in_host_for "$out" ports && [ "$(flow "$out" .offloads)" = 0 ] &&
		until_true offloaded "$in" && is_set "$knob" "$choice" || return
	choose "$knob" "$rest" && until_true offloaded "$out" && until_true offloaded "$in" || return
	choose "$knob" "$choice" && off_path "$out" && uploaded_for "$out" ports && progress "$out" &&
		in_host_for "$out" ports && until_true offloaded "$in" || return
	choose "$knob" all && is_set "$knob" all && until_true offloaded "$out" && talk_stop "$out" && talk_stop "$in"
}
remote() { # PORT...: the same for host-b, to which host-a's ports are the remote ones
	local flow=${1} other=${2}
	choose remote_ports "7000,$other" && talk "$flow" "${BUSY[@]}" -- $B4 && talk "$other" "${BUSY[@]}" -- $B6 || return
	until_true moved_on "$flow" 0 400 && until_true offloaded "$flow" && in_host_b "$flow" &&
		has_reason_b "$flow" ports && until_true both_offloaded "$other" || return
	choose remote_ports "$flow-$other,7000" && until_true both_offloaded "$flow" && until_true both_offloaded "$other" ||
		return
	choose remote_ports "$other" && off_path "$flow" && off_path_b "$flow" && progress "$flow" && in_host_for "$flow" ports &&
		until_true offloaded_b "$other" && in_host_for "$other" ports || return
	choose remote_ports all && until_true both_offloaded "$flow" && until_true both_offloaded "$other" &&
		talk_stop "$flow" && talk_stop "$other"
}

# talk_in CGROUP LPORT: a conversation whose socket belongs to it
talk_in() {
	echo $BASHPID >$CG/"$1"/cgroup.procs && talk "$2" "${BUSY[@]}" -- $B4
	local status=$?
	echo $BASHPID >$CG/cgroup.procs && return $status
}
three() { talk_in chosen/inner 35101 && talk_in chosen-not 35102 && talk_in . 35103; }
rejected() { for port; do in_host_for "$port" cgroup || return; done; }
judged() { for port; do until_true moved_on "$port" 0 400 || return; done; }

cgroup_before() {
	choose cgroups +/chosen && three && judged 35101 35102 35103 && until_true offloaded 35101 &&
		rejected 35102 35103 && [ "$(flow 35102 .offloads)" = 0 ]
}
cgroup_added() {
	choose cgroups +/chosen-not && until_true offloaded 35102 && until_true offloaded 35101 && rejected 35103 &&
		is_set cgroups "/chosen
/chosen-not"
}
cgroup_taken_away() {
	choose cgroups -/chosen-not && off_path 35102 && uploaded_for 35102 cgroup && progress 35102 &&
		rejected 35102 && until_true offloaded 35101
}
# The service has been started anew, in another cgroup of the same path.
cgroup_made_again() {
	talk_stop 35101 && rmdir $CG/chosen/inner $CG/chosen && mkdir -p $CG/chosen/inner && talk_in chosen/inner 35104 &&
		until_true offloaded 35104 && talk_stop 35104
}
cgroup_all() {
	choose cgroups -/chosen && is_set cgroups all && until_true both_offloaded 35102 &&
		until_true both_offloaded 35103 && choose cgroups +/ && until_true both_offloaded 35103 &&
		choose cgroups all && until_true both_offloaded 35102 && talk_stop 35102 && talk_stop 35103
}

# A driver, of which the administrator wants nothing offloaded, or everything again: of the devices that there are, and of
# those to come.
driver_away() {
	ports="35301 35302"
	talk 35301 "${BUSY[@]}" -- $B4 && talk 35302 "${BUSY[@]}" -- $B6 && all until_true both_offloaded || return
	choose drivers -veth && all off_path && all for_device && all progress && all for_device && new_device 0 &&
		[ "$(dev_a enable)$(dev_b enable)" = 00 ] && not grep -qx veth $K/drivers
}
for_device() { uploaded_for "$1" device && in_host_for "$1" device; }
new_device() { # 0|1
	ip -n host-a link add new0 type veth peer name new1 &&
		[ "$(ip netns exec host-a cat /sys/class/net/new0/chimney/enable)" = "$1" ] && ip -n host-a link del new0
}
driver_back() {
	choose drivers +veth && all until_true both_offloaded && new_device 1 && grep -qx veth $K/drivers &&
		choose drivers +veth && [ "$(grep -cx veth $K/drivers)" = 1 ] && all talk_stop
}

refused_all() {
	local long
	long=$(printf '+/%0255d' 1)
	refused $K/local_ports "" "ports and ranges" && refused $K/local_ports 65536 "from 0 to 65535" &&
		refused $K/local_ports 20-10 "as in 443,8000-8099" && refused $K/remote_ports ssh "or all" &&
		refused $K/remote_ports 22,,x "or all" && refused $K/cgroups chosen "+PATH or -PATH" &&
		refused $K/cgroups "" "+PATH or -PATH" && refused $K/cgroups +chosen "with a cgroup's path" &&
		refused $K/cgroups "$long" "at most 255 bytes" && refused $K/drivers veth "+DRIVER or -DRIVER" &&
		refused $K/drivers "+a b" "as in -veth" && refused $K/drivers + "+DRIVER or -DRIVER"
}
not_in_list() { ! choose cgroups -/nobody 2>/dev/null && dmesg | tail -n 1 | grep -q '"/nobody" is not in the list'; }

trap 'lib_cleanup; rmdir $CG/chosen/inner $CG/chosen $CG/chosen-not 2>/dev/null' EXIT
ktap_print_header
ktap_set_plan 12
topology veth && mkdir -p $CG/chosen/inner $CG/chosen-not && gate_load && listener || ktap_exit_fail_msg "topology"
ktap_test_result "local ports, IPv4" ports local_ports $B4 35001 35002 "22,7000,35002" "80,7000,35000-35010"
ktap_test_result "local ports, IPv6" ports local_ports $B6 35003 35004 "35004-35009" "35000-35010"
ktap_test_result "remote ports" remote 35005 35006
ktap_test_result "cgroup chosen before the connection" cgroup_before
ktap_test_result "cgroup added while busy" cgroup_added
ktap_test_result "cgroup taken away while busy" cgroup_taken_away
ktap_test_result "cgroup of the same path made again" cgroup_made_again
ktap_test_result "all cgroups again" cgroup_all
ktap_test_result "driver taken away while busy" driver_away
ktap_test_result "driver back while busy" driver_back
ktap_test_result "bad values are refused" refused_all
ktap_test_result "a cgroup that is not in the list" not_in_list
ktap_finished
