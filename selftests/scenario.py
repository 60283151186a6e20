#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
Both ends of a connection in one process, so that what one does can be compared with what the other sees.

  scenario.py SCENARIO LPORT ADDRESS
      connects from host-a to ADDRESS in host-b, exchanges messages until SIGUSR1 comes (time to be offloaded), then
      plays SCENARIO, a function of this file. Before a scenario that wants something from outside goes on it prints
      what it is at, and waits for SIGUSR1 again. Exits 0 if each end got what the other has sent.
"""
import errno
import os
import random
import select
import signal
import socket
import sys
import time

PORT = 7100
BACKOFF, SEGS_OUT = 4, 136  # offsets in struct tcp_info: a byte, four bytes
stream = random.Random(1)


def enter(host):
    with open(f"/run/netns/{host}", "rb") as netns:
        os.setns(netns.fileno(), os.CLONE_NEWNET)


def info(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)


def segs_out(sock):
    return int.from_bytes(info(sock)[SEGS_OUT:][:4], sys.byteorder)


def until(condition):
    while not condition():
        time.sleep(0.02)


def receive(sock, length):
    data = bytearray()
    while len(data) < length:
        chunk = sock.recv(length - len(data))
        assert chunk, "closed early"
        data += chunk
    return data


def exchange(a, b, length=100):
    for one, other in ((a, b), (b, a)):
        data = stream.randbytes(length)
        one.sendall(data)
        assert receive(other, length) == data, "bytes are wrong"


def await_signal(what, a=None, b=None):
    """Waits, with or without traffic, until SIGUSR1 comes."""
    print(what, flush=True)
    while True:
        if signal.sigtimedwait({signal.SIGUSR1}, 0.002 if a else 60):
            return
        exchange(a, b)


def ended(sock):
    assert sock.recv(1) == b"", "more than was sent"


def bulk(one, other, total):
    """As much as the window takes at a time, read as it comes."""
    data, got, sent = stream.randbytes(total), bytearray(), 0
    one.setblocking(False)
    while len(got) < total:
        writable = [one] if sent < total else []
        ready = select.select([other], writable, [])
        if ready[1]:
            sent += one.send(data[sent:sent + 65536])
        if ready[0]:
            got += other.recv(65536)
    one.setblocking(True)
    assert got == data, "bytes are wrong"


def urgent(a, b):
    for one, other in ((a, b), (b, a)):
        one.sendall(b"before")
        one.send(b"!", socket.MSG_OOB)
        one.sendall(b"after")
        assert receive(other, 6) == b"before"
        until(lambda: select.select([], [], [other], 1)[2])
        assert other.recv(1, socket.MSG_OOB) == b"!", "urgent byte is wrong"
        assert receive(other, 5) == b"after"
        other.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        one.send(b"in line", socket.MSG_OOB)
        # reading stops at the mark
        assert other.recv(100) == b"in lin" and other.recv(100) == b"e"
    exchange(a, b)


def half_close(a, b):
    a.shutdown(socket.SHUT_WR)
    ended(b)
    bulk(b, a, 1000000)
    b.close()
    ended(a)


def both_close(a, b):
    """The device is slow meanwhile, so that the FINs meet."""
    for one in (a, b):
        one.shutdown(socket.SHUT_WR)
    ended(a)
    ended(b)


def zero_window(a, b):
    data = stream.randbytes(20000000)
    a.setblocking(False)
    sent = 0
    try:
        while True:
            # twice has it asked in vain whether the window is open
            until(lambda: select.select([], [a], [], 0)[1] or info(a)[BACKOFF] >= 2)
            sent += a.send(data[sent:sent + 65536])
    except BlockingIOError:
        pass
    print(f"{sent} bytes fill the window")
    assert receive(b, sent) == data[:sent], "bytes are wrong"
    a.setblocking(True)
    exchange(a, b)


def keepalive(a, b):
    for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3)):
        a.setsockopt(socket.IPPROTO_TCP, option, value)
    a.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    before = segs_out(a)
    until(lambda: segs_out(a) >= before + 3)
    exchange(a, b)
    await_signal("cut me off")
    try:
        a.recv(1)
        assert False, "data out of nowhere"
    except OSError as e:
        assert e.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH), e


def cork(a, b):
    a.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    data, before = stream.randbytes(1000), segs_out(a)
    for i in range(0, len(data), 10):
        a.send(data[i:i + 10])
    a.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    assert receive(b, len(data)) == data, "bytes are wrong"
    print(f"{segs_out(a) - before} segments with {len(data) // 10} pieces")
    # the cork goes by itself after 200 ms
    assert segs_out(a) - before < 50
    exchange(a, b)


def fastopen(a, b):
    """The connection was made with data in its SYN (see main)."""
    exchange(a, b)


def main(scenario, lport, address):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    enter("host-b")
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
    listener.bind((address, PORT))
    listener.listen()
    enter("host-a")
    for port in (0, int(lport)) if scenario == "fastopen" else (int(lport),):
        a = socket.socket(family)
        a.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        a.bind(("", port))
        if scenario == "fastopen":
            # the first one gets the cookie
            a.sendto(b"hello", socket.MSG_FASTOPEN, (address, PORT))
            b = listener.accept()[0]
            assert receive(b, 5) == b"hello"
        else:
            a.connect((address, PORT))
            b = listener.accept()[0]
    b.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await_signal("connected", a, b)
    globals()[scenario](a, b)
    print(f"{scenario}: every byte was right", flush=True)
    if scenario in ("urgent", "zero_window", "cork", "fastopen"):
        await_signal("done", a, b)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
