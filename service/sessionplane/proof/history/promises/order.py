"""Order without gaps: 1, 2, 3 ... in the order of commits, and a publication is there as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sessionplane.proof.history.facts import Facts, texts, told
from sessionplane.v1.event_pb2 import Event


def order_without_gaps(facts: Facts) -> Iterator[str]:
    """Say where a log has a hole, where a publication was cut, and what came before that which it followed."""
    for session_id, log in sorted(facts.logs.items()):
        yield from _gaps(facts, session_id, log)
    yield from _cut(facts)
    yield from _overtaken(facts)
    yield from _stale(facts)


def _gaps(facts: Facts, session_id: str, log: Sequence[Event]) -> Iterator[str]:
    """Numbers follow each other: those of the log, those of each run's publications, and where each text begins."""
    begins = range(facts.floors[session_id] + 1, facts.floors[session_id] + 1 + len(log))
    for expected, event in zip(begins, log, strict=True):
        if event.sequence != expected:
            yield f"{session_id} has {event.sequence} where {expected} should be"
            return
    if facts.is_whole(session_id):
        yield from _publications(log)


def _publications(log: Sequence[Event]) -> Iterator[str]:
    numbers: dict[str, int] = {}
    offsets: dict[str, int] = {}
    for event in log:
        if not event.run_sequence:
            continue
        last = numbers.get(event.run_id, 0)
        if event.run_sequence != last + 1:
            yield f"{event.run_id} has publication {event.run_sequence} behind {last}"
        numbers[event.run_id] = event.run_sequence
        if event.HasField("output_delta"):
            offset = offsets.get(event.run_id, 0)
            if event.output_delta.offset != offset:
                yield f"{event.run_id} has a text at {event.output_delta.offset} that begins at {offset}"
            offsets[event.run_id] = offset + len(event.output_delta.text.encode())


def _cut(facts: Facts) -> Iterator[str]:
    """The events of one publication follow each other, and all of them are there or none."""
    places = {
        (event.run_id, event.output_delta.text): event.sequence
        for event in facts.events()
        if event.output_delta.text
    }
    for call in facts.made("PublishEvents"):
        run_id = call.request.run_id
        events = facts.run_events.get(run_id, ())
        if not events or not facts.is_whole(events[0].session_id):
            continue
        wanted = [places.get((run_id, text)) for text in texts(call)]
        found = [place for place in wanted if place is not None]
        if found and (len(found) < len(wanted) or found != list(range(found[0], found[0] + len(found)))):
            yield f"{told(call)}: of {len(wanted)} events that were published together, {found} are there"


def _overtaken(facts: Facts) -> Iterator[str]:
    """What was acknowledged before a publication was first sent comes before it."""
    sent: set[tuple[str, str]] = set()
    for call in facts.made("PublishEvents"):
        for text in texts(call)[:1]:
            first = next(
                (e for e in facts.run_events.get(call.request.run_id, ()) if e.output_delta.text == text),
                None,
            )
            if first is None or (call.request.run_id, text) in sent:
                continue
            sent.add((call.request.run_id, text))
            behind = facts.known_head(first.session_id, call.called_at)
            if behind >= first.sequence:
                yield f"{told(call)}: its event has {first.sequence}, but the log was at {behind} before"


def _stale(facts: Facts) -> Iterator[str]:
    """Whoever asks is shown no less than was acknowledged before."""
    for shown in facts.sessions_shown:
        session_id, head = shown.what.session_id, shown.what.head_sequence
        known = facts.known_head(session_id, shown.since)
        if head < known:
            yield f"{shown.where} was shown {session_id} at {head}, which had come to {known}"
