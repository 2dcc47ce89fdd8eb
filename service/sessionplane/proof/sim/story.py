"""Tells what happened in a seed, line by line, for people who look for the reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message

from sessionplane.proof.sim.simulation import Recorded

WIDTH_MAX = 400


def tell(recorded: Recorded) -> Iterator[str]:
    """Yield the plan, every line that was recorded, and the verdict."""
    yield str(recorded.plan)
    for at, what, number, thing in recorded.history.lines:
        yield f"{at:12.6f}  {what} {number}  {_short(thing)}".rstrip()
    for session_id, log in sorted(recorded.history.logs.items()):
        yield f"{session_id} in the end:"
        for event in log:
            yield f"  {_short(event)}"
    yield from verdict(recorded)


def verdict(recorded: Recorded) -> Iterator[str]:
    """Yield what is broken, or that nothing is."""
    if not recorded.broken:
        yield f"seed {recorded.plan.seed}: every promise was kept"
    for promise, how in recorded.broken:
        yield f"seed {recorded.plan.seed}: {promise}: {how}"


def _short(thing: Any) -> str:
    if not isinstance(thing, Message):
        return str(thing)
    words = text_format.MessageToString(thing, as_one_line=True, as_utf8=True)
    return words if len(words) <= WIDTH_MAX else f"{words[:WIDTH_MAX]} ..."
