#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A cluster: keepalived gives two nodes an address (VIP) that moves between them. A node's flows to it are offloaded while
# it has the address and leave the path with it, at once; a flow to the node's own address is none of this' business.
#
#     netns host-a: client              netns switch              netns host-b: node, priority 100
#     [eth0 192.0.2.1  2001:db8::1] --- [bridge br0] ------- [eth0 192.0.2.2  2001:db8::2]   [uplink, dummy]
#                                            |               netns host-c: node, priority 90
#          VIP 192.0.2.100  2001:db8::100    '-------------- [eth0 192.0.2.3  2001:db8::3]   [uplink, dummy]

source "$(dirname "$(readlink -f "$0")")"/lib.sh

VIP4=192.0.2.100 VIP6=2001:db8::100
BUSY=(-s 2000 -i 25)
tmp=$(mktemp -d)
trap 'cluster_gone; lib_cleanup; rm -rf "$tmp"' EXIT

cluster_gone() {
	kill -TERM "${keepalived[@]}"
	hosts_gone
	ip netns del host-c
	ip netns del switch
} 2>/dev/null

plug() { # HOST NUMBER: connects it
	ip netns add "$1" && cable "$1" eth0 switch "$1" && ip -n switch link set "$1" master br0 &&
		ip -n switch link set "$1" up && ip -n "$1" link set lo up && ip -n "$1" link set eth0 up &&
		ip -n "$1" addr add "192.0.2.$2/24" dev eth0 && ip -n "$1" addr add "2001:db8::$2/64" dev eth0 nodad &&
		ip -n "$1" link add uplink type dummy && ip -n "$1" link set uplink up
}
cluster() {
	local host
	ip netns add switch && ip -n switch link add br0 type bridge forward_delay 0 && ip -n switch link set br0 up &&
		plug host-a 1 && plug host-b 2 && plug host-c 3 && reachable || return
	# what the address brings with it is told when it is there or gone
	echo "#!/bin/sh
		echo \$4 >>$tmp/\$1.state" >"$tmp/notify"
	chmod 755 "$tmp" "$tmp/notify"
	for host in host-b host-c; do
		nsenter --net=/run/netns/$host "$DIR"/talk listen $PORT &
		pids+=($!)
	done
	config host-b 100 && config host-c 90 && keepalived_start host-b && is_in host-b MASTER &&
		keepalived_start host-c && is_in host-c BACKUP
}
config() { # HOST PRIORITY
	cat >"$tmp/$1.conf" <<-END
		global_defs {
			script_user root
		}
		vrrp_instance cluster {
			state BACKUP
			interface eth0
			version 3
			virtual_router_id 51
			priority $2
			advert_int 1
			track_interface {
				uplink weight -50
			}
			virtual_ipaddress {
				$VIP4/24 dev eth0
			}
			virtual_ipaddress_excluded {
				$VIP6/64 dev eth0
			}
			notify "$tmp/notify $1"
		}
	END
}
declare -A keepalived
keepalived_start() { # HOST
	: >"$tmp/$1.state"
	nsenter --net=/run/netns/"$1" keepalived -n -P -l -f "$tmp/$1.conf" -p "$tmp/$1.pid" -r "$tmp/$1.vrrp" \
		>"$tmp/$1.log" 2>&1 &
	keepalived[$1]=$!
	pids+=($!)
}
keepalived_stop() { kill -TERM "${keepalived[$1]}" && wait "${keepalived[$1]}"; } # HOST
# STATE is the last that keepalived of HOST has told, which it does once it has given or taken the address.
is_in() { until_true last_told "$@" || { sed 's/^/# /' "$tmp/$1.log"; return 1; }; }
last_told() { [ "$(tail -n 1 "$tmp/$1.state")" = "$2" ]; }

# The flow in a node that has local port $2 in host-a.
node_flow() { chimneyctl -j -n "$1" flows | jq -cr ".[] | select(.rport == $2)${3:-}"; }
on_path_in() { [ "$(node_flow "$1" "$2" .state)" = offloaded ]; }
path_packets() { node_flow "$1" "$2" '| .tx_packets + .rx_packets'; }

# Two flows, one for each family, to the VIP.
v4=39000
start() { # NODE: the one that has it
	B4=$VIP4 B6=$VIP6 talk_both "${BUSY[@]}" && all keep_alive && all until_true on_path_in "$1" && all until_true offloaded
}
# Else a client whose message has been acknowledged would wait for the answer for ever.
keep_alive() {
	sock "$1" set SOL_SOCKET SO_KEEPALIVE 1 IPPROTO_TCP TCP_KEEPIDLE 1 IPPROTO_TCP TCP_KEEPINTVL 1 \
		IPPROTO_TCP TCP_KEEPCNT 127
}
stop() { all talk_stop; }

# They are off the path in the node that the VIP has left, and no packet takes it from then on.
left() { # NODE
	local port
	declare -gA carried
	for port in $ports; do
		carried[$port]=$(path_packets "$1" "$port")
		not on_path_in "$1" "$port" && [ "$(node_flow "$1" "$port" .uploaded)" = address ] && continue
		say "$(node_flow "$1" "$port")"
		return 1
	done
}
still_left() { # NODE
	local port
	for port in $ports; do
		say "$1: ${carried[$port]} packets of $port by the path when the address left, $(path_packets "$1" "$port") now"
		not on_path_in "$1" "$port" && [ "$(path_packets "$1" "$port")" = "${carried[$port]}" ] || return
	done
}

# The new owner does not know the connection, and says so: the client's segments reach it.
reset_by_new_owner() { until_true ended "$1" && not talk_wait "$1" && grep -q reset "$talk_out.$1"; } # LPORT
ended() { not kill -0 "${talk_pid[$1]}" 2>/dev/null; }

# moves FROM TO COMMAND...: which makes FROM give up the VIP. It has said so by then: BACKUP, or STOP.
moves() {
	local from=$1 to=$2 port
	shift 2
	start "$from" && "$@" && left "$from" && is_in "$to" MASTER && all reset_by_new_owner && still_left "$from" || return
	start "$to" && all progress && stop
}
uplink() { ip -n "$1" link set uplink "$2" && is_in "$3" BACKUP; } # HOST up|down HOST: who gives up the VIP
priority() { config host-b "$1" && kill -HUP "${keepalived[host-b]}" && is_in "$2" BACKUP; } # PRIORITY HOST
stopped_at() { keepalived_stop "$1" && last_told "$1" STOP; }
started_at() { keepalived_start host-b && is_in host-c BACKUP; }

# Nobody else has the VIP meanwhile: the connection survives that.
goes_and_returns() {
	start host-b && keepalived_stop host-c && keepalived_stop host-b && last_told host-b STOP && left host-b || return
	all until_true silent && still_left host-b || return
	keepalived_start host-b && is_in host-b MASTER && keepalived_start host-c && all until_true on_path_in host-b &&
		all progress && stop
}
# Nothing has come for three seconds.
silent() { (($(a ss -Htni "sport = :$1" | grep -o 'lastrcv:[0-9]*' | cut -d: -f2) > 3000)); }

own=38999
own_flow() { talk $own -i 20 -- $B4 && until_true both_offloaded $own; }
never_left() {
	flow_b $own | jq -e '.state == "offloaded" and .offloads == 1 and .uploaded == null' >/dev/null && talk_stop $own
}

ktap_print_header
ktap_set_plan 8
gate_load && cluster || ktap_exit_fail_msg "topology"
own_flow || ktap_exit_fail_msg "a flow to the node's own address"
ktap_test_result "a tracked interface goes down" moves host-b host-c uplink host-b down host-b
ktap_test_result "it comes up again" moves host-c host-b uplink host-b up host-c
ktap_test_result "the priority is lowered by a reload" moves host-b host-c priority 50 host-b
ktap_test_result "it is raised again" moves host-c host-b priority 100 host-c
ktap_test_result "keepalived is stopped" moves host-b host-c stopped_at host-b
ktap_test_result "it is started again" moves host-c host-b started_at
ktap_test_result "the VIP goes and returns: the connection goes on" goes_and_returns
ktap_test_result "a flow to the node's own address was offloaded all the time" never_left
ktap_finished
