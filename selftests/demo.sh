#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Shows a person what chimney does, with programs that everybody knows, and checks all that it says. `make demo` runs it
# in a guest with two virtio NICs on one wire:
#
#     netns host-a                                                          netns host-b
#     curl, netperf, talk ── [eth0 192.0.2.1 2001:db8::1] ──hub── [eth0 192.0.2.2 2001:db8::2] ── nginx, netserver, talk
#          tcpdump, ip xfrm, nft masquerade                                      ip xfrm
#                 nft counters in both: what of each connection passes, by the path or not (demo/ledger.nft)
#
# Exits 0 if all rows of the closing table held.

source "$(dirname "$(readlink -f "$0")")"/lib.sh

FILE_MB=64			# that nginx serves
FAST=16M SLOW=2M		# curl's speed limit: about what emulation can do; and one at which things can be watched
RR_TIME=15			# seconds for netperf
RR_PORT=7001			# of netperf in host-b (demo/ledger.nft knows the ports of what is measured)
NAT_PORT=7443			# where connections are masqueraded to
ONE=41001 TWO=41002 THREE=41003 FOUR=41004 # local ports in host-a of conversations that last
BUSY=(-s 16000 -i 10)		# what they say: bytes a message, pause in ms

tmp=$(mktemp -d)
rows=("step|what was to hold|measured|held")
step=0 failed=0
WAIT=60

say() { echo "          $*"; }

# step TITLE FUNCTION [ARG]...: runs one step; one that breaks off has failed, and the next is tried.
step() {
	step=$((step + 1))
	printf '\n[%3d s] %d. %s\n' $SECONDS $step "$1"
	"${@:2}" || holds "the step runs to its end" "it broke off" false
}

# holds WHAT MEASURED COMMAND...: a row of the table.
holds() {
	local held=yes
	"${@:3}" || { held=NO failed=1; }
	rows+=("$step|$1|$2|$held")
	say "$1: $2$([ $held = yes ] || echo ' -- DOES NOT HOLD')"
}

# explain LPORT: what chimneyctl has to say about that connection of host-a.
explain() {
	local ends
	read -ra ends < <(a ss -Htn state established "sport = :$1" | awk '{ print $3, $4 }')
	say "\$ chimneyctl explain ${ends[*]}"
	chimneyctl -n host-a explain "${ends[@]}" | sed 's/^/          | /'
}

# ledger HOST PLACE SET LPORT RPORT UNIT: packets or bytes of a connection that HOST has received or sent; PLACE is
# netdev for its device, inet for its IP layer.
ledger() {
	"$1" nft -j list set "$2" ledger "$3" | jq --argjson ports "[$4, $5]" --arg unit "$6" \
		'[.nftables[].set.elem? // [] | .[].elem | select(.val.concat == $ports).counter[$unit]] | add // 0'
}
counted() { "$1" nft -j list counter netdev ledger "$2" | jq '.nftables[].counter.packets? // empty'; }

# ledger_packets PLACE LPORT RPORT: packets of a connection that the two hosts have received and sent.
ledger_packets() {
	echo $(($(ledger a "$1" received "$2" "$3" packets) + $(ledger a "$1" sent "$2" "$3" packets) +
		$(ledger b "$1" received "$3" "$2" packets) + $(ledger b "$1" sent "$3" "$2" packets)))
}
# Packets that the two devices' paths took, of all connections.
path_packets() { echo $(($(path_packets_a) + $(dev_b tx_packets) + $(dev_b rx_packets))); }
path_packets_a() { echo $(($(dev_a tx_packets) + $(dev_a rx_packets))); }

# share WHAT PATH ALL BEFORE: at least 99 per cent of what passed the devices, less what IP got before the flow was
# offloaded, took the path. All count the same packets, so more than 100 would be wrong, too.
share() {
	local whole=$(($3 - $4))
	holds "$1 once offloaded: >= 99 % by the path" \
		"$(awk "BEGIN { printf \"%.2f %%\", 100 * $2 / $whole }") ($2 of $whole; $4 before)" \
		test $(($2 * 100 >= whole * 99 && $2 <= whole)) = 1
}

# tcp HOST FILTER FIELD: a number that ss tells of a socket.
tcp() { "$1" ss -Htni "$2" | grep -oE "(^| )$3:[0-9]+" | cut -d: -f2 | grep . || echo 0; }
# sent HOST FILTER: bytes that the socket has sent once at least.
sent() { echo $(($(tcp "$1" "$2" bytes_sent) - $(tcp "$1" "$2" bytes_retrans))); }

# download ADDRESS LPORT SPEED: curl fetches the file in the background; downloaded LPORT waits for its end.
download() {
	local host=$1
	[[ $host != *:* ]] || host="[$host]"
	nsenter --net=/run/netns/host-a curl -sSg --local-port "$2" --limit-rate "$3" -o "$tmp/got.$2" \
		-w '%{size_header} %{size_download}\n' "http://$host/file" >"$tmp/sizes.$2" &
	curl=$!
	pids+=($!)
	until_true connected "$2"
}
downloaded() { wait $curl; }
same_file() { [ "$(sha256sum <"$tmp/got.$1")" = "$file_sum" ]; }

# busy LPORT ADDRESS: a conversation that goes on until it is stopped, and now is offloaded at both ends.
busy() {
	connected "$1" || talk "$1" "${BUSY[@]}" -- "$2" || return
	until_true both_offloaded "$1"
}

hosts() {
	topology hub && gate_load || return
	# curl and netperf are not to be given a port, by chance, that a conversation is to have
	a sh -c 'echo 50000 60999 >/proc/sys/net/ipv4/ip_local_port_range' || return
	a nft -f "$DIR"/demo/ledger.nft && b nft -f "$DIR"/demo/ledger.nft || return
	dd if=/dev/urandom of="$tmp/file" bs=1M count=$FILE_MB status=none
	file_sum=$(sha256sum <"$tmp/file")
	chmod 755 "$tmp"
	cat >"$tmp/nginx.conf" <<-END
		master_process off; daemon off; user root; pid $tmp/nginx.pid; error_log stderr;
		events { }
		http {
			access_log off; sendfile on;
			server { listen 80; listen [::]:80; root $tmp; }
		}
	END
	nsenter --net=/run/netns/host-b nginx -e stderr -c "$tmp/nginx.conf" &
	pids+=($!)
	nsenter --net=/run/netns/host-b netserver -D >/dev/null &
	pids+=($!)
	listener && PORT=$NAT_PORT listener && until_true serving 80 && until_true serving 12865 || return
	say "host-a: $A4, $A6; host-b: $B4, $B6; module and gate are loaded"
	say "nginx, netserver and talk (which echoes) listen in host-b"
	say "packets by the path are counted in /sys/class/net/eth0/chimney/, all of a connection by nft at the device's edge"
}

# Path: device counters in /sys/class/net/eth0/chimney/. All: nft counters at the device and in IP (demo/ledger.nft).
web() {
	local address=$1 port=$2 path before
	path=$(dev_a rx_bytes)
	download "$address" "$port" $FAST && until_true both_offloaded "$port" || return
	before=$(ledger a inet received "$port" 80 bytes)
	explain "$port" && downloaded || return
	path=$(($(dev_a rx_bytes) - path))
	share "bytes received" "$path" "$(ledger a netdev received "$port" 80 bytes)" "$before"
	holds "sha256 of the file" "$(stat -c %s "$tmp/got.$port") bytes" same_file "$port"
}

rr() {
	local address=$1 port=$2 path before netperf
	path=$(path_packets)
	nsenter --net=/run/netns/host-a netperf -H "$address" -t TCP_RR -l $RR_TIME -P 0 \
		-- -P "$port,$RR_PORT" >"$tmp/netperf" 2>&1 &
	netperf=$!
	pids+=($!)
	until_true both_offloaded "$port" || return
	before=$(ledger_packets inet "$port" $RR_PORT)
	explain "$port" && wait $netperf || { cat "$tmp/netperf"; return 1; }
	say "$(awk 'NF > 5 { print $6; exit }' "$tmp/netperf") transactions in a second"
	path=$(($(path_packets) - path))
	share "packets of both hosts" "$path" "$(ledger_packets netdev "$port" $RR_PORT)" "$before"
}

# states PORTS: the states of these flows of host-a at one time, each with the reasons against it.
states() {
	chimneyctl -j -n host-a flows | jq -r --argjson ports "[$1]" \
		'map(select(.lport | IN($ports[])) | "\(.state) (\(.reasons | join(",")))") | join(", ") | gsub(" [(][)]"; "")'
}

# covers BYTES GAPS SEGMENTS FIN -- AT_LEAST: no hole, and as long as that
covers() { (($1 >= $6 && $2 == 0 && $3 > 0)); }

capture() {
	local port=40083 path dump have got sent_a sent_b got_a got_b total found since listening
	busy $ONE $B4 && busy $TWO $B4 && download $B6 $port $SLOW && until_true both_offloaded $port || return
	nsenter --net=/run/netns/host-a tcpdump -i eth0 -s 128 -B 32768 -U -w "$tmp/pcap" 2>"$tmp/tcpdump" &
	dump=$!
	pids+=($!)
	until_true grep -q '^tcpdump: listening on' "$tmp/tcpdump" || return
	listening=$EPOCHREALTIME
	path=$(path_packets_a)
	# from here on every segment has to be in the capture
	got=$(tcp a "sport = :$port" bytes_received)
	sent_a=$(sent a "sport = :$ONE") sent_b=$(sent b "dport = :$ONE")
	found=$(states "$ONE, $TWO, $port")
	holds "tcpdump listens: all three flows uploaded" "$found" \
		test "$found" = "in-host (capture), in-host (capture), in-host (capture)"
	explain $port
	explain $ONE
	downloaded || return
	holds "sha256 of the file curl got meanwhile" "$(stat -c %s "$tmp/got.$port") bytes" same_file $port
	got_a=$(tcp a "sport = :$ONE" bytes_received) got_b=$(tcp b "dport = :$ONE" bytes_received)
	path=$(($(path_packets_a) - path))
	holds "meanwhile not one packet by the path" "$path" test $path = 0

	# once this one is in the file, so is all before it
	a ping -q -c 1 -p 6d61726b $B4 >/dev/null && until_true grep -qaF markmarkmark "$tmp/pcap" || return
	kill $dump && wait $dump || return
	since=$SECONDS
	until_true both_offloaded $ONE && until_true both_offloaded $TWO
	holds "tcpdump ends: both conversations offloaded again" "within $((SECONDS - since + 1)) s" both_back
	explain $ONE

	# The stream's end tells where in it the capture begins: not after what curl had when tcpdump listened.
	read -ra have < <("$DIR"/demo/covered.py "$tmp/pcap" 80 $port "$listening")
	total=$(awk '{ print $1 + $2 }' "$tmp/sizes.$port")
	holds "capture: all of what curl got after \"listening on\"" \
		"byte $((total - have[0])) to $total, ${have[1]} gaps; had got $got" \
		covers "${have[@]}" -- $((have[3] == have[0] ? total - got : total + 1))
	read -ra have < <("$DIR"/demo/covered.py "$tmp/pcap" $ONE $PORT "$listening")
	holds "capture: all that host-b got of a conversation" "${have[0]} bytes, ${have[1]} gaps; got $((got_b - sent_a))" \
		covers "${have[@]}" -- $((got_b - sent_a))
	read -ra have < <("$DIR"/demo/covered.py "$tmp/pcap" $PORT $ONE "$listening")
	holds "capture: all that host-a got of it" "${have[0]} bytes, ${have[1]} gaps; got $((got_a - sent_b))" \
		covers "${have[@]}" -- $((got_a - sent_b))
	holds "capture: dropped by the kernel" "$(awk '/dropped by kernel/ { print $1 }' "$tmp/tcpdump")" \
		grep -q '^0 packets dropped by kernel' "$tmp/tcpdump"
}
both_back() { both_offloaded $ONE && both_offloaded $TWO; }

# associate HOST: the two ESP associations, one each way.
associate() {
	local esp
	esp="mode transport reqid 1 aead rfc4106(gcm(aes)) 0x$(printf '%040d' 7) 128"
	"$1" ip -batch - <<-END
		xfrm state add src $A4 dst $B4 proto esp spi 0x1001 $esp
		xfrm state add src $B4 dst $A4 proto esp spi 0x1002 $esp
	END
}

# cover HOST PEER OUT IN: HOST's policies for flow ONE; then at once a datagram from HOST, by which the ledger of PEER
# sees from where on the flow's clear text is late.
cover() {
	"$1" bash -c "exec 3>/dev/udp/$2/$ONE && ip -batch - && echo now >&3" <<-END
		xfrm policy add src $A4 dst $B4 proto tcp sport $ONE dport $PORT dir $3 \
			tmpl src $A4 dst $B4 proto esp reqid 1 mode transport
		xfrm policy add src $B4 dst $A4 proto tcp sport $PORT dport $ONE dir $4 \
			tmpl src $B4 dst $A4 proto esp reqid 1 mode transport
	END
}

ipsec_found() { in_host $ONE && has_reason $ONE ipsec; }
clear_text() { echo $(($(counted a late) + $(counted b late))); }
clear_text_seen() { (($(clear_text) > 0)); }
by_path() { flow $THREE | jq '.tx_packets + .rx_packets'; }
by_path_more() { (($(by_path) > $1)); }
never_left() { offloaded $THREE && [ "$(flow $THREE .offloads)" = 1 ] && (($1 > 0)); }

ipsec() {
	local path since
	# merging may carry a segment past the datagram that came after it
	a ethtool -K eth0 gro off && b ethtool -K eth0 gro off || return
	busy $ONE $B4 && busy $THREE $B4 && associate a && associate b || return
	cover a $B4 out in && cover b $A4 in out || return
	holds "policy is in: the flow it covers uploaded" "$(states $ONE)" ipsec_found
	path=$(by_path)
	progress $ONE && until_true by_path_more "$path" || return
	path=$(($(by_path) - path))
	explain $ONE
	holds "meanwhile the other flow never left the path" "$path packets by it, offloaded once" never_left $path
	explain $THREE
	holds "not one clear-text segment at either peer's device" \
		"$(clear_text), and $(($(counted a encrypted) + $(counted b encrypted))) ESP packets" not clear_text_seen

	a ip xfrm policy flush && b ip xfrm policy flush && a ip xfrm state flush && b ip xfrm state flush || return
	until_true clear_text_seen
	holds "policy is gone: clear text is seen again" "$(clear_text) segments so far" clear_text_seen
	since=$SECONDS
	until_true both_offloaded $ONE
	holds "the flow is offloaded again" "within $((SECONDS - since + 1)) s" both_offloaded $ONE
	explain $ONE
	a ethtool -K eth0 gro on && b ethtool -K eth0 gro on
}

refused() { in_host "$1" && has_reason "$1" nat && [ "$(flow "$1" | jq '.offloads + .tx_packets + .rx_packets')" = 0 ]; }

nat() {
	local port=41007
	a nft -f - <<-END || return
		table ip demo {
			chain postrouting {
				type nat hook postrouting priority srcnat
				tcp dport $NAT_PORT masquerade to :50000-50999
			}
		}
	END
	PORT=$NAT_PORT talk $port -- $B4 && busy $FOUR $B4 && until_true moved_on $port 0 400 || return
	holds "masqueraded: refused" "$(states $port), 0 packets by the path" refused $port
	explain $port
	holds "meanwhile another one is offloaded" "$(states $FOUR)" both_offloaded $FOUR
	explain $FOUR
	PORT=$NAT_PORT talk_stop $port >/dev/null
}

# talk compares every byte that comes back with what it sent.
farewell() {
	local port bytes=0 right=true
	for port in $ONE $TWO $THREE $FOUR; do
		bytes=$((bytes + $(tcp a "sport = :$port" bytes_received)))
		talk_stop $port >/dev/null || right=false
	done
	holds "every byte of the conversations came back right" "$bytes bytes" $right
}

bye() {
	lib_cleanup
	rm -rf "$tmp"
}
trap bye EXIT

echo "chimney on Linux $(uname -r): established TCP flows pass between socket and driver, but those that the gate vetoes"
step "two hosts, one virtio NIC each, on one wire" hosts
[ $failed = 0 ] || exit 1
step "nginx serves $FILE_MB MB to curl, IPv4" web $B4 40080
step "nginx serves $FILE_MB MB to curl, IPv6" web $B6 40081
step "netperf TCP_RR, IPv4" rr $B4 40084
step "netperf TCP_RR, IPv6" rr $B6 40085
step "tcpdump on host-a's eth0 while curl (IPv6) and two conversations (IPv4) are busy" capture
step "an IPsec policy (ESP, transport mode) for one of two busy conversations" ipsec
step "a masqueraded connection" nat
step "the conversations end" farewell

printf '\n'
printf '%s\n' "${rows[@]}" | column -t -s '|' -o '  '
printf '\nchimney demo: %s, %d s\n' "$([ $failed = 0 ] && echo "all of it held" || echo "FAILED")" $SECONDS
exit $failed
