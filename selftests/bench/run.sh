#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# make bench: what a netperf transaction costs, stock and with chimney, in the same boot.
#
#     netns host-a: netperf [eth0] ---- veth ---- [eth0] netserver :netns host-b
#
# The guest runs under -icount with one CPU: a nanosecond of its time is an instruction, as long as it never idles.
# Each measurement is a fixed number of transactions (or bytes) in network namespaces made for it and warmed up, in equal
# parts of a connection each. Their median counts: what the kernel does besides (pages it writes back, memory it frees)
# falls into one part or another. First comes all that is stock (the module is not loaded), then all with module and
# gate, then one stock case again, to show that nothing is left of chimney. Measurements of both sides are given to
# report.py, line by line.
#
# run.sh [CASE]...: only these cases, without a verdict

DIR=$(dirname "$(readlink -f "$0")")
rows=$(mktemp)
B4=192.0.2.2
CONTROL=12865 DATA=20001	# where netserver listens, where netperf's tests go
MANY=2000			# idle connections of rr/many
PARTS=3				# of a measurement
BUFFER=200K			# of a stream's sockets: as the kernel chooses them, the peer acknowledges now more, now less often
if [ -n "${LONG:-}" ]; then MANY=50000; fi

# case           test         transactions, or bytes with a k
tests='
rr/none          TCP_RR       90000
rr/ct            TCP_RR       90000
rr/ct+100        TCP_RR       90000
rr/ineligible    TCP_RR       90000
rr/many          TCP_RR       90000
crr/ct           TCP_CRR      3000
stream/tso       TCP_STREAM   524288k
stream/notso     TCP_STREAM   65536k'

pids=()				# background processes of this measurement

a() { nsenter --net=/run/netns/host-a "$@"; }
b() { nsenter --net=/run/netns/host-b "$@"; }
received() { ip netns exec "$1" cat "/sys/class/net/eth0/$2/rx_packets"; }
die() { echo "bench: $*"; exit 1; }
trap 'teardown; modprobe -qr chimney' EXIT

until_true() {
	local i
	for ((i = 0; i < 300; i++)); do
		"$@" && return
		sleep 0.1
	done
	echo "bench: waited in vain for: $*"
	return 1
}

# wire DEV NET: joins the namespaces. Neighbours are known, or the phase of their timers would be measured, too: until
# the first one has struck they are STALE or DELAY, and a packet has no cached header.
wire() {
	ip link add "$1" netns host-a type veth peer name "$1" netns host-b &&
		ip -n host-a addr add "$2.1/24" dev "$1" && ip -n host-b addr add "$2.2/24" dev "$1" &&
		ip -n host-a link set "$1" up && ip -n host-b link set "$1" up &&
		ip -n host-a neigh replace "$2.2" lladdr "$(mac host-b "$1")" dev "$1" nud permanent &&
		ip -n host-b neigh replace "$2.1" lladdr "$(mac host-a "$1")" dev "$1" nud permanent
}
mac() { ip -n "$1" -br link show dev "$2" | awk '{ print $3 }'; }

# ruleset N: the firewall, the same in both namespaces; N further rules in each direction see every packet.
ruleset() {
	local i
	echo 'table ip filter {'
	echo 'chain input { type filter hook input priority filter; policy drop;'
	for ((i = 1; i <= $1; i++)); do echo "ip saddr 203.0.113.$i drop"; done
	echo 'ct state established,related accept'
	echo "tcp dport { $CONTROL, $DATA } accept"
	echo '}'
	echo 'chain output { type filter hook output priority filter; policy accept;'
	for ((i = 1; i <= $1; i++)); do echo "ip daddr 203.0.113.$i drop"; done
	echo '}'
	echo '}'
}

firewall() {
	ruleset "$1" | a nft -f - && ruleset "$1" | b nft -f -
}

# What keeps the flow of rr/ineligible off the path has to cost the host path nothing, or stock would look dear: its port
# is not among those that the administrator has chosen, so that the gate finds it clean, in vain. On a second wire an
# idle flow stays offloaded, so that received packets of the one measured are looked up in the flow table, as on a host
# where others are offloaded.
ineligible() {
	if [ "$state" = chimney ]; then
		chimneyctl port del local $DATA && chimneyctl port del remote $DATA || return
	fi
	wire eth1 198.51.100 || return
	nsenter --net=/run/netns/host-b "$DIR"/ineligible.py listen 198.51.100.2 &
	pids+=($!)
	until_true serving 7000 || return
	nsenter --net=/run/netns/host-a "$DIR"/ineligible.py connect 198.51.100.2 &
	pids+=($!)
	if [ "$state" = chimney ]; then until_true idle_offloaded; fi
}
idle_offloaded() { [ "$(cat /sys/kernel/chimney/flows)" = 2 ]; }

# On a second wire many connections are idle; with chimney both ends of each are offloaded, so that the flow measured is
# looked up among them.
many() {
	wire eth1 198.51.100 || return
	nsenter --net=/run/netns/host-b "$DIR"/../many listen 7000 &
	pids+=($!)
	coproc dialer { exec nsenter --net=/run/netns/host-a "$DIR"/../many dial; }
	# shellcheck disable=SC2154 # that is what coproc calls it
	pids+=("$dialer_PID")
	a sh -c 'echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range' && until_true serving 7000 &&
		ip -n host-b addr add 198.51.100.3/24 dev eth1 || return
	# to two addresses: connect() is slow to find a port when half of them are taken
	dialed open $((MANY / 2)) 198.51.100.2 7000 && dialed open $((MANY / 2)) 198.51.100.3 7000 || return
	if [ "$state" = chimney ]; then until_true many_offloaded; fi
}
dialed() { echo "$*" >&"${dialer[1]}" && read -r <&"${dialer[0]}" && [ "$REPLY" = "$*" ]; }
many_offloaded() { dialed exchange 8 && [ "$(cat /sys/kernel/chimney/flows)" = $((2 * MANY)) ]; }

setup() {
	ip netns add host-a && ip netns add host-b && wire eth0 192.0.2 || return
	case $case in
	*/ct) firewall 0 ;;
	*/ct+100) firewall 100 ;;
	*/ineligible) ineligible ;;
	*/many) many ;;
	*/notso)
		a ethtool -K eth0 tso off gso off >/dev/null && b ethtool -K eth0 tso off gso off >/dev/null ;;
	esac || return
	nsenter --net=/run/netns/host-b netserver -D -4 -p $CONTROL >/dev/null &
	pids+=($!)
	until_true serving $CONTROL
}
serving() { [ -n "$(b ss -Hltn "sport = :$1")" ]; }

# Sleeping costs nothing here: whatever the kernel does later on its own is done before the next measurement.
teardown() {
	local p
	for p in "${pids[@]}"; do kill "$p"; wait "$p"; done
	pids=()
	if [ "$state" = chimney ]; then chimneyctl set local_ports all && chimneyctl set remote_ports all; fi
	ip netns del host-a
	ip netns del host-b
	sleep 5
} 2>/dev/null

# rate N: netperf's rate for an Nth of the amount: transactions or KiB a second
rate() {
	local units=$((${amount%k} / $1)) format=x buffers=()
	if [[ $amount = *k ]]; then units=$((units * 1024)) format=K buffers=(-s "$BUFFER" -S "$BUFFER"); fi
	a netperf -H $B4 -p $CONTROL -4 -t "$test" -P 0 -f $format -l -$units -- -P ,$DATA "${buffers[@]}" -o THROUGHPUT
}

# The middle one of an odd number of lines.
median() { sort -n | awk '{ line[NR] = $1 } END { print line[(NR + 1) / 2] }'; }

# How many packets both have received, and how many of them by the path. Not sent: without TSO, GSO makes more of them
# after they were counted.
packets() {
	local host path=0 all=0
	for host in host-a host-b; do
		all=$((all + $(received $host statistics)))
		if [ "$state" = chimney ]; then path=$((path + $(received $host chimney))); fi
	done
	echo "$all $path"
}

idle_ns() { awk '/\.idle_sleeptime/ { print $3 }' /proc/timer_list; }

# measure CASE TEST AMOUNT: appends "CASE STATE INSTRUCTIONS PACKETS BY-PATH IDLE" to the rows; IDLE per unit, as is
# INSTRUCTIONS.
measure() {
	local case=$1 test=$2 amount=$3 unit all path idle now speed speeds=()
	setup || die "$case: cannot set up"
	rate 20 >/dev/null || die "$case: no warm-up"
	sleep 1
	read -r all path <<<"$(packets)"
	idle=$(idle_ns)
	while ((${#speeds[@]} < PARTS)); do
		speed=$(rate $PARTS) || die "$case: netperf failed"
		speeds+=("$speed")
	done
	idle=$((($(idle_ns) - idle) / ${amount%k}))
	read -r -a now <<<"$(packets)"
	unit=$(printf '%s\n' "${speeds[@]}" | median | awk '{ printf "%.1f", 1e9 / $1 }')
	echo "$case $state $unit $((now[0] - all)) $((now[1] - path)) $idle" | tee -a "$rows" |
		awk '{ printf "# %-14s %-8s %10.1f instructions, %7d of %d packets by the path%s\n",
			$1, $2, $3, $5, $4, $6 ? ", idle for " $6 : "" }'
	teardown
}

wanted=" $* "
all_measured() {
	local case test amount
	state=$1
	while read -r case test amount; do
		if [ -n "$case" ] && [[ $wanted = "  " || $wanted = *" $case "* ]]; then measure "$case" "$test" "$amount"; fi
	done <<<"$tests"
}
again() { if [ "$wanted" = "  " ]; then measure rr/none TCP_RR 90000; fi; }

[ "$(nproc)" = 1 ] || die "needs a guest with one CPU, see --icount of vm"
[ ! -e /sys/module/chimney ] || die "the module is loaded already"
all_measured stock
if ! modprobe chimney || ! chimneyctl gate load; then die "cannot load module and gate"; fi
sleep 5				# as in teardown
all_measured chimney
again
modprobe -r chimney || die "cannot unload"
sleep 5
state=stock
again
if [ "$wanted" = "  " ]; then "$DIR"/report.py "$rows" /out/bench.json; fi
