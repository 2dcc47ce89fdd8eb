"""One key, one session: resolve is linearizable per key, and a key begins once.

What a key has is an incarnation of a session, and none comes back: `intervals` does the arithmetic over everybody who
was shown what a key has. The logs say besides in which order sessions had a key, and what becomes of it in the end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from sessionplane.proof.history.facts import Facts, followed, shows_known_run, told
from sessionplane.proof.history.intervals import NEVER, NOBODY, Read, Value, conflicts, overtakings, zones
from sessionplane.proof.history.records import Call
from sessionplane.proof.history.spelling import canonical
from sessionplane.v1 import event_pb2, session_pb2
from sessionplane.v1.session_pb2 import Session


def one_key_one_session(facts: Facts) -> Iterator[str]:
    """Say where two sessions had one key, or one came back that was gone."""
    freed_at = deletions(facts)
    lines = successions(facts)
    for key, reads in sorted(reads_by_key(facts).items()):
        for one, other in conflicts(reads, freed_at=freed_at.get(key, NEVER)):
            yield f"{key} had {one} and {other} at one time"
        yield from _overtaken(key, reads, lines)
    yield from _forks(facts)
    yield from _minted_twice(facts)
    yield from _elsewhere(facts)


def _elsewhere(facts: Facts) -> Iterator[str]:
    """A run is shown with the session that it is in, also one that was known before."""
    for call in facts.calls("StartRun"):
        run, session = call.answer.run, call.answer.session
        if run.session_id != session.session_id:
            yield f"{told(call)} shows {run.run_id} of {run.session_id} in {session.session_id}"


def reads_by_key(facts: Facts) -> dict[str, list[Read]]:
    """Collect what everybody was shown whom a key led to a session: this is what is judged to be linearizable."""
    reads: dict[str, list[Read]] = defaultdict(list)
    for call in facts.history.calls:
        found = _held(call) if call.answer is not None else _unheld(call)
        if found is not None:
            key, value = found
            since = call.called_at if value == NOBODY else facts.since(call)
            reads[key].append(Read(since, call.ended_at, value, told(call)))
    for stream in facts.history.streams:
        asked = stream.request
        if followed(stream) and not asked.resume_token and (asked.session.key or asked.resolve.session.key):
            first = stream.frames[0]
            session = first.message.opened.session
            since = facts.first_called("ResolveSession", asked.resolve.request_id, stream.opened_at)
            reads[session.key].append(Read(since, first.at, _value(session), told(stream)))
    return reads


_SHOWING = frozenset(
    {
        "ResolveSession",
        "GetSession",
        "StartRun",
        "CloseSession",
        "SuspendSession",
        "UpdateSession",
        "ResetSession",
    }
)


def _value(session: Session) -> Value:
    return Value(session.session_id, session.generation)


def _held(call: Call) -> tuple[str, Value] | None:
    """Return the key that a call named and what was found to have it."""
    if call.method not in _SHOWING or not call.request.session.key:
        return None
    if shows_known_run(call.answer):
        return None  # That is shown in its own session, wherever it is.
    return call.answer.session.key, _value(call.answer.session)


def _unheld(call: Call) -> tuple[str, Value] | None:
    if call.refusal is None or call.refusal.reason != "KEY_NOT_BOUND":
        return None
    key = call.refusal.details.get("canonical_key", "")
    return (key, NOBODY) if key else None


def deletions(facts: Facts) -> dict[str, float]:
    """key -> when the first call that may have deleted its session began."""
    keys: dict[str, set[str]] = defaultdict(set)
    for event in facts.events():
        keys[event.session_id].add(event.session_moved.key)
    freed_at: dict[str, float] = {}
    for call in facts.made("DeleteSession"):
        named = call.request.session
        for key in {canonical(named.key)} if named.key else keys[named.session_id]:
            freed_at[key] = min(call.called_at, freed_at.get(key, NEVER))
    return freed_at


def successions(facts: Facts) -> dict[str, list[list[str]]]:
    """key -> lines of sessions that took it over from each other, each from its first one on, as the logs say."""
    after: dict[tuple[str, str], str] = {}
    first: dict[str, list[str]] = defaultdict(list)
    for event in facts.events():
        moved = event.session_moved
        if moved.holds and moved.other_session_id:
            after[moved.key, moved.other_session_id] = event.session_id
        elif moved.holds:
            first[moved.key].append(event.session_id)
    lines: dict[str, list[list[str]]] = defaultdict(list)
    for key, begun in first.items():
        for session_id in begun:
            line = [session_id]
            while (successor := after.pop((key, line[-1]), "")) != "":
                line.append(successor)
            lines[key].append(line)
    return lines


def _overtaken(key: str, reads: list[Read], lines: dict[str, list[list[str]]]) -> Iterator[str]:
    """Nobody is led to a session once somebody was led to a later one."""
    found = zones(reads)
    for line in lines.get(key, ()):
        place = {session_id: index for index, session_id in enumerate(line)}
        seen = [value for value in found if value.session_id in place]
        seen.sort(key=lambda value: (place[value.session_id], value.generation))
        for one, other in overtakings(found[value] for value in seen):
            yield f"{key} led to {one}, though it had come to {other}"


def _forks(facts: Facts) -> Iterator[str]:
    """A key begins once, and again only after it was deleted; every other session took it over from the one before."""
    freed: dict[str, int] = defaultdict(int)
    has: dict[str, set[str]] = defaultdict(set)
    for event in facts.events():
        moved = event.session_moved
        if moved.holds:
            has[moved.key].add(event.session_id)
        elif moved.key:
            has[moved.key].discard(event.session_id)
            freed[moved.key] += moved.reason == event_pb2.MOVE_REASON_DELETED
    for key, lines in successions(facts).items():
        if len(lines) > 1 + freed[key]:
            yield f"{key} was begun by {', '.join(line[0] for line in lines)}, and deleted {freed[key]} times"
    for key, now in has.items():
        if len(now) > 1:
            yield f"{key} has {', '.join(sorted(now))} in the end"


def _minted_twice(facts: Facts) -> Iterator[str]:
    """Of all who race for a new key, one is told that it made the session."""
    makers: dict[str, Call] = {}
    for call in facts.calls("ResolveSession"):
        if call.answer.resolution == session_pb2.RESOLUTION_CREATED:
            session_id = call.answer.session.session_id
            maker = makers.setdefault(session_id, call)
            if maker is not call and (not call.request_id or call.request_id != maker.request_id):
                yield f"{told(maker)} and {told(call)} both made {session_id}"
