"""Measures every bound and prints the table: `make liveness`, in about four minutes.

What mostly waits (frozen peers, lost runners) goes on side by side, on servers of their own; what measures
milliseconds or a start has the machine to itself. The exit code says whether something broke, not whether a bound was
met.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from sessionplane.proof.servers import server_process

from . import delays, ends
from .bounds import BOUNDS, Measured
from .load import rated_load
from .report import line, machine, to_json

DELIVERY_S, QUICK_DELIVERY_S = 20, 3
INTERRUPTS, QUICK_INTERRUPTS = 300, 50
PAIRS, QUICK_PAIRS = 12, 2
ROUND_S = 4.0
SESSIONS, QUICK_SESSIONS = 100_000, 2_000
KILLS = 5


def _nothing() -> None:
    return


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Measurements:
    """What is measured, in an order in which nothing disturbs what comes after it."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self._folder = folder
        self._quick = quick

    async def loaded(self) -> AsyncIterator[Measured]:
        """Everything that one server under rated load shows."""
        quick = self._quick
        async with server_process(self._folder / "load.db") as server:
            await delays.lengthen(server.address)
            async with rated_load(server.address) as load:
                yield await delays.delivery(load, QUICK_DELIVERY_S if quick else DELIVERY_S, _nothing)
                yield await delays.interrupts(
                    server.address, QUICK_INTERRUPTS if quick else INTERRUPTS, _nothing
                )
                yield await delays.stalled(
                    load,
                    server.address,
                    pairs=QUICK_PAIRS if quick else PAIRS,
                    seconds=ROUND_S,
                    note=_nothing,
                )
                yield await ends.sigterm(server, load)

    async def ready(self) -> AsyncIterator[Measured]:
        """Starts after kills."""
        sessions = QUICK_SESSIONS if self._quick else SESSIONS
        yield await ends.ready(self._folder, sessions=sessions, kills=KILLS, note=_nothing)

    async def storm(self) -> AsyncIterator[Measured]:
        """The storm."""
        yield await ends.the_storm(self._folder, lambda _done, _of: None)

    async def waits(self) -> AsyncIterator[Measured]:
        """What takes long, and next to no CPU."""
        waiting: list[Awaitable[Measured]] = [
            ends.dead_peers(self._folder, _nothing),
            ends.lost_runners(self._folder, with_server=False, note=_nothing),
            ends.lost_runners(self._folder, with_server=True, note=_nothing),
        ]
        for measured in await asyncio.gather(*waiting):
            yield measured


async def measure(folder: Path, *, only: str, quick: bool) -> list[Measured]:
    """Measure and print, line by line; returns the results in the order of the bounds."""
    measurements = Measurements(folder, quick=quick)
    groups: Mapping[str, Callable[[], AsyncIterator[Measured]]] = {
        "loaded": measurements.loaded,
        "ready": measurements.ready,
        "storm": measurements.storm,
        "waits": measurements.waits,
    }
    results = []
    for name, group in groups.items():
        if only in {"", name}:
            async for measured in group():
                _say(line(measured))
                results.append(measured)
    return sorted(results, key=lambda each: BOUNDS.index(each.bound))


def main() -> int:
    """Read the command line, measure, write the numbers."""
    parser = argparse.ArgumentParser(prog="make liveness ARGS=...", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="less of everything, and a small file: coarse")
    parser.add_argument("--only", default="", choices=("loaded", "ready", "storm", "waits"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    chosen = parser.parse_args()
    _say(f"{machine()}\n")
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="sessionplane-liveness-") as name:
        results = asyncio.run(measure(Path(name), only=chosen.only, quick=chosen.quick))
    if chosen.json:
        found = to_json(results, (before, os.getloadavg()[0]))
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
