#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""report.py ROWS BENCH.JSON: what run.sh has measured as a table and as JSON, and whether it is within the limits.

A row is "CASE STATE INSTRUCTIONS PACKETS BY-PATH IDLE". Exits 1 if a limit does not hold, or if a measurement is not
what it claims to be: not by the path though eligible, by the path though not, idle, or different the second time.
"""
import json
import sys

METRIC = {"rr": "instructions/transaction", "crr": "instructions/transaction", "stream": "instructions/KB"}
CASES = ["rr/none", "rr/ct", "rr/ct+100", "rr/ineligible", "rr/many", "crr/ct", "stream/tso", "stream/notso"]
# what stands for chimney and for stock in a case that compares measurements of two others
COMPARED = {
    "rr/ct+100:flat": (("rr/ct+100", "chimney"), ("rr/none", "chimney")),
    "rr/many:flat": (("rr/many", "chimney"), ("rr/none", "chimney")),
    "rr/none:bare": (("rr/ct+100", "chimney"), ("rr/none", "stock")),
}
LIMITS = {
    "rr/ct+100:flat": 1.02,
    "rr/many:flat": 1.05,
    "rr/none:bare": 0.95,
    "rr/ineligible": 1.02,
    "crr/ct": 1.02,
    "stream/tso": 1.02,
    "stream/notso": 1.02,
}
BY_PATH = {"rr/none", "rr/ct", "rr/ct+100", "rr/many", "stream/tso", "stream/notso"}
SHARE = 0.98    # of the packets received, at least; those before the flow is offloaded count, too
IDLE = 0.001    # of the time, at most
SPREAD = 0.002  # between two measurements of the same, at most


def read(path):
    """The measurements by case and state, and what is wrong with them."""
    costs, faults = {}, []
    with open(path, encoding="ascii") as lines:
        for line in lines:
            case, state, *numbers = line.split()
            cost, packets, by_path, idle = map(float, numbers)
            costs.setdefault((case, state), []).append(cost)
            name = f"{case}, {state}"
            if idle > cost * IDLE:
                faults.append(f"{name}: the CPU idled for {idle:.0f} of {cost:.0f}")
            if state == "chimney" and case in BY_PATH:
                if by_path < packets * SHARE:
                    faults.append(f"{name}: only {by_path / packets:.1%} of the packets took the path")
            elif by_path and case != "crr/ct":
                faults.append(f"{name}: {by_path:.0f} packets took the path")
    return costs, faults


def main(rows, result):
    costs, faults = read(rows)
    bench = []
    print(f"{'case':15} {'metric':25} {'stock':>10} {'chimney':>10} {'ratio':>7}  limit")
    for case in CASES + list(COMPARED):
        chimney, stock = (costs.get(m, [None])[0] for m in COMPARED.get(case, ((case, "chimney"), (case, "stock"))))
        if chimney is None or stock is None:
            faults.append(f"{case}: not measured")
            continue
        ratio, limit = round(chimney / stock, 4), LIMITS.get(case)
        metric = METRIC[case.split("/")[0]]
        bench.append({"case": case, "metric": metric, "stock": stock, "chimney": chimney, "ratio": ratio})
        verdict = "" if limit is None else f"{limit:.2f} {'holds' if ratio <= limit else 'DOES NOT HOLD'}"
        print(f"{case:15} {metric:25} {stock:10.1f} {chimney:10.1f} {ratio:7.4f}  {verdict}".rstrip())
        if limit is not None and ratio > limit:
            faults.append(f"{case}: {ratio:.4f} is over {limit:.2f}")
    for (case, state), again in costs.items():
        if len(again) > 1:
            spread = (max(again) - min(again)) / min(again)
            print(f"{case}, {state}, measured {len(again)} times: {spread:.3%} apart")
            if spread > SPREAD:
                faults.append(f"{case}, {state}: not repeatable")
    with open(result, "w", encoding="ascii") as file:
        json.dump(bench, file, indent=1)
        file.write("\n")
    for fault in faults:
        print(f"bench: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
