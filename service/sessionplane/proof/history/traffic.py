"""How much there was to judge: a history in which little happened before a fault shows nothing, however good it looks.

Each life of the server that ended in a crash is counted by itself, since what a crash may lose is what was under way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sessionplane.proof.history.records import Call, Frame, Happening, History
from sessionplane.v1 import run_pb2

MINIMUMS: Mapping[str, int] = MappingProxyType(
    {
        "resolves": 20,
        "runs accepted": 2,
        "publications": 5,
        "runs ended": 1,
        "interrupts": 1,
        "events seen": 10,
        "streams opened": 1,
    }
)
"""What must have been acknowledged or seen before each crash, at least."""

_COUNTED = {
    "ResolveSession": "resolves",
    "StartRun": "runs accepted",
    "PublishEvents": "publications",
    "FinishRun": "runs ended",
    "Interrupt": "interrupts",
}


def lives(history: History) -> Sequence[Counter[str]]:
    """Count what was acknowledged or seen in each life of the server that ended in a crash."""
    crashes = [each.at for each in history.incidents if each.what is Happening.CRASHED]
    counted: list[Counter[str]] = [Counter() for _ in crashes]
    frames = (frame for stream in history.streams for frame in stream.frames)
    for at, what in [
        *((call.ended_at, of_call(call)) for call in history.calls),
        *((frame.at, of_frame(frame)) for frame in frames),
    ]:
        if (life := bisect_left(crashes, at)) < len(crashes):
            counted[life].update(what)
    return counted


def of_call(call: Call) -> Mapping[str, int]:
    """Count an answered call; an answer that only tells of what was done before counts for nothing."""
    repeats = getattr(call.answer, "disposition", 0) == run_pb2.RUN_DISPOSITION_DUPLICATE
    counts = call.answer is not None and call.method in _COUNTED and not repeats
    return {_COUNTED[call.method]: 1} if counts else {}


def of_frame(frame: Frame) -> Mapping[str, int]:
    """Count what came in a stream."""
    opened, events = frame.message.HasField("opened"), len(frame.message.batch.events)
    return {"streams opened": int(opened), "events seen": events}


def lacking(history: History, minimums: Mapping[str, int] = MINIMUMS) -> Sequence[str]:
    """Say what there was too little of, and before which crash; a history without a crash proves nothing of one."""
    counted = lives(history)
    found = [] if counted else ["the server was never killed"]
    for number, life in enumerate(counted, start=1):
        found += [
            f"before crash {number} there were {life[kind]} {kind}, at least {least} are needed"
            for kind, least in minimums.items()
            if life[kind] < least
        ]
    return found
