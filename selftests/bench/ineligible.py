#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""ineligible.py listen|connect ADDRESS: what the case rr/ineligible has in either namespace, see run.sh.

One end of a connection over another wire, idle after 200 messages.
"""
import socket
import sys
import time

PORT = 7000

if sys.argv[1] == "listen":
    end = socket.create_server((sys.argv[2], PORT)).accept()[0]
    while byte := end.recv(1):
        end.sendall(byte)
else:
    end = socket.create_connection((sys.argv[2], PORT))
    for _ in range(200):
        end.sendall(b"x")
        end.recv(1)
    time.sleep(1e6)
