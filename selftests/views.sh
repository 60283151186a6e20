#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What chimneyctl shows of flows is what was asked for: the filters and orders of "flows", its colours, the metrics for
# monitoring systems (read by Prometheus' own tool), "top" in a terminal and without, and completion in bash. Three
# conversations of host-a: one of each family that is offloaded, and one of IPv4 in a cgroup that may not be.
# Topology veth of lib.sh.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

CGROUP=/sys/fs/cgroup/views
V4=38601 V6=38602 HELD=38603
dir=$(mktemp -d)
trap 'lib_cleanup; rm -rf "$dir"; rmdir $CGROUP/inner $CGROUP 2>/dev/null' EXIT

in_cgroup() { # COMMAND...
	echo $BASHPID >$CGROUP/inner/cgroup.procs && "$@"
	local status=$?
	echo $BASHPID >/sys/fs/cgroup/cgroup.procs && return $status
}
conversations() {
	mkdir -p $CGROUP/inner && chimneyctl port del local $HELD && talk $V4 -s 1000 -i 25 -- $B4 &&
		talk $V6 -s 1000 -i 200 -- $B6 && in_cgroup talk $HELD -s 1000 -i 200 -- $B4 &&
		until_true both_offloaded $V4 && until_true both_offloaded $V6 && until_true in_host_for $HELD ports
}

# shows "LPORT..." WORD...: "flows WORD..." is these, as JSON in the shape that it has without words, and as lines
shows() {
	local said text
	said=$(chimneyctl -j -n host-a flows "${@:2}") && text=$(chimneyctl -q -n host-a flows "${@:2}") || return
	[ "$(jq -r '.[].lport' <<<"$said" | sort | xargs)" = "$1" ] &&
		[ "$(jq -c '.[] | keys' <<<"$said" | sort -u)" = "$([ -z "$1" ] || echo "$keys")" ] &&
		[ "$(sed 's/ .*//; s/.*://' <<<"$text" | sort | xargs)" = "$1" ] && return
	say "flows ${*:2}: not $1: $said; $text"
	return 1
}
by_address() {
	shows "$V4 $V6 $HELD" && shows "$V4 $HELD" local 192.0.2.0/24 && shows "$V4 $HELD" local $A4 &&
		shows "" local $B4 && shows "$V4 $HELD" local 192.0.2.0/31 && shows "" remote 192.0.2.0/31 &&
		shows "$V4 $HELD" remote 0.0.0.0/0 && shows "$V6" remote ::/0 && shows "$V6" local 2001:db8::/127 &&
		shows "" remote 2001:db8::/127 && shows "$V6" address $B6 && shows "$V4 $HELD" address $A4/32 &&
		shows "$V4 $V6 $HELD" address ::/0 address 192.0.2.0/24 && shows "" local $A4 remote $B6
}
by_port() {
	shows "$V4 $V6 $HELD" port $PORT && shows "" lport $PORT && shows "$V4 $V6 $HELD" rport 1,$PORT-7001 &&
		shows "$V6" port $V6 && shows "" rport $V6 && shows "$V4 $HELD" lport $V4 lport $HELD &&
		shows "$V4 $V6" lport $V4-$V6 port $PORT
}
by_other() {
	shows "$V4 $V6" state offloaded && shows "$HELD" state in-host && shows "" state uploading &&
		shows "$V4 $V6 $HELD" state in-host state offloaded && shows "$HELD" reason ports && shows "$HELD" reason nat reason ports &&
		shows "" reason nat && shows "" state offloaded reason ports && shows "$V4 $V6 $HELD" dev eth0 && shows "" dev lo &&
		shows "$HELD" cgroup /views && shows "$HELD" cgroup /views/inner/ && shows "$V4 $V6 $HELD" cgroup / &&
		[ "$(flow $HELD .cgroup)" = /views/inner ] && shows "$HELD" st in-host po $HELD d eth0 r 192.0.2.0/24
}
ordered() { # WORD FILTER: as jq's FILTER has it
	local said
	said=$(chimneyctl -j -n host-a flows sort "$1") && jq -e "[.[] | $2] | . == sort" <<<"$said" >/dev/null && return
	say "sort $1: $said"
	return 1
}
order() {
	ordered local .local && ordered remote '[.raddr, .rport, .lport]' && ordered state '.state == "offloaded"' &&
		ordered bytes '-(.tx_bytes + .rx_bytes)' && ordered packets '-(.tx_packets + .rx_packets)' &&
		ordered payload '-(.sent + .received)' && ordered offloads '-.offloads' &&
		[ "$(chimneyctl -j -n host-a flows local $A4 so payload | jq -c '[.[].lport]')" = "[$V4,$HELD]" ]
}
# what a socket has sent and received, as ss has it too
payload() {
	kill -STOP "${talk_pid[$V6]}" && until_true stopped $V6 && until_true as_ss && kill -CONT "${talk_pid[$V6]}"
}
as_ss() {
	[ "$(a ss -Htni "sport = :$V6" | sed 's/.* bytes_sent:\([0-9]*\).* bytes_received:\([0-9]*\).*/\1 \2/;t;d')" = \
		"$(flow $V6 '| "\(.sent) \(.received)"')" ]
}

green=$'\e[32moffloaded\e[0m' yellow=$'\e[33mports\e[0m'
on_terminal() { TERM=xterm script -qec "chimneyctl -n host-a $*" /dev/null; }
has_colors() { [[ $1 = *"$green"* && $1 = *"$yellow"* ]]; }
no_colors() { [[ $1 != *$'\e'* && $1 = *offloaded*ports* ]]; }
colors() {
	has_colors "$(on_terminal flows)" &&
		no_colors "$(chimneyctl -n host-a flows lport $V6,$HELD sort bytes)" &&
		no_colors "$(on_terminal -c=never flows lport $V6,$HELD sort bytes)" &&
		no_colors "$(NO_COLOR=1 on_terminal flows lport $V6,$HELD sort bytes)" &&
		has_colors "$(NO_COLOR=1 on_terminal --color=always flows)" && has_colors "$(NO_COLOR='' on_terminal flows)" &&
		has_colors "$(chimneyctl -n host-a -c flows)" && no_colors "$(chimneyctl -n host-a -c -j flows sort bytes)"
}

# metric NAME{LABELS}: its value in what was printed last
metric() { awk -v name="$1 " 'index($0, name) == 1 { print $NF }' "$dir/metrics"; }
readable() { # openmetrics|prometheus OPTION...: read by promtool, which has a parser of its own for either
	chimneyctl "${@:2}" stats --format "$1" >"$dir/metrics" || return
	case $1 in
	prometheus) promtool check metrics <"$dir/metrics" >"$dir/said" 2>&1 ;;
	# samples without a time would not be stored
	openmetrics) [ "$(tail -n 1 "$dir/metrics")" = "# EOF" ] && sed '/^#/!s/$/ 1700000000/' "$dir/metrics" >"$dir/timed" &&
		promtool tsdb create-blocks-from openmetrics "$dir/timed" "$dir/tsdb" >"$dir/said" 2>&1 ;;
	esac
}
metrics() { # FORMAT
	metrics_hold "$1" && return
	sed 's/^/# /' "$dir/said" "$dir/metrics"
	return 1
}
metrics_hold() {
	local counter name
	readable "$1" -n host-a && [ "$(metric 'chimney_flows{state="offloaded",netns="host-a"}')" = 2 ] &&
		[ "$(metric 'chimney_flows{state="in-host",netns="host-a"}')" = 1 ] && not grep -q reasons "$dir/metrics" &&
		[ "$(metric 'chimney_device_enabled{device="eth0",netns="host-a"}')" = 1 ] || return
	for counter in offloads uploads; do
		[ "$(metric "chimney_device_${counter}_total{device=\"eth0\",netns=\"host-a\"}")" = "$(dev_a $counter)" ] || return
	done
	for counter in packets bytes; do
		for name in transmit/tx receive/rx; do
			(($(metric "chimney_device_${counter}_total{device=\"eth0\",direction=\"${name%/*}\",netns=\"host-a\"}") <= \
				$(dev_a "${name#*/}_$counter"))) || return
		done
	done
	readable "$1" && [ "$(grep -c '^chimney_flow_reasons_total{reason=' "$dir/metrics")" = \
		"$(chimneyctl -j stats | jq '.reasons | length')" ] && [ "$(metric chimney_gate_attached)" = 1 ] &&
		[ "$(metric 'chimney_mode{mode="enabled"}') $(metric 'chimney_mode{mode="automatic"}')" = "1 0" ] &&
		[ "$(metric chimney_max_flows)" = 65536 ]
}
metrics_of_device() {
	chimneyctl -n host-a stats eth0 -f prometheus >"$dir/metrics" && not grep -vE '^#|device="eth0"' "$dir/metrics"
}

top_json() { chimneyctl -j -n host-a top -d 0.5 -n "$1" >"$dir/top"; }
top_says() { top_json 1 && jq -e "$1" "$dir/top" >/dev/null; }
batch() {
	top_json 3 && [ "$(jq -c . "$dir/top" | wc -l)" = 3 ] && jq -se 'map(.time) | . == sort' "$dir/top" >/dev/null &&
		jq -se 'all(.interval >= 0.5 and (.flows | length) == 3)' "$dir/top" >/dev/null || return
	until_true top_says '.path.tx_packets > 10 and .path.rx_bytes > 1000 and .states.offloaded == 2 and
		.reasons == { ports: 1 } and .host.tx_packets < .path.tx_packets and .flows[0].lport == '$V4' and
		.flows[0].sent_rate > 1000 and .flows[0].received_rate > 1000' || return
	mode disabled && until_true top_says '.path.tx_packets == 0 and .host.tx_packets > 10 and .host.rx_bytes > 1000 and
		.states["in-host"] == 3 and .reasons.mode == 3 and (.reasons | keys_unsorted[0]) == "mode" and
		.flows[0].lport == '$V4 && mode enabled && until_true both_offloaded $V4 && until_true both_offloaded $V6
}
batch_text() {
	local said
	said=$(chimneyctl -n host-a top -b -n 2 -d 0.1) && [[ $said != *$'\e'* ]] &&
		[ "$(grep -c "^chimney .* mode enabled gate chimney" <<<"$said")" = 2 ] &&
		[ "$(grep -cE "^states +[0-9]+ in-host, 0 offloading, 2 offloaded, 0 uploading" <<<"$said")" = 2 ] &&
		[ "$(grep -cE "^reasons +1 ports$" <<<"$said")" = 2 ] &&
		[ "$(grep -cE "^(path|host)( +[0-9]+){4}$" <<<"$said")" = 4 ] &&
		[ "$(grep -cE "^192.0.2.1:$HELD .* in-host +[0-9]+ +[0-9]+ ports$" <<<"$said")" = 2 ] && return
	say "${said//$'\n'/; }"
	return 1
}
terminal() { # WAY...
	local way
	for way; do "$DIR"/top.py "$way" chimneyctl -n host-a top -d 0.3 || { say "$way"; return 1; }; done
}
# it ends by itself, when that many views were shown, or there is nothing to show any more
terminal_ends() { on_terminal top -d 0.1 -n 2 >/dev/null; }

# completes LINE WORD...: these, in this order
completes() {
	COMP_LINE=$1 COMP_POINT=${#1}
	COMPREPLY=()
	_chimneyctl
	[ "${COMPREPLY[*]}" = "${*:2}" ] && return
	say "completion of \"$1\": ${COMPREPLY[*]}"
	return 1
}
loaded() { # as a shell that has bash-completion finds it
	bash -c '. /usr/share/bash-completion/bash_completion && _comp_load chimneyctl && complete -p chimneyctl' |
		grep -q -- '-F _chimneyctl chimneyctl'
}
completion() {
	loaded && source "$(dirname "$(command -v chimneyctl)")"/../share/bash-completion/completions/chimneyctl &&
		completes "chimneyctl st" status stats && completes "chimneyctl " status gate flows explain stats monitor set \
		port cgroup top check && completes "chimneyctl --c" --color && completes "chimneyctl -n host-" host-a host-b &&
		completes "chimneyctl ch" check && completes "chimneyctl check " &&
		completes "chimneyctl -j gate " load replace unload status && completes "chimneyctl gate l" load &&
		completes "chimneyctl flows s" state sort && completes "chimneyctl fl st i" in-host &&
		completes "chimneyctl flows lport 1 reason cap" capture && completes "chimneyctl flows sort pa" packets payload &&
		completes "chimneyctl -n host-a flows dev " eth0 lo && completes "chimneyctl -n host-a stats e" eth0 &&
		completes "chimneyctl flows cgroup /vie" /views && completes "chimneyctl flows cgroup /views/" /views/inner &&
		completes "chimneyctl stats -f o" openmetrics && completes "chimneyctl set ma" max_flows &&
		completes "chimneyctl set mode " disabled enabled automatic && completes "chimneyctl set max_flows " &&
		completes "chimneyctl -n host-b set dev " eth0 lo && completes "chimneyctl set dev eth0 o" on off &&
		completes "chimneyctl port add r" remote && completes "chimneyctl port list " &&
		completes "chimneyctl top --b" --batch && completes "chimneyctl status " && completes "chimneyctl nothing " &&
		completes "chimneyctl -n host-a explain 192.0.2.1:$V4" $V4 &&
		completes "chimneyctl -n host-a explain 192.0.2.1:$V4 192" 192.0.2.2:$PORT
}
# a name is no command, nor a pattern
evil_name() {
	# shellcheck disable=SC2016 # as it is
	ip -n host-a link add name '$(>evil)*' type dummy &&
		(cd "$dir" && completes "chimneyctl -n host-a stats \$" '\$\(\>evil\)\*') &&
		[ ! -e "$dir/evil" ] && ip -n host-a link del name '$(>evil)*'
}

ktap_print_header
ktap_set_plan 17
topology veth && gate_load && listener && conversations || ktap_exit_fail_msg "topology"
keys=$(chimneyctl -j -n host-a flows | jq -c '.[0] | keys')
ktap_test_result "flows by address" by_address
ktap_test_result "flows by port" by_port
ktap_test_result "flows by state, reason, device, cgroup, and several of these" by_other
ktap_test_result "flows in order" order
ktap_test_result "payload that a socket has sent and received" payload
ktap_test_result "colours on a terminal alone, unless told otherwise" colors
ktap_test_result "metrics for Prometheus" metrics prometheus
ktap_test_result "metrics as OpenMetrics" metrics openmetrics
ktap_test_result "metrics of one device" metrics_of_device
ktap_test_result "top as JSON: rates by the path and by the host, the busiest first" batch
ktap_test_result "top as text" batch_text
ktap_test_result "top on a terminal, which becomes smaller: q" terminal q
ktap_test_result "top gives the terminal back when stopped" terminal SIGTSTP orphan
ktap_test_result "top gives the terminal back to a signal" terminal SIGINT SIGTERM SIGHUP SIGSEGV
ktap_test_result "top ends after so many views" terminal_ends
ktap_test_result "completion" completion
ktap_test_result "completion of a name that looks like a command" evil_name
ktap_finished
