"""What really happened over many seeds: a simulation in which nothing happens proves nothing.

Every kind of use and every kind of trouble is counted from what was recorded, never from what was planned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from sessionplane.proof.history.records import Call, Happening, History, Stream
from sessionplane.v1 import event_pb2, run_pb2, session_pb2
from sessionplane.v1.event_pb2 import Event

THIN_CALLS = 6
"""A seed with fewer answered calls than this shows nothing."""

SEEDS_MIN = 100
"""Of fewer seeds chance decides what they bring."""

PER_THOUSAND: Mapping[str, int] = MappingProxyType(
    {
        "answered ResolveSession": 1_000,
        "answered StartRun": 1_000,
        "answered PublishEvents": 800,
        "answered DriveRun": 150,
        "answered WatchSessions": 300,
        "answered Interrupt": 500,
        "answered CompactEvents": 50,
        "answered DeleteSession": 50,
        "answered ResetSession": 50,
        "answered CloseSession": 50,
        "run SUCCEEDED": 300,
        "run FAILED": 40,
        "run INTERRUPTED": 300,
        "run LOST": 30,
        "run TIMED_OUT": 3,
        "run REJECTED": 200,
        "interrupt COMPLETED": 400,
        "interrupt NO_OP": 200,
        "input TAKEN": 5,
        "input QUEUED": 80,
        "session in generation 2": 200,
        "session SUSPENDED": 9,
        "session CLOSING": 9,
        "key moved by ROLLED_OVER": 3,
        "key moved by RESET": 150,
        "key moved by REPLACED": 100,
        "key moved by BOUND": 50,
        "stream opened": 2_000,
        "stream resumed": 600,
        "stream frame": 5_000,
        "refused LEASE_LOST": 9,
        "refused RUN_FINISHED": 80,
        "refused RUN_SEQUENCE_GAP": 8,
        "refused RUN_QUEUE_FULL": 50,
        "refused SLOW_CONSUMER": 9,
        "refused TOKEN_COMPACTED": 9,
        "refused DRAINING": 100,
        "report SUPERSEDED": 20,
        "crash": 200,
        "restart": 20,
        "answer lost": 1_000,
        "call that came twice": 300,
        "machine asleep": 40,
        "clock set": 30,
        "disk full": 70,
        "disk busy": 9,
        "disk broken": 9,
    }
)
"""How often each thing happens in a thousand seeds at the least; about a third of what was counted."""


def count(history: History) -> Counter[str]:
    """Count what one seed brought."""
    counts: Counter[str] = Counter(_of_world(history))
    for call in history.calls:
        counts.update(_of_call(call))
    for stream in history.streams:
        counts.update(_of_stream(stream))
    for log in history.logs.values():
        for event in log:
            counts.update(_of_event(event))
    counts["thin seed"] += sum(call.answer is not None for call in history.calls) < THIN_CALLS
    counts["virtual second"] = round(history.lines[-1][0] - history.lines[0][0]) if history.lines else 0
    return counts


def missing(counts: Mapping[str, int], seeds: int) -> list[str]:
    """Say of what there was too little, for so many seeds."""
    if seeds < SEEDS_MIN:
        return []
    found = []
    for thing, per_thousand in PER_THOUSAND.items():
        least = per_thousand * seeds // 1_000
        if counts.get(thing, 0) < least:
            found.append(f"invalid: {thing} happened {counts.get(thing, 0)} times, and should {least} times")
    if counts.get("thin seed", 0) > seeds / 25:
        found.append(f"invalid: {counts['thin seed']} of {seeds} seeds had hardly any traffic")
    return found


def _of_call(call: Call) -> Iterator[str]:
    if call.answer is not None:
        yield f"answered {call.method}"
        if call.method == "FinishRun":
            yield f"report {run_pb2.FinishResult.Name(call.answer.finish_result).removeprefix('FINISH_RESULT_')}"
    elif call.refusal is not None:
        yield f"refused {call.refusal.reason}"
    else:
        yield "answer lost"
    if call.repeated:
        yield "call that came twice"


def _of_stream(stream: Stream) -> Iterator[str]:
    yield "stream opened"
    if stream.request.resume_token and stream.frames:
        yield "stream resumed"
    if stream.refusal is not None:
        yield f"refused {stream.refusal.reason}"
    for _ in stream.frames:
        yield "stream frame"


def _of_event(event: Event) -> Iterator[str]:
    name = _EVENTS.get(event.WhichOneof("body") or "")
    if name is not None:
        yield name(event)
    if event.session_changed.generation > 1:
        yield "session in generation 2"


_EVENTS: Mapping[str, Any] = {
    "run_terminal": lambda event: _named("run", run_pb2.RunOutcome, event.run_terminal.outcome),
    "interrupt_changed": lambda event: _named(
        "interrupt", run_pb2.InterruptStage, event.interrupt_changed.stage
    ),
    "session_changed": lambda event: _named(
        "session", session_pb2.SessionState, event.session_changed.to_state
    ),
    "session_moved": lambda event: _named("key moved by", event_pb2.MoveReason, event.session_moved.reason),
    "input_recorded": lambda event: _named("input", event_pb2.InputStage, event.input_recorded.stage),
}


def _named(what: str, kind: Any, number: int) -> str:
    """Name a value without what all of its kind begin with."""
    prefix = kind.Name(0).removesuffix("UNSPECIFIED")
    return f"{what} {kind.Name(number).removeprefix(prefix)}"


_WORLD = {
    Happening.CRASHED: "crash",
    Happening.STOPPED: "restart",
    Happening.ASLEEP: "machine asleep",
    Happening.OVER: "calm end",
}


def _of_world(history: History) -> Iterator[str]:
    for incident in history.incidents:
        if incident.what in _WORLD:
            yield _WORLD[incident.what]
        elif incident.what is Happening.TROUBLE:
            first, _, rest = incident.detail.partition(" ")
            yield "clock set" if rest.startswith("clock") else f"disk {first.strip(',')}"
