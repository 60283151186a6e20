#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Applications that do not copy what they send and receive (the methods of talk, see zerocopy.c) do so on the path, and
# the kernel gives their buffers back when it did without it. Topologies veth, hub and e1000e of lib.sh:
#
#     veth	the packets of the one host are those of the other, which must not keep the sender's pages: it has copies
#     hub	a NIC without scatter/gather, for which the kernel copies
#     e1000e	a NIC that reads the sender's pages itself
#
# In takes_path a conversation turns to its method when it is offloaded; before that it is a plain one.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

# lent METHOD ADDRESS none|some|all: how many of the buffers are copied after all.
lent() {
	local port=$port_next lent copied
	takes_path "$2" 0 $TOTAL -x "$1" || return
	read -r lent copied < <(awk '/^zerocopy:/ { print $2, $7 }' "$talk_out.$port")
	((lent > 30)) || return
	case $3 in
	none) ((copied == 0)) ;;
	all) ((copied == lent)) ;;
	esac
}

# What comes from a sender who does not copy is in pages, and these are mapped; what is left over is copied.
mapped() { # ADDRESS
	local port=$port_next PORT=$((PORT + 1))
	takes_path "$1" 0 $TOTAL -x mmap && (($(awk '/^zerocopy:/ { print $2 }' "$talk_out.$port") > 0))
}

# With the method from the first byte on, and while the flow leaves the path and comes back, again and again.
leaves_and_returns() { # METHOD
	local port=$((port_next++)) _
	talk $port -s 0 -x "$1" -- $B4 && until_true both_offloaded $port || return
	for _ in 1 2 3; do
		set_dev_a enable 0 && off_path $port && progress $port && until_true in_host $port || return
		set_dev_a enable 1 && until_true offloaded $port && progress $port || return
	done
	talk_stop $port
}

# The other end's TCP has it, the other end's application does not take it: the buffers come back all the same.
returned_unread() {
	local port=$((port_next++)) echo
	talk $port -s 50000 -x zerocopy -- $B4 && until_true both_offloaded $port || return
	echo=$(b ss -Htnp state established "dport = :$port" | grep -o 'pid=[0-9]*' | cut -d= -f2)
	until_true stalled "$echo" $port && until_true nothing_lent $port && unread $port && both_offloaded $port
	local status=$?
	kill -CONT "$echo"
	talk_stop $port && return $status
}
# Stopped, with something left to read: it may have been stopped when it had just read all.
stalled() { # PID LPORT
	kill -STOP "$1"
	unread "$2" && return
	kill -CONT "$1" && progress "$2" && kill -STOP "$1"
	return 1
}
unread() { (($(b ss -Htn state established "dport = :$1" | awk '{ print $1 }') > 0)); }
# "o": memory of completions that are yet to come
nothing_lent() { a ss -Htnm state established "sport = :$1" | grep -q ',o0,'; }

TOTAL=3000000
declare -A copies=([veth]=all [hub]=some [e1000e]=none)
port_next=33000
ktap_print_header
ktap_set_plan "$(long && echo 22 || echo 19)"
gate_load || ktap_exit_fail_msg "the gate"
for topo in veth hub e1000e; do
	[ $topo != e1000e ] || modprobe e1000e
	topology $topo && listener || ktap_exit_fail_msg "topology $topo"
	ktap_test_result "$topo: MSG_ZEROCOPY, IPv4, copied: ${copies[$topo]}" lent zerocopy $B4 ${copies[$topo]}
	ktap_test_result "$topo: sendfile, IPv4" takes_path $B4 0 $TOTAL -x sendfile
	if [ $topo = veth ] || long; then
		ktap_test_result "$topo: MSG_ZEROCOPY, IPv6, copied: ${copies[$topo]}" lent zerocopy $B6 ${copies[$topo]}
	fi
	if [ $topo = veth ]; then
		PORT=$((PORT + 1)) listener -x zerocopy || ktap_exit_fail_msg "second listener"
		ktap_test_result "$topo: sendfile, IPv6" takes_path $B6 0 $TOTAL -x sendfile
		for method in splice uring; do
			ktap_test_result "$topo: $method, IPv4" takes_path $B4 0 $TOTAL -x $method
			ktap_test_result "$topo: $method, IPv6" takes_path $B6 0 $TOTAL -x $method
		done
		ktap_test_result "$topo: io_uring's SEND_ZC, IPv4" lent uring-zc $B4 all
		ktap_test_result "$topo: TCP_ZEROCOPY_RECEIVE, IPv4" mapped $B4
		ktap_test_result "$topo: TCP_ZEROCOPY_RECEIVE, IPv6" mapped $B6
		ktap_test_result "$topo: buffers come back though nobody reads" returned_unread
		ktap_test_result "$topo: splice while the flow leaves and returns" leaves_and_returns splice
		ktap_test_result "$topo: SEND_ZC while the flow leaves and returns" leaves_and_returns uring-zc
	elif [ $topo = e1000e ] || long; then
		ktap_test_result "$topo: MSG_ZEROCOPY while the flow leaves and returns" leaves_and_returns zerocopy
	fi
	hosts_gone
done
ktap_finished
