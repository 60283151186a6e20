# shellcheck shell=bash disable=SC2034 # variables are for those who source this
# What the scripts of this folder share: where things are, how they speak, how they get at the image's root.
# Everything kept between runs is under .cache/, every result under out/; git ignores both.

set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
top=$(readlink -f "$here/../..")
cache=$top/.cache
out=$top/out
root=$cache/rootfs                             # Debian 13, entered by chroot to build and to run QEMU
ksrc=/usr/src/kselftest                        # in the root: the part of the kernel source that kselftest needs
ksinst=/usr/libexec/kselftest                  # in the guest: where kselftest is installed
debug=$cache/debug                             # the kernel that finds faults: see the `kernel` script
dsrc=/usr/src/debug                            # in the root: where that is mounted, for those who build against it

# What depends on the kernel: KERNEL is that of Debian (stock) or the one that finds faults (debug).
KERNEL=${KERNEL:-stock}
case $KERNEL in
stock)	stage=$cache/stage                     # the installed project, laid over the guest's / at boot
	psrc=/usr/src/chimney                  # in the root: the copy of the project that is built
	vmlinux=/cache/vmlinux                 # what QEMU boots; it sees .cache as /cache
	guest_memory=1536                      # MiB
	cmdline=                               # kernel parameters of its own
	patience=1 ;;                          # how many times longer than usual anything may take
debug)	stage=$debug/stage psrc=/usr/src/chimney-debug vmlinux=/cache/debug/vmlinux
	guest_memory=3072 cmdline=kasan_multi_shot patience=4 ;;
*)	echo "vm: unknown kernel $KERNEL: stock or debug" >&2; exit 125 ;;
esac
export KERNEL
mkdir -p "$cache" "$out"

say() { echo "vm: $*" >&2; }
die() { echo "vm: $*" >&2; exit 125; }

# need COMMAND PACKAGE: have COMMAND, by installing PACKAGE where it is missing.
need() {
	command -v "$1" >/dev/null && return
	say "installing $2 (this machine has no $1)"
	install_deb "$2"
}

install_deb() {
	local apt=(apt-get -qq -y --no-install-recommends install)
	export DEBIAN_FRONTEND=noninteractive
	"${apt[@]}" "$1" >&2 && return
	say "that failed: apt-get update, then once more"
	apt-get -qq update >&2 || :
	"${apt[@]}" "$1" >&2 || die "cannot install $1"
}

# in_root [-b SOURCE:DIR]... COMMAND...: run COMMAND chrooted into the root, with SOURCE of this machine mounted at
# its DIR. The mounts are private to the command.
in_root() {
	unshare --mount --propagation private -- "$here/enter" "$root" "$@"
}

kver() { # the kernel's release
	case $KERNEL in
	stock) basename "$root"/lib/modules/* ;;
	debug) basename "$debug"/root/lib/modules/* ;;
	esac
}
kdir() { # in the root: what modules are built against
	case $KERNEL in
	stock) echo "/lib/modules/$(kver)/build" ;;
	debug) echo $dsrc/linux ;;
	esac
}
