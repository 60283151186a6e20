#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""
Asks the generic netlink family "chimney" by its specification and the kernel's YNL library, and prints JSON.

    netlink.py dump OPERATION         a list of all that is told
    netlink.py get OPERATION JSON     one answer
    netlink.py listen                 "listening", then a line for each event

What the kernel refuses: the error's name and what the kernel says of it, on standard error; exit status 1.
"""
import errno
import json
import os
import select
import sys

YNL = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "ynl")
sys.path.append(YNL)
from lib import NlError, YnlFamily  # pylint: disable=wrong-import-position


def listen(family):
    """Never returns; the library itself takes no more than what is there already."""
    family.ntf_subscribe("events")
    print("listening", flush=True)
    while True:
        select.select([family.sock], [], [])
        family.check_ntf()
        for event in family.async_msg_queue:
            print(json.dumps(event["msg"]), flush=True)
        family.async_msg_queue.clear()


def main():
    # "make style" compares it with its schema, which takes seconds here
    family = YnlFamily(os.path.join(YNL, "chimney.yaml"), schema="")
    command, words = sys.argv[1], sys.argv[2:]
    if command == "dump":
        print(json.dumps(family.dump(words[0], {})))
    elif command == "get":
        print(json.dumps(family.do(words[0], json.loads(words[1]))))
    else:
        listen(family)


try:
    main()
except NlError as error:
    sys.exit(f"{errno.errorcode[error.error]} {error.nl_msg.extack}")
except PermissionError as error:
    sys.exit(f"{errno.errorcode[error.errno]}")
