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
backports=$cache/backports                     # the newest kernel that Debian 13 has: see the `backports` script

# What depends on the kernel: KERNEL is that of Debian 13 (stock), the newest one of its backports (backports) or the
# one that finds faults (debug).
KERNEL=${KERNEL:-stock}
case $KERNEL in
stock)	kroot=$root                            # has the kernel's files under lib/modules
	stage=$cache/stage                     # the installed project, laid over the guest's / at boot
	psrc=/usr/src/chimney                  # in the root: the copy of the project that is built
	vmlinux=/cache/vmlinux                 # what QEMU boots; it sees .cache as /cache
	initrd=/cache/initrd
	modules=                               # disk with the kernel's modules, if the guest's own has others
	guest_memory=1536                      # MiB
	cmdline=                               # kernel parameters of its own
	patience=1 ;;                          # how many times longer than usual anything may take
backports)
	kroot=$backports/root stage=$backports/stage psrc=/usr/src/chimney-backports
	vmlinux=/cache/backports/vmlinux initrd=/cache/backports/initrd modules=/cache/backports/modules.ext4
	guest_memory=1536 cmdline='' patience=1 ;;
debug)	kroot=$debug/root stage=$debug/stage psrc=/usr/src/chimney-debug
	vmlinux=/cache/debug/vmlinux initrd=/cache/initrd modules=
	# a processor that does nothing else for two minutes is locked up; twenty seconds are nothing here
	guest_memory=3072 cmdline="kasan_multi_shot watchdog_thresh=60" patience=4 ;;
*)	echo "vm: unknown kernel $KERNEL: stock, backports or debug" >&2; exit 125 ;;
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
in_root() { in_debian "$root" "$@"; }
in_debian() { unshare --mount --propagation private -- "$here/enter" "$@"; } # the same with the root as first argument

# sources: the files that git would commit, or all of them outside a git checkout.
sources() {
	local git=(git -c "safe.directory=$top" -C "$top")
	if "${git[@]}" rev-parse --git-dir >/dev/null 2>&1; then
		"${git[@]}" ls-files -z -co --exclude-standard --deduplicate
	else
		(cd "$top" && find . \( -name .cache -o -name out -o -name .git \) -prune -o -type f -printf '%P\0')
	fi
}

# mirrors: prints the two apt sources of a Debian 13. The mirror is the one that this machine's own apt uses.
mirrors() {
	# shellcheck disable=SC2016 # apt expands these
	local fields='$(LABEL)|$(COMPONENT)|$(REPO_URI)' targets main sec
	local key=/usr/share/keyrings/debian-archive-keyring.gpg
	targets=$(apt-get indextargets --format "$fields")
	if ! grep -q '^Debian|main|' <<<"$targets"; then
		say "apt has no package lists yet: apt-get update"
		apt-get -qq update >&2 || :
		targets=$(apt-get indextargets --format "$fields")
	fi
	main=$(awk -F'|' '$1 == "Debian" && $2 == "main" { print $3; exit }' <<<"$targets")
	sec=$(awk -F'|' '$1 == "Debian-Security" && $2 == "main" { print $3; exit }' <<<"$targets")
	[ -n "$main" ] || die "no Debian mirror in this machine's apt configuration (apt-get indextargets)"
	[ -n "$sec" ] || die "no Debian security mirror in this machine's apt configuration (apt-get indextargets)"
	say "packages come from $main and $sec, as this machine's own"
	echo "deb [signed-by=$key] $main trixie main"
	echo "deb [signed-by=$key] $sec trixie-security main"
}

# words FILE: what a package list names, with commas between.
words() { sed 's/#.*//' "$1" | tr -s ' \t\n' , | sed 's/^,//; s/,$//'; }

# make_debian ROOT DEBS PACKAGES [OPTION]...: makes the folder ROOT a Debian 13 with these PACKAGES (commas between) and
# DEBS the folder of what was downloaded for it; the options are mmdebstrap's.
make_debian() {
	local new=$1.new debs=$2 proxy sources cached
	need mmdebstrap mmdebstrap
	[ -e /usr/share/keyrings/debian-archive-trixie-stable.gpg ] ||
		[ -e /usr/share/keyrings/debian-archive-trixie-stable.pgp ] ||
		{ say "this machine does not know Debian 13's keys"; install_deb debian-archive-keyring; }
	sources=$(mirrors)
	proxy=$(apt-config shell p Acquire::http::Proxy)
	rm -rf --one-file-system "$new"; mkdir -p "$debs" "$(dirname "$new")"
	say "making a Debian 13 root file system (a minute or two) ..."
	# shellcheck disable=SC2016 # the hook expands these
	cached='d=$1/var/cache/apt/archives; mkdir -p "$d"; cp -ln "$cache"/debs/*.deb "$debs"/*.deb "$d" 2>/dev/null || :'
	cache=$cache debs=$debs mmdebstrap --quiet --mode=root --variant=essential --include="apt,$3" "${@:4}" \
		--aptopt='APT::Install-Recommends "false"' \
		${proxy:+--aptopt="Acquire::http::Proxy \"$(eval "$proxy"; echo "$p")\""} \
		--skip=essential/unlink --skip=cleanup/apt/cache \
		--setup-hook="$cached" \
		trixie "$new" - <<<"$sources" >&2
	# keep the downloads that this root used, and only those
	rm -rf "$debs.new"; mkdir "$debs.new"
	mv "$new"/var/cache/apt/archives/*.deb "$debs.new/"
	rm -rf "$debs"; mv "$debs.new" "$debs"
	rm -rf --one-file-system "$1"; mv "$new" "$1"
}

# What follows is about the kernel of $KERNEL.
kver() { basename "$kroot"/lib/modules/*; }     # its release
kdir() { # in the root: what modules are built against
	case $KERNEL in
	stock) echo "/lib/modules/$(kver)/build" ;;
	backports) echo "/usr/src/linux-headers-$(kver)" ;;
	debug) echo $dsrc/linux ;;
	esac
}
in_kernel() { in_root -b "$kroot:/mnt" "$@"; }  # runs a command in the root, with $kroot at /mnt

# Modules that tests load again and again: unpacked here, as xz takes long in an emulated guest.
unpack_modules() {
	in_kernel sh -ec "
		cd /mnt/lib/modules/$(kver)/kernel
		find net drivers/net -maxdepth 5 -name '*.ko.xz' -not -path '*/ethernet/*' -not -path '*/wireless/*' |
			xargs -r xz -d
		depmod -b /mnt $(kver)"
}

# make_initrd FILE: a few modules (where they are not built in) and a static busybox; see initrd-init.
make_initrd() {
	local d=$1.d m
	rm -rf "$d"; mkdir -p "$d"/{bin,mod,proc,sys,dev,root}
	cp "$root/bin/busybox" "$d/bin/"
	install -m 755 "$here/initrd-init" "$d/init"
	for m in virtio_pci virtio_blk ext4 crc32c_intel crc32c_generic 9p 9pnet_virtio virtio_net virtio_rng; do
		in_kernel modprobe -qd /mnt -S "$(kver)" --show-depends "$m" || :
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$d/list"
	(cd "$kroot" && sed 's|^/mnt/||' "$d/list" | xargs cp -t "$d/mod")
	sed -i 's|.*/||; s|\.xz$||' "$d/list"
	in_root -b "$d:/mnt" sh -ec '
		cd /mnt
		find mod -name "*.xz" -exec xz -d {} +
		find . | cpio --quiet -o -H newc' >"$1.new"
	mv "$1.new" "$1"
	rm -rf "$d"
}

# make_vmlinux FILE: the uncompressed kernel starts directly (PVH), which saves seconds of emulated unpacking and is
# never relocated.
make_vmlinux() {
	local image
	image=/lib/modules/$(kver)/vmlinuz              # newer packages have it there
	[ -e "$kroot$image" ] || image=/boot/vmlinuz-$(kver)
	in_kernel "$ksrc/scripts/extract-vmlinux" "/mnt$image" >"$1"
}
