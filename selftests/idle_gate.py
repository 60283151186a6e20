#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""
Attaches the gate of idle_gate.bpf.c and pins its link, by libbpf: bpftool does the same, and crashes when it is to say so
(bpftool 7.5, with types of a module whose number vmlinux has none of).

  idle_gate.py OBJECT PIN
"""
import ctypes
import os
import sys

libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
for name in ("bpf_object__open", "bpf_object__find_map_by_name", "bpf_map__attach_struct_ops"):
    getattr(libbpf, name).restype = ctypes.c_void_p


def there(pointer):
    """What libbpf has returned; exits when that is nothing."""
    if not pointer:
        sys.exit(os.strerror(ctypes.get_errno()))
    return ctypes.c_void_p(pointer)


obj = there(libbpf.bpf_object__open(sys.argv[1].encode()))
if error := libbpf.bpf_object__load(obj):
    sys.exit(os.strerror(-error))
link = there(libbpf.bpf_map__attach_struct_ops(there(libbpf.bpf_object__find_map_by_name(obj, b"idle"))))
if error := libbpf.bpf_link__pin(link, sys.argv[2].encode()):
    sys.exit(os.strerror(-error))
