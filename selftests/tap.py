#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
Two TAP or TUN devices and the wire between them: what one sends the other receives, as long as that is up.

  tap.py tap|tun NAME NAME
"""
import fcntl
import os
import select
import struct
import sys

TUNSETIFF = 0x400454CA
IFF = {"tun": 0x0001, "tap": 0x0002}
IFF_NO_PI = 0x1000


def device(kind, name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF[kind] | IFF_NO_PI))
    return fd


def main(kind, *names):
    ends = [device(kind, name) for name in names]
    other = dict(zip(ends, reversed(ends)))
    poll = select.poll()
    for fd in ends:
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            try:
                while True:
                    os.write(other[fd], os.read(fd, 65536))
            except OSError:
                pass  # nothing more to read, or nobody there to get it


main(*sys.argv[1:])
