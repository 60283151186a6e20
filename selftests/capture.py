#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
Captures as tcpdump does not make them, and a look at what any capture holds.

  capture.py listen FILE [netns=PATH] [dev=NAME] [type=ip|ipv6|arp|all] [fanout=N] [deaf=1]
      writes what packet sockets see, until SIGTERM; says "listening on" once they do. With netns= the sockets are of that
      network namespace and the process is back in its own; with fanout= there are N sockets in one group; with deaf=1
      their filter lets nothing pass until SIGUSR1 comes, after which it says "hears".
  capture.py ended FILE LPORT out|in|both
      exits 0 if FILE holds the end of the connection of LPORT
  capture.py covers FILE LPORT TOTAL OUT IN out|in|both
      exits 0 if FILE holds the connection of LPORT with no gap from byte OUT of what LPORT has sent and byte IN of what it
      has received to its end, TOTAL bytes each way. Before that, while it is set up, a capture may be off for a moment.
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
            sock.bind((options["dev"], ethertype))
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
            sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
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


def packets(path):
    """The IP packets of a capture file."""
    with open(path, "rb") as file:
        header = file.read(24)
        linktype = struct.unpack("<I", header[20:])[0]
        skip = {1: 14, 113: 16, 276: 20}[linktype]
        while len(record := file.read(16)) == 16:
            length = struct.unpack("<8xI4x", record)[0]
            packet = file.read(length)
            # the last one may be half written
            if len(packet) == length:
                yield packet[skip:]


def segments(path, lport):
    """(outgoing, seq, payload length, FIN) of each segment of a connection."""
    for packet in packets(path):
        if packet[:1] and packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_TCP:
            hlen = (packet[0] & 15) * 4
            total = struct.unpack(">H", packet[2:4])[0]
        elif packet[:1] and packet[0] >> 4 == 6 and packet[6] == socket.IPPROTO_TCP:
            hlen = 40
            total = struct.unpack(">H", packet[4:6])[0] + hlen
        else:
            continue
        tcp = packet[hlen:]
        sport, dport, seq = struct.unpack(">HHI", tcp[:8])
        if lport in (sport, dport) and not tcp[13] & 2:
            yield sport == lport, seq, total - hlen - (tcp[12] >> 4) * 4, tcp[13] & 1


def covers_one(found, total, start, name):
    """Is [start, total) there without a gap?"""
    ends = [(seq + length) & 0xFFFFFFFF for seq, length, fin in found if fin]
    if not ends:
        print(f"{name}: no FIN was captured")
        return False
    # a position in the stream: counted back from FIN, so that it needs no SYN
    ranges = sorted((total - ((ends[0] - seq) & 0xFFFFFFFF), length) for seq, length, _ in found)
    ranges = [(pos, length) for pos, length in ranges if length and pos >= 0]
    first = reached = ranges[0][0] if ranges else total
    gaps = 0
    for pos, length in ranges:
        # keep-alives and probes have old bytes only
        if pos > reached:
            print(f"{name}: gap of {pos - reached} bytes at {reached}")
            gaps += pos > start
        reached = max(reached, pos + length)
    print(f"{name}: {len(ranges)} segments with bytes {first} to {reached} of {total}, {gaps} gaps; after {start} none may miss")
    return first <= start and reached == total and not gaps


def covers(path, lport, total, out, into, which):
    found = list(segments(path, int(lport)))
    good = True
    for name, outgoing, start in (("out", True, out), ("in", False, into)):
        if which in (name, "both"):
            good &= covers_one([f[1:] for f in found if f[0] == outgoing], int(total), int(start), name)
    return not good


def ended(path, lport, which):
    fins = {"out" if outgoing else "in" for outgoing, _, _, fin in segments(path, int(lport)) if fin}
    return not fins >= ({"out", "in"} if which == "both" else {which})


if __name__ == "__main__":
    if sys.argv[1:2] == ["listen"]:
        sys.exit(listen(sys.argv[2], **dict(o.split("=") for o in sys.argv[3:])))
    if sys.argv[1:2] == ["ended"]:
        sys.exit(ended(*sys.argv[2:]))
    if sys.argv[1:2] == ["covers"]:
        sys.exit(covers(*sys.argv[2:]))
    sys.exit(__doc__)
