#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""chimneyctl top on a terminal of its own: top.py WAY COMMAND...

WAY is how it ends: a key, a signal by name, or q after a stop (SIGTSTP; "orphan" where that is ignored).
Before that the terminal becomes narrow and short, and the view has to fit.
Succeeds if the terminal is afterwards as it was before, and the process ended in that way. What went wrong is
said."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

PATIENCE = 60 * int(os.environ.get("PATIENCE", "1"))
way, command = sys.argv[1], sys.argv[2:]
seen = b""


def size(rows, columns):
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def modes():
    return termios.tcgetattr(follower)[:4]


def await_(what, condition):
    """Read what is drawn until the condition is true of it."""
    global seen
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited in vain for {what}; seen: {seen[-2000:]!r}")
        if select.select([leader], [], [], 0.1)[0]:
            seen += os.read(leader, 65536)


def view():
    """The lines of the last complete view; each begins with cursor home."""
    views = seen.split(b"\x1b[H")[1:-1] or [b""]
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", views[-1]).decode().rstrip("\r\n").split("\r\n")


def state(pid):
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]


def drawn():
    return any(line.startswith("states") for line in view())


def fits(rows, columns):
    lines = view()
    return len(lines) <= rows and max(map(len, lines)) == columns and drawn()


def start():
    """As a shell does: the leader of the session waits for the command, which has a process group of its own in the
    foreground, and ends as that does. For the way "orphan" there is no such shell, and nothing stops the command."""
    told, tell = os.pipe()
    session = os.fork()
    if session:
        return session, int(os.read(told, 16))
    os.close(leader)
    os.login_tty(follower)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    job = 0 if way == "orphan" else os.fork()
    if job == 0:
        os.write(tell, str(os.getpid()).encode())
        if way != "orphan":
            os.setpgid(0, 0)
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            os.tcsetpgrp(0, os.getpid())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execvp(command[0], command)
    code = os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


leader, follower = pty.openpty()
size(24, 80)
before = modes()
session, child = start()

await_("a view", lambda: fits(24, 80))
if modes() == before or b"\x1b[?1049h" not in seen:
    sys.exit("it has not taken the terminal")
size(5, 40)
await_("a smaller view", lambda: fits(5, 40))

if way in ("SIGTSTP", "orphan"):
    os.write(leader, b"\x1a")
    if way == "SIGTSTP":
        await_("it to stop", lambda: state(child) == "T" and b"\x1b[?1049l" in seen)
        if modes() != before:
            sys.exit("stopped, it has kept the terminal")
        os.kill(child, signal.SIGCONT)
    await_("it to take the terminal again", lambda: b"\x1b[?1049h" in seen.partition(b"\x1b[?1049l")[2])
    seen = b""
    await_("a view after the stop", lambda: fits(5, 40))
    if modes() == before:
        sys.exit("continued, it has not taken the terminal")
    way = "q"
if way == "SIGINT":
    os.write(leader, b"\x03")
elif way.startswith("SIG"):
    os.kill(child, getattr(signal, way))
else:
    os.write(leader, way.encode())
await_("its end", lambda: state(session) == "Z")
await_("the last it has to say", lambda: b"\x1b[?1049l" in seen)
status = os.waitpid(session, 0)[1]

if modes() != before or not seen.rstrip().endswith(b"\x1b[0m\x1b[?25h\x1b[?1049l"):
    sys.exit(f"it has left the terminal as it should not: {modes()} {before} {seen[-100:]!r}")
code = -getattr(signal, way) if way.startswith("SIG") else 0
if os.waitstatus_to_exitcode(status) != code:
    sys.exit(f"it ended with {os.waitstatus_to_exitcode(status)}, not {code}")
