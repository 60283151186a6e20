# shellcheck shell=bash disable=SC2034 # variables are for those who source this
# What the scripts of this folder share: where things are, how they speak, how they get at the image's root.
# Everything kept between runs is under .cache/, every result under out/; git ignores both.

set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
top=$(readlink -f "$here/../..")
cache=$top/.cache
out=$top/out
root=$cache/rootfs                             # Debian 13, entered by chroot to build and to run QEMU
stage=$cache/stage                             # the installed project, laid over the guest's / at boot
ksrc=/usr/src/kselftest                        # in the root: the part of the kernel source that kselftest needs
psrc=/usr/src/chimney                          # in the root: the copy of the project that is built
ksinst=/usr/libexec/kselftest                  # in the guest: where kselftest is installed
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

kver() { basename "$root"/lib/modules/*; }
