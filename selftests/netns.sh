#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Network namespaces: each has its own flows and its own policy, also those made after the gate and those with the same
# addresses; an unprivileged user, who is root in a user namespace of his own, controls nothing.
#
#     netns host-a                         netns host-b       netns host-c                      netns host-d
#     [eth0 192.0.2.1 2001:db8::1] --- [eth0 192.0.2.2 …]     [eth0 192.0.2.1 2001:db8::1] --- [eth0 192.0.2.2 …]
#     topology veth of lib.sh                           |     made once the gate is loaded
#                                   [eth1 198.51.100.1]-'
#                                     |
#     netns user, of user "nobody"  [eth0 198.51.100.2]

source "$(dirname "$(readlink -f "$0")")"/lib.sh

BUSY=(-s 1000 -i 25)
cleanup() {
	kill "$user_pid"
	for name in user host-c host-d; do ip netns del $name; done
	lib_cleanup
} 2>/dev/null
trap cleanup EXIT

twins() {
	ip netns add host-c && ip netns add host-d && cable host-c eth0 host-d eth0 || return
	for end in "host-c $A4 $A6" "host-d $B4 $B6"; do
		read -r host v4 v6 <<<"$end"
		ip -n $host link set lo up && ip -n $host link set eth0 up && ip -n $host addr add $v4/24 dev eth0 &&
			ip -n $host addr add $v6/64 dev eth0 nodad || return
	done
	nsenter --net=/run/netns/host-d "$DIR"/talk listen $PORT &
	pids+=($!)
	until_true nsenter --net=/run/netns/host-c ping -q -c 1 -W 1 $B4 >/dev/null
}

# A conversation in another namespace, NAME, and its flow.
declare -A twin_pid
talk_of() { # NAME LPORT ADDRESS
	nsenter --net=/run/netns/"$1" "$DIR"/talk -p "$2" "${BUSY[@]}" send "$3" $PORT >"$talk_out.$1.$2" 2>&1 &
	twin_pid[$2]=$!
	pids+=($!)
}
ends() { # NAME LPORT: every byte was right
	kill -TERM "${twin_pid[$2]}" && wait "${twin_pid[$2]}" && sed "s/^/# $1: /" "$talk_out.$1.$2"
}
flow_of() { chimneyctl -j -n "$1" flows | jq -c ".[] | select(.lport == $2)"; }
is_offloaded() { flow_row "$1" lport "$2" && row_is offloaded; }
offloads() { flow_of "$1" "$2" | jq .offloads; }
packets() { flow_of "$1" "$2" | jq '.tx_packets + .rx_packets'; }
more_packets() { (($(packets "$1" "$2") > $3)); }

made_later() {
	twins && talk_of host-c 36000 $B4 && until_true is_offloaded host-c 36000 && talk_of host-c 36001 $B6 &&
		until_true is_offloaded host-c 36001
}

# The same addresses and ports here and there: each namespace shows its own, and counts its own.
own_flows() {
	talk 36000 -w -- $B4 && until_true both_offloaded 36000 && [ "$(chimneyctl -j -n host-a flows | jq length)" = 1 ] &&
		[ "$(chimneyctl -j -n host-c flows | jq length)" = 2 ] || return
	kill -STOP "${talk_pid[36000]}"
	local here there
	until_true stopped 36000
	here=$(packets host-a 36000) there=$(packets host-c 36000)
	until_true more_packets host-c 36000 $((there + 200)) && (($(packets host-a 36000) <= here + 2)) || return
	kill -CONT "${talk_pid[36000]}"
	until_true more_packets host-a 36000 $((here + 50))
}

# Rules, IPsec and captures of one are not the other's.
own_policy() { # COMMAND...: a change in host-c
	local before
	before=$(offloads host-c 36000)
	nsenter --net=/run/netns/host-c "$@" || return
	until_true judged_again "$before" && is_offloaded host-a 36000 && [ "$(offloads host-a 36000)" = 1 ]
}
judged_again() { (($(offloads host-c 36000) > $1)) && is_offloaded host-c 36000; }

# A device takes its flows off the path when it leaves the namespace, and they go on when it is back.
device_moves() {
	local before
	ip netns exec host-c ip link set eth0 netns host-d name eth9 || return
	[ "$(flow_of host-c 36000 | jq -r .uploaded)" = link ] && not is_offloaded host-c 36000 || return
	ip -n host-d link set eth9 netns host-c name eth0 && ip -n host-c link set eth0 up &&
		ip -n host-c addr add $A4/24 dev eth0 && ip -n host-c addr add $A6/64 dev eth0 nodad || return
	until_true is_offloaded host-c 36000 && until_true is_offloaded host-c 36001 && ends host-c 36000 && ends host-c 36001
}

# The user's namespace: he is root there, and nobody elsewhere.
user() {
	setpriv --reuid=65534 --regid=65534 --clear-groups unshare --user --map-root-user --net --mount sleep infinity &
	user_pid=$!
	pids+=($!)
	until_true is_user && ip netns attach user $user_pid && cable host-b eth1 user eth0 &&
		ip -n host-b link set eth1 up && ip -n host-b addr add 198.51.100.1/24 dev eth1 &&
		ip -n user link set eth0 up && ip -n user addr add 198.51.100.2/24 dev eth0 || return
	as_user mount -t sysfs sysfs /mnt
}
# by its own name once it has its namespaces
is_user() { [ "$(cat /proc/$user_pid/comm)" = sleep ] && [ "$(awk '{ print $2 }' /proc/$user_pid/uid_map)" = 65534 ]; }
as_user() { nsenter --target $user_pid --user --net --mount "$@"; }
user_is_served() { talk_of user 36010 198.51.100.1 && until_true is_offloaded user 36010; }

denied() { # COMMAND: it fails, and says why
	local text
	text=$(as_user bash -c "$1" 2>&1) && { say "allowed: $1"; return 1; }
	# shellcheck disable=SC2001 # of each line
	sed 's/^/# /' <<<"$text"
	[[ $text = *[Pp]ermission* || $text = *"not permitted"* || $text = *root* ]]
}
user_is_denied() {
	as_user test -e /mnt/class/net/eth0/chimney/enable &&
		denied "echo 0 >/mnt/class/net/eth0/chimney/enable" && denied "echo disabled >/sys/kernel/chimney/mode" &&
		denied "echo 0 >/sys/kernel/chimney/max_flows" && denied "echo 1 >/sys/kernel/chimney/local_ports" &&
		denied "chimneyctl gate unload" && denied "chimneyctl flows" && denied "modprobe -r chimney" &&
		denied "bpftool map dump pinned /sys/fs/bpf/chimney/flows" && denied "rm /sys/fs/bpf/chimney/gate" || return
	[ "$(as_user cat /mnt/class/net/eth0/chimney/enable)" = 1 ] && is_offloaded user 36010 &&
		[ "$(offloads user 36010)" = 1 ] && [ "$(offloads host-a 36000)" = 1 ]
}
user_ends() { ends user 36010 && talk_stop 36000; }

ktap_print_header
ktap_set_plan 9
topology veth && gate_load && listener || ktap_exit_fail_msg "topology"
ktap_test_result "namespaces made after the gate" made_later
ktap_test_result "the same addresses and ports in two of them" own_flows
ktap_test_result "rules of another namespace" own_policy nft "add table inet f"
ktap_test_result "an IPsec policy of another namespace" own_policy ip xfrm policy add src $A4 dst $B4 dir out
ktap_test_result "a device moves to another namespace and back" device_moves
ktap_test_result "a user's namespace" user
ktap_test_result "its flows are offloaded" user_is_served
ktap_test_result "the user controls nothing" user_is_denied
ktap_test_result "every byte is right" user_ends
ktap_finished
