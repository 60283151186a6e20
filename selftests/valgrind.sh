#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# chimneyctl reads and writes no memory that is not its own, and gives back what it has allocated, whatever it is asked.
# Topology veth of lib.sh. (-n is left out where it is to find devices: valgrind does not know fsopen(2). Of what it does not
# know it warns in lines that begin with "--".)

source "$(dirname "$(readlink -f "$0")")"/lib.sh

log=$(mktemp -d)
trap 'lib_cleanup; rm -rf "$log"' EXIT

# clean STATUS WORD...: chimneyctl WORD... in host-a exits with STATUS, and valgrind has nothing to say of it.
clean() {
	local status=0
	a timeout -s INT "$LIMIT" valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect,possible \
		--suppressions="$DIR"/valgrind.supp --log-file="$log/%p" chimneyctl "${@:2}" >"$log/out" 2>&1 || status=$?
	! grep -hv '^--' "$log"/[0-9]* && [ $status = "$1" ] && rm -f "$log"/[0-9]* && return
	say "chimneyctl ${*:2}: status $status, not $1"
	sed 's/^/# /' "$log"/[0-9]* "$log/out"
	return 1
}
LIMIT=$((120 * ${PATIENCE:-1}))
# What differs in little from another, each of which takes seconds, is for `make check-long`.
also() { ! long || clean "$@"; }

flows() {
	clean 0 -j flows state offloaded sort bytes && also 0 flows && also 0 -p -c flows local $A4 && also 0 flows rport 1 &&
		also 0 -j -n host-b flows
}
explained() {
	also 0 explain $A4:$v4 $B4:$PORT && clean 0 -j explain "[$A6]:$v6" "[$B6]:$PORT"
}
totals() { clean 0 status && also 0 -j status && also 0 stats && also 0 -j stats && clean 0 stats --format openmetrics; }
foreseen() {
	also 0 check && b nft add table inet t && a nft -f - <<-END || return
		table inet t {
			chain c {
				type filter hook input priority 0
				meta length 100 accept
			}
		}
	END
	also 4 check && clean 4 -j check && until_true in_host_for $v4 packet-rules && also 0 explain $A4:$v4 $B4:$PORT &&
		a nft delete table inet t && b nft delete table inet t && all until_true both_offloaded
}
# "monitor" ends by a signal, "top" by itself
live() {
	set_dev_a enable 0 && LIMIT=10 clean 124 monitor && set_dev_a enable 1 && also 0 -j top -d 0.1 -n 2 && clean 0 top -b -d 0.1 -n 2
}
knobs() {
	also 0 set && also 0 set max_flows 1000 && clean 0 port add local 1-65535 && also 0 port list && clean 0 port del local 1 &&
		clean 0 set local_ports all && also 0 cgroup list && clean 0 -j set
}
mistakes() {
	also 2 nothing && clean 2 flows sort x && also 2 flows lport && clean 2 flows local 1.2.3 && clean 2 set mode x &&
		also 2 set max_flows x && clean 2 explain x y && also 2 gate x && clean 3 -n none flows
}
# reading the kernel's types takes minutes under valgrind
gate() { clean 0 gate status && also 0 -j gate status && { not long || LIMIT=$((LIMIT * 10)) clean 0 gate replace; }; }

v4=38898
ktap_print_header
ktap_set_plan 8
topology veth && gate_load && listener || ktap_exit_fail_msg "topology"
talk_both -s 1000 -i 50 && all until_true both_offloaded || ktap_exit_fail_msg "conversations"
ktap_test_result "flows" flows
ktap_test_result "explain" explained
ktap_test_result "status, stats" totals
ktap_test_result "check" foreseen
ktap_test_result "monitor, top" live
ktap_test_result "set, port, cgroup" knobs
ktap_test_result "what it does not understand" mistakes
ktap_test_result "gate" gate
ktap_finished
