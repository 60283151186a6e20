#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What is told of connections and devices is true: what took the path, by the flow, the device and the gate's map, is what
# the sockets say they have sent and received; and the reasons that no other test has to do with are told and counted.
# Topology veth of lib.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

BPF=/sys/fs/bpf/state
CGROUP=/sys/fs/cgroup/state
trap 'lib_cleanup; rm -rf $BPF; rmdir $CGROUP 2>/dev/null' EXIT

# Packets and bytes out and in, by what both sockets have sent; of a flow; of a device.
of_sockets() { echo "$(a ss -Htni "sport = :$1" | sent)" "$(b ss -Htni "dport = :$1" | sent)"; } # LPORT
sent() { sed 's/.* bytes_sent:\([0-9]*\).* segs_out:\([0-9]*\).*/\2 \1/;t;d'; }
path='| "\(.tx_packets) \(.tx_bytes) \(.rx_packets) \(.rx_bytes)"'
of_flow() { flow "$1" "$path"; } # LPORT
of_device() { chimneyctl -j -n host-a stats eth0 | jq -r ".devices[0]$path"; }
of_files() { for f in tx_packets tx_bytes rx_packets rx_bytes; do dev_a $f; done | xargs; }
of_map() { # LPORT: what it was before the last upload
	bpftool -j map dump pinned /sys/fs/bpf/chimney/flows |
		jq -r ".[].formatted | select(.key.lport == $1).value$path"
}

# Nothing is on its way any more.
rest() { kill -STOP "${talk_pid[$1]}" && until_true stopped "$1" && until_true at_rest told "$1"; }
told() { of_sockets "$1"; of_flow "$1"; }

# minus "A..." "B...": A - B, number by number
minus() {
	local -a x y
	read -ra x <<<"$1"
	read -ra y <<<"$2"
	echo $((x[0] - y[0])) $((x[1] - y[1])) $((x[2] - y[2])) $((x[3] - y[3]))
}

# Of two conversations, one for each family: each message is one segment, and so is its echo.
v4=41000
true_numbers() {
	local port socket=() flow=() device header out bytes_out in bytes_in sum="0 0 0 0"
	talk_both -s 1000 -i 20 && all until_true both_offloaded && all rest || return
	for port in $ports; do socket[port]=$(of_sockets "$port") flow[port]=$(of_flow "$port"); done
	device=$(of_device)
	for port in $ports; do kill -CONT "${talk_pid[$port]}"; done
	for port in $ports; do until_true moved_on "$port" "$(segments "$port")" 300; done
	all rest || return
	for port in $ports; do
		# IP, TCP, its timestamps
		if [ "$port" = $v4 ]; then header=52; else header=72; fi
		read -r out bytes_out in bytes_in < <(minus "$(of_sockets "$port")" "${socket[port]}")
		flow[port]=$(minus "$(of_flow "$port")" "${flow[port]}")
		say "$port: by the sockets $out $bytes_out $in $bytes_in, by the path ${flow[port]}"
		[ "${flow[port]}" = "$out $((bytes_out + out * header)) $in $((bytes_in + in * header))" ] || return
		sum=$(minus "$sum" "$(minus "0 0 0 0" "${flow[port]}")")
	done
	say "device: $(minus "$(of_device)" "$device"), sum of the flows: $sum"
	[ "$(minus "$(of_device)" "$device")" = "$sum" ] && [ "$(of_device)" = "$(of_files)" ]
}
true_map() {
	local port before=() uploads count
	for port in $ports; do before[port]=$(of_flow "$port"); done
	uploads=$(dev_a uploads) count=$(reason_count mode)
	mode disabled && all until_true in_host || return
	for port in $ports; do
		say "$port: ${before[port]}, in the map $(of_map "$port"), in the host $(of_flow "$port")"
		[ "$(of_map "$port")" = "${before[port]}" ] && [ "$(of_flow "$port")" = "${before[port]}" ] || return
	done
	(($(dev_a uploads) == uploads + 2 && $(reason_count mode) >= count + 2)) || return
	mode enabled
	for port in $ports; do kill -CONT "${talk_pid[$port]}"; done
	all until_true both_offloaded && all talk_stop
}

# reason NAME ON OFF: before the connections, and while they are offloaded and busy; they are told, and counted.
reason() {
	local name=$1 on=$2 off=$3 count
	count=$(reason_count "$name")
	$on && talk_both -s 1000 -i 20 && all until_true moved_on_far && all stays_in_host "$name" && all never && $off &&
		all until_true both_offloaded && $on && all until_true held_for "$name" && all stays_in_host "$name" &&
		(($(reason_count "$name") > count)) && $off && all until_true both_offloaded && all talk_stop
}
moved_on_far() { moved_on "$1" 0 400; }
held_for() { off_path "$2" && has_reason "$2" "$1"; }
stays_in_host() { # REASON LPORT: it is not offloaded in turns either
	local offloads
	offloads=$(flow "$2" .offloads)
	held_for "$@" && progress "$2" && held_for "$@" && [ "$(flow "$2" .offloads)" = "$offloads" ]
}
never() { [ "$(flow "$1" .offloads)" = 0 ]; }

# They are connected, and send something that is no segment: nobody may take them for sockets of TCP (KASAN would tell).
raw_socket() {
	nsenter --net=/run/netns/host-a python3 -c 'import signal, socket, sys
s = [socket.socket(f, socket.SOCK_RAW, socket.IPPROTO_TCP) for f in (socket.AF_INET, socket.AF_INET6)]
for raw, address in zip(s, sys.argv[1:]):
    raw.connect((address, 0))
    for _ in range(16):
        raw.send(bytes(20))
print("open", flush=True)
signal.pause()' $B4 $B6 >"$talk_out.raw" &
	raw_pid=$!
	pids+=($!)
	until_true grep -q open "$talk_out.raw"
}
no_raw_socket() { kill -KILL $raw_pid && not wait $raw_pid 2>/dev/null; }

rewrite() {
	a nft "add table inet r; add chain inet r out { type filter hook output priority mangle; }
		add rule inet r out tcp dport $PORT ip dscp set cs2; add rule inet r out tcp dport $PORT ip6 dscp set cs2"
}
no_rewrite() { a nft "delete table inet r"; }

cgroup_program() { bpftool cgroup attach $CGROUP egress pinned $BPF/egress; }
no_cgroup_program() { bpftool cgroup detach $CGROUP egress pinned $BPF/egress; }
in_cgroup() { # COMMAND...
	echo $BASHPID >$CGROUP/cgroup.procs && "$@"
	local status=$?
	echo $BASHPID >/sys/fs/cgroup/cgroup.procs && return $status
}

# A socket of the kernel's own: host-a has a folder of host-b's, by 9P over TCP. The other end is one like any other.
kernel_socket() {
	local dir count status
	dir=$(mktemp -d) && mkdir "$dir/there" "$dir/here" && head -c 100K /dev/urandom >"$dir/there/file" || return
	count=$(reason_count kernel-socket)
	echo "$A4 host-a" >"$dir/hosts"		# it wants the name of who comes
	nsenter --net=/run/netns/host-b unshare --mount bash -c "mount --bind '$dir/hosts' /etc/hosts &&
		exec diod -f -n -l $B4:564 -e '$dir/there' -L stderr" 2>"$talk_out.diod" &
	pids+=($!)
	until_true serving 564 && nsenter --net=/run/netns/host-a mount -t 9p -o \
		"trans=tcp,port=564,version=9p2000.L,aname=$dir/there,uname=root,access=user" $B4 "$dir/here" &&
		until_true of_the_kernel "$dir" && (($(reason_count kernel-socket) > count))
	status=$?
	sed 's/^/# /' "$talk_out.diod"
	umount "$dir/here" && rm -r "$dir" && return $status
}
of_the_kernel() { # DIR: the file is read, and read again
	cmp "$1/there/file" "$1/here/file" &&
		chimneyctl -j -n host-a flows | jq -e '.[] | select(.rport == 564) |
			.state == "in-host" and .offloads == 0 and (.reasons | index("kernel-socket"))' >/dev/null &&
		chimneyctl -j -n host-b flows | jq -e '.[] | select(.lport == 564) | .state == "offloaded"' >/dev/null
}

# One that is silent, and one that nobody answers.
too_early() {
	ip -n host-a neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev eth0 && talk 41900 -s 1 -i 1000000 -- $B4 &&
		talk_start 41901 -- 192.0.2.9 && until_true has_reason 41901 not-established && has_reason 41900 not-judged &&
		in_host 41900 && in_host 41901 && talk_stop 41900
}

ktap_print_header
ktap_set_plan 7
# segments that were not lost, but late, are sent again; what tells of that are options that would have to be counted, too
topology veth && a sysctl -qw net.ipv4.tcp_sack=0 && b sysctl -qw net.ipv4.tcp_sack=0 && mkdir -p $CGROUP $BPF && bpftool prog loadall "$DIR"/sockmap.bpf.o $BPF && gate_load && listener ||
	ktap_exit_fail_msg "topology"
ktap_test_result "what took the path is what the sockets have sent and received" true_numbers
ktap_test_result "the gate's map says the same, and the counters of uploads" true_map
ktap_test_result "raw-socket" reason raw-socket raw_socket no_raw_socket
ktap_test_result "rewritten" reason rewritten rewrite no_rewrite
ktap_test_result "cgroup-bpf" in_cgroup reason cgroup-bpf cgroup_program no_cgroup_program
ktap_test_result "kernel-socket" kernel_socket
ktap_test_result "not-judged, not-established" too_early
ktap_finished
