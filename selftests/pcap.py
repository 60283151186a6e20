#!/usr/bin/python3 -S
# SPDX-License-Identifier: GPL-2.0
"""
What a capture file holds of a connection.

  pcap.py ended FILE LPORT out|in|both
      exits 0 if FILE holds the end of the connection of LPORT
  pcap.py covers FILE LPORT TOTAL OUT IN out|in|both
      exits 0 if FILE holds the connection of LPORT with no gap from byte OUT of what LPORT has sent and byte IN of what it
      has received to its end, TOTAL bytes each way. Before that, while it is set up, a capture may be off for a moment.
"""
import struct
import sys

# tests ask often, and Python's module of sockets takes as long to load as Python itself
IPPROTO_TCP, FIN, SYN = 6, 1, 2


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


def segment(packet):
    """(source port, destination port, seq, payload length, flags) of an IP packet, None if it is not of TCP."""
    if packet[:1] and packet[0] >> 4 == 4 and packet[9] == IPPROTO_TCP:
        hlen = (packet[0] & 15) * 4
        total = struct.unpack(">H", packet[2:4])[0]
    elif packet[:1] and packet[0] >> 4 == 6 and packet[6] == IPPROTO_TCP:
        hlen = 40
        total = struct.unpack(">H", packet[4:6])[0] + hlen
    else:
        return None
    tcp = packet[hlen:]
    return *struct.unpack(">HHI", tcp[:8]), total - hlen - (tcp[12] >> 4) * 4, tcp[13]


def segments(path, lport):
    """(outgoing, seq, payload length, FIN) of each segment of a connection."""
    for sport, dport, seq, length, flags in filter(None, map(segment, packets(path))):
        if lport in (sport, dport) and not flags & SYN:
            yield sport == lport, seq, length, flags & FIN


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
    if sys.argv[1:2] == ["ended"]:
        sys.exit(ended(*sys.argv[2:]))
    if sys.argv[1:2] == ["covers"]:
        sys.exit(covers(*sys.argv[2:]))
    sys.exit(__doc__)
