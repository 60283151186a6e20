#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# chimneyctl check says beforehand what keeps flows in the host: each finding is produced with the real thing, is the only
# one, goes with it, and comes true for the conversation of host-a wherever it is among those concerned. What the path
# obeys is not mentioned, and the conversation is offloaded then. Topology veth of lib.sh, and a second pair of devices:
#
#     netns host-a: what is checked                        netns host-b
#     [eth0 192.0.2.1  2001:db8::1] ------ talk ------ [eth0 192.0.2.2  2001:db8::2]
#     [eth1] bare, or the port of a bridge ----------- [eth1]

source "$(dirname "$(readlink -f "$0")")"/lib.sh

K=/sys/kernel/chimney
BPF=/sys/fs/bpf/check
CGROUP=/sys/fs/cgroup/check
CONF=/run/modprobe.d/check.conf
LAST=2147483647
dir=$(mktemp -d)
trap 'bpftool cgroup detach /sys/fs/cgroup egress pinned $BPF/egress 2>/dev/null
	lib_cleanup; rm -rf "$dir" $BPF $CONF; rmdir $CGROUP/inner $CGROUP 2>/dev/null' EXIT

# found [REASON|SCOPE|OBJECT]...: these, in this order, and no others; the status tells whether there are any
found() {
	local status=0 expected=4
	[ $# != 0 ] || expected=0
	said=$(chimneyctl -j -n host-a check) || status=$?
	[ $status = $expected ] &&
		[ "$(jq -r '.[] | "\(.reason)|\(.scope)|\(.object)"' <<<"$said")" = "$(printf '%s\n' "$@")" ] && return
	say "status $status, not $expected: $said"
	return 1
}
# the same, and it comes true for the conversation
holds() { found "$@" && until_true in_host_for $port "${1%%|*}"; }
# the same, where nothing comes any more by which it could be judged
leaves() { found "$@" && until_true in_host $port && uploaded_for $port "${1%%|*}"; }
none() { found && until_true offloaded $port; }
advises() { # TEXT
	[[ $(jq -r '.[].advice' <<<"$said") = *"$1"* ]] && return
	say "$said"
	return 1
}
follow() { eval "$(jq -r '.[0].advice' <<<"$said")"; }

# What a case that has failed may have left is not the next one's business.
checks() { # DESCRIPTION COMMAND...
	ktap_test_result "$1" tidy_if_failed "${@:2}"
}
tidy_if_failed() { "$@" || { tidy 2>/dev/null; return 1; }; }
tidy() {
	local dev what
	mode enabled
	for what in local_ports remote_ports cgroups; do echo all >$K/$what; done
	echo 65536 >$K/max_flows
	echo 10000 >$K/automatic_speed
	kill -KILL $capture_pid
	for dev in dummy0 tunnel0 ipvlan0 red br0; do link del $dev; done
	for dev in eth0 eth1; do chimneyctl -n host-a set dev $dev on; done
	for what in root clsact; do ip netns exec host-a tc qdisc del dev eth0 $what; done
	a nft flush ruleset
	a ipvsadm -C
	policy flush
	ip -n host-a xfrm state flush
	bpftool cgroup detach $CGROUP/inner egress pinned $BPF/egress
	bpftool cgroup detach /sys/fs/cgroup egress pinned $BPF/egress
}

prints() { # CODE TEXT WORD...: nothing but this
	local status=0 printed
	printed=$(chimneyctl "${@:3}" 2>&1) || status=$?
	[ $status = "$1" ] && [ "$printed" = "$2" ] && return
	say "chimneyctl ${*:3}: status $status: $printed"
	return 1
}
words() {
	prints 2 'chimneyctl: unexpected word "now"' -n host-a check now &&
		prints 2 'chimneyctl: unexpected word "-j": options stand before the object' -n host-a check -j &&
		[ "$(setpriv --reuid=65534 --regid=65534 --clear-groups chimneyctl check 2>&1)" = \
			"chimneyctl: only root may do this" ]
}
no_module() { prints 3 "chimneyctl: the module is not loaded: modprobe chimney" check; }
no_gate() {
	modprobe chimney && found "no-gate|all flows|gate none" && advises "chimneyctl gate load" && policy add dir out \
		dst 10.0.0.0/8 tmpl proto esp && found "no-gate|all flows|gate none" \
		"ipsec|flows to 10.0.0.0/8|xfrm policy dir out src 0.0.0.0/0 dst 10.0.0.0/8 priority 0" && policy flush
}
# what nobody has loaded is missing when the gate is, and cannot be watched later
gate() {
	mkdir -p /run/modprobe.d && modprobe -r nft_quota && echo "install nft_quota /bin/false" >$CONF && gate_load &&
		rm $CONF && listener && talk $port -s 2000 -i 10 -- $B4 && until_true both_offloaded $port
}
clean() { none && prints 0 "" -n host-a check && prints 0 "[]" -n host-a -j check && prints 0 "" -n host-a ch; }
output() { echo "table inet t { chain c { type filter hook output priority 0; $1; }; }"; } # RULES
# a qdisc, a rule for whole connections, tc and a capture of what stays here
obeyed() {
	local rules='ct state established accept; tcp dport 9 drop'
	ip netns exec host-a tc qdisc add dev eth0 root tbf rate 100mbit burst 100k latency 50ms &&
		ip netns exec host-a tc qdisc add dev eth0 clsact && a nft "$(output "$rules")" &&
		capture "${a_tcpdump[@]}" lo && none && capture_stop && a nft delete table inet t &&
		ip netns exec host-a tc qdisc del dev eth0 clsact &&
		ip netns exec host-a tc qdisc del dev eth0 root && none
}

as_text() {
	local text
	mode disabled && chimneyctl -n host-a set dev eth0 off && text=$(chimneyctl -n host-a check)
	[ "$(sed 's/  */ /g' <<<"$text")" = "REASON SCOPE OBJECT ADVICE
mode all flows mode disabled chimneyctl set mode enabled
device flows by eth0 device eth0 driver veth: off chimneyctl -n host-a set dev eth0 on" ] &&
		[ "$(chimneyctl -q -n host-a check)" = "$(tail -n 2 <<<"$text")" ] || { say "$text"; return 1; }
	holds "mode|all flows|mode disabled" "device|flows by eth0|device eth0 driver veth: off" && follow &&
		holds "device|flows by eth0|device eth0 driver veth: off" && follow && none
}
automatic() {
	mode automatic && found && echo 20000 >$K/automatic_speed && holds "speed|flows by eth0|device eth0 speed 10000" \
		"speed|flows by eth1|device eth1 speed 10000" && follow && found &&
		[ "$(cat $K/automatic_speed)" = 10000 ] && mode enabled && none
}
table() {
	echo 0 >$K/max_flows && found "table-full|all flows|max_flows 0" && echo 2 >$K/max_flows && none &&
		echo 1 >$K/max_flows && found "table-full|further flows of this namespace|max_flows 1" &&
		echo 65536 >$K/max_flows && none
}
choices() {
	chimneyctl port add local 443 && holds "ports|flows with another local port|local_ports 443" &&
		chimneyctl set local_ports all && none && chimneyctl port add remote 80,8000-8099 &&
		holds "ports|flows with another remote port|remote_ports 80,8000-8099" &&
		advises "chimneyctl port add remote PORTS, or set remote_ports all" && chimneyctl set remote_ports all &&
		chimneyctl cgroup add /a && chimneyctl cgroup add /b/c &&
		holds "cgroup|flows of another cgroup|cgroups /a /b/c" && chimneyctl cgroup del /a &&
		chimneyctl cgroup del /b/c && none
}

link() { ip -n host-a link "$@"; }
devices() {
	local off="device|flows by dummy0|device dummy0 driver dummy: off"
	link add dummy0 type dummy && found && link set dummy0 up && found "$off" && advises "not among those with a test" &&
		chimneyctl -n host-a set dev dummy0 on && found && link del dummy0 || return
	modprobe tun && ip -n host-a tuntap add tunnel0 mode tun && link set tunnel0 up &&
		found "device|flows by tunnel0|device tunnel0 driver tun: not Ethernet" && advises "none" && link del tunnel0 ||
		return
	link add link eth1 name ipvlan0 type ipvlan mode l3s && link set ipvlan0 up &&
		found "device|flows by ipvlan0|device ipvlan0 driver ipvlan: mode l3s" && link set ipvlan0 type ipvlan mode l2 &&
		found && link del ipvlan0 || return
	link add red type vrf table 10 && link set red up && link set eth1 master red &&
		found "vrf|flows by eth1|device eth1 in VRF red" && link del red && none
}
# flows are on the bridge, not on its port
port_of_bridge() {
	link add br0 type bridge && link set br0 up && link set eth1 master br0 &&
		chimneyctl -n host-a set dev eth1 off && none && capture "${a_tcpdump[@]}" eth1 && none && capture_stop &&
		capture "${sockets[@]}" netns=/run/netns/host-a dev=eth1 type=ip &&
		found "capture|IPv4 flows by eth1 and the devices above it|capture python3 (pid $capture_pid) on eth1" &&
		capture_stop && link del br0 && found "device|flows by eth1|device eth1 driver veth: off" && follow && none
}

# run by no function in the background: it would be a shell that is ended, not the capture
a_tcpdump=(nsenter --net=/run/netns/host-a tcpdump -w /dev/null -i)
sockets=(python3 "$DIR"/capture.py listen /dev/null)
capture() { # COMMAND...
	: >"$dir/said"
	"$@" 2>"$dir/said" &
	capture_pid=$!
	pids+=($!)
	until_true grep -q "listening on" "$dir/said"
}
capture_stop() {
	kill -TERM $capture_pid
	wait $capture_pid || :
}
captures() {
	capture "${a_tcpdump[@]}" eth0 && holds "capture|flows by eth0|capture tcpdump (pid $capture_pid) on eth0" &&
		capture_stop && none && capture "${a_tcpdump[@]}" eth0 port 7000 &&
		holds "capture|flows by eth0 that its filter may let pass|capture tcpdump (pid $capture_pid) on eth0" &&
		capture_stop && none && capture "${a_tcpdump[@]}" any &&
		holds "capture|all flows of this namespace|capture tcpdump (pid $capture_pid) on any" && capture_stop && none ||
		return
	capture "${sockets[@]}" netns=/run/netns/host-a type=ipv6 &&
		found "capture|IPv6 flows of this namespace|capture python3 (pid $capture_pid) on any" && capture_stop &&
		capture "${sockets[@]}" netns=/run/netns/host-a type=ip deaf=1 && none && capture_stop &&
		capture "${sockets[@]}" type=all && none && capture_stop
}
raw_sockets() {
	nsenter --net=/run/netns/host-a python3 -c 'import signal, socket
sockets = [socket.socket(*s) for s in ((socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP), (socket.AF_INET6,
           socket.SOCK_RAW, socket.IPPROTO_TCP), (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))]
print("open", flush=True)
signal.pause()' >"$dir/raw" &
	capture_pid=$!
	pids+=($!)
	until_true grep -q open "$dir/raw" &&
		holds "raw-socket|IPv4 flows of this namespace|raw TCP socket python3 (pid $capture_pid)" \
			"raw-socket|IPv6 flows of this namespace|raw TCP socket python3 (pid $capture_pid)" &&
		kill -KILL $capture_pid && not wait $capture_pid 2>/dev/null && none
}

policy() { ip -n host-a xfrm policy "$@"; }
# xfrm holds|leaves|found FINDING WORD...: of a policy; the conversation is among those that it covers, or is not
xfrm() {
	policy add "${@:3}" && "$1" "$2" && policy flush && none
}
esp=(tmpl src "$A4" dst "$B4" proto esp mode tunnel)
ipsec() {
	# what is sent has no route to where nothing can protect it
	ip -n host-a xfrm state add src $A4 dst $B4 proto esp spi 0x100 mode tunnel aead 'rfc4106(gcm(aes))' \
		0x0102030405060708090a0b0c0d0e0f1011121314 128 &&
		xfrm holds "ipsec|flows from $A4/32 to 192.0.0.0/8|xfrm policy dir out src $A4/32 dst 192.0.0.0/8 priority 7" \
		dir out src $A4/32 dst 192.0.0.0/8 priority 7 "${esp[@]}" &&
		xfrm leaves "ipsec|flows to $B4/32 local port $port|xfrm policy dir in src $B4/32 dst 0.0.0.0/0 priority 0" \
			dir in src $B4/32 dst 0.0.0.0/0 proto tcp dport $port "${esp[@]}" &&
		xfrm found "ipsec|IPv4 flows by eth0|xfrm policy dir out src 0.0.0.0/0 dst 0.0.0.0/0 priority 0" \
			dir out dev eth0 "${esp[@]}" &&
		xfrm found "ipsec|flows to 2001:db8::/64 remote port 443|xfrm policy dir out src ::/0 dst 2001:db8::/64 priority 0" \
			dir out src ::/0 dst 2001:db8::/64 proto tcp dport 443 "${esp[@]}" &&
		xfrm found "ipsec|IPv4 flows with mark 0x5/0xff|xfrm policy dir out src 0.0.0.0/0 dst 0.0.0.0/0 priority 0" \
			dir out mark 5 mask 0xff "${esp[@]}" || return
	# what blocks takes the route away, and refuses what comes in
	xfrm holds "route|flows to $B4/32|xfrm policy dir out src 0.0.0.0/0 dst $B4/32 priority 0 action block" \
		dir out dst $B4/32 action block &&
		xfrm leaves "ipsec|flows to $B4/32|xfrm policy dir in src $B4/32 dst 0.0.0.0/0 priority 0 action block" \
			dir in src $B4/32 action block && ip -n host-a xfrm state flush
}
# for other protocols, forwarded packets and an xfrm interface, and one that lets pass
no_ipsec() {
	policy add dir out proto udp "${esp[@]}" && policy add dir fwd "${esp[@]}" && policy add dir out if_id 5 "${esp[@]}" &&
		policy add dir out dst $B4/32 && policy add dir in src $B4/32 && none && policy flush && none
}

balances() { # SERVICE SCOPE
	a ipvsadm -A "${@:2}" -s rr && found "ipvs|flows balanced for $1|IPVS service ${1/#mark/of mark}" &&
		a ipvsadm -D "${@:2}" && found
}
ipvs() {
	balances 192.0.2.1:80 -t 192.0.2.1:80 && balances "[2001:db8::1]:8080" -t "[2001:db8::1]:8080" &&
		balances "mark 20" -f 20 && a ipvsadm -A -u 192.0.2.1:53 -s rr && none && a ipvsadm -C
}

packet_rules() {
	local object="a rule that tells packets of a flow apart, or a set that changes by itself"
	a nft "$(output "meta length > 60000 drop")" &&
		holds "packet-rules|all flows of this namespace|$object" && advises "nft list ruleset" &&
		prints 0 "" -n host-b check && a nft delete table inet t && none
}
# those that come after chimney's hooks are older
late_rules() {
	local object="chain late of table late at priority $LAST"
	local v4="late-rules|IPv4 flows of this namespace|$object" v6="late-rules|IPv6 flows of this namespace|$object"
	late inet input && found "mode|all flows|mode disabled" "$v4" "$v6" && mode enabled && holds "$v4" "$v6" &&
		a nft delete table inet late && late ip postrouting && mode enabled && holds "$v4" &&
		a nft delete table ip late && late netdev "ingress device eth0" && mode enabled &&
		holds "late-rules|flows by eth0|$object" || return
	# made anew, they come before
	a nft "delete table netdev late; add table netdev late; add chain netdev late late { type filter hook ingress \
		device eth0 priority $LAST; }" && none && a nft delete table netdev late && none
}
late() { # FAMILY HOOK
	mode disabled && a nft "add table $1 late; add chain $1 late late { type filter hook $2 priority $LAST; }"
}
unknown_rules() { modprobe nft_quota && holds "unknown-rules|all flows|module nft_quota"; }

programs() {
	local id
	mkdir -p $CGROUP/inner $BPF && bpftool prog loadall "$DIR"/sockmap.bpf.o $BPF &&
		id=$(bpftool -j prog show pinned $BPF/egress | jq .id) &&
		bpftool cgroup attach $CGROUP/inner egress pinned $BPF/egress &&
		found "cgroup-bpf|flows of cgroup /check/inner and those below|BPF program egress (id $id) on its egress" &&
		bpftool cgroup detach $CGROUP/inner egress pinned $BPF/egress && none &&
		bpftool cgroup attach /sys/fs/cgroup egress pinned $BPF/egress &&
		holds "cgroup-bpf|flows of cgroup / and those below|BPF program egress (id $id) on its egress" &&
		bpftool cgroup detach /sys/fs/cgroup egress pinned $BPF/egress && none
}

port=38700
ktap_print_header
ktap_set_plan 22
topology veth && cable host-a eth1 host-b eth1 && link set eth1 up && ip -n host-b link set eth1 up ||
	ktap_exit_fail_msg "topology"
modprobe -qr chimney
ktap_test_result "without the module" no_module
ktap_test_result "before the gate" no_gate
gate || ktap_exit_fail_msg "gate"
checks "a host where nothing is in the way" clean
checks "words that it does not know, and who is not root" words
checks "what the path obeys" obeyed
checks "mode, a switched device, and a table for people" as_text
checks "automatic mode: a slow device" automatic
checks "the flow table" table
checks "ports and cgroups" choices
checks "devices of other kinds, in a VRF, of ipvlan" devices
checks "the port of a bridge" port_of_bridge
checks "captures" captures
checks "raw sockets" raw_sockets
checks "IPsec policies" ipsec
checks "IPsec policies that do not concern TCP here" no_ipsec
checks "IPVS services" ipvs
checks "rules that tell packets apart" packet_rules
checks "rules after chimney's hooks" late_rules
checks "BPF programs on cgroups" programs
checks "rules that cannot be watched" unknown_rules
checks "every byte is right" talk_stop $port
checks "the gate goes" chimneyctl gate unload
ktap_finished
