#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""covered.py PCAP SPORT DPORT SINCE: which part of one direction of a TCP connection a capture holds.

Prints "BYTES GAPS SEGMENTS FIN": from the first byte that was new when it was captured after SINCE (seconds since 1970)
to the last, how many holes are between, in how many segments they came, and how many bytes after the first the stream
ends (-1 if the capture holds no end of it). What was captured before, while setting the socket up took it off and put
it back, may have holes.
"""
import struct
import sys

ETH, IP4, IP6, TCP, FIN = 14, 0x0800, 0x86dd, 6, 1


def packets(pcap):
    with open(pcap, "rb") as f:
        data = f.read()
    if data[:4] not in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
        sys.exit(f"{pcap}: not a capture file of this machine")
    pos = 24
    while pos + 16 <= len(data):
        seconds, micros, kept = struct.unpack_from("<III", data, pos)
        yield data, pos + 16, seconds + micros / 1e6
        pos += 16 + kept


def segments(pcap, ports):
    """(sequence number, bytes of payload, flags, time) of every segment from and to these ports"""
    for data, eth, time in packets(pcap):
        kind, = struct.unpack_from(">H", data, eth + 12)
        ip = eth + ETH
        if kind == IP4 and data[ip + 9] == TCP:
            header = (data[ip] & 15) * 4
            size = struct.unpack_from(">H", data, ip + 2)[0] - header
        elif kind == IP6 and data[ip + 6] == TCP:
            header = 40
            size = struct.unpack_from(">H", data, ip + 4)[0]
        else:
            continue
        tcp = ip + header
        if data[tcp:tcp + 4] == ports:
            seq, = struct.unpack_from(">I", data, tcp + 4)
            yield seq, size - (data[tcp + 12] >> 4) * 4, data[tcp + 13], time


def main(pcap, sport, dport, since):
    base, first, reached, fin, pieces = None, None, 0, None, []
    for seq, size, flags, time in segments(pcap, struct.pack(">HH", int(sport), int(dport))):
        if base is None:
            base = seq
        # sequence numbers wrap; a retransmission may reach back before the first byte captured
        start = (seq - base + 2**31) % 2**32 - 2**31
        stop = start + size
        if flags & FIN:
            fin = stop
        if stop > reached and size > 0:
            if first is None and time >= float(since):
                first = start
            reached = stop
        if first is not None and stop > first and size > 0:
            pieces.append((start, stop))
    if first is None:
        first = reached
    end, gaps = first, 0
    for start, stop in sorted(pieces):
        gaps += start > end
        end = max(end, stop)
    print(end - first, gaps, len(pieces), -1 if fin is None else fin - first)


main(*sys.argv[1:])
