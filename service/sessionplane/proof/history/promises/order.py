"""Order without gaps: 1, 2, 3 ... in the order of commits, and a publication is there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sessionplane.proof.history.facts import Facts, told
from sessionplane.proof.history.records import Call
from sessionplane.v1.event_pb2 import Event


def order_without_gaps(facts: Facts) -> Iterator[str]:
    """Say where a log has a hole, where a publication was cut, and where something came before what it followed."""
    for session_id, log in sorted(facts.logs.items()):
        yield from _gaps(session_id, log, facts.floors[session_id])
    yield from _cut(facts)
    yield from _overtaken(facts)


def _gaps(session_id: str, log: Sequence[Event], floor: int) -> Iterator[str]:
    numbers: dict[str, int] = {}
    for expected, event in enumerate(log, start=floor + 1):
        if event.sequence != expected or event.session_id != session_id:
            yield f"{session_id} has {event.sequence} of {event.session_id} where {expected} should be"
            return
        if event.run_sequence:
            last = numbers.get(event.run_id, event.run_sequence - 1 if floor else 0)
            if event.run_sequence != last + 1:
                yield f"{event.run_id} has publication {event.run_sequence} behind {last}"
            numbers[event.run_id] = event.run_sequence


def _texts(call: Call) -> list[str]:
    return [new.output_delta.text for new in call.request.events if new.HasField("output_delta")]


def _cut(facts: Facts) -> Iterator[str]:
    """The events of one publication follow each other, all of them, unless its first part was there before."""
    places: dict[tuple[str, str], int] = {}
    for run_id, events in facts.run_events.items():
        for event in events:
            if event.output_delta.text:
                places[run_id, event.output_delta.text] = event.sequence
    for call in facts.made("PublishEvents"):
        run_id = call.request.run_id
        events = facts.run_events[run_id]
        if events and facts.floors[events[0].session_id]:
            continue
        found = [places.get((run_id, text)) for text in _texts(call)]
        there = [place for place in found if place is not None]
        if there and len(there) < len(found):
            yield f"{told(call)}: {len(there)} of {len(found)} events of the publication are there"
        elif there and there != list(range(there[0], there[0] + len(there))):
            yield f"{told(call)}: the events of the publication are apart: {there}"


def _overtaken(facts: Facts) -> Iterator[str]:
    """What was acknowledged before a call began comes before what that call did."""
    heads: list[tuple[float, str, int]] = [
        (shown.until, shown.what.session_id, shown.what.head_sequence) for shown in facts.sessions_shown
    ]
    for call in facts.calls("PublishEvents"):
        texts = _texts(call)
        events = facts.run_events[call.request.run_id]
        first = next((event for event in events if texts and event.output_delta.text == texts[0]), None)
        if first is None or call.answer.duplicate_count:
            continue
        behind = _newest(heads, first.session_id, facts.since(call))
        if behind >= first.sequence and not _sent_before(facts, call):
            yield f"{told(call)}: its event has {first.sequence}, but the log was at {behind} before it was called"


def _newest(heads: list[tuple[float, str, int]], session_id: str, before: float) -> int:
    return max((head for at, name, head in heads if name == session_id and at < before), default=0)


def _sent_before(facts: Facts, call: Any) -> bool:
    """Whether the same publication was sent before: then its events may be older than this call."""
    return any(
        other.number < call.number and other.request == call.request for other in facts.made("PublishEvents")
    )
