#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
Reaches into the socket of another process, so that a test can change its options while it is busy.

  sock.py PID set LEVEL NAME VALUE [LEVEL NAME VALUE]...
      setsockopt(): LEVEL and NAME are Python's names or numbers, VALUE a number, "none" for no bytes, or bytes as x:HEX,
      s:TEXT, md5:KEY@ADDRESS for TCP_MD5SIG, or xfrm:DIR@FAMILY for IP_XFRM_POLICY: ESP in transport mode, reqid 1
  sock.py PID get LEVEL NAME
      prints it, as a number
  sock.py PID rate BYTES HEADERS
      waits until another BYTES are acknowledged and prints the rates of that time in bit/s: of payload alone, with
      HEADERS bytes for each segment, and of what of it was sent again
"""
import ctypes
import os
import socket
import struct
import sys
import time

WAIT = 60 * int(os.environ.get("PATIENCE") or 1)        # seconds that a condition may take to come true
SYS_PIDFD_GETFD = 438
# offsets in struct tcp_info
BYTES_ACKED, SEGS_OUT, BYTES_RETRANS, TCP_INFO_LEN = 120, 136, 208, 232


def sock_of(pid):
    """A copy of the last socket that a process has opened."""
    fds = [int(fd) for fd in os.listdir(f"/proc/{pid}/fd") if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")]
    mine = ctypes.CDLL(None, use_errno=True).syscall(SYS_PIDFD_GETFD, os.pidfd_open(pid), max(fds), 0)
    if mine < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return socket.socket(fileno=mine)


def number(name):
    return int(name, 0) if name[0].isdigit() else getattr(socket, name)


def md5sig(key, _, address):
    """A struct tcp_md5sig."""
    if ":" in address:
        addr = struct.pack("=HHI16s", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, address))
    else:
        addr = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_pton(socket.AF_INET, address))
    return addr.ljust(128, b"\0") + struct.pack("=BBHi80s", 0, 0, len(key), 0, key.encode())


def xfrm_policy(direction, _, family):
    """A struct xfrm_userpolicy_info that selects everything, and its struct xfrm_user_tmpl."""
    inf = 2 ** 64 - 1
    family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}[family]
    selector = struct.pack("=40xHBBB3xiI", family, 0, 0, 0, 0, 0)
    info = selector + struct.pack("=4Q4Q4QIIBBBB4x", *[inf] * 4, *[0] * 8, 0, 0, ["in", "out"].index(direction), 0, 0, 0)
    return info + struct.pack("=16xIB3xH2x16xIBBBxIII", 0, socket.IPPROTO_ESP, family, 1, 0, 0, 0, *[2 ** 32 - 1] * 3)


def value(text):
    if text == "none":
        return None
    if text.startswith("xfrm:"):
        return xfrm_policy(*text[5:].partition("@"))
    if text.startswith("md5:"):
        return md5sig(*text[4:].partition("@"))
    if text.startswith("x:"):
        return bytes.fromhex(text[2:])
    if text.startswith("s:"):
        return text[2:].encode()
    return int(text, 0)


def progress(sock):
    """When it was, bytes acknowledged, bytes sent again and segments sent by then."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_LEN)
    return [time.monotonic()] + [int.from_bytes(info[at:at + size], sys.byteorder)
                                 for at, size in ((BYTES_ACKED, 8), (BYTES_RETRANS, 8), (SEGS_OUT, 4))]


def step(sock):
    """The same, as soon as more is acknowledged: that comes in lumps."""
    was = now = progress(sock)
    while now[1] == was[1]:
        if now[0] - was[0] > WAIT:
            sys.exit(f"nothing was acknowledged for {WAIT} s")
        time.sleep(0.005)
        now = progress(sock)
    return now


def rate(sock, total, headers):
    start = step(sock)
    while (now := step(sock))[1] < start[1] + total:
        pass
    seconds, acked, again, segs = (n - s for n, s in zip(now, start))
    return [int(8 * n / seconds) for n in (acked + again, acked + again + segs * headers, again)]


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    s = sock_of(int(sys.argv[1]))
    if sys.argv[2:3] == ["rate"]:
        print(*rate(s, int(sys.argv[3]), int(sys.argv[4])))
    elif sys.argv[2:3] == ["get"]:
        print(s.getsockopt(number(sys.argv[3]), number(sys.argv[4])))
    else:
        for i in range(3, len(sys.argv), 3):
            level, name, what = number(sys.argv[i]), number(sys.argv[i + 1]), value(sys.argv[i + 2])
            s.setsockopt(level, name, *([None, 0] if what is None else [what]))
