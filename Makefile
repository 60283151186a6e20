# SPDX-License-Identifier: GPL-2.0
# Builds, installs and tests chimney: `make help` lists what there is.

KVER	?= $(shell uname -r)
KDIR	?= /lib/modules/$(KVER)/build
PREFIX	?= /usr/local
DESTDIR	?=
TOPOLOGY ?= hub
MODULE	:= kmod/chimney.ko
VM	:= selftests/vm/vm
export KDIR KVER PREFIX DESTDIR

INSTMOD	:= $(DESTDIR)/lib/modules/$(KVER)/updates/chimney

.PHONY: all modules gate tools install uninstall deb vm check check-long check-debug check-packages demo bench style netlink \
	compile_commands.json clean distclean help

all: modules gate tools	## build all of it (the default) against KDIR

modules:	## build the kernel module (kmod/)
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules

gate: modules	## build the eBPF gate (bpf/)
	$(MAKE) -C bpf

tools: gate	## build chimneyctl (userspace/)
	$(MAKE) -C userspace

install:	## install module, chimneyctl, systemd unit and modprobe settings under DESTDIR
	install -D -m 644 -t $(INSTMOD) $(MODULE)
	strip -g $(INSTMOD)/chimney.ko
	$(MAKE) -C userspace install
	$(if $(DESTDIR),,depmod $(KVER))

uninstall:	## remove what install installed
	$(MAKE) -C userspace uninstall
	rm -f $(INSTMOD)/chimney.ko
	-rmdir $(INSTMOD)
	$(if $(DESTDIR),,depmod $(KVER))

deb:		## build the Debian packages (out/*.deb), in a Debian 13 of their own
	@selftests/vm/deb

vm:	## a shell in a virtual Debian 13 with module and tools installed
	$(VM) shell

check:	## run all tests in virtual machines; T=name: one; TOPOLOGY=tap: with TSO; KERNEL=backports: newest kernel
	@TOPOLOGY=$(TOPOLOGY) selftests/vm/check $(T)

check-long:	## the same with the sizes that take long: more rounds, more devices, many flows
	@LONG=1 TOPOLOGY=$(TOPOLOGY) selftests/vm/check $(T)

check-debug:	## the same on a kernel with KASAN, lockdep, kmemleak and fault injection, which it builds first
	@KERNEL=debug TOPOLOGY=$(TOPOLOGY) selftests/vm/check $(T)

check-packages:	## install, upgrade and purge the Debian packages in a Debian 13 with systemd
	@selftests/vm/check-packages

demo:	## show on two virtual NICs what chimney does
	$(VM) run --topology hub --timeout 900 selftests/demo.sh

bench:	## count instructions, stock against chimney (out/bench.json)
	$(VM) run --topology none --icount --timeout 3600 selftests/bench/run.sh

style:	## check coding style: checkpatch, clang-format, sparse, mandoc, shellcheck
	selftests/vm/style

netlink:	## generate what follows from the specification of the netlink family
	@selftests/vm/netlink

compile_commands.json:	## how each source is compiled, for editors; builds all anew, needs bear
	@command -v bear >/dev/null || { echo "compile_commands.json: bear is not installed (apt-get install bear)" >&2; exit 1; }
	$(MAKE) clean
	bear --output $@ -- $(MAKE) all

clean:	## remove what building left
	$(if $(wildcard $(KDIR)/Makefile),$(MAKE) -C $(KDIR) M=$(CURDIR) clean)
	$(MAKE) -C bpf clean
	$(MAKE) -C userspace clean
	rm -rf out compile_commands.json

distclean: clean	## remove the virtual machine's image and downloads too
	rm -rf --one-file-system .cache

help:	## this list
	@awk -F ':.*## *' '/^[a-z_.-]+:.*## / { printf "%-22s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
