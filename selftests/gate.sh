#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A site adds rules of its own to the gate (examples/backup_gate.bpf.c: only connections of backup.slice to 192.0.2.0/24)
# and puts it in the place of the one that is attached while connections are busy. There is no moment without a gate, what
# the one before knew the new one knows, and whoever fails or dies on the way leaves a gate in force. Topology veth of
# lib.sh:
#
#     netns host-a                                                netns host-b
#     cgroup /backup.slice/a: talk, IPv4 ──┐
#     cgroup /backup.slice/a: talk, IPv6 ──┼── [eth0] ------ [eth0] ── talk, port 7000, in the root cgroup
#     root cgroup:            talk, IPv4 ──┘

source "$(dirname "$(readlink -f "$0")")"/lib.sh

CG=/sys/fs/cgroup
SITE=$DIR/backup_gate.bpf.o
PINS=/sys/fs/bpf/chimney
tmp=$(mktemp -d)
trap 'rmdir $PINS/links/* 2>/dev/null; lib_cleanup; rmdir $CG/backup.slice/a $CG/backup.slice 2>/dev/null; rm -rf "$tmp"' EXIT

talk_in() { # CGROUP TALK...
	echo $BASHPID >$CG/"$1"/cgroup.procs && talk "${@:2}"
	local status=$?
	echo $BASHPID >$CG/cgroup.procs && return $status
}
BUSY=(-s 1000 -i 25)
chosen=36001
others="36002 36003"
ports="$chosen $others"
three() {
	talk_in backup.slice/a $chosen "${BUSY[@]}" -- $B4 && talk_in backup.slice/a 36002 "${BUSY[@]}" -- $B6 &&
		talk_in . 36003 "${BUSY[@]}" -- $B4
}
gate_is() { [ "$(cat /sys/kernel/chimney/gate)" = "$1" ] && [ "$(chimneyctl -j gate status | jq -r .gate)" = "$1" ]; }
tidy() { [ -e $PINS/gate ] && [ -z "$(find $PINS -name 'next*')" ]; }
by_site() { # only what the site's rules let out is out; host-b's ends are in no slice
	local port
	until_true offloaded $chosen && until_true in_host_b_for $chosen site || return
	for port in $others; do until_true in_host_for "$port" site || return; done
}

# Whoever looks at any moment finds a gate. (Looking without a pause would take half of an emulated machine.)
watch_gate() {
	local gate
	while read -r gate </sys/kernel/chimney/gate && [ "$gate" != none ]; do
		printf . >>"$tmp/looks"
		tick 0.01
	done
	echo none >"$tmp/gone"
}
replaced() { # COMMAND...: it replaces the gate
	local watcher status=0 looks
	rm -f "$tmp/looks" "$tmp/gone"
	watch_gate &
	watcher=$!
	pids+=("$watcher")
	until_true [ -s "$tmp/looks" ]
	"$@" || status=$?
	looks=$(looks)
	until_true more_looks "$looks"
	kill $watcher && ! wait $watcher 2>/dev/null && [ ! -e "$tmp/gone" ] && return $status
}
looks() { stat -c %s "$tmp/looks"; }
more_looks() { (($(looks) > $1)); }

busy() {
	three && all until_true both_offloaded || return
	replaced chimneyctl gate replace "$SITE" && gate_is backup_gate && tidy && all progress && by_site
}
before() {
	talk_in backup.slice/a 36004 "${BUSY[@]}" -- $B4 && talk_in . 36005 "${BUSY[@]}" -- $B4 || return
	until_true offloaded 36004 && until_true moved_on 36005 0 400 && in_host_for 36005 site &&
		[ "$(flow 36005 .offloads)" = 0 ] && talk_stop 36004 && talk_stop 36005
}

# Of one EtherType and on all devices: a tap that the module knows nothing of.
capture() {
	: >"$tmp/said"
	"$DIR"/capture.py listen "$tmp/pcap" netns=/run/netns/host-a type=ip 2>"$tmp/said" &
	tap=$!
	pids+=("$tap")
	until_true grep -q listening "$tmp/said"
}
captured() { in_host_for $chosen capture; }
# It has begun under the gate before.
capture_known() {
	until_true offloaded $chosen && capture && until_true captured && replaced chimneyctl gate replace "$SITE" &&
		progress $chosen && until_true captured && kill $tap && by_site
}

# refuses TEXT FILE: nothing changes
refuses() {
	local said status=0 before
	before=$(flow $chosen .offloads)
	said=$(chimneyctl gate replace "$2" 2>&1) || status=$?
	say "$said"
	[ $status = 1 ] && [[ $said = *"$1"* ]] && gate_is backup_gate && tidy && offloaded $chosen &&
		[ "$(flow $chosen .offloads)" = "$before" ]
}
refused_all() {
	: >"$tmp/empty"
	by_site && refuses 'nowhere: No such file or directory' "$tmp/nowhere" && refuses 'is no file with a gate' "$tmp" &&
		refuses 'is no file with a gate' "$tmp/empty" && refuses 'is no gate' "$DIR/talk" &&
		refuses 'is no gate' "$DIR/idle_gate.bpf.o"
}

# Whatever became of the pins, the gate in force sees what it has to: a capture takes its flow off the path.
sees_capture() { capture && off_path $chosen && progress $chosen && in_host $chosen && kill $tap; }
replaced_by_site() { replaced chimneyctl gate replace "$SITE" && tidy && gate_is backup_gate && by_site; }

# Killed at any step, it leaves the old gate or the new one, with all that either needs to know.
dies() {
	local step
	for step in open load pin links scan update; do
		CHIMNEY_DIE_AFTER=$step chimneyctl gate replace >/dev/null 2>&1
		(($? == 137)) || return
		if [ $step = update ]; then gate_is chimney; else gate_is backup_gate; fi || return
		until_true offloaded $chosen || { say "after $step"; return 1; }
	done
	# by what the new gate has left where it was made ready; the reasons that are shown are still those of the old one
	sees_capture && until_true offloaded $chosen && replaced_by_site
}
# Pins that have no place to be moved to: the new gate keeps what it has to see by them.
stuck() {
	local links said status=0
	mapfile -t links < <(ls $PINS/links)
	rm $PINS/links/* && (cd $PINS/links && mkdir "${links[@]}") || return
	said=$(chimneyctl gate replace "$SITE" 2>&1) || status=$?
	say "$said"
	# without its pin a trigger goes, if not at once
	[ $status = 1 ] && [[ $said = *"moving $PINS"* ]] && until_true offloaded $chosen &&
		[ "$(find $PINS -type f -path '*/links/*' | wc -l)" = ${#links[@]} ] &&
		sees_capture && (cd $PINS/links && rmdir "${links[@]}") && replaced_by_site
}
own_again() { replaced chimneyctl gate replace && tidy && gate_is chimney && all until_true both_offloaded; }
loaded() {
	chimneyctl gate unload && all off_path && [ ! -e $PINS ] && chimneyctl gate load "$SITE" &&
		gate_is backup_gate && by_site && all talk_stop
}
none() {
	local said status=0
	chimneyctl gate unload
	said=$(chimneyctl gate replace 2>&1) || status=$?
	[ $status = 3 ] && [[ $said = *'no gate is loaded: "gate load"'* ]] && [ ! -e $PINS ]
}

ktap_print_header
[ -e "$SITE" ] || ktap_skip_all "no $SITE (built beside the gate)"
ktap_set_plan 9
topology veth && mkdir -p $CG/backup.slice/a && gate_load && listener || ktap_exit_fail_msg "topology"
ktap_test_result "replaced while busy, never without a gate" busy
ktap_test_result "replaced before the connection" before
ktap_test_result "a capture from before is known" capture_known
ktap_test_result "what is no gate is refused" refused_all
ktap_test_result "killed while replacing" dies
ktap_test_result "its pins cannot be moved" stuck
ktap_test_result "replaced by chimneyctl's own" own_again
ktap_test_result "loaded with a site's rules" loaded
ktap_test_result "nothing to replace" none
ktap_finished
