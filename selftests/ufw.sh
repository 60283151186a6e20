#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A firewall as administrators know it: ufw on host-b is switched on, changed, loaded anew and switched off while two
# connections are busy. What it allows is offloaded, what it denies does not arrive, and no byte is lost. It accepts what
# conntrack knows before it looks at its rules, so that only a connection that conntrack has forgotten is denied. Topology
# veth of lib.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

tmp=$(mktemp -d)
trap 'lib_cleanup; rm -rf "$tmp"' EXIT

ufw() { b ufw "$@" >"$tmp/ufw" 2>&1 || { sed 's/^/# /' "$tmp/ufw"; return 1; }; }

v4=34000
start() { talk_both -s 2000 -i 25 && all until_true both_offloaded; }
goes_on() { all progress && all until_true both_offloaded; }
stop() { all talk_stop; }

enabled() { ufw allow $PORT/tcp && start && rules_change ufw --force enable; }
before() { stop && start && goes_on; }
reloaded() { rules_change ufw reload; }

# Nothing of a connection arrives after that, whatever is sent again, until it is allowed.
denied() {
	ufw deny $PORT/tcp && goes_on && b conntrack -D -p tcp --dport $PORT >"$tmp/conntrack" 2>&1 && silenced
}
allowed() { ufw allow $PORT/tcp && goes_on; }

# It logs what it allows as well: that is each packet of it.
logged() { ufw logging full && all until_true in_host_b_each && all progress && all in_host_b_each; }
in_host_b_each() { in_host_b_for "$1" each-packet; }
not_logged() { ufw logging low && goes_on; }

disabled() { rules_change ufw disable && stop; }

ktap_print_header
ktap_set_plan 8
topology veth && modprobe nf_conntrack && gate_load && listener || ktap_exit_fail_msg "topology"
ktap_test_result "enabled while busy" enabled
ktap_test_result "enabled before the connection" before
ktap_test_result "loaded anew while busy" reloaded
ktap_test_result "denied: nothing arrives any more" denied
ktap_test_result "allowed again: it goes on where it was" allowed
ktap_test_result "logging full: in the host" logged
ktap_test_result "logging low: on the path" not_logged
ktap_test_result "disabled while busy, every byte is right" disabled
ktap_finished
