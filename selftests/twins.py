#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
Two pairs of hosts that differ in nothing but chimney do the same at random: whatever the rules in force are, the same
connections come about in both and the same bytes arrive.

  twins.py SEED ROUNDS

A round begins with conversations in which nothing is under way, offloaded in host-a and host-b, never in twin-a and
twin-b. A change of rules is made in one pair, and as soon as its command has returned all ends of the conversations say
something and new connections are tried; then the same is done in the other pair. Packets of an always allowed kind go
after them, each way: what has not come before these is not coming. What each end has got, and which ends and which
connections have failed, is compared. Should it differ, there is time for what was late, which TCP sends again until it
has arrived: what the rules stop never comes in one pair, and what has come by mistake in the other stays there.

All that is random comes from SEED, and nothing of it depends on time. Exits 0 if there was no difference.
"""
import ctypes
import errno
import json
import os
import random
import socket
import subprocess
import sys
import time

PAIRS = ("host", "twin")
OTHER = {"a": "b", "b": "a"}
ADDRESS = {4: {"a": "192.0.2.1", "b": "192.0.2.2"}, 6: {"a": "2001:db8::1", "b": "2001:db8::2"}}
CONTROL = {"a": "198.51.100.1", "b": "198.51.100.2"}
SERVICES = (7001, 7002, 7003)
WAIT = 60 * int(os.environ.get("PATIENCE") or 1)        # seconds that a condition may take to come true
JUDGED = 12000                          # bytes in enough segments for each message to be judged
WORLD = 16                              # rounds with or without conntrack
STREAM = random.Random(0).randbytes(1 << 16)
TCP_ESTABLISHED = 1
now = "before the first round"          # what is being tried


def fail(what):
    print(f"not the same: {what}\n{now}")
    for host in "host-a", "host-b":
        told = subprocess.run(["chimneyctl", "-j", "-n", host, "flows"], stdout=subprocess.PIPE, check=False).stdout
        for flow in json.loads(told or b"[]"):
            print(host, *(flow.get(key) for key in ("local", "remote", "state", "offloads", "uploaded", "reasons")))
    sys.exit(1)


def until(condition, what, longer=0):
    """WHAT is what is awaited, or tells it when it has not come; it may take so much longer than WAIT."""
    limit = WAIT + longer
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            fail(f"waited {limit:.0f} s in vain for: {what() if callable(what) else what}")


# namespaces and commands

namespace = {f"{pair}-{side}": os.open(f"/run/netns/{pair}-{side}", os.O_RDONLY) for pair in PAIRS for side in "ab"}


def enter(netns):
    os.setns(namespace[netns], os.CLONE_NEWNET)


class Nft:
    """nft -f in one namespace, by the library: no process has to be started for it."""
    lib = ctypes.CDLL("libnftables.so.1")
    lib.nft_ctx_new.restype = ctypes.c_void_p
    lib.nft_ctx_get_error_buffer.restype = ctypes.c_char_p

    def __init__(self, netns):
        enter(netns)
        self.ctx = ctypes.c_void_p(self.lib.nft_ctx_new(0))
        self.lib.nft_ctx_buffer_error(self.ctx)

    def run(self, text):
        if self.lib.nft_run_cmd_from_buffer(self.ctx, text.encode()):
            fail(f"nft: {text}: {self.lib.nft_ctx_get_error_buffer(self.ctx).decode()}")


nft = {netns: Nft(netns) for netns in namespace}


def run(netns, tool, text):
    """A tool and its input, or arguments where it takes none."""
    enter(netns)
    if tool == "nft":
        nft[netns].run(text)
        return
    argv = tool.split() + ([] if tool.endswith("restore") else text.split())
    done = subprocess.run(argv, input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    # conntrack has nothing to do where the entry has gone by itself
    if done.returncode and tool != "conntrack":
        fail(f"{tool}: {text}: {done.stdout}")


# conversations

def stream(pos, length):
    pos %= len(STREAM)
    return (STREAM + STREAM)[pos:pos + length]


def tcp_socket(pair, side, family, port):
    enter(f"{pair}-{side}")
    sock = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((ADDRESS[family][side], port))
    sock.setblocking(False)
    return sock


def listener(pair, side, port):
    enter(f"{pair}-{side}")
    sock = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    sock.setblocking(False)
    return sock


def control(pair, side):
    enter(f"{pair}-{side}")
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((CONTROL[side], 7000))
    sock.connect((CONTROL[OTHER[side]], 7000))
    sock.settimeout(WAIT)
    return sock


listeners = {(pair, side, port): listener(pair, side, port) for pair in PAIRS for side in "ab" for port in SERVICES}
controls = {(pair, side): control(pair, side) for pair in PAIRS for side in "ab"}


def tcp_info(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)


class Connection:
    """The same in both pairs, from a client's port to a service."""

    next_port = 20000

    def __init__(self, family, client, service):
        self.family, self.client, self.service = family, client, service
        self.port, Connection.next_port = Connection.next_port, Connection.next_port + 1
        self.socks, self.sent, self.got, self.dead = {}, {}, {}, {}     # by pair and side
        self.before = {}                # what had been got before the change

    def __str__(self):
        return f"IPv{self.family} {self.client}:{self.port} to {OTHER[self.client]}:{self.service}"

    def connect(self, pair):
        sock = tcp_socket(pair, self.client, self.family, self.port)
        sock.connect_ex((ADDRESS[self.family][OTHER[self.client]], self.service))
        self.take(pair, self.client, sock)

    def take(self, pair, side, sock):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socks[pair, side] = sock
        self.sent[pair, side] = self.got[pair, side] = 0
        self.dead[pair, side] = False

    def accept(self, pair):
        """Takes what has come; others' as well."""
        while True:
            try:
                sock, peer = listeners[pair, OTHER[self.client], self.service].accept()
            except BlockingIOError:
                return (pair, OTHER[self.client]) in self.socks
            except OSError:
                continue
            for other in connections:
                if other.port == peer[1]:
                    other.take(pair, OTHER[other.client], sock)

    def outcome(self, pair):
        """Of an attempt: state of the client's socket, and whether the server knows of the connection."""
        return tcp_info(self.socks[pair, self.client])[0], self.accept(pair)

    def say(self, pair, side, length):
        if self.dead[pair, side]:
            return
        try:
            sent = self.socks[pair, side].send(stream(self.sent[pair, side], length))
            if sent != length:
                fail(f"{self}: {sent} of {length} bytes fit into the buffer")
        except OSError as e:
            if e.errno in (errno.EAGAIN, errno.ENOBUFS):
                fail(f"{self}: {e}")
            # a reset does not take what had come before
            self.hear(pair, side)
            self.dead[pair, side] = True
        # what an end cannot say any more is missed at the other end of both pairs
        self.sent[pair, side] += length

    def hear(self, pair, side):
        pos = self.got[pair, side]
        while not self.dead[pair, side]:
            try:
                data = self.socks[pair, side].recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self.dead[pair, side] = not data
            if data != stream(pos, len(data)):
                fail(f"{self}: {pair}-{side} has got wrong bytes after {pos}")
            pos += len(data)
            self.got[pair, side] = pos

    def heard(self, pair, side):
        self.hear(pair, side)
        return self.got[pair, side] == self.sent[pair, OTHER[side]]

    def complete(self):
        """Every byte has come, no end is dead."""
        return all(self.heard(*end) and not self.dead[end] for end in self.socks)

    def at_rest(self, pair, side):
        sock = self.socks[pair, side]
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)     # now, what would be sent after a while
        return not int.from_bytes(tcp_info(sock)[24:28], sys.byteorder)

    def close(self):
        for sock in self.socks.values():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        connections.remove(self)


connections = []                        # all there are
conversations = []                      # those which have been established


def connect_all(new):
    connections.extend(new)
    for pair in PAIRS:
        for c in new:
            c.connect(pair)
    for pair in PAIRS:
        for c in new:
            until(lambda: c.outcome(pair) == (TCP_ESTABLISHED, True), f"{pair}: {c}")
    conversations.extend(new)


def exchange():
    """Each end of the pair with chimney says something and hears what the other has said. Rules let it through."""
    for c in conversations:
        for side in "ab":
            c.say("host", side, JUDGED)
            until(lambda: c.heard("host", OTHER[side]), f"{c}: what host-{side} has said")


def offloaded():
    """All of them, in host-a and in host-b."""
    with open("/sys/kernel/chimney/flows", encoding="ascii") as file:
        return int(file.read()) == 2 * len(conversations)


def offload():
    until(lambda: offloaded() or exchange(), "all conversations offloaded")


def rest():
    """Nothing is under way any more, not even an acknowledgment."""
    for c in conversations:
        c.before = dict(c.got)
        for end in c.socks:
            until(lambda: c.at_rest(*end), f"{c}: {end} at rest")


def settle():
    for pair in PAIRS:
        for side in "ab":
            controls[pair, side].send(b"")
            controls[pair, OTHER[side]].recv(1)


# rules

class Rule:
    """Which packets of a conversation a rule is for, and in which host and hook it meets them."""

    def __init__(self, rng, conntrack):
        c = rng.choice(conversations)
        self.family, self.conntrack = c.family, conntrack
        to_server = rng.random() < 0.5
        self.source = c.client if to_server else OTHER[c.client]
        self.sport, self.dport = (c.port, c.service) if to_server else (c.service, c.port)
        self.hook = rng.choice(("output", "postrouting", "prerouting", "input"))
        self.host = self.source if self.hook in ("output", "postrouting") else OTHER[self.source]
        self.saddr, self.daddr = (ADDRESS[c.family][s] for s in (self.source, OTHER[self.source]))
        # at least one port; both, and nothing else, is the conversation alone
        self.fields = rng.choice((("sport", "dport"), ("dport",), ("sport",), ("saddr",), ("daddr", "dport"),
                                  ("saddr", "sport", "dport")))

    def nft_tests(self, rng, packets=True):
        """PACKETS: one of them may tell packets of a connection apart, which keeps all of them in the host."""
        ip = "ip" if self.family == 4 else "ip6"
        wide = ("/25", "/64")[self.family == 6]
        tests = ["meta l4proto tcp"]
        for field in self.fields:
            value = getattr(self, field)
            if field in ("saddr", "daddr"):
                tests.append(f"{ip} {field} {value}{rng.choice(('', wide))}")
            else:
                tests.append(f"tcp {field} " + rng.choice((f"{value}", f"{{ {value}, 9 }}", f"{value - 1}-{value}")))
        more = [f"meta nfproto ipv{self.family}", "tcp flags & (syn | ack) == syn"]
        more.append({"output": "meta skuid 0", "input": "fib daddr type local", "prerouting": 'iifname "eth0"',
                     "postrouting": 'oifname "eth0"'}[self.hook])
        if self.conntrack:
            more += ["ct state established", "ct state new", "ct state untracked", "ct direction original", "ct mark 7",
                     f"ct original proto-dst {self.dport}"]
        if rng.random() < 0.4:
            tests.append(rng.choice(more))
        # acknowledgments are shorter than that, what is said may be longer
        length = f"length > {rng.randint(150, 1000)}"
        if packets and rng.random() < 0.2:
            tests.append(rng.choice((f"meta {length}", f"{ip} {length}", "tcp flags psh", "tcp flags & (fin | psh) == psh",
                                     "ip ttl 64" if self.family == 4 else "ip6 hoplimit 64",
                                     "tcp option sack-perm exists")))
        return " ".join(tests)

    def nft_verdict(self, rng):
        verdicts = ["drop"] * 6 + ["accept"] * 3 + ["counter", "meta mark set 7", "jump refused"]
        if self.hook in ("input", "output"):
            verdicts += ["reject", "reject with tcp reset", "reject with icmpx admin-prohibited"]
        return rng.choice(verdicts)

    def iptables(self, rng):
        text = f"-A {self.hook.upper()} -p tcp"
        for field in self.fields:
            text += {"saddr": " -s ", "daddr": " -d ", "sport": " --sport ", "dport": " --dport "}[field]
            text += str(getattr(self, field))
        if self.conntrack and rng.random() < 0.3:
            text += " -m conntrack --ctstate " + rng.choice(("NEW", "ESTABLISHED"))
        return text + " -j " + rng.choice(("DROP", "DROP", "ACCEPT"))

    def selector(self):
        """For ip xfrm."""
        text = f"src {self.saddr} dst {self.daddr} proto tcp"
        for field in self.fields:
            if field in ("sport", "dport"):
                text += f" {field} {getattr(self, field)}"
        return text


PRIORITIES = (-150, -10, 0, 50, 300, 2147483647)
HOOKS = ("prerouting", "input", "output", "postrouting")


def nft_table(rng, rules, flags=""):
    """A table with a chain at each hook that rules are for."""
    text = "table inet t {\n" + flags + "chain refused { drop; }\n"
    for hook in HOOKS:
        here = [r for r in rules if r.hook == hook]
        if not here:
            continue
        text += f"chain {hook} {{ type filter hook {hook} priority {rng.choice(PRIORITIES)};\n"
        # conversations are to be offloaded while the table is dormant
        text += "".join(f"{r.nft_tests(rng, not flags)} {r.nft_verdict(rng)}\n" for r in here)
        if rng.random() < 0.1:
            text += "meta l4proto tcp " + rng.choice(("drop", "accept")) + "\n"
        text += "}\n"
    return text + "}\n"


def rules_by_host(rng, conntrack, least=1):
    rules = [Rule(rng, conntrack) for _ in range(rng.randint(least, 4))]
    return [(host, here) for host in "ab" if (here := [r for r in rules if r.host == host])]


# Kinds of changes: each returns steps, each of which is what is done in one host or both: (host, tool, text).

def nft_rules(rng, conntrack):
    return [[(host, "nft", nft_table(rng, rules)) for host, rules in rules_by_host(rng, conntrack)]]


def nft_replaced(rng, conntrack):
    """One transaction deletes a table that lets all through and brings another."""
    first = "table inet t { chain input { type filter hook input priority 0; meta l4proto tcp accept; }; }"
    by_host = rules_by_host(rng, conntrack)
    return [[(host, "nft", first) for host, _ in by_host],
            [(host, "nft", "delete table inet t\n" + nft_table(rng, rules)) for host, rules in by_host]]


def nft_one_rule(rng, conntrack):
    rule = Rule(rng, conntrack)
    chain = f"chain {rule.hook} {{ type filter hook {rule.hook} priority {rng.choice(PRIORITIES)}; }}"
    return [[(rule.host, "nft", f"table inet t {{ {chain}; }}")],
            [(rule.host, "nft", f"add rule inet t {rule.hook} {rule.nft_tests(rng)} drop")]]


def nft_called_chain(rng, conntrack):
    """A rule in a chain that is jumped to."""
    rule = Rule(rng, conntrack)
    table = f"""table inet t {{ chain called {{ }}
        chain {rule.hook} {{ type filter hook {rule.hook} priority 0; meta l4proto tcp jump called; }}; }}"""
    return [[(rule.host, "nft", table)], [(rule.host, "nft", f"add rule inet t called {rule.nft_tests(rng)} drop")]]


def nft_policy(rng, conntrack):
    hook, host = rng.choice(HOOKS), rng.choice("ab")
    start = f"type filter hook {hook} priority 0; policy"
    return [[(host, "nft", f"table inet t {{ chain c {{ {start} accept; meta l4proto != tcp accept; }}; }}")],
            [(host, "nft", f"add chain inet t c {{ {start} drop; }}")]]


def nft_dormant(rng, conntrack):
    by_host = rules_by_host(rng, conntrack)
    return [[(host, "nft", nft_table(rng, rules, "flags dormant;\n")) for host, rules in by_host],
            [(host, "nft", "add table inet t") for host, rules in by_host]]


def nft_set(rng, conntrack):
    rule = Rule(rng, conntrack)
    kind = rng.choice((
        ("set s { type inet_service; }", "tcp dport @s drop", f"{rule.dport}"),
        ("set s { type inet_service; flags interval; }", "tcp sport @s drop", f"{rule.sport - 1}-{rule.sport}"),
        ("set s { type inet_service . inet_service; }", "tcp sport . tcp dport @s drop",
         f"{rule.sport} . {rule.dport}"),
        ("map s { type inet_service : verdict; }", "tcp dport vmap @s", f"{rule.dport} : drop"),
    ))
    table = f"""table inet t {{ {kind[0]}
        chain c {{ type filter hook {rule.hook} priority 0; {kind[1]}; }}; }}"""
    return [[(rule.host, "nft", table)], [(rule.host, "nft", f"add element inet t s {{ {kind[2]} }}")]]


def nft_netdev(rng, conntrack):
    """On the device, where the path's packets come by, too."""
    rule = Rule(rng, False)
    hook = "egress" if rule.host == rule.source else "ingress"
    tests = " ".join(f"tcp {f} {getattr(rule, f)}" for f in ("sport", "dport") if f in rule.fields)
    ip = "ip" if rule.family == 4 else "ip6"
    return [[(rule.host, "nft", f"""table netdev t {{ chain c {{
        type filter hook {hook} device "eth0" priority {rng.choice(PRIORITIES)};
        {ip} saddr {rule.saddr} {tests} drop; }}; }}""")]]


def stateful(rng, conntrack):
    """A firewall that knows connections; then these are forgotten."""
    if not conntrack:
        return nft_rules(rng, conntrack)
    host, c = rng.choice("ab"), rng.choice(conversations)
    forget = rng.choice((f"-D -f ipv{c.family} -p tcp --orig-port-src {c.port}", f"-F -f ipv{c.family}", "-F"))
    table = """table inet t {
        chain in { type filter hook input priority 0; policy drop;
            meta l4proto != tcp accept
            ct state invalid drop
            ct state established,related accept
            tcp flags & (syn | ack) == syn ct state new accept
        }
        chain out { type filter hook output priority 0;
            meta l4proto tcp ct state new tcp flags & (syn | ack) != syn drop
        }
    }"""
    return [[(host, "nft", table)], [(host, "conntrack", forget)]]


def connection_mark(rng, conntrack):
    if not conntrack:
        return nft_rules(rng, conntrack)
    rule, c = Rule(rng, conntrack), rng.choice(conversations)
    table = f"table inet t {{ chain c {{ type filter hook {rule.hook} priority 0; ct mark 7 drop; }}; }}"
    return [[(rule.host, "nft", table)],
            [(rule.host, "conntrack", f"-U -f ipv{c.family} -p tcp --orig-port-src {c.port} --mark 7")]]


TABLES = {"prerouting": "raw", "input": "filter", "output": "filter", "postrouting": "mangle"}


def iptables(flavour):
    def rules(rng, conntrack):
        step = []
        for host, here in rules_by_host(rng, conntrack):
            for family in 4, 6:
                of_family = [r for r in here if r.family == family]
                text = ""
                for table in dict.fromkeys(TABLES[r.hook] for r in of_family):
                    lines = [r.iptables(rng) for r in of_family if TABLES[r.hook] == table]
                    text += f"*{table}\n" + "\n".join(lines) + "\nCOMMIT\n"
                if text:
                    step.append((host, f"ip{'6' * (family == 6)}tables-{flavour}-restore", text))
        return [step]
    rules.__name__ = f"iptables_{flavour}"
    return rules


def ip_set(rng, conntrack):
    rule = Rule(rng, conntrack)
    six = rule.family == 6
    hook = rule.hook.upper()
    table = TABLES[rule.hook]
    return [[(rule.host, "ipset", f"create s hash:ip,port family inet{'6' * six}"),
             (rule.host, f"ip{'6' * six}tables-legacy-restore",
              f"*{table}\n-A {hook} -p tcp -m set --match-set s src,src -j DROP\nCOMMIT\n")],
            [(rule.host, "ipset", f"add s {rule.saddr},tcp:{rule.sport}")]]


def xfrm_block(rng, conntrack):
    """An IPsec policy that lets nothing through."""
    step = []
    for _ in range(rng.randint(1, 2)):
        rule = Rule(rng, conntrack)
        direction = "out" if rule.host == rule.source else "in"
        step.append((rule.host, "ip xfrm policy update", f"{rule.selector()} dir {direction} action block"))
    return [step]


def no_route(rng, conntrack):
    """To an address, or for packets to a port."""
    rule = Rule(rng, conntrack)
    kind = rng.choice(("unreachable", "blackhole", "prohibit"))
    ip = f"ip -{rule.family}"
    if rng.random() < 0.4:
        return [[(rule.source, f"{ip} route add", f"{kind} {rule.daddr}")]]
    return [[(rule.source, f"{ip} rule add", f"to {rule.daddr} ipproto tcp dport {rule.dport} {kind}")]]


# those with most to choose more than once
KINDS = (nft_rules, nft_rules, nft_rules, nft_replaced, nft_one_rule, nft_called_chain, nft_policy, nft_dormant,
         nft_set, nft_set, nft_netdev, stateful, stateful, connection_mark, iptables("legacy"), iptables("nft"),
         ip_set, xfrm_block, no_route)


def undo(steps):
    """What takes back all that steps have done, in the same hosts."""
    undone = []
    for host, tool, text in (command for step in steps for command in step):
        ip = tool[:3].rstrip(" t")
        if tool == "nft":
            undone.append((host, tool, "destroy table inet t; destroy table netdev t"))
        elif tool.endswith("legacy-restore"):
            undone.append((host, tool, "*filter\nCOMMIT\n*raw\nCOMMIT\n*mangle\nCOMMIT\n"))
        elif tool.endswith("nft-restore"):
            undone.append((host, "nft", ";".join(f"destroy table {ip} {t}" for t in ("filter", "raw", "mangle"))))
        elif tool == "ipset":
            undone.append((host, tool, "destroy s"))
        elif tool.startswith("ip xfrm"):
            undone.append((host, tool.replace("update", "flush"), ""))
        elif ip == "ip":
            undone.append((host, tool.replace("add", "del"), text))
    # a set is in use as long as there is a rule with it
    return sorted(dict.fromkeys(undone), key=lambda command: command[1] == "ipset")


# rounds

def conntrack_switch(on):
    for pair in PAIRS:
        for side in "ab":
            nft[f"{pair}-{side}"].run("destroy table inet tracked")
            if on:
                nft[f"{pair}-{side}"].run("""table inet tracked {
                    chain c { type filter hook input priority 0; ct state established; }
                }""")


def apply(pair, commands):
    for host, tool, text in commands:
        run(f"{pair}-{host}", tool, text)


class Twins:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.conntrack = False
        self.kinds = {}
        self.changes = self.tried = self.established = self.let_through = self.stopped = 0

    def populate(self):
        """Conversations of both families that begin at both ends."""
        new = []
        for family in 4, 6:
            for client in "ab":
                here = [c for c in conversations if (c.family, c.client) == (family, client)]
                new += [Connection(family, client, self.rng.choice(SERVICES)) for _ in range(2 - len(here))]
        connect_all(new)

    def differences(self, directions, attempts):
        found = []
        for c, side in directions:
            for pair in PAIRS:
                c.hear(pair, side)
            results = [(c.got[pair, side] - c.before[pair, side], c.dead[pair, side]) for pair in PAIRS]
            if results[0] != results[1]:
                found.append(f"{c}: at {side}: (bytes, dead) with chimney and without: {results}")
        for c in attempts:
            results = [c.outcome(pair) for pair in PAIRS]
            if results[0] != results[1]:
                found.append(f"{c}: (state, accepted) with chimney and without: {results}")
        return found

    def compare(self, directions, attempts):
        settle()
        until(lambda: not self.differences(directions, attempts),
              lambda: "no difference\n" + "\n".join(self.differences(directions, attempts)))

    def step(self, commands):
        """Makes a change and finds out what it has done; returns whether all still goes through."""
        attempts = [Connection(self.rng.choice((4, 6)), self.rng.choice("ab"), self.rng.choice(SERVICES))
                    for _ in range(2)]
        # one segment, which may be sent whatever the congestion window is
        length, again = self.rng.randint(1, 1000), self.rng.choice((0, 0, 4))
        connections.extend(attempts)
        rest()
        for pair in PAIRS:
            apply(pair, commands)
            for c in conversations:
                for side in "ab":
                    c.say(pair, side, length)
            for c in attempts:
                c.connect(pair)
        directions = [(c, side) for c in conversations for side in "ab"]
        self.compare(directions, attempts)
        through = [(c, side) for c, side in directions if c.heard("host", side)]
        # Enough for what was judged wrongly under the new rules to take the path. Where only acknowledgments are
        # stopped, the congestion window decides how much comes.
        exact = [(c, side) for c, side in directions if (c, side) not in through or (c, OTHER[side]) in through]
        for _ in range(again):
            for c, side in directions:
                for pair in PAIRS:
                    c.say(pair, side, JUDGED)
            self.compare(exact, attempts)
        self.changes += 1
        self.tried += len(attempts)
        self.established += sum(c.outcome("host") == (TCP_ESTABLISHED, True) for c in attempts)
        for c in attempts:
            c.close()
        self.let_through += len(through)
        self.stopped += len(directions) - len(through)
        return through == directions and not any(any(c.dead.values()) for c in conversations)

    def heal(self, since):
        """
        No rules: what was said arrives. Those that were reset are replaced, or one of the others. What was stopped is
        sent again in ever longer intervals, the last of which may be as long as all that was before.
        """
        gone = [c for c in conversations if any(c.dead.values())]
        left = [c for c in conversations if c not in gone]
        for c in left:
            for side in "ab":
                for pair in PAIRS:
                    c.say(pair, side, 1)
        for c in left:
            until(c.complete, lambda: f"{c}: all that was said, without a rule: said {c.sent}, got {c.got}",
                  time.monotonic() - since)
        if not gone:
            gone = [self.rng.choice(conversations)]
        # Conntrack has it that a connection is closed, even if the reset never came to its socket. Of a connection that
        # it had forgotten, it is a matter of time which direction is the original one.
        if any(said in now for said in ("tcp reset", "'conntrack', '-D", "'conntrack', '-F")):
            gone = conversations[:]
        for c in gone:
            conversations.remove(c)
            c.close()

    def round(self, number):
        global now
        if number % WORLD == 0:
            for c in conversations[:]:
                conversations.remove(c)
                c.close()
            self.conntrack = not self.conntrack
            conntrack_switch(self.conntrack)
        self.populate()
        kind = self.rng.choice(KINDS)
        steps = kind(self.rng, self.conntrack)
        # a change now and then meets flows that are just about to be offloaded
        early = self.rng.choice((None, None, None, 0, 1, 2, 3))
        done, before, since = [], self.stopped, time.monotonic()
        now = f"in round {number}: {kind.__name__}, conntrack {self.conntrack}, early {early}"
        for commands in steps:
            if early is None:
                offload()
            else:
                for _ in range(early):
                    exchange()
            done.append(commands)
            now += f"\n{commands}"
            if not self.step(commands):
                break
        count = self.kinds.setdefault(kind.__name__, [0, 0])
        count[0] += 1
        count[1] += self.stopped > before
        for pair in PAIRS:
            apply(pair, undo(done))
        self.heal(since)


def main(seed, rounds):
    print(f"seed {seed}", flush=True)
    os.sched_setaffinity(0, {0})        # packets sent here stay in order
    twins = Twins(seed)
    start = time.monotonic()
    for number in range(rounds):
        twins.round(number)
        if number % 50 == 49:
            print(f"{number + 1} rounds, {time.monotonic() - start:.0f} s", flush=True)
    twins.populate()
    offload()
    print("kinds of changes (rounds, those in which something was stopped): " +
          ", ".join(f"{k} {n} {m}" for k, (n, m) in sorted(twins.kinds.items())))
    print(f"{rounds} rounds, {twins.changes} changes, {twins.tried} connections tried, {twins.established} "
          f"established, {twins.let_through + twins.stopped} messages compared, {twins.stopped} of them stopped, "
          "differences: 0")
    # or nothing was proved
    return not (twins.stopped > rounds / 4 and twins.let_through > rounds and 0 < twins.established < twins.tried)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
