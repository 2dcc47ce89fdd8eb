"""Measures the service against what its parts cost bare, floor beside result: `make bench`, in under two minutes.

Starts a server and the floors as processes of their own on the loopback, over files in a folder that is removed at the
end, lets each workload take turns between floor and result, and prints one table. This process is the load generator.
It needs Linux, for the CPU time of other processes. The method is in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

import delivery
import fanout
import processes
import publish
import replay
import report
import resolve
from load import Bench
from samples import Line

RESULTS = processes.HERE / "results"
PAGE = processes.HERE.parent / "docs" / "performance.md"
ROUNDS, QUICK_ROUNDS = 5, 2
SECONDS, QUICK_SECONDS = 1.0, 0.25

WORKLOADS: Mapping[str, Callable[[Bench], Awaitable[Line]]] = {
    "established": resolve.established,
    "new": resolve.new,
    "new-rows": resolve.new_rows,
    "storm": resolve.storm,
    "delivery-1": partial(delivery.delivery, subscribers=1),
    "delivery-10": partial(delivery.delivery, subscribers=10),
    "publish": publish.publish,
    "fanout-1": partial(fanout.fan_out, subscribers=1),
    "fanout-10": partial(fanout.fan_out, subscribers=10),
    "fanout-100": partial(fanout.fan_out, subscribers=100),
    "replay": replay.replay,
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__.partition("\n\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a quarter of the work in two rounds: half a minute"
    )
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="how long one measurement takes, roughly [default: 1]"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"rounds of each workload [default: {ROUNDS}]"
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", choices=WORKLOADS, help=f"of: {', '.join(WORKLOADS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the numbers go [default: results/]")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="warn of ratios worse than in this JSON")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
    return parser.parse_args()


async def measure(chosen: argparse.Namespace) -> list[Line]:
    """Start the servers, run the workloads, one line of progress each."""
    rounds = chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS)
    scale = chosen.seconds or (QUICK_SECONDS if chosen.quick else SECONDS)
    lines = []
    with tempfile.TemporaryDirectory(dir=RESULTS, prefix="run-") as name:
        folder = Path(name)
        with processes.sessionplane(folder) as ours, processes.floor(folder) as floor:
            bench = Bench(ours=ours, floor=floor, folder=folder, scale=scale, rounds=rounds)
            for workload in chosen.only or WORKLOADS:
                begin_s = time.monotonic()
                print(f"{workload:<12}", end="", flush=True)
                line = await WORKLOADS[workload](bench)
                ratio = report.ranged(line.numbers()["ratio"])
                print(f" ratio {ratio:<20} in {time.monotonic() - begin_s:4.1f} s", flush=True)
                lines.append(line)
    return lines


def main() -> int:
    """Measure, print, write; returns the exit code, which says nothing about targets."""
    chosen = arguments()
    command = " ".join(["make bench", *([f"ARGS='{' '.join(sys.argv[1:])}'"] if sys.argv[1:] else [])])
    RESULTS.mkdir(exist_ok=True)
    print(f"{report.machine()}\nload before: {os.getloadavg()[0]:.1f}\n")
    before_ms = report.loop_ms()
    lines = uvloop.run(measure(chosen))
    loops_ms = (before_ms, report.loop_ms())
    print("\nSumming a million numbers took {:.0f} ms before and {:.0f} ms after.\n".format(*loops_ms))
    for row in report.table(lines):
        print(row)
    written = chosen.json or RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    written.write_text(
        json.dumps(report.to_json(lines, command, loops_ms), indent=1) + "\n", encoding="utf-8"
    )
    print(f"\nNumbers of every round: {os.path.relpath(written)}")
    if chosen.compare:
        _compare(lines, json.loads(chosen.compare.read_text(encoding="utf-8")))
    if chosen.docs:
        report.write_docs(PAGE, report.markdown(lines, command, loops_ms))
    return 0


def _compare(lines: list[Line], earlier: Mapping[str, Any]) -> None:
    warnings = list(report.worse(lines, earlier))
    for warning in warnings or ["No ratio is worse by more than a tenth."]:
        print(warning)


if __name__ == "__main__":
    sys.exit(main())
