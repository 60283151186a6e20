# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2154 # what the test has set
# What the tests of IPsec share: in each host of lib.sh, clear text of the ports under a policy ($covered, as nftables
# writes a range) is counted with nftables on the device; a packet socket would upload the flows itself.
#     came     by the peer, on ingress, where what it has taken out of a tunnel comes by again
#     late     by the sender, on egress, from the moment the command that adds the policy has returned: the shell that
#              ran it then puts the device into group 77, with no other process or command in between
#     secured  what came protected

count_clear() { # HOST: sets up its counters
	nsenter --net=/run/netns/"$1" nft -f - <<-END
		table netdev clear {
			counter came { }
			counter late { }
			counter secured { }
			chain ingress {
				type filter hook ingress device "eth0" priority 0
				meta ipsec missing tcp sport $covered counter name "came"
				meta ipsec missing tcp dport $covered counter name "came"
				meta l4proto { esp, ah } counter name "secured"
			}
			chain egress {
				type filter hook egress device "eth0" priority 0
				oifgroup 77 tcp sport $covered counter name "late"
				oifgroup 77 tcp dport $covered counter name "late"
			}
		}
	END
}
counter() { # HOST NAME
	nsenter --net=/run/netns/"$1" nft -j list counters netdev |
		jq ".nftables[].counter? | select(.name == \"$2\").packets"
}
counters() { echo "$(counter host-a "$1") $(counter host-b "$1")"; } # NAME: host-a's and host-b's

group() { ip netns exec "$1" sh -c "echo $2 >/sys/class/net/eth0/netdev_group"; } # HOST GROUP

# What was sent before is in the counters: the wire keeps the order.
settle() { a ping -q -c 1 -W 5 "$local_b" >/dev/null && b ping -q -c 1 -W 5 "$local_a" >/dev/null; }

both_in_host() { in_host_for "$1" ipsec && in_host_b_for "$1" ipsec; }
tell() { flow "$1" | jq -r '"# " + .local + " " + .state + " " + (.reasons | join(",")) + ", offloads " + (.offloads | tostring)'; }

# always_offloaded LPORT: from the first time it was offloaded until now, in both hosts.
never_uploaded='.state == "offloaded" and .offloads == 1 and .uploaded == null'
always_offloaded() {
	local before
	before=$(path_packets "$1")
	tell "$1"
	until_true path_moved_on "$1" "$before" && flow "$1" | jq -e "$never_uploaded" >/dev/null &&
		flow_b "$1" | jq -e "$never_uploaded" >/dev/null
}
path_packets() { flow "$1" | jq '.tx_packets + .rx_packets'; }
path_moved_on() { (($(path_packets "$1") > $2)); }
