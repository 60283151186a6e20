#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The ground the other tests stand on: the kernel that the module is made for, and two virtio NICs on one wire, each
# in a network namespace of its own.
#
#     netns smoke-a                     netns smoke-b
#     [virtio-net 192.0.2.1] --- hub --- [virtio-net 192.0.2.2]

source "$(dirname "$(readlink -f "$0")")"/lib.sh

cleanup() {
	ip netns del smoke-a
	ip netns del smoke-b
} 2>/dev/null
trap cleanup EXIT

two_nics() {
	local a b
	a=$(nic hub 1) b=$(nic hub 2)
	[ -n "$a" ] && [ -n "$b" ] || return
	ip netns add smoke-a && ip netns add smoke-b || return
	ip link set "$a" netns smoke-a name eth0 && ip -n smoke-a link set eth0 up || return
	ip link set "$b" netns smoke-b name eth0 && ip -n smoke-b link set eth0 up || return
	ip -n smoke-a addr add 192.0.2.1/24 dev eth0
	ip -n smoke-b addr add 192.0.2.2/24 dev eth0
	ip netns exec smoke-a ethtool -k eth0 | grep -E ': on' | sed 's/^/# offload: /'
	ip netns exec smoke-a ping -q -c 3 -i 0.2 -W 5 192.0.2.2 | sed 's/^/# /'
	return "${PIPESTATUS[0]}"
}

kernel_matches() { [[ $(uname -r) = @(6.12|7.3).* ]]; }
btf_present() { [ -r /sys/kernel/btf/vmlinux ]; }
bpffs_mounted() { [ "$(stat -f -c %T /sys/fs/bpf)" = bpf_fs ]; }
module_loads() { modprobe -qr chimney; modprobe chimney && [ -d /sys/module/chimney ] && modprobe -r chimney; }

ktap_print_header
ktap_set_plan 5
ktap_test_result "kernel is 6.12 or 7.3" kernel_matches
ktap_test_result "kernel has BTF" btf_present
ktap_test_result "BPF file system is mounted" bpffs_mounted
if [ -n "$(nic hub 1)" ]; then
	ktap_test_result "two virtio NICs on one hub reach each other" two_nics
else
	ktap_test_skip "two virtio NICs on one hub reach each other"
fi
if modinfo chimney >/dev/null 2>&1; then
	ktap_test_result "module loads and unloads" module_loads
else
	ktap_test_skip "module loads and unloads"
fi
ktap_finished
