#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# chimneyctl as a person meets it: what it does not understand it refuses, names the wrong word and those that are allowed,
# exits with the documented code and changes nothing; knobs, lists and devices are what it was told. Topology veth of
# lib.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

K=/sys/kernel/chimney

# refuses CODE TEXT WORD...: chimneyctl WORD... exits with CODE, prints nothing but one line with TEXT, on stderr
refuses() {
	local code=$1 text=$2 said status=0
	shift 2
	said=$(chimneyctl "$@" 2>&1 >/dev/null) || status=$?
	[ $status = "$code" ] && [[ $said = "chimneyctl: "*"$text"* ]] && [ "$(wc -l <<<"$said")" = 1 ] && return
	say "chimneyctl $*: status $status, not $code: $said"
	return 1
}
prints() { # TEXT WORD...: exactly this
	local said
	said=$(chimneyctl "${@:2}") && [ "$said" = "$1" ] && return
	say "chimneyctl ${*:2}: $said"
	return 1
}

objects="one of status, gate, flows, explain, stats, monitor, set, port, cgroup, top, check"
words() {
	refuses 2 "unknown object \"flow_\": $objects" flow_ &&
		refuses 2 'unknown object "": ' "" &&
		refuses 2 'gate command missing: one of load, replace, unload, status' gate &&
		refuses 2 'unknown gate command "lod": one of load, replace, unload, status' gate lod &&
		refuses 2 'unexpected word "now"' status now &&
		refuses 2 'unexpected word "-j": options stand before the object' status -j &&
		refuses 2 'unexpected word "eth1"' stats eth0 eth1 &&
		refuses 2 'unexpected word "now"' monitor now &&
		refuses 3 'network namespace "nowhere": No such file' -n nowhere status
}
no_option() {
	local said status=0
	said=$(chimneyctl --colour status 2>&1) || status=$?
	[ $status = 2 ] && [[ $said = *"unrecognized option '--colour'"*"see chimneyctl --help"* ]] || return
	refuses 2 'bad value "blue" for --color: always, never or auto' --color=blue status || return
	said=$(chimneyctl 2>&1 >/dev/null) || status=$?
	[ $status = 2 ] && [[ $said = "Usage: "* ]] && [[ $(chimneyctl --help) = "Usage: "* ]] &&
		[[ $(chimneyctl -V) = "chimneyctl "* ]]
}
ends() {
	refuses 2 'LOCAL:PORT missing' explain && refuses 2 'REMOTE:PORT missing' explain 192.0.2.1:80 &&
		refuses 2 '"192.0.2.1" has no port: ADDRESS:PORT' explain 192.0.2.1 192.0.2.2:80 &&
		refuses 2 'bad port "http" in "192.0.2.1:http": 0 to 65535' explain 192.0.2.1:http 192.0.2.2:80 &&
		refuses 2 'bad port "65536"' explain 192.0.2.1:65536 192.0.2.2:80 &&
		refuses 2 'bad address in "192.0.2:80": 192.0.2.1:80 or [2001:db8::1]:80' explain 192.0.2:80 192.0.2.2:80 &&
		refuses 2 'bad address in "2001:db8::1:80"' explain 2001:db8::1:80 192.0.2.2:80 &&
		refuses 3 'no TCP connection 192.0.2.1:1 192.0.2.2:2' -n host-a explain 192.0.2.1:1 192.0.2.2:2
}
filters() {
	local prefix='an address, or a prefix as in 192.0.2.0/24 or 2001:db8::/32' bad
	refuses 2 'unknown word "now": one of local, remote, address, port, lport, rport, dev, state, reason, cgroup, sort' \
		flows now || return
	for bad in 192.0.2 192.0.2.0/33 192.0.2.0/ 192.0.2.0/-1 192.0.2.0/2x 2001:db8::/129 2001:db8::1::2 /24 ""; do
		refuses 2 "bad value \"$bad\" for remote: $prefix" flows remote "$bad" || return
	done
	for bad in http 80- 99-80 65536 '80,,' ""; do
		refuses 2 "bad value \"$bad\" for lport: ports and ranges from 0 to 65535" flows lport "$bad" || return
	done
	refuses 2 "value of local missing: $prefix" flows local && refuses 2 'value of port missing: ports' flows dev lo port &&
		refuses 2 'value of dev missing: a device' flows dev && refuses 2 'value of cgroup missing: a path' flows cgroup &&
		refuses 2 'state missing: one of in-host, offloading, offloaded, uploading' flows state &&
		refuses 2 'unknown state "off": one of in-host, offloading, offloaded, uploading' flows state off &&
		refuses 2 'reason missing: one of none, no-gate, ' flows reason &&
		refuses 2 'unknown reason "natt": one of none, no-gate, ' flows reason natt &&
		refuses 2 'order missing: one of local, remote, state, offloads, packets, bytes, payload' flows sort &&
		refuses 2 'unknown order "size": one of local, ' flows sort size &&
		refuses 3 'no device "eth99" that chimney knows' flows dev eth99 &&
		refuses 2 'bad value "a" for cgroup: a path from the root of cgroup v2' flows cgroup a &&
		refuses 3 'no cgroup "/nowhere" in /sys/fs/cgroup' flows cgroup /nowhere
}
views() {
	local bad
	refuses 2 'unknown format "xml": one of text, json, openmetrics, prometheus' stats -f xml &&
		refuses 2 'bad option "-x": stats [-f FORMAT] [DEV]' stats -x && refuses 2 'bad option "-f": stats' stats -f &&
		refuses 2 'unexpected word "eth1"' stats eth0 -f json eth1 &&
		refuses 3 'no device "eth99" that chimney knows' stats -f prometheus eth99 || return
	for bad in 0 0.09 3601 x 1s nan ""; do
		refuses 2 "bad value \"$bad\" for -d: seconds, from 0.1 to 3600" top -d "$bad" || return
	done
	for bad in 0 -1 x 1x ""; do
		refuses 2 "bad value \"$bad\" for -n: a number from 1" top -n "$bad" || return
	done
	refuses 2 'bad option "-x": top [-b] [-d SECONDS] [-n TIMES]' top -x && refuses 2 'bad option "-d": top' top -d &&
		refuses 2 'unexpected word "now"' top -b now &&
		refuses 1 'input and output are no terminal: top -b does without' top </dev/null
}
# after an upgrade the module that is loaded may be of another version
other_version() {
	local version words
	version=$(mktemp) && echo 0.0 >"$version" && mount --bind "$version" /sys/module/chimney/version || return
	for words in flows "flows state in-host" "explain 192.0.2.1:1 192.0.2.2:2" "gate load" "gate status" monitor check "top -b" \
		"stats -f openmetrics"; do
		# shellcheck disable=SC2086 # several words
		refuses 1 'the module that is loaded is version 0.0, this is chimneyctl ' $words || break
		words=
	done
	umount /sys/module/chimney/version && rm "$version" && [ -z "$words" ] && chimneyctl gate status >/dev/null
}
no_module() {
	local object
	for object in "gate load" "gate status" status flows check stats "stats -f prometheus" "top -b" monitor set \
		"set mode enabled" "port list" "port add local 1" "cgroup add /a"; do
		# shellcheck disable=SC2086 # several words
		refuses 3 'the module is not loaded: modprobe chimney' $object || return
	done
}

# turns KNOB VALUE BAD ALLOWED: KNOB becomes VALUE; BAD is refused, and leaves it
turns() {
	local was
	was=$(cat $K/"$1")
	chimneyctl set "$1" "$2" && [ "$(cat $K/"$1")" = "$2" ] && [ "$(chimneyctl -j set | jq -r ".$1")" = "$2" ] &&
		refuses 2 "bad value \"$3\" for $1: $4" set "$1" "$3" && refuses 2 "value of $1 missing: $4" set "$1" &&
		refuses 2 'unexpected word "x"' set "$1" "$2" x && [ "$(cat $K/"$1")" = "$2" ] && chimneyctl set "$1" "$was"
}
knobs() {
	turns mode automatic fast "disabled, enabled or automatic" &&
		turns max_flows 16777216 16777217 "a number from 0 to 16777216" &&
		turns automatic_speed 1000 1G "a number from 0 to 2147483647, in Mbit/s" &&
		turns automatic_rtt 0 1.5 "a number from 0 to 2147483647, in microseconds" &&
		turns automatic_bytes 2147483647 "" "a number from 0 to 2147483647" &&
		turns holddown_min 3600000 3600001 "a number from 0 to 3600000, in milliseconds" &&
		turns holddown_max 0 1s "a number from 0 to 3600000, in milliseconds" &&
		turns local_ports 22,443 443- "ports and ranges from 0 to 65535, as in 443,8000-8099, or all" &&
		turns remote_ports 0-65535 65536 "ports and ranges from 0 to 65535, as in 443,8000-8099, or all" &&
		refuses 2 'unknown knob "modus": one of dev, mode, max_flows, ' set modus enabled
}
port() {
	prints $'local all\nremote all' port list && chimneyctl port add local 443 && chimneyctl port add local 8000-8099,80 &&
		prints $'local 80,443,8000-8099\nremote all' port list && chimneyctl port del local 443,8050 &&
		prints '{"local":"80,8000-8049,8051-8099","remote":"all"}' -j port list &&
		refuses 2 'bad ports "80-": ports and ranges' port add local 80- &&
		refuses 2 'bad ports "99-80": ' port del local 99-80 && refuses 2 'bad ports "65536": ' port add local 65536 &&
		refuses 1 'no local port would be left' port del local 0-65535 &&
		refuses 2 'unknown end "here": local or remote' port add here 80 &&
		refuses 2 'PORTS missing: port del' port del remote && refuses 2 'local or remote missing' port add &&
		chimneyctl port del remote 25 && prints $'local 80,8000-8049,8051-8099\nremote 0-24,26-65535' port list &&
		chimneyctl set local_ports all && chimneyctl set remote_ports all
}
cgroup() {
	prints all cgroup list && chimneyctl cgroup add /a/b && chimneyctl cgroup add /c && prints $'/a/b\n/c' cgroup list &&
		prints '["/a/b","/c"]' -j cgroup list && refuses 3 '"/b" is not among the cgroups chosen' cgroup del /b &&
		refuses 2 'bad cgroup "a/b": a path from the root' cgroup add a/b && refuses 2 'PATH missing' cgroup add &&
		chimneyctl cgroup del /a/b && chimneyctl cgroup del /c && prints all cgroup list && prints '[]' -j cgroup list
}
device() {
	chimneyctl -n host-a set dev eth0 off && [ "$(dev_a enable)" = 0 ] && chimneyctl -n host-a set dev eth0 on &&
		[ "$(dev_a enable)" = 1 ] && refuses 2 'bad value "yes" for dev eth0: on or off' -n host-a set dev eth0 yes &&
		refuses 3 'no device "eth99" that chimney knows' -n host-a set dev eth99 on &&
		refuses 2 '"../x" is no name of a device' -n host-a set dev ../x on &&
		refuses 1 'lo: only Ethernet devices are served' -n host-a set dev lo on &&
		refuses 2 'DEV missing' set dev && refuses 2 'on or off missing' -n host-a set dev eth0 &&
		refuses 3 'no device "eth99" that chimney knows' -n host-a stats eth99
}
nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups chimneyctl "$@"; }
not_root() {
	local words said
	for words in "gate load" "gate unload" flows check "top -b" "stats -f openmetrics" \
		"set mode disabled" "port add local 80" "cgroup add /a"; do
		# shellcheck disable=SC2086 # several words
		! said=$(nobody $words 2>&1) && [[ $said = "chimneyctl: "*"only root may do this" ]] ||
			{ say "$words: $said"; return 1; }
	done
	[ "$(cat $K/mode)" = enabled ] && nobody status >/dev/null && nobody stats >/dev/null && nobody set >/dev/null
}
json() {
	local words
	for words in status "gate status" flows "flows state in-host" stats set "port list" "cgroup list"; do
		# shellcheck disable=SC2086 # several words
		chimneyctl -j $words | jq -e 'type == "object" or type == "array"' >/dev/null &&
			[ "$(chimneyctl -p $words | jq -c .)" = "$(chimneyctl -j $words | jq -c .)" ] ||
			{ say "$words"; return 1; }
	done
}
# what cannot be written is said to have failed
full() { ! chimneyctl -j status >/dev/full 2>/dev/null; }

ktap_print_header
ktap_set_plan 14
topology veth || ktap_exit_fail_msg "topology"
modprobe -qr chimney
ktap_test_result "without the module" no_module
gate_load || ktap_exit_fail_msg "gate"
ktap_test_result "words that it does not know" words
ktap_test_result "options, and none" no_option
ktap_test_result "ends of a connection" ends
ktap_test_result "filters of flows" filters
ktap_test_result "formats and views" views
ktap_test_result "another version" other_version
ktap_test_result "knobs" knobs
ktap_test_result "ports" port
ktap_test_result "cgroups" cgroup
ktap_test_result "devices" device
ktap_test_result "who is not root" not_root
ktap_test_result "all of it as JSON" json
ktap_test_result "a full disk" full
ktap_finished
