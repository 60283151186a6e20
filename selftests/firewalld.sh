#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The other firewall that administrators know: firewalld, with rules of nftables, is started on host-b, changed, loaded
# anew and stopped while two connections are busy. What it allows is offloaded, what it refuses does not arrive, and no
# byte is lost. Its rules accept what conntrack knows before they look at ports and zones, so that only a connection that
# conntrack has forgotten is refused. firewalld and its D-Bus have a /run of their own. Topology veth of lib.sh:
#
#     netns host-a                 netns host-b
#     talk ── [eth0] ------ [eth0] ── rules ── talk
#                                       │
#          firewall-cmd ── D-Bus ── firewalld

source "$(dirname "$(readlink -f "$0")")"/lib.sh

tmp=$(mktemp -d)
trap 'lib_cleanup; rm -rf "$tmp"' EXIT

# Nobody but root is on this bus, and nobody is started by it (polkit would be).
cat >"$tmp/bus.conf" <<-END
	<busconfig>
	<type>system</type>
	<listen>unix:path=/run/dbus/system_bus_socket</listen>
	<auth>EXTERNAL</auth>
	<policy context="default">
	<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
	</policy>
	</busconfig>
END

bus() {
	nsenter --net=/run/netns/host-b unshare --mount bash -c "mount -t tmpfs run /run && mkdir /run/dbus &&
		exec dbus-daemon --config-file='$tmp/bus.conf' --nofork --nopidfile" &
	bus=$!
	pids+=("$bus")
	until_true bus_is_up
}
beside_bus() { nsenter --mount=/proc/$bus/ns/mnt --net=/run/netns/host-b "$@"; }
bus_is_up() { beside_bus test -S /run/dbus/system_bus_socket; }
# A machine that is busy may answer after the time that firewall-cmd waits; the next question is answered after this one.
fw() {
	beside_bus firewall-cmd "$@" >"$tmp/fw" 2>&1 && return
	sed 's/^/# /' "$tmp/fw"
	grep -q 'Did not receive a reply' "$tmp/fw" && until_true beside_bus firewall-cmd --quiet --state
}

# What it begins with, and what loading it anew comes back to: as installed, and the port of the connections.
settings() {
	cp -r /etc/firewalld "$tmp/etc" &&
		sed "s|</zone>|<port port=\"$PORT\" protocol=\"tcp\"/>&|" /usr/lib/firewalld/zones/public.xml >"$tmp/etc/zones/public.xml"
}
firewalld() {
	nsenter --mount=/proc/$bus/ns/mnt --net=/run/netns/host-b firewalld --nofork --nopid --system-config "$tmp/etc" \
		--log-target console >"$tmp/log" 2>&1 &
	firewalld=$!
	pids+=("$firewalld")
	until_true beside_bus firewall-cmd --quiet --state
}
firewalld_ends() { kill "$firewalld" && { wait "$firewalld" || :; } && [ -z "$(b nft list ruleset)" ]; }

v4=35000
start() { talk_both -s 2000 -i 25 && all until_true both_offloaded; }
goes_on() { all progress && all until_true both_offloaded; }
stop() { all talk_stop; }

started() { start && rules_change firewalld; }
before() { stop && start && goes_on; }
reloaded() { rules_change fw --reload; }

# forgotten: conntrack does not know the connections any more. At that moment nothing is on its way: what host-b sends
# would make an entry of its own, to which all that follows belongs.
forgotten() {
	local port
	for port in $ports; do kill -STOP "${talk_pid[$port]}"; done
	all until_true quiet && b conntrack -D -p tcp --dport $PORT >"$tmp/conntrack" 2>&1 || return
	for port in $ports; do kill -CONT "${talk_pid[$port]}"; done
}
quiet() { stopped "$1" && [ -z "$(a ss -Htn "sport = :$1" | awk '$3 > 0')$(b ss -Htn "dport = :$1" | awk '$3 > 0')" ]; }

# denied COMMAND...: from then on nothing of the connections arrives, whatever is sent again.
denied() { "$@" && goes_on && forgotten && silenced; }
allowed() { "$@" && goes_on; }

# Only a connection's first packet comes to it.
logged() {
	fw --zone=public --change-interface=eth0 &&
		rules_change fw --add-rich-rule="rule port port=$PORT protocol=tcp log prefix=talk level=info accept" && before
}
ended() { rules_change firewalld_ends && stop; }

ktap_print_header
ktap_set_plan 9
topology veth && modprobe nf_conntrack && settings && bus && gate_load && listener || ktap_exit_fail_msg "topology"
ktap_test_result "started while busy" started
ktap_test_result "started before the connection" before
ktap_test_result "loaded anew while busy" reloaded
ktap_test_result "port removed: nothing arrives any more" denied fw --remove-port=$PORT/tcp
ktap_test_result "port added: it goes on where it was" allowed fw --add-port=$PORT/tcp
ktap_test_result "device in the zone drop: nothing arrives any more" denied fw --zone=drop --change-interface=eth0
ktap_test_result "device in the zone trusted: it goes on where it was" allowed fw --zone=trusted --change-interface=eth0
ktap_test_result "a rich rule that logs connections: on the path" logged
ktap_test_result "stopped while busy, every byte is right" ended
sed 's/^/# firewalld: /' "$tmp/log"
ktap_finished
