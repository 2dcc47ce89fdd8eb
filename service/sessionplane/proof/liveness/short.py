"""The short form for the self-test: how soon events, interrupts and the server itself are there, in a few seconds.

It fails on what must never happen. A bound that is missed it only names: a visitor's machine may be busy, and that is
no broken promise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from sessionplane.proof.parts import Outcome, Progress
from sessionplane.proof.servers import server_process

from . import delays, ends
from .bounds import Measured
from .load import EventsLost, rated_load

NAME = "liveness"
CLAIM = (
    "Events, interrupts and a server that was killed are there at once, and nothing acknowledged is missing."
)
INTERRUPTS = 50
SESSIONS = 2_000
KILLS = 2
DELIVERIES_MIN = 100


def run(count: int, *, folder: Path, progress: Progress) -> Outcome:
    """Measure under `count` seconds of rated load, then interrupts, then starts after kill -9."""
    return asyncio.run(_run(count, folder, progress))


async def _run(count: int, folder: Path, progress: Progress) -> Outcome:
    began_s = time.monotonic()
    steps = count + INTERRUPTS + KILLS
    done = 0

    def note() -> None:
        nonlocal done
        done += 1
        progress(done, steps)

    results: list[Measured] = []
    failures: list[str] = []
    try:
        async with server_process(folder / "load.db") as server, rated_load(server.address) as load:
            results.append(await delays.delivery(load, count, note))
            results.append(await delays.interrupts(server.address, INTERRUPTS, note))
        results.append(await ends.ready(folder, sessions=SESSIONS, kills=KILLS, note=note))
    except* EventsLost as lost:
        failures = [f"{error} (see {folder})" for error in lost.exceptions]
    return _outcome(results, failures, time.monotonic() - began_s)


def _outcome(results: Sequence[Measured], failures: Sequence[str], seconds: float) -> Outcome:
    checked = results[0].samples if results else 0
    if not failures and checked < DELIVERIES_MIN:
        failures = [f"invalid: only {checked} deliveries were seen"]
    measured: dict[str, float | str] = {}
    for each in results:
        name, unit = each.bound.name, each.bound.unit
        measured |= {f"{name}_{unit}": round(each.value, 2), f"{name}_at_most_{unit}": each.bound.most}
    measured["falls_short"] = ", ".join(each.bound.name for each in results if not each.holds) or "nothing"
    return Outcome(
        name=NAME,
        claim=CLAIM,
        checked=checked,
        unit="deliveries",
        failures=failures,
        measured=measured,
        seconds=seconds,
    )
