#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The Debian packages, as a user has them: install, start with the machine, a download by the path, upgrade while a flow
# is busy, purge. `make check-packages` runs it in a Debian 13 with systemd and without the source, once in the boot in
# which the packages are installed, and once after the reboot that it ends with.
#
#     netns host-a                               netns host-b
#     curl, talk -- [eth0 192.0.2.1] -- veth -- [eth0 192.0.2.2] -- http.server, talk

source "$(dirname "$(readlink -f "$0")")"/lib.sh
trap - EXIT			# the machine is the packages' own

DEBS=/out NEXT=/out/next	# the packages, and those of the next version
NEXT_VERSION=0.1+next
STATE=/var/lib/packages-test	# what is kept over the reboot
SETTINGS=/etc/modprobe.d/chimney.conf
WAIT=300			# to build a module takes minutes here
export DEBIAN_FRONTEND=noninteractive

# What dpkg, depmod and systemd write anyhow is none of the packages' business, nor are the keys of dkms.
files() {
	find / -xdev \( -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/log -o -path /tmp -o \
		-path /var/tmp -o -path /var/lib/systemd -o -path /var/lib/dkms/mok.\* -o -path $STATE -o -path /root \) -prune \
		-o -print | sort
}

# quietly COMMAND...: what it says only when it fails.
quietly() {
	local log
	log=$(mktemp)
	"$@" >"$log" 2>&1 || { tail -n 40 "$log" | sed 's/^/# | /'; return 1; }
}
install_from() { quietly apt-get install -y "$1"/chimney-dkms_*.deb "$1"/chimney_*.deb; }

active() { systemctl -q is-active chimney; }
loaded_version() { cat /sys/module/chimney/version; }
gate_attached() { [ "$(cat /sys/kernel/chimney/gate)" != none ]; }

installs() { install_from $DEBS; }

# Firmware, shim, grub and kernel: each wants what comes next to be signed.
secure_boot() {
	mokutil --sb-state | sed 's/^/# /'
	[ "$(mokutil --sb-state)" = "SecureBoot enabled" ] && grep -qF '[integrity]' /sys/kernel/security/lockdown
}
with_key() { key_is_known && other_keys; }
key_is_known() { mokutil --test-key /var/lib/dkms/mok.pub | sed 's/^/# /' | grep "already enrolled"; }
refused() {
	local said
	said=$(insmod "$1" 2>&1) && return 1
	say "$said"
	[[ $said = *"Key was rejected by service"* ]] && [ ! -e /sys/module/chimney ]
}
# As it would be without its owner's word: of a key that the machine does not know, and of none.
other_keys() {
	local d sign
	d=$(mktemp -d)
	sign=$(readlink -f "/lib/modules/$(uname -r)/build")/scripts/sign-file
	[ -e "$sign" ] || sign=$(echo /usr/lib/linux-kbuild-*/scripts/sign-file)
	xz -dc "$(modinfo -n chimney)" >"$d/chimney.ko" &&
		openssl req -new -x509 -nodes -subj "/CN=somebody/" -newkey rsa:2048 -keyout "$d/key" -out "$d/cert" 2>/dev/null &&
		systemctl stop chimney && objcopy "$d/chimney.ko" "$d/unsigned.ko" &&
		cp "$d/unsigned.ko" "$d/other.ko" && "$sign" sha256 "$d/key" "$d/cert" "$d/other.ko" &&
		refused "$d/other.ko" && refused "$d/unsigned.ko" &&
		systemctl start chimney && started
}

built_by_dkms() {
	[[ $(modinfo -n chimney) = */updates/dkms/chimney.ko* ]] && [ -e /sys/kernel/btf/chimney ] &&
		[ "$(loaded_version)" = "$(modinfo -F version chimney)" ] && [ -n "$(modinfo -F signer chimney)" ]
}
started() { active && gate_attached && systemctl -q is-enabled chimney; }
all_settings() { # each parameter of the module is in the file, and none that is not
	[ -n "$(modinfo -F parm chimney)" ] || return
	diff <(modinfo -F parm chimney | sed 's/:.*//' | sort) \
		<(grep -oE '^#options .*|^options .*' $SETTINGS | grep -oE '[a-z_]+=' | tr -d = | sort) | sed 's/^/# /'
	((PIPESTATUS[0] == 0))
}
documented() { dpkg -L chimney | grep -q man8/chimneyctl.8 && dpkg -L chimney | grep -q man7/chimney.7; }

# No module without types: no gate could attach to it.
refused_without_types() {
	local types source said status
	types=$(readlink -f "/lib/modules/$(uname -r)/build")/vmlinux
	source=$(mktemp -d)
	cp -r /usr/src/chimney-*/. "$source" && mv "$types" "$types.away" || return
	said=$(make -C "/lib/modules/$(uname -r)/build" M="$source" modules 2>&1)
	status=$?
	mv "$types.away" "$types"
	grep -F 'no BTF for modules' <<<"$said" | sed 's/^/# /'
	((PIPESTATUS[0] == 0 && status != 0))
}

first_boot() {
	mkdir -p $STATE && files >$STATE/files
	ktap_print_header
	ktap_set_plan 8
	ktap_test_result "Secure Boot is on, and the kernel locked down" secure_boot
	ktap_test_result "apt installs the packages" installs
	ktap_test_result "the module is the one that dkms has built, with its types, and signed" built_by_dkms
	ktap_test_result "the service is started and enabled" started
	ktap_test_result "that key is known to the machine, another one or none is refused" with_key
	ktap_test_result "the settings are those of the module" all_settings
	ktap_test_result "the manual pages are there" documented
	ktap_test_result "without the kernel's types no module is built, and why" refused_without_types
	echo "options chimney max_flows=12345" >>$SETTINGS
}

# The unit comes last in the boot: this one is started at the same time.
starts_with_machine() { until_true active && gate_attached && ! systemctl -q is-failed chimney; }
obeys_settings() { [ "$(cat /sys/kernel/chimney/max_flows)" = 12345 ]; }

download() {
	local folder before
	folder=$(mktemp -d)
	head -c 8M /dev/urandom >"$folder/file"
	nsenter --net=/run/netns/host-b python3 -m http.server -d "$folder" 80 >/dev/null 2>&1 &
	pids+=($!)
	until_true serving 80 || return
	before=$(dev_a rx_bytes)
	a curl -sS --limit-rate 500K -o "$folder/copy" http://$B4/file && cmp "$folder/file" "$folder/copy" || return
	say "$(($(dev_a rx_bytes) - before)) bytes by the path"
	(($(dev_a rx_bytes) - before > 4000000))
}

# busy LPORT: a conversation that both ends have offloaded.
busy() { talk "$1" -s 10000 -i 20 -- $B4 && until_true both_offloaded "$1"; }

# The service is restarted with the new module and gate when these are there, not before.
upgrade() {
	cp "$(modinfo -n chimney)" $STATE/
	busy 31001 && install_from $NEXT || return
	[ "$(loaded_version)" = $NEXT_VERSION ] && [ "$(chimneyctl -V)" = "chimneyctl $NEXT_VERSION" ] && started &&
		until_true both_offloaded 31001 && progress 31001 && talk_stop 31001
}
settings_kept() { obeys_settings && grep -q max_flows=12345 $SETTINGS; }

# Each command that README has for after the installation, as it is printed there: on a host that has the connection of
# its example.
#
#     this host                                  netns far
#     talk -- [home 192.0.2.1] ------ veth ------ [eth0 198.51.100.7] -- talk
printed() {
	zcat -f /usr/share/doc/chimney/README.md* | sed -n '/^## Installing/,/^## What it costs/s/^    //p' | grep -E "$1"
}
example() {
	ip netns add far && ip link add home type veth peer name eth0 netns far &&
		ip addr add 192.0.2.1 peer 198.51.100.7 dev home && ip -n far addr add 198.51.100.7 peer 192.0.2.1 dev eth0 &&
		ip link set home up && ip -n far link set eth0 up || return
	"$DIR"/talk listen 443 &
	pids+=($!)
	until_true listens_here || return
	nsenter --net=/run/netns/far "$DIR"/talk -p 51312 -s 10000 -i 20 send 192.0.2.1 443 >"$talk_out.51312" 2>&1 &
	talk_pid[51312]=$!
	pids+=($!)
	until_true example_offloaded
}
listens_here() { [ -n "$(ss -Hltn "sport = :443")" ]; }
example_offloaded() { chimneyctl -j flows state offloaded lport 443 rport 51312 | jq -e 'length == 1' >/dev/null; }
as_printed() {
	local status=0
	say "$1"
	case $1 in
	# both go on until somebody ends them
	chimneyctl\ top*) script -qec "$1" /dev/null <<<q >"$said" || return ;;
	chimneyctl\ monitor*) timeout -s INT 5 bash -c "$1" >"$said" 2>&1 || status=$?; ((status == 124)) || return ;;
	# 4: it has found something
	chimneyctl\ check*) bash -c "$1" >"$said" 2>&1 || status=$?; ((status == 0 || status == 4)) || return ;;
	*) bash -c "$1" >"$said" 2>&1 || return ;;
	esac
	case $1 in
	chimneyctl\ flows\ state\ in-host*) ;;		# there need be none
	chimneyctl\ flows* | *explain* | bpftool*) grep -q 51312 "$said" ;;
	*\ stats*) grep -q home "$said" ;;
	esac
}
all_as_printed() {
	local lines line said
	said=$(mktemp)
	mapfile -t lines < <(printed "$1")
	for line in "${lines[@]}"; do
		as_printed "$line" || { head -n 20 "$said" | sed 's/^/# | /'; return 1; }
	done
	say "${#lines[@]} commands"
	((${#lines[@]} > 0))
}
quick_start() {
	cd "$(mktemp -d)" && cp /usr/lib/chimney/gate.bpf.o my_gate.bpf.o && example &&
		all_as_printed '^(chimneyctl|bpftool|modprobe) ' || return
	[ ! -e /sys/module/chimney ] && systemctl restart chimney && started && until_true example_offloaded &&
		all_as_printed '^systemctl (status|stop|disable) ' || return
	[ ! -e /sys/module/chimney ] && systemctl enable --now chimney && started && until_true example_offloaded &&
		talk_stop 51312 && ip netns del far
}

stop_and_start() {
	busy 31002 && systemctl stop chimney && [ ! -e /sys/module/chimney ] && progress 31002 && systemctl start chimney &&
		until_true both_offloaded 31002 && talk_stop 31002
}

# An old module that somebody has loaded, or has not let go of.
mismatch() {
	local said
	systemctl stop chimney && insmod $STATE/chimney.ko* || return
	not systemctl start chimney 2>/dev/null && said=$(chimneyctl gate load 2>&1) && return 1
	say "$said"
	[[ $said = *"version 0.1,"*"chimneyctl $NEXT_VERSION"*"modprobe -r chimney"* ]] && not gate_attached &&
		modprobe -r chimney && systemctl start chimney && started
}

purge() {
	busy 31003 && quietly apt-get purge -y chimney chimney-dkms && progress 31003 && talk_stop 31003 || return
	[ ! -e /sys/module/chimney ] && [ ! -e /sys/fs/bpf/chimney ] && [ ! -e /run/chimney.lock ]
}
nothing_left() {
	systemctl daemon-reload
	diff $STATE/files <(files) | sed 's/^/# /'
	((PIPESTATUS[0] == 0)) && not systemctl cat chimney >/dev/null 2>&1
}

second_boot() {
	ktap_print_header
	ktap_set_plan 10
	ktap_test_result "module and gate are there after a reboot" starts_with_machine
	ktap_test_result "the module obeys its settings" obeys_settings
	topology veth && listener || ktap_exit_fail_msg "the hosts"
	ktap_test_result "a download takes the path" download
	ktap_test_result "README's commands, as they are printed" quick_start
	ktap_test_result "upgrade while a flow is busy: the new version runs, no byte is lost" upgrade
	ktap_test_result "upgrade keeps the settings" settings_kept
	ktap_test_result "the service is stopped and started while a flow is busy" stop_and_start
	ktap_test_result "a module of another version is refused, and why" mismatch
	ktap_test_result "purge while a flow is busy" purge
	ktap_test_result "purge leaves nothing" nothing_left
}

# part NAME FUNCTION: as kselftest's runner has it.
part() {
	(trap hosts_gone EXIT; "$2"; ktap_finished) | sed -u 's/^/# /'
	if ((PIPESTATUS[0] == 0)); then echo "ok $1"; else echo "not ok $1"; fi
}
if [ ! -e $STATE ]; then
	part "1 packages: installed" first_boot
	systemctl reboot
	sleep infinity
else
	part "2 packages: after a reboot" second_boot
fi
