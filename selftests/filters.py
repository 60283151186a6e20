#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""
Gives a capture one random filter after the other, and looks whether the gate tells rightly if a flow is any of it.

  filters.py LPORT ADDRESS ADDRESS ROUNDS SEED
      captures on eth0 of host-a, where LPORT at the first ADDRESS is a busy flow of messages of 100 bytes. In each round,
      a filter as tcpdump would have it, made of what flows differ by and of what their packets do: while it lets packets
      of the flow pass, the flow has to be in the host, and if nothing but addresses, ports and protocols keeps them out,
      it has to be on the path.
"""
import ctypes
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time

import pcap

WAIT = 60 * int(os.environ.get("PATIENCE") or 1)        # seconds that a condition may take to come true
SO_ATTACH_FILTER, SO_RCVBUFFORCE, ETH_P_ALL, ETH_HLEN, RPORT = 26, 33, 3, 14, 7000
MESSAGE, MESSAGES = 100, 60     # of the conversation: bytes of one, and in how many some packets of each direction are judged


def flow(lport):
    """What chimneyctl tells of it."""
    return json.loads(subprocess.check_output(["chimneyctl", "-j", "-n", "host-a", "flows", "lport", lport]))[0]


def primitive(lport, a, b):
    """A text of tcpdump's, and whether it depends on addresses, ports and protocols alone."""
    side = random.choice(["", "src ", "dst "])
    address = random.choice([a, b, "198.51.100.7", "2001:db8:1::7"])
    net = random.choice(["192.0.2.0/24", "192.0.2.0/30", "10.0.0.0/8", "2001:db8::/32", "2001:db8:1::/48"])
    port = random.choice([lport, str(RPORT), "22", "443"])
    certain = [
        f"{side}host {address}", f"{side}net {net}", f"{side}port {port}", f"tcp {side}port {port}",
        f"{side}portrange {random.choice(['1-1023', '6000-8000', '20000-50000'])}", "tcp", "udp", "ip", "ip6", "arp", "icmp6",
    ]
    uncertain = [
        "tcp[13] & 16 != 0", "tcp[13] & 4 != 0", "greater 3000", "less 20", "ip[8] < 3", "ip[1] != 0", "ip6[7] < 3",
        "ether broadcast", "vlan 5", "tcp[0:2] + 1 = 23",
    ]
    if random.random() < 0.8:
        return random.choice(certain), True
    return random.choice(uncertain), False


def expression(*flow_is):
    """Some primitives, with "and", "or" and "not"."""
    text, certain = primitive(*flow_is)
    for _ in range(random.choice([0, 0, 1, 1, 2, 3])):
        more, sure = primitive(*flow_is)
        text = f"{random.choice(['', 'not '])}({text}) {random.choice(['and', 'or'])} {random.choice(['', 'not '])}({more})"
        certain = certain and sure
    return text, certain


def program(text):
    """It as a struct sock_fprog, or None if tcpdump finds that it cannot be."""
    out = subprocess.run(["tcpdump", "-y", "EN10MB", "-s", "128", "-ddd", text], capture_output=True, text=True, check=False)
    if out.returncode:
        return None
    insns = b"".join(struct.pack("HBBI", *map(int, line.split())) for line in out.stdout.splitlines()[1:])
    return ctypes.create_string_buffer(insns), len(insns) // 8


def attach(sock, filter_):
    code, count = filter_
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", count, ctypes.addressof(code)))


def of_flow(packet, lport):
    """Neighbour discovery may pass a filter, too."""
    segment = pcap.segment(packet[ETH_HLEN:])
    return segment is not None and sorted(segment[:2]) == sorted((int(lport), RPORT))


def seen(sock, lport):
    """How many packets of the flow have been let pass."""
    count = 0
    try:
        while packet := sock.recv(128):
            count += of_flow(packet, lport)
    except BlockingIOError:
        return count


def goes_on(lport, start, path_will_do=False):
    """The flow, when it has received some messages more than at the start, which takes some of its packets to the gate."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        now = flow(lport)
        if now["received"] >= start["received"] + MESSAGES * MESSAGE or (path_will_do and now["state"] == "offloaded"):
            return now
        time.sleep(0.1)
    sys.exit(f"waited {WAIT} s in vain for the conversation to go on")


def main(lport, a, b, rounds, seed):
    random.seed(int(seed))
    os.setns(os.open("/run/netns/host-a", os.O_RDONLY), os.CLONE_NEWNET)
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    sock.setblocking(False)
    attach(sock, program("arp"))
    sock.bind(("eth0", ETH_P_ALL))
    passing = blind = undecided = different = 0
    while passing + blind < int(rounds):
        text, certain = expression(lport, a, b)
        filter_ = program(text)
        if not filter_:
            continue
        attach(sock, filter_)
        seen(sock, lport)                       # what the last filter has let pass
        first = goes_on(lport, flow(lport), True)
        last = goes_on(lport, first)
        packets = seen(sock, lport)
        on_path = [now["state"] == "offloaded" for now in (first, last)]
        passing += packets > 0
        blind += not packets
        undecided += not (packets or certain or any(on_path))
        if any(on_path) if packets else certain and not all(on_path):
            different += 1
            print(f"wrong: {text!r} has let {packets} packets pass, the flow is {first['state']}, {last['state']} {last['reasons']}")
    print(f"{passing} filters that let it pass, {blind} that do not, {undecided} of them that might have, {different} differences")
    return different > 0 or not passing or not blind


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
