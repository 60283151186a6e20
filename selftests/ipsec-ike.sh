#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# IPsec by an IKE daemon: strongSwan in both hosts negotiates what protects the connections of some ports, in transport and
# tunnel mode, before they are there and while they are offloaded and busy, or when the first packet asks for it; it
# changes keys, and takes it all down again. Whatever it does, no segment leaves in clear text once it has said that the
# protection is there; other connections stay offloaded, and these return when it is gone. Topology hub of lib.sh:
#
#     netns host-a: charon, swanctl                                                netns host-b: charon
#     ports 24576…24831 protected,     [eth0] === ESP, keys by IKEv2 === [eth0]   port 7000
#     others not                              ------ clear text ------

source "$(dirname "$(readlink -f "$0")")"/lib.sh
# shellcheck source=cleartext.sh
source "$DIR"/cleartext.sh

covered=24576-24831	# xfrm has masks for ports, so that not every range is one policy
BUSY=(-s 20000 -i 50)
tmp=$(mktemp -d)
trap 'lib_cleanup; rm -rf "$tmp"' EXIT

daemon() { # HOST LOCAL_ID REMOTE_ID A4 B4 A6 B6 A_PORTS B_PORTS
	mkdir -p "$tmp/$1" && cat >"$tmp/$1/strongswan.conf" <<-END
		charon-systemd {
			load = random nonce openssl kernel-netlink socket-default vici
			install_routes = no
			plugins {
				vici {
					socket = unix://$tmp/$1/vici
				}
			}
			filelog {
				log {
					path = $tmp/$1/log
					flush_line = yes
				}
			}
		}
	END
	cat >"$tmp/$1/swanctl.conf" <<-END
		connections {
			$(connection v4 "$4" "$5" "$2" "$3" transport "$8" "$9")
			$(connection v6 "$6" "$7" "$2" "$3" tunnel "$8" "$9")
		}
		secrets {
			ike {
				secret = "nobody knows"
			}
		}
	END
	STRONGSWAN_CONF=$tmp/$1/strongswan.conf nsenter --net=/run/netns/"$1" charon-systemd >"$tmp/$1/said" 2>&1 &
	pids+=($!)
	until_true test -S "$tmp/$1/vici" && until_true swan "$1" --load-all --noprompt --file "$tmp/$1/swanctl.conf"
}
connection() { # NAME LOCAL REMOTE LOCAL_ID REMOTE_ID MODE LOCAL_PORTS REMOTE_PORTS
	cat <<-END
		$1 {
			version = 2
			local_addrs = $2
			remote_addrs = $3
			proposals = aes128-sha256-x25519
			local {
				auth = psk
				id = $4
			}
			remote {
				auth = psk
				id = $5
			}
			children {
				$1-$6 {
					mode = $6
					local_ts = $2[tcp/$7]
					remote_ts = $3[tcp/$8]
					esp_proposals = aes128gcm16-x25519
					policies_fwd_out = no
				}
			}
		}
	END
}
swan() { swanctl "${@:2}" --uri "unix://$tmp/$1/vici" >"$tmp/$1/swanctl" 2>&1; }
daemons() {
	daemon host-a a.example b.example $A4 $B4 $A6 $B6 $covered $PORT &&
		daemon host-b b.example a.example $B4 $A4 $B6 $A6 $PORT $covered
}

# What follows is about these: addresses $local_a and $local_b, connection $ike, and $child, its protection.
up() { swan host-a --initiate --child $child; }
down() { swan host-a --terminate --ike $ike && until_true no_policies; }
# but for those of its own sockets
no_policies() { [ -z "$(ip -n host-a xfrm policy list nosock; ip -n host-b xfrm policy list nosock)" ]; }

# marked COMMAND...: of swanctl, for host-a; nothing comes between its end and what host-a counts as late.
marked() {
	ip netns exec host-a sh -c "swanctl $* --uri unix://$tmp/host-a/vici >$tmp/host-a/swanctl 2>&1 &&
		echo 77 >/sys/class/net/eth0/netdev_group"
}
unmarked() { group host-a 0 && group host-b 0; }

before() {
	local came secured
	port=$((port_next++))
	came=$(counters came) secured=$(counter host-b secured)
	up && talk $port "${BUSY[@]}" -- $local_b && until_true moved_on $port 0 300 || return
	tell $port
	both_in_host $port && [ "$(flow $port .offloads)" = 0 ] && [ "$(counters came)" = "$came" ] &&
		(($(counter host-b secured) > secured + 20))
}
after() { down && until_true both_offloaded $port && progress $port; }

# The flow is protected, and has sent nothing in clear text since then.
protected() { # LATE CAME: counters of that moment
	local held=0
	progress $port && progress $port || held=1
	tell $port
	both_in_host $port || held=1
	settle
	say "clear text on egress before and after: $1, $(counters late); come after that: $2, $(counters came)"
	[ "$(counters late)" = "$1" ] && [ "$(counters came)" = "$2" ] && return $held
}

during() {
	local late came
	offloaded $port && unmarked || return
	late=$(counters late)
	marked --initiate --child $child && group host-b 77 && off_path $port && off_path_b $port &&
		uploaded_for $port ipsec || return
	settle
	came=$(counters came)
	protected "$late" "$came"
}

# New keys while it is busy: of both directions, and the old ones are gone in the end.
spis() { ip -n host-a xfrm state | grep -o 'spi 0x[0-9a-f]*' | sort; }
rekeyed() {
	local old late came
	old=$(spis) late=$(counters late) came=$(counters came)
	swan host-a --rekey --child $child && until_true no_old_spis "$old" && protected "$late" "$came"
}
no_old_spis() {
	local new
	new=$(spis)
	[ "$(wc -l <<<"$new")" = 2 ] && [ -z "$(comm -12 <(echo "$1") <(echo "$new"))" ]
}

ends() { down && until_true both_offloaded $port && talk_stop $port; }

# A policy without keys: the next packet asks for these, and nothing goes until they are there. That of the flow may never
# come, if it waits for an answer in clear text, which is not let in; a new connection has one.
trapped() {
	local late came asks=$((port_next++))
	port=$((port_next++))
	talk $port "${BUSY[@]}" -- $local_b && until_true both_offloaded $port && unmarked || return
	late=$(counters late)
	marked --install --child $child && off_path $port && talk_start $asks "${BUSY[@]}" -- $local_b &&
		until_true has_keys && until_true connected $asks || return
	group host-b 77 && settle
	came=$(counters came)
	protected "$late" "$came" && talk_stop $asks && swan host-a --uninstall --child $child && ends
}
has_keys() { [ "$(spis | wc -l)" -ge 2 ] && swan host-a --list-sas && grep -q INSTALLED "$tmp/host-a/swanctl"; }

# told COMMAND...: what the daemons had to say, if it fails
told() {
	"$@" && return
	tail -n 20 "$tmp"/host-?/{log,swanctl} | sed 's/^/# /'
	return 1
}

# all_orders ADDRESS ADDRESS CONNECTION MODE
all_orders() {
	local_a=$1 local_b=$2 ike=$3 child=$3-$4
	ktap_test_result "$child: negotiated before the connection" told before
	ktap_test_result "$child: taken down, the flow is offloaded" told after
	ktap_test_result "$child: negotiated while busy, no clear text after it" told during
	ktap_test_result "$child: new keys while busy" told rekeyed
	ktap_test_result "$child: taken down, the flow returns, every byte is right" told ends
}

port_next=24580 free=25500
ktap_print_header
ktap_set_plan 12
topology hub && count_clear host-a && count_clear host-b && gate_load && listener || ktap_exit_fail_msg "topology"
told daemons || ktap_exit_fail_msg "strongSwan"
talk $free -i 20 -- $B4 && until_true both_offloaded $free || ktap_exit_fail_msg "a flow that is not protected"
all_orders $A4 $B4 v4 transport
ktap_test_result "v4-transport: a policy that asks for keys" told trapped
all_orders $A6 $B6 v6 tunnel
ktap_test_result "a flow that is not protected was offloaded all the time" eval "always_offloaded $free && talk_stop $free"
ktap_finished
