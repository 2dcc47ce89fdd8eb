"""The kills as a part of the self-test."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from sessionplane.proof.history.facts import Facts
from sessionplane.proof.history.judge import judgement
from sessionplane.proof.history.promises.one_key_one_session import reads_by_key
from sessionplane.proof.kill.play import Played, play
from sessionplane.proof.parts import Outcome, Progress

NAME = "kill"
CLAIM = (
    "However often the server is killed, nothing that anybody was told is lost or done twice, every subscriber sees"
    " each event once, and every run ends."
)
TOLD_MAX = 20
"""So many findings are told one by one."""


def run(count: int, *, folder: Path, progress: Progress, seed: int = 1) -> Outcome:
    """Kill a server `count` times. Its database stays in `folder`."""
    began_s = time.monotonic()
    played = asyncio.run(play(count, seed=seed, database=folder / "kill.db", progress=progress))
    return outcome(played, count=count, seed=seed, began_s=began_s)


def outcome(played: Played, *, count: int, seed: int, began_s: float) -> Outcome:
    """Judge what was played."""
    history = played.history
    judged = judgement(history)
    found = [f"{broken.promise}: {broken.how}" for broken in judged.broken]
    found += [f"the file: {each}" for each in played.damage]
    if played.cut_short:
        found.append(f"it did not come to its end: {played.cut_short}")
    found += [f"too little to judge: {each}" for each in judged.lacking]
    told = [f"{each}; again: python -m sessionplane.proof.kill {count} {seed}" for each in found[:TOLD_MAX]]
    if len(found) > TOLD_MAX:
        told.append(f"and {len(found) - TOLD_MAX} more findings")
    return Outcome(
        name=NAME,
        claim=CLAIM,
        checked=count,
        unit="kills",
        failures=told,
        measured={
            "calls": len(history.calls),
            "calls_of_unknown_outcome": sum(call.returned_at is None for call in history.calls),
            "reads_of_keys_judged": sum(map(len, reads_by_key(Facts(history)).values())),
            "streams": len(history.streams),
            "events_in_the_logs": sum(map(len, history.logs.values())),
        },
        seconds=time.monotonic() - began_s,
    )
