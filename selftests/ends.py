#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""ends.py: a conversation of which this process has both ends, so that either can be changed between two bytes.

End a is in netns host-a and sends messages of a known stream to end b in host-b, which echoes them. Every byte is
compared, at both ends. Commands are read from stdin; each is answered by a line that begins with "ok" or "error".

    connect ADDRESS LPORT [COMMAND...]  begin, with a command before the first byte is sent
    tls                         kTLS at both ends
    map add|delete PATH         end a and the pinned sockmap of that name
    filter a|b accept|look|drop|none    socket filter; look accepts what has an IP header
    repair on|off               TCP_REPAIR at end a
    restore                     end a becomes another socket, as a process that is restored from a checkpoint has
    pause                       nothing more is sent or received
    move LPORT                  after that: end a's socket becomes another connection's, from LPORT to the same port,
                                and sends a segment; what end b says is not for it any more, and answered with RST
    stop                        close, when all that was sent has come back

All but filter and repair wait until nothing is under way.
"""
import ctypes
import os
import select
import socket
import struct
import sys
import time

RPORT = 7100
MESSAGE = 20000
PAUSE = 0.005
STREAM = os.urandom(1 << 16)

SOL_TLS, TCP_ULP, TLS_TX, TLS_RX = 282, 31, 1, 2
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_REPAIR_OPTIONS = 19, 20, 21, 22
TCP_TIMESTAMP, TCP_REPAIR_WINDOW = 24, 29
IP_LOCAL_PORT_RANGE = 51

libc = ctypes.CDLL(None, use_errno=True)


def enter(netns):
    with open(f"/run/netns/{netns}") as f:
        os.setns(f.fileno(), os.CLONE_NEWNET)


def stream(pos, length):
    pos %= len(STREAM)
    return (STREAM + STREAM)[pos:pos + length]


class Ends:
    def __init__(self, address, lport):
        self.goal = self.sent = self.received = 0       # of end a
        self.echo, self.echoed = b"", 0                 # of end b
        self.mute = False                               # nothing is sent or received
        enter("host-b")
        with socket.create_server(("::", RPORT), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
            enter("host-a")
            self.a = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            self.connect((address, RPORT), lport)
            self.b = listener.accept()[0]
        for s in self.a, self.b:
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connect(self, peer, lport):
        # unlike that of bind(), such a port can be changed
        self.a.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("I", lport | lport << 16))
        self.a.connect(peer)

    def quiet(self):
        return self.received == self.goal

    def step(self, commands):
        """Waits until something can be done and does it; returns whether there is a command."""
        to_read, to_write = commands[:], []
        if not self.mute:
            to_read += [self.a, self.b]
            to_write += ([self.a] if self.sent < self.goal else []) + ([self.b] if self.echo else [])
        readable, writable, _ = select.select(to_read, to_write, [], PAUSE)
        try:
            if self.b in readable:
                data = self.b.recv(MESSAGE)
                if data != stream(self.echoed + len(self.echo), len(data)) or not data:
                    sys.exit(f"end b: wrong after {self.echoed + len(self.echo)} bytes")
                self.echo += data
            if self.a in readable:
                data = self.a.recv(MESSAGE)
                if data != stream(self.received, len(data)) or not data:
                    sys.exit(f"end a: wrong after {self.received} bytes")
                self.received += len(data)
            if self.b in writable:
                n = self.b.send(self.echo)
                self.echo, self.echoed = self.echo[n:], self.echoed + n
            if self.a in writable:
                self.sent += self.a.send(stream(self.sent, self.goal - self.sent))
        except BlockingIOError:
            pass
        return commands and commands[0] in readable

    def tls(self):
        def key(n):     # struct tls12_crypto_info_aes_gcm_128
            return struct.pack("=HH8s16s4s8s", 0x0303, 51, bytes([n] * 8), bytes([n] * 16), bytes([n] * 4), bytes(8))

        for s, tx, rx in (self.a, 1, 2), (self.b, 2, 1):
            s.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
            s.setsockopt(SOL_TLS, TLS_TX, key(tx))
            s.setsockopt(SOL_TLS, TLS_RX, key(rx))

    def map(self, verb, path):
        def bpf(cmd, layout, *values):
            attr = ctypes.create_string_buffer(struct.pack(layout, *values), 128)
            fd = libc.syscall(321, cmd, attr, 128)
            if fd < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            return fd

        name = ctypes.create_string_buffer(path.encode())
        key, value = ctypes.c_uint32(0), ctypes.c_uint64(self.a.fileno())
        fd = bpf(7, "QII", ctypes.addressof(name), 0, 0)                # BPF_OBJ_GET
        if verb == "add":                                               # BPF_MAP_UPDATE_ELEM
            bpf(2, "IxxxxQQQ", fd, ctypes.addressof(key), ctypes.addressof(value), 0)
        else:                                                           # BPF_MAP_DELETE_ELEM
            bpf(3, "IxxxxQ", fd, ctypes.addressof(key))
        os.close(fd)

    def filter(self, end, kind):
        s = getattr(self, end)
        accept, drop = (0x06, 0, 0, 0xffffffff), (0x06, 0, 0, 0)        # BPF_RET
        program = {
            "accept": [accept],
            "drop": [drop],
            # the version at SKF_NET_OFF, the protocol where either version has it
            "look": [(0x30, 0, 0, 0xfff00000), (0x74, 0, 0, 4), (0x15, 0, 2, 4),
                     (0x30, 0, 0, 0xfff00009), (0x15, 2, 3, 6),
                     (0x30, 0, 0, 0xfff00006), (0x15, 0, 1, 6), accept, drop],
            "none": None,
        }[kind]
        if program is None:
            s.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            return
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in program))
        s.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))

    def repair(self, switch):
        self.mute = switch == "on"
        self.a.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, int(self.mute))

    def get(self, option, length=4):
        return self.a.getsockopt(socket.IPPROTO_TCP, option, length)

    def put(self, option, value):
        self.a.setsockopt(socket.IPPROTO_TCP, option, value)

    def checkpoint(self):
        self.put(socket.TCP_QUICKACK, 1)        # the other end has nothing to send again meanwhile
        self.put(TCP_REPAIR, 1)
        sequence = []
        for queue in 1, 2:
            self.put(TCP_REPAIR_QUEUE, queue)
            sequence.append(self.get(TCP_QUEUE_SEQ))
        return sequence

    def set_sequence(self, sequence):
        for queue in 1, 2:
            self.put(TCP_REPAIR_QUEUE, queue)
            self.put(TCP_QUEUE_SEQ, sequence[queue - 1])

    def restore(self):
        sequence = self.checkpoint()
        name, peer, family = self.a.getsockname(), self.a.getpeername(), self.a.family
        stamp, window, mss = self.get(TCP_TIMESTAMP), self.get(TCP_REPAIR_WINDOW, 20), self.get(socket.TCP_MAXSEG)
        scale = self.get(socket.TCP_INFO, 8)[6]
        self.a.close()
        self.a = socket.socket(family)
        self.put(TCP_REPAIR, 1)
        self.set_sequence(sequence)
        self.a.bind(name)
        self.a.connect(peer)
        options = (2, struct.unpack("I", mss)[0]), (3, scale & 15 | (scale >> 4) << 16), (4, 0), (8, 0)
        self.put(TCP_REPAIR_OPTIONS, b"".join(struct.pack("II", *o) for o in options))
        self.put(TCP_TIMESTAMP, stamp)
        self.put(TCP_REPAIR_WINDOW, window)
        self.put(TCP_REPAIR, 0)
        self.put(socket.TCP_NODELAY, 1)
        self.a.setblocking(False)

    def pause(self):
        self.put(socket.TCP_QUICKACK, 1)
        self.mute = True

    def move(self, lport):
        sequence, peer = self.checkpoint(), self.a.getpeername()
        if libc.connect(self.a.fileno(), bytes(16), 16):                # AF_UNSPEC
            raise OSError(ctypes.get_errno(), "disconnect")
        self.set_sequence(sequence)
        self.connect(peer, int(lport))
        self.put(TCP_REPAIR, -1)
        self.b.send(b"not for you")
        self.b.setblocking(True)
        self.b.settimeout(30)
        try:
            self.b.recv(1)
        except ConnectionResetError:
            pass
        if select.select([self.a], [], [], 0)[0]:
            raise OSError(0, f"end a has got {self.a.recv(100)}")
        self.put(TCP_REPAIR, 0)                 # now with a window probe


def answer(what):
    print(what, flush=True)


def converse(ends, before):
    command = before
    while True:
        if command and (ends.quiet() or command[0] in ("filter", "repair")):
            if command[0] == "stop":
                break
            try:
                getattr(ends, command[0])(*command[1:])
                answer("ok " + " ".join(command))
            except OSError as e:
                answer(f"error {' '.join(command)}: {e}")
            command = None
        if ends.quiet() and not command and not ends.mute:
            time.sleep(PAUSE)
            ends.goal += MESSAGE
        if ends.step([] if command else [sys.stdin]):
            command = sys.stdin.readline().split() or sys.exit("no more commands")
    answer(f"ok {ends.received} bytes sent and received")


for line in sys.stdin:
    _, address, lport, *before = line.split()
    conversation = Ends(address, int(lport))
    if not before:
        answer("ok connected")
    converse(conversation, before)
    conversation.a.close()
    conversation.b.close()
