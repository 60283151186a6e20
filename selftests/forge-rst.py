#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Sends one RST: forge-rst.py SRC SPORT DST DPORT SEQ (IPv4)."""
import socket
import struct
import sys

src, sport, dst, dport, seq = sys.argv[1:]


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def segment(check):
    return struct.pack("!HHIIBBHHH", int(sport), int(dport), int(seq), 0, 5 << 4, 0x04, 0, check, 0)


pseudo = socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack("!BBH", 0, socket.IPPROTO_TCP, 20)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, socket.IPPROTO_TCP, 0,
                 socket.inet_aton(src), socket.inet_aton(dst))
raw.sendto(ip + segment(checksum(pseudo + segment(0))), (dst, 0))
