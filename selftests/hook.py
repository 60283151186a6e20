#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Puts a pinned BPF program on a netfilter hook of this network namespace, until it is ended.

hook.py PIN ipv4|ipv6 prerouting|input|forward|output|postrouting
"""
import ctypes
import os
import signal
import struct
import sys

SYS_BPF = 321
BPF_OBJ_GET, BPF_LINK_CREATE = 7, 28
BPF_NETFILTER = 45
FAMILIES = {"ipv4": 2, "ipv6": 10}
HOOKS = ["prerouting", "input", "forward", "output", "postrouting"]

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attr):
    fd = libc.syscall(SYS_BPF, command, ctypes.create_string_buffer(attr, len(attr)), len(attr))
    if fd < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return fd


pin, family, hook = sys.argv[1:]
path = ctypes.create_string_buffer(pin.encode())
program = bpf(BPF_OBJ_GET, struct.pack("QII", ctypes.addressof(path), 0, 0))
# prog_fd, target_fd, attach_type, flags; family, hook, priority, flags
bpf(BPF_LINK_CREATE, struct.pack("IIIIIIiI", program, 0, BPF_NETFILTER, 0, FAMILIES[family], HOOKS.index(hook), 10, 0))
print("attached", flush=True)
signal.pause()
