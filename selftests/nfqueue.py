#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""nfqueue.py NUMBER: accepts every packet of a netfilter queue, one after the other.

Prints "listening" when the queue is its own. Speaks nfnetlink itself, so that no library is needed.
"""
import socket
import struct
import sys

SUBSYS_QUEUE = 3
PACKET, VERDICT, CONFIG = 0, 1, 2               # enum nfqnl_msg_types
CFG_CMD, CFG_PARAMS = 1, 2                      # enum nfqnl_attr_config
PACKET_HDR, VERDICT_HDR = 1, 2                  # enum nfqnl_attr_type
REQUEST, ACK = 1, 4
NF_ACCEPT = 1

number = int(sys.argv[1])
nl = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
nl.bind((0, 0))


def send(kind, flags, attr, value):
    body = struct.pack("!BBH", 0, 0, number) + struct.pack("HH", 4 + len(value), attr) + value
    body += bytes(-len(body) % 4)
    nl.send(struct.pack("IHHII", 16 + len(body), SUBSYS_QUEUE << 8 | kind, REQUEST | flags, 0, 0) + body)


def attributes(data):
    while len(data) >= 4:
        length, kind = struct.unpack_from("HH", data)
        yield kind & 0x3FFF, data[4:length]
        data = data[length + 3 & ~3:]


for attr, value in (CFG_CMD, struct.pack("!BxH", 1, 0)), (CFG_PARAMS, struct.pack("!IB", 0, 1)):
    send(CONFIG, ACK, attr, value)              # bind; copy no more than what is known of the packet
    error = struct.unpack_from("i", nl.recv(65536), 16)[0]
    if error:
        sys.exit(f"queue {number}: error {-error}")
print("listening", flush=True)

while True:
    try:
        data = nl.recv(65536)
    except OSError:                             # packets were dropped for want of room: TCP sends them again
        continue
    while len(data) >= 20:
        length, kind = struct.unpack_from("IH", data)
        if kind == SUBSYS_QUEUE << 8 | PACKET:
            packet = dict(attributes(data[20:length]))[PACKET_HDR][:4]
            send(VERDICT, 0, VERDICT_HDR, struct.pack("!I", NF_ACCEPT) + packet)
        data = data[length + 3 & ~3:]
