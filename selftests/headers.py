#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
Compares the headers of one connection's segments in two captures of capture.py.

  headers.py HOST PATH LPORT [FIELD=VALUE]...
      exits 0 if those that LPORT has sent are alike in both: all of the IP header but what any two packets differ in
      (lengths, checksums), and of TCP's the flags and kinds of options. Data and pure acknowledgements are compared by
      themselves, and both are there; what was sent again is not (ECN treats it differently). No IP ID may be
      missing or there twice. Each FIELD has to have this VALUE on data.
"""
import socket
import struct
import sys

from pcap import packets


def ip4(packet):
    tos, _, ident, frag, ttl, proto = struct.unpack(">xBHHHBB", packet[:10])
    hlen = (packet[0] & 15) * 4
    fields = {"tos": f"{tos:x}", "df": frag >> 14 & 1, "fragment": frag & 0x3FFF, "ttl": ttl, "hlen": hlen}
    return fields, proto, ident, hlen, struct.unpack(">H", packet[2:4])[0]


def ip6(packet):
    word, length, proto, hops = struct.unpack(">IHBB", packet[:8])
    fields = {"tos": f"{word >> 20 & 0xFF:x}", "label": f"{word & 0xFFFFF:x}", "ttl": hops}
    return fields, proto, None, 40, length + 40


def kinds(options):
    found = []
    while options and options[0]:
        # padding, and SACK, which depends on what has come
        if options[0] not in (1, 5):
            found.append(options[0])
        options = options[1:] if options[0] == 1 else options[options[1]:]
    return ",".join(map(str, found))


def sent(path, lport):
    """(kind of segment, fields, IP ID) of each segment that LPORT has sent."""
    reached = None
    for packet in packets(path):
        if not packet or packet[0] >> 4 not in (4, 6):
            continue
        fields, proto, ident, hlen, total = (ip4 if packet[0] >> 4 == 4 else ip6)(packet)
        tcp = packet[hlen:]
        if proto != socket.IPPROTO_TCP or struct.unpack(">H", tcp[:2])[0] != lport:
            continue
        doff = tcp[12] >> 4
        # where PSH is depends on what TCP had to send at that moment
        fields |= {"flags": f"{tcp[13] & ~8:x}", "options": kinds(tcp[20:doff * 4])}
        length = total - hlen - doff * 4
        end = struct.unpack(">I", tcp[4:8])[0] + length
        # the first one tells where the stream is
        again = reached is None or length and (end - reached - 1) & 0xFFFFFFFF >= 1 << 31
        kind = "again" if again else "data" if length else "ack"
        if reached is None or not again:
            reached = end
        yield kind, fields, ident


def shapes(path, lport):
    """The different headers of a capture, for each kind of segment, and whether no IP ID is missing or there twice."""
    found, ids = {"data": set(), "ack": set(), "again": set()}, []
    for kind, fields, ident in sent(path, lport):
        found[kind].add(" ".join(f"{name}={value}" for name, value in fields.items()))
        if ident is not None:
            ids.append(ident)
    # by how far they are from the first one, either way: two processors may overtake each other
    offsets = sorted((ident - ids[0] + 0x8000) & 0xFFFF for ident in ids)
    good = all(later - earlier == 1 for earlier, later in zip(offsets, offsets[1:]))
    if not good:
        print(f"{path}: IP IDs {' '.join(map(str, ids))}")
    return found, good


def main(host, path, lport, *expected):
    (by_host, good_host), (by_path, good_path) = shapes(host, int(lport)), shapes(path, int(lport))
    good = good_host and good_path
    for kind in ("data", "ack"):
        print(f"{kind}: {'; '.join(sorted(by_path[kind]))}")
        if not by_host[kind] or by_host[kind] != by_path[kind]:
            print(f"{kind} by the host path: {'; '.join(sorted(by_host[kind]))}")
            good = False
    for field in expected:
        if not all(field in shape.split() for shape in by_path["data"]):
            print(f"not every header has {field}")
            good = False
    return not good


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
