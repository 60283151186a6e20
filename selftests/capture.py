#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
Captures as tcpdump does not make them. What they hold pcap.py tells.

  capture.py listen FILE [netns=PATH] [dev=NAME] [type=ip|ipv6|arp|all] [fanout=N] [deaf=1 | first=NAME]
      writes what packet sockets see, until SIGTERM; says "listening on" once they do. With netns= the sockets are of that
      network namespace and the process is back in its own; with fanout= there are N sockets in one group; with deaf=1
      their filter lets nothing pass until SIGUSR1 comes, after which it says "hears", and with first= they are bound to
      that device until then.
"""
import ctypes
import os
import select
import signal
import socket
import struct
import sys

ETHERTYPES = {"ip": 0x0800, "ipv6": 0x86DD, "arp": 0x0806, "all": 0x0003}
SOL_PACKET, PACKET_STATISTICS, PACKET_FANOUT = 263, 6, 18
SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_RCVBUFFORCE = 26, 27, 33
SNAPLEN = 128


def deafen(sock):
    nothing = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # BPF_RET | BPF_K: 0 bytes of each packet
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(nothing)))


def listen(path, **options):
    ethertype = ETHERTYPES[options.get("type", "all")]
    group = int(options.get("fanout", 0))
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    if "netns" in options:
        os.setns(os.open(options["netns"], os.O_RDONLY), os.CLONE_NEWNET)
    sockets = []
    for _ in range(max(group, 1)):
        # bind() wants a device; without one a socket listens on all from its start
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0 if "dev" in options else socket.htons(ethertype))
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        sock.setblocking(False)
        if "dev" in options:
            sock.bind((options.get("first", options["dev"]), ethertype))
        if group:
            sock.setsockopt(SOL_PACKET, PACKET_FANOUT, 77)
        if "deaf" in options:
            deafen(sock)
        sockets.append(sock)
    os.setns(home, os.CLONE_NEWNET)
    # setting a socket up takes it off and puts it back: what it saw before it was ready may have gaps
    for sock in sockets:
        try:
            while sock.recv(1):
                pass
        except BlockingIOError:
            pass
        sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)  # reading it resets it

    wake, waker = socket.socketpair()
    signal.signal(signal.SIGTERM, lambda *_: waker.send(b"x"))

    def hear(*_):
        for sock in sockets:
            if "deaf" in options:
                sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            else:
                sock.bind((options["dev"], ethertype))
        print("hears", file=sys.stderr, flush=True)

    signal.signal(signal.SIGUSR1, hear)
    with open(path, "wb", buffering=0) as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, SNAPLEN, 1))
        print("listening on", options, file=sys.stderr, flush=True)
        while True:
            ready = select.select(sockets + [wake], [], [])[0]
            for sock in ready:
                if sock is wake and len(ready) == 1:
                    stats = [struct.unpack("II", s.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)) for s in sockets]
                    print(sum(s[1] for s in stats), "packets dropped by kernel", file=sys.stderr, flush=True)
                    return 0
                if sock is not wake:
                    packet = sock.recv(SNAPLEN)
                    file.write(struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet)


if __name__ == "__main__":
    if sys.argv[1:2] == ["listen"]:
        sys.exit(listen(sys.argv[2], **dict(o.split("=") for o in sys.argv[3:])))
    sys.exit(__doc__)
