#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A container made after the gate, by systemd-nspawn: its flows are offloaded, on both sides of its cable, and a rule of its
# own takes them off the path, without anybody doing anything for it. When it ends, nothing of it is left.
#
#     netns host-a                                container chimney-test
#     [ve-chimney-test 198.51.100.1/24] ------ [host0 198.51.100.2/24]     talk listens
#     [                2001:db8:1::1  ]        [      2001:db8:1::2  ]

source "$(dirname "$(readlink -f "$0")")"/lib.sh

name=chimney-test dev=ve-chimney-test
BUSY=(-s 2000 -i 20)
cleanup() {
	kill -KILL "$inside" "$outside"
	wait "$outside"
	# which nspawn makes where there is no systemd
	rmdir /sys/fs/cgroup/payload /sys/fs/cgroup/supervisor
	lib_cleanup
} 2>/dev/null
trap cleanup EXIT

# Its root is this machine's, which it cannot change. There is no systemd here that would be told of it.
container() {
	# MAC addresses are made from it
	[ -s /etc/machine-id ] || systemd-machine-id-setup >/dev/null 2>&1
	nsenter --net=/run/netns/host-a systemd-nspawn --quiet --register=no --keep-unit --link-journal=no \
		--directory=/ --volatile=yes --machine=$name --network-veth --console=pipe "$DIR"/talk listen $PORT </dev/null &
	outside=$!
	until_true runs || return
	ip -n host-a link set $dev up && ip -n host-a addr add 198.51.100.1/24 dev $dev &&
		ip -n host-a addr add 2001:db8:1::1/64 dev $dev nodad || return
	in_it ip link set host0 up && in_it ip addr add 198.51.100.2/24 dev host0 &&
		in_it ip addr add 2001:db8:1::2/64 dev host0 nodad &&
		until_true a ping -q -c 1 -W 1 198.51.100.2 >/dev/null && until_true a ping -q -c 1 -W 1 2001:db8:1::2 >/dev/null
}
# Its first process; there is no other talk yet.
runs() { inside=$(pgrep -x talk) && [ -n "$(in_it ss -Hltn "sport = :$PORT")" ]; }
in_it() { nsenter --target "$inside" --net "$@"; }
# chimneyctl is asked from within the namespace, since that has no name
offloaded_in_it() { [ "$(flow_in_it "$1" .state)" = offloaded ]; }
flow_in_it() { in_it chimneyctl -j flows rport "$1" | jq -r ".[]$2"; }

served() {
	local port
	talk_both_to 198.51.100.2 2001:db8:1::2 || return
	for port in $ports; do
		until_true offloaded "$port" && until_true offloaded_in_it "$port" && progress "$port" && offloaded "$port" &&
			offloaded_in_it "$port" && [ "$(flow "$port" .dev)" = $dev ] || return
	done
}
talk_both_to() {
	v4=28100 v6=28101 ports="28100 28101"
	talk $v4 "${BUSY[@]}" -- "$1" && talk $v6 "${BUSY[@]}" -- "$2"
}

# Its rules are its own: they take its ends off the path and not the other ones.
ruled() {
	local before
	before=$(flow $v4 .offloads)
	in_it nft -f - <<-END || return
		table inet filter {
			chain input {
				type filter hook input priority 0
				tcp dport $PORT limit rate 100000/second accept
			}
		}
	END
	until_true in_host_in_it $v4 && progress $v4 && in_host_in_it $v4 && offloaded $v4 && [ "$(flow $v4 .offloads)" = "$before" ] &&
		in_it nft delete table inet filter && until_true offloaded_in_it $v4 && until_true offloaded_in_it $v6
}
in_host_in_it() { [ "$(flow_in_it "$1" .state)" = in-host ]; }

captured() {
	local tcpdump
	in_it tcpdump -i host0 -w /dev/null 2>"$talk_out.tcpdump" &
	tcpdump=$!
	until_true grep -q "listening on" "$talk_out.tcpdump" && until_true in_host_in_it $v6 && offloaded $v6 || return
	pkill -TERM -x tcpdump
	wait $tcpdump
	until_true offloaded_in_it $v6
}

# Its connections end with it, like its cable.
ends() {
	all talk_stop && kill -KILL "$inside" || return
	wait $outside
	until_true no_device && [ "$(chimneyctl -j -n host-a flows | jq length)" = 0 ]
}
no_device() { not ip -n host-a link show $dev >/dev/null 2>&1; }

inside='' outside=''
ktap_print_header
ktap_set_plan 5
topology veth && gate_load || ktap_exit_fail_msg "topology"
ktap_test_result "a container is started" container
ktap_test_result "its flows are offloaded at both ends" served
ktap_test_result "a rule in it takes its ends off the path" ruled
ktap_test_result "a capture in it takes its ends off the path" captured
ktap_test_result "it ends" ends
ktap_finished
