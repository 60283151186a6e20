# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# What the tests share: two hosts, traffic between them, and questions about its flows.
#
#     netns host-a                               netns host-b
#     [eth0 192.0.2.1  2001:db8::1] ------ [eth0 192.0.2.2  2001:db8::2]
#
# The wire is a pair of virtio NICs on one QEMU hub (topology hub), one of other NICs likewise (topology e1000e, igb,
# vmxnet3, rtl8139, virtio-plain; virtio-mq is on a bridge: see vm), or a veth pair (topology veth).
# A test sources this file, calls `topology` and `gate_load`, and ends with ktap_finished; cleanup is automatic.

DIR=$(dirname "$(readlink -f "$0")")
# shellcheck source=/dev/null
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"/../kselftest/ktap_helpers.sh

A4=192.0.2.1 B4=192.0.2.2 A6=2001:db8::1 B6=2001:db8::2
PORT=7000			# where talk listens in host-b
WAIT=$((60 * ${PATIENCE:-1}))	# seconds that a condition may take to come true; PATIENCE is for slow kernels

pids=()				# background processes, ended by cleanup

a() { nsenter --net=/run/netns/host-a "$@"; }	# unlike `ip netns exec`, keeps /sys/fs/bpf
b() { nsenter --net=/run/netns/host-b "$@"; }

# A knob or counter of a device: sysfs shows the devices of the netns that it was mounted in.
dev_a() { ip netns exec host-a cat "/sys/class/net/eth0/chimney/$1"; }
dev_b() { ip netns exec host-b cat "/sys/class/net/eth0/chimney/$1"; }
set_dev_a() { ip netns exec host-a sh -c "echo $2 >/sys/class/net/eth0/chimney/$1"; }

say() { echo "# $*"; }

# Sizes that take long are for `make check-long`.
long() { [ -n "${LONG:-}" ]; }

# As the helpers have it, but a case that fails says what the path did last.
ktap_test_result() {
	local description=$1
	shift
	if "$@"; then
		ktap_test_pass "$description"
	else
		last_words
		ktap_test_fail "$description"
	fi
}
TRACE=/sys/kernel/tracing
last_words() {
	local host
	for host in host-a host-b; do
		chimneyctl -j -n $host flows | jq -r '.[] | "# " + $h + " \(.lport) \(.state) \(.offloads) \(.uploaded) \(.reasons)"' \
			--arg h $host | head -n 20
	done
	grep -v '^#' $TRACE/trace | tail -n 10 | sed 's/^ */# /'
} 2>/dev/null

# tick [SECONDS]: waits that long; nobody ever writes to what it reads.
exec {ticks}<> <(:)
# shellcheck disable=SC2120 # most ask for no other time
tick() { read -rt "${1:-0.2}" -u "$ticks" || :; }

# until_true COMMAND...: waits until it succeeds; fails after $WAIT seconds.
until_true() {
	local end=$((SECONDS + WAIT))
	until "$@"; do
		if ((SECONDS >= end)); then
			say "waited $WAIT s in vain for: $*"
			return 1
		fi
		tick
	done
}

not() { ! "$@"; }

nic() { # MODEL 1|2: the device that vm has given this MAC address
	local mac
	case $1 in
	hub) mac=c1 ;; e1000e) mac=c2 ;; igb) mac=c3 ;; vmxnet3) mac=c4 ;; rtl8139) mac=c5 ;; virtio-plain) mac=c6 ;;
	virtio-mq) mac=c7 ;;
	esac
	ip -br link | awk -v mac="52:54:00:$mac:00:0$2" '$3 == mac { print $1 }'
}
has_nics() { [ -n "$(nic "$1" 1)" ] && [ -n "$(nic "$1" 2)" ]; }

# cable NETNS DEV NETNS DEV: joins two namespaces by a veth pair. (The first one may have devices of these names.)
cable() {
	ip link add cable-a netns "$1" type veth peer name cable-b netns "$3" &&
		ip -n "$1" link set cable-a name "$2" && ip -n "$3" link set cable-b name "$4"
}

reachable() { until_true a ping -q -c 1 -W 1 $B4 >/dev/null && until_true a ping -q -c 1 -W 1 $B6 >/dev/null; }

# topology NIC|veth: makes the two hosts.
topology() {
	# no tunl0, gre0, ... in them, whatever tunnels somebody has used before
	sysctl -qw net.core.fb_tunnels_only_for_init_net=2
	ip netns add host-a && ip netns add host-b || return
	case $1 in
	veth) cable host-a eth0 host-b eth0 || return ;;
	*)
		# those of the last topology come back when its namespaces have gone
		until_true has_nics "$1" &&
			ip link set "$(nic "$1" 1)" netns host-a name eth0 &&
			ip link set "$(nic "$1" 2)" netns host-b name eth0 || return ;;
	esac
	ip -n host-a link set lo up && ip -n host-b link set lo up
	ip -n host-a addr add $A4/24 dev eth0 && ip -n host-b addr add $B4/24 dev eth0
	ip -n host-a addr add $A6/64 dev eth0 nodad && ip -n host-b addr add $B6/64 dev eth0 nodad
	ip -n host-a link set eth0 up && ip -n host-b link set eth0 up
	reachable
}

# A device goes back to the first netns when its own is deleted, and that when its last process has gone.
topology_gone() {
	ip netns del host-a
	ip netns del host-b
} 2>/dev/null

mode() { echo "$1" >/sys/kernel/chimney/mode; }

# The module and the gate, as they are once loaded. With KEEP (guest-kselftest sets it) those stay for the next test, as
# loading them takes longer than most of what is tested, unless a case has failed or the settings are others by then.
# A test that asks for a load of its own says `modprobe -qr chimney` first, one that leaves what no other may meet, KEEP=.
gate_load() {
	modprobe chimney || return
	[ -e /sys/fs/bpf/chimney/gate ] || chimneyctl gate load || return
	echo >$TRACE/trace
	echo 1 >$TRACE/events/chimney/enable
	settings_loaded=$(chimney_settings)
}
chimney_settings() { grep -s . /sys/kernel/chimney/* | grep -v /flows:; }
gate_stays() {
	[ -n "${KEEP:-}" ] && ((KTAP_CNT_FAIL == 0)) && [ "${settings_loaded:-}" = "$(chimney_settings)" ]
}

# The hosts and all that was started in them; the module and the gate stay.
hosts_gone() {
	local p
	# also what a shell that is ended leaves: the runner waits for whoever still has the test's output
	for p in "${pids[@]}" $(ip netns pids host-a) $(ip netns pids host-b); do kill -9 "$p"; done
	wait
	pids=()
	topology_gone
} 2>/dev/null

lib_cleanup() {
	hosts_gone
	gate_stays || modprobe -r chimney
} 2>/dev/null
trap lib_cleanup EXIT

# listener [OPTIONS]: talk listens in host-b.
listener() {
	# no function in the background: its process would be a shell, and ending that leaves talk
	nsenter --net=/run/netns/host-b "$DIR"/talk "$@" listen $PORT &
	pids+=($!)
	until_true listening
}
listening() { serving "$PORT"; }
serving() { [ -n "$(b ss -Hltn "sport = :$1")" ]; }

# Many connections at once (many.c): many_start PORT has host-b listen there, many COMMAND... has host-a do it.
many_start() {
	nsenter --net=/run/netns/host-b "$DIR"/many listen "$1" &
	pids+=($!)
	coproc dialer { exec nsenter --net=/run/netns/host-a "$DIR"/many dial; }
	# shellcheck disable=SC2154 # that is what coproc calls it
	pids+=("$dialer_PID")
	until_true serving "$1"
}
many() {
	local answer
	echo "$*" >&"${dialer[1]}" && read -rt "$WAIT" answer <&"${dialer[0]}" && [ "$answer" = "$*" ]
}

# talk LPORT [OPTIONS] -- ADDRESS: starts a conversation from host-a; its output is in $talk_out.LPORT. Stop it with
# talk_stop LPORT, whose status tells whether every byte came back as it was sent.
talk_out=$(mktemp -d)/talk
declare -A talk_pid
talk() { talk_start "$@" && until_true connected "$1"; }
talk_start() {
	local lport=$1 opts=()
	shift
	while [ "$1" != -- ]; do opts+=("$1"); shift; done
	nsenter --net=/run/netns/host-a "$DIR"/talk -p "$lport" "${opts[@]}" send "$2" $PORT >"$talk_out.$lport" 2>&1 &
	talk_pid[$lport]=$!
	pids+=($!)
}
connected() { [[ $'\n'$("$DIR"/tcp_info host-a "$1") = *$'\n1 '* ]]; } # TCP_ESTABLISHED
talk_stop() {
	kill -TERM "${talk_pid[$1]}"
	talk_wait "$1"
}
talk_wait() {
	local status=0
	wait "${talk_pid[$1]}" || status=$?
	sed 's/^/# /' "$talk_out.$1"
	return $status
}

# talk_prepared LPORT COMMAND... -- ADDRESS: a conversation for which COMMAND has been run before it connects.
talk_prepared() {
	local command=()
	while [ "$2" != -- ]; do command+=("$2"); set -- "$1" "${@:3}"; done
	talk_start "$1" -z -s 2000 -i 10 -- "$3" && until_true stopped "$1" && "${command[@]}" &&
		kill -CONT "${talk_pid[$1]}" && until_true connected "$1"
}
stopped() { [ "$(cut -d ' ' -f 3 "/proc/${talk_pid[$1]}/stat")" = T ]; }

# talk_both [OPTIONS]: a conversation of each family, from the next two local ports; these are in $v4, $v6 and $ports.
talk_both() {
	v4=$((v4 + 2))
	v6=$((v4 + 1))
	ports="$v4 $v6"
	talk $v4 "$@" -- $B4 && talk $v6 "$@" -- $B6
}

# sock LPORT COMMAND...: sock.py on the socket of a conversation.
sock() { "$DIR"/sock.py "${talk_pid[$1]}" "${@:2}"; }

# all COMMAND...: for each conversation of $ports, whose local port is the last argument.
all() {
	local port
	# shellcheck disable=SC2154 # the test's own
	for port in $ports; do "$@" "$port" || return; done
}

# rules_change COMMAND...: changes rules of host-b. All flows of $ports are judged afresh when it has returned; they may be
# back by then, but have left.
rules_change() {
	local offloads=() port
	for port in $ports; do offloads[port]=$(flow_b "$port" .offloads); done
	"$@" || return
	for port in $ports; do
		[ "$(flow_b "$port" .uploaded)" = rules ] || return
		until_true offloaded_again "$port" "${offloads[port]}" || return
	done
	all progress && all until_true both_offloaded
}
offloaded_again() { (($(flow_b "$1" .offloads) > $2)); }

# at_rest COMMAND...: whether it says what it said when it was last asked.
at_rest() {
	local now
	now=$("$@")
	[ "$now" = "${at_rest:-}" ] && return
	at_rest=$now
	return 1
}

# Questions about the flow of host-a with local port $1 (…_b: of host-b with remote port $1). What flow prints is all of
# it, or what the path of jq in $2 leads to.
flow() { one_flow host-a lport "$@"; }
flow_b() { one_flow host-b rport "$@"; }
one_flow() { # NETNS lport|rport PORT [PATH]
	local flows
	flows=$(chimneyctl -j -n "$1" flows "$2" "$3")
	# jq costs three times what chimneyctl does: plain members are cut out, and what is asked over and over, until it is
	# so, is read off the table
	if [[ ${4:-} = .+([a-z_]) && $flows =~ \"${4#.}\":\"?([^][{}\",]+) ]]; then
		echo "${BASH_REMATCH[1]}"
	else
		jq -cr ".[]${4:-}" <<<"$flows"
	fi
}
# flow_row NETNS lport|rport PORT: the one flow of that port, by column.
flow_row() {
	read -rd '' -a flow_row < <(chimneyctl -q -n "$1" flows "$2" "$3")
	[ ${#flow_row[@]} = 10 ]
}
row_a() { flow_row host-a lport "$1"; }
row_b() { flow_row host-b rport "$1"; }
row_is() { [ "${flow_row[4]}" = "$1" ]; }
row_has() { [[ ,${flow_row[9]}, = *,$1,* ]]; }
state() { row_a "$1" && echo "${flow_row[4]}"; }
offloaded() { row_a "$1" && row_is offloaded; }
offloaded_b() { row_b "$1" && row_is offloaded; }
both_offloaded() { offloaded "$1" && offloaded_b "$1"; }
in_host() { row_a "$1" && row_is in-host; }
in_host_b() { row_b "$1" && row_is in-host; }
# Uploaded, or just being uploaded, when no packet takes the path any more either.
off_path() { not offloaded "$1"; }
off_path_b() { not offloaded_b "$1"; }
has_reason() { row_a "$1" && row_has "$2"; } # LPORT REASON
has_reason_b() { row_b "$1" && row_has "$2"; }
in_host_for() { in_host "$1" && row_has "$2"; }
in_host_b_for() { in_host_b "$1" && row_has "$2"; }
uploaded_for() { [ "$(flow "$1" .uploaded)" = "$2" ]; }
reason_count() { cat "/sys/kernel/chimney/reasons/$1"; }

# Segments that a conversation's socket has sent and received so far.
segments() {
	local count sum=0
	while read -r _ count; do sum=$((sum + count)); done < <("$DIR"/tcp_info host-a "$1")
	echo $sum
}

# Those that its other end, in host-b, has received.
segments_b() { b ss -Htni "dport = :$1" | grep -o ' segs_in:[0-9]*'; }

# nothing_arrives COMMAND...: while it runs, at host-b's ends of $ports.
nothing_arrives() {
	local arrived=() port
	for port in $ports; do arrived[port]=$(segments_b "$port"); done
	"$@" || return
	for port in $ports; do
		say "segments that arrived before and after: ${arrived[port]}, $(segments_b "$port")"
		[ "$(segments_b "$port")" = "${arrived[port]}" ] || return
	done
}

# silenced: of $ports nothing comes to host-b any more, by the path or off it, whatever host-a sends again.
silenced() { all off_path_b && nothing_arrives all until_true backs_off && all off_path_b; }
backs_off() { a ss -Htni "sport = :$1" | grep -q 'backoff:[3-9]'; }

# progress LPORT: waits until the conversation has moved on, on the path or off it.
progress() {
	local from
	from=$(segments "$1")
	until_true moved_on "$1" "$from"
}
moved_on() { (($(segments "$1") > $2 + ${3:-20})); }

# dev_total COUNTERS: their sum over what host-a has sent and received by the path so far.
dev_total() {
	local counter sum=0
	for counter; do sum=$((sum + $(dev_a "$counter"))); done
	echo $sum
}

# takes_path ADDRESS MESSAGE TOTAL [OPTION]: a conversation of host-a of which, once offloaded, 99 per cent of TOTAL bytes
# take the path: for messages counted in packets, for bulk, where GSO and GRO make one packet of many segments, in bytes.
# Local ports come from $port_next.
takes_path() {
	local address=$1 message=$2 total=$3 port=$((port_next++)) packets bytes segs
	shift 3
	talk $port -w -s "$message" -n "$total" "$@" -- "$address" && until_true both_offloaded $port || return
	packets=$(dev_total tx_packets rx_packets) bytes=$(dev_total tx_bytes rx_bytes) segs=$(segments $port)
	kill -USR1 "${talk_pid[$port]}"
	talk_wait $port || return
	packets=$(($(dev_total tx_packets rx_packets) - packets))
	bytes=$(($(dev_total tx_bytes rx_bytes) - bytes))
	segs=$(($(awk -F'[, ]+' '/^talk:/ { print $7 + $10 }' "$talk_out.$port") - segs))
	say "$packets packets with $bytes bytes by the path, of $segs segments with $((total * 2)) bytes payload"
	# less what it takes to be judged once more, should anything have changed in between
	if [ "$message" != 0 ]; then
		((packets >= (segs - 60) * 99 / 100 && segs > 1000))
	else
		((bytes >= (total * 2 - 600000) * 99 / 100))
	fi
}

# refused FILE VALUE WORDS: EINVAL, nothing changes, the log says what is allowed.
refused() {
	local was text
	was=$(cat "$1")
	text=$(bash -c "echo '$2' >$1" 2>&1) && return 1
	say "$text"
	[[ $text = *"Invalid argument"* ]] && [ "$(cat "$1")" = "$was" ] || return
	dmesg | tail -n 3 | grep -F "$(basename "$1")" | grep -F "\"$2\" is not allowed" | grep -F "$3" | sed 's/^/# /'
	((PIPESTATUS[3] == 0))
}

# Every test wants to know that nothing went wrong in the kernel's eyes; the harness reads the log for that.
