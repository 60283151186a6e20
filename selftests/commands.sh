#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Whatever an administrator does with a device, it works, fails and says what it does without chimney: each command is run
# on a host that does not have it, then on one that has, where two conversations on that device are offloaded when it
# begins. Topologies veth and e1000e of lib.sh; the other NICs under `make check-long`.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

tmp=$(mktemp -d)
trap 'lib_cleanup; rm -rf "$tmp"' EXIT

# In host-a, one a line, each with what takes it back. The device is called eth0, and has what it had when a line has ended.
commands() {
	cat <<-END
		ip link set eth0 mtu 1400 && ip link set eth0 mtu 1500
		ip link set eth0 mtu 9000 && ip link set eth0 mtu 1500
		ip link set eth0 mtu 1
		ip link set eth0 txqueuelen 500 && ip link set eth0 txqueuelen 1000
		ip link set eth0 alias x && ip link set eth0 alias ''
		ip link set eth0 group 7 && ip link set eth0 group 0
		ip link set eth0 promisc on && ip link set eth0 promisc off
		ip link set eth0 allmulticast on && ip link set eth0 allmulticast off
		ip link set eth0 arp off && ip link set eth0 arp on
		ip link set eth0 carrier off && ip link set eth0 carrier on
		ip link set eth0 gso_max_size 30000 && ip link set eth0 gso_max_size 65536
		ip link set eth0 gro_max_size 30000 && ip link set eth0 gro_max_size 65536
		ip link set eth0 gso_max_size 150000 && ip link set eth0 gso_max_size 65536
		ip link set eth0 name eth7 && ip link set eth7 name eth0
		ip link property add dev eth0 altname other && ip link property del dev eth0 altname other
		ip addr add 198.51.100.1/24 dev eth0 && ip addr del 198.51.100.1/24 dev eth0
		ip neigh flush dev eth0
		ip link add up0 link eth0 type vlan id 5 && ip link set up0 up && ip link del up0
		ip link add up0 link eth0 type vlan id 5 proto 802.1ad && ip link set up0 up && ip link del up0
		ip link add up0 link eth0 type macvlan mode bridge && ip link set up0 up && ip link del up0
		ip link add up0 link eth0 type macvlan mode passthru && ip link set up0 up && ip link del up0
		ip link add up0 link eth0 type macvtap mode bridge && ip link set up0 up && ip link del up0
		ip link add up0 link eth0 type ipvlan mode l2 && ip link set up0 up && ip link del up0
		ip link add up0 link eth0 type ipvlan mode l3s && ip link set up0 up && ip link del up0
		ip link add up0 type vxlan id 5 remote $B4 dstport 4789 dev eth0 && ip link set up0 up && ip link del up0
		ip link add up0 type bridge && ip link set eth0 master up0 && ip link set eth0 nomaster && ip link del up0
		ip link add up0 type vrf table 5 && ip link set eth0 master up0 && ip link set eth0 nomaster && ip link del up0
		ip link add up0 type bond; ip link set eth0 master up0; ip link del up0; ip link set eth0 up
		ip link add up0 type bond; ip link set eth0 down; ip link set eth0 master up0; ip link del up0; ip link set eth0 up
		ip link add up0 type team; ip link set eth0 down; ip link set eth0 master up0; ip link del up0; ip link set eth0 up
		tc qdisc add dev eth0 clsact && tc filter add dev eth0 ingress matchall action pass && tc qdisc del dev eth0 clsact
		tc qdisc add dev eth0 clsact && tc filter add dev eth0 egress matchall action pass && tc qdisc del dev eth0 clsact
		tc qdisc add dev eth0 ingress && tc qdisc del dev eth0 ingress
		tc qdisc replace dev eth0 root fq_codel && tc qdisc del dev eth0 root
		tc qdisc replace dev eth0 root mq && tc qdisc del dev eth0 root
		tc qdisc add dev eth0 root htb default 1 && tc qdisc del dev eth0 root
		ip link set eth0 xdpgeneric obj $DIR/xdp_pass.bpf.o sec xdp && ip link set eth0 xdpgeneric off
		ip link set eth0 xdpdrv obj $DIR/xdp_pass.bpf.o sec xdp && ip link set eth0 xdpdrv off
		nft 'table netdev c { chain c { type filter hook ingress device eth0 priority 0; }; }; delete table netdev c'
		nft 'table netdev c { chain c { type filter hook egress device eth0 priority 0; }; }; delete table netdev c'
		ethtool -K eth0 tso off && ethtool -K eth0 tso on
		ethtool -K eth0 gro off && ethtool -K eth0 gro on
		ethtool -K eth0 tx off && ethtool -K eth0 tx on
		ethtool -K eth0 rxvlan off && ethtool -K eth0 rxvlan on
		ethtool -K eth0 ntuple on && ethtool -K eth0 ntuple off
		ethtool -L eth0 combined 2 && ethtool -L eth0 combined 1
		ethtool -C eth0 rx-usecs 10
		ethtool -A eth0 rx off
		ethtool -X eth0 equal 1 && ethtool -X eth0 default
		ethtool -s eth0 speed 1000 duplex full autoneg on
		ethtool -r eth0
		ethtool -p eth0 1
		echo 1 >/sys/class/net/eth0/queues/tx-0/xps_cpus && echo 0 >/sys/class/net/eth0/queues/tx-0/xps_cpus
		echo 1 >/sys/class/net/eth0/queues/rx-0/rps_cpus && echo 0 >/sys/class/net/eth0/queues/rx-0/rps_cpus
		echo 1 >/sys/class/net/eth0/threaded && echo 0 >/sys/class/net/eth0/threaded
		echo 100 >/sys/class/net/eth0/gro_flush_timeout && echo 0 >/sys/class/net/eth0/gro_flush_timeout
	END
}
# These are, or may be, the end of conversations.
# shellcheck disable=SC2016 # for the shell that runs them
last_commands() {
	cat <<-END
		ethtool -G eth0 rx 128 && ethtool -g eth0
		ip link set eth0 down && ip link set eth0 address 02:00:00:00:00:07 && ip link set eth0 up
		ip link set eth0 down && ip link set eth0 address \$mac && ip link set eth0 up
		ip netns add host-c && ip link set eth0 netns host-c && ip -n host-c link set eth0 netns host-a; ip netns del host-c
	END
	# the last that it hears of: its namespace is deleted, or its driver has to let go of it
	if [ "$nic" = veth ]; then
		echo 'ip netns add host-c && ip link set eth0 netns host-c && ip netns del host-c'
	else
		echo 'd=$(readlink -f /sys/class/net/eth0/device); n=${d##*/} d=$(readlink -f $d/driver);' \
			'echo $n >$d/unbind && echo $n >$d/bind'
	fi
}

run() { # COMMAND: its status and all that it says, which may tell of packets
	local said
	said=$(ip netns exec host-a bash -c "$1" 2>&1)
	printf '%s\n\tstatus %s: %s\n' "$1" $? "$(sed -E 's/[0-9]+ (packets|bytes)//g' <<<"$said")"
}

stock() {
	local line work
	while read -r line; do
		neighbours
		run "$line"
	done < <(commands; last_commands) >"$tmp/stock"
	work=$(grep -c 'status 0' "$tmp/stock")
	say "$work of $(wc -l < <(commands; last_commands)) commands work"
	((work > 40))
}

# Flows leave the path by most of these: they need not wait.
v4=39200
with_flows() {
	local line
	echo 0 >/sys/kernel/chimney/holddown_min
	talk_both -s 20000 -i 20 || return
	while read -r line <&3; do
		neighbours && all until_true both_offloaded || { say "before: $line"; return 1; }
		run "$line" >>"$tmp/chimney"
	done 3< <(commands)
	neighbours && all until_true both_offloaded || return
	while read -r line <&3; do run "$line" >>"$tmp/chimney"; done 3< <(last_commands)
}
# What goes with the link.
neighbours() {
	a sysctl -qw net.ipv6.conf.eth0.keep_addr_on_down=1 && ip -n host-a link set eth0 up
}
alike() { diff "$tmp/stock" "$tmp/chimney" | sed 's/^/# /'; ((PIPESTATUS[0] == 0)); }

export_mac() { mac=$(ip -n host-a -br link show dev eth0 | awk '{ print $3 }') && export mac; }
hosts() { topology "$1" && neighbours && listener && export_mac; }

ktap_print_header
nics="veth e1000e"
# no vmxnet3: see nics.sh
! long || nics+=" hub virtio-mq igb rtl8139"
ktap_set_plan $(($(wc -w <<<"$nics") * 3))
for nic in $nics; do
	rm -f "$tmp"/*
	modprobe -qr chimney && hosts $nic || ktap_exit_fail_msg "topology $nic"
	ktap_test_result "$nic: without chimney" stock
	hosts_gone
	gate_load && hosts $nic || ktap_exit_fail_msg "topology $nic"
	ktap_test_result "$nic: with chimney and flows" with_flows
	ktap_test_result "$nic: every command is answered the same" alike
	hosts_gone
done
ktap_finished
