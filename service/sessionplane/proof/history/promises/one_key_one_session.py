"""One key, one session: resolve is linearizable per key, by interval arithmetic over who was seen to hold it.

A key's value is the session that holds it. No session holds a key twice, so values never come back, and a history of
reads is linearizable if and only if no two values are both seen around the same moment (Gibbons and Korach: the zones
of two values may not cross). What was created by a call that nobody heard the answer of needs no special care: its
value is known from those who saw it. `search` says the same by trying all orders, for slices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sessionplane.proof.history.facts import Facts, Shown, followed, told
from sessionplane.proof.history.records import Call
from sessionplane.v1 import event_pb2, run_pb2

NOBODY = ""


@dataclass(frozen=True, slots=True)
class Read:
    """At some moment between `since` and `until` this session held the key, or nobody did."""

    since: float
    until: float
    value: str
    where: str


@dataclass(slots=True)
class Zone:
    """What all reads of one value say together: it was there from `first` at the latest to `last` at the earliest."""

    value: str
    first: float
    last: float
    where: str

    @property
    def forward(self) -> bool:
        """Whether the value is known to have been there all the time between."""
        return self.first < self.last


def one_key_one_session(facts: Facts) -> Iterator[str]:
    """Say where two sessions held one key, or a session went back in its generations."""
    deletes = [call.called_at for call in facts.made("DeleteSession")]
    for key, reads in sorted(reads_by_key(facts).items()):
        yield from crossings(key, reads, first_delete=min(deletes, default=float("inf")))
    yield from _forks(facts)
    yield from _generations(facts)


def reads_by_key(facts: Facts) -> dict[str, list[Read]]:
    """Collect who was seen to hold each key, by every call and stream that named it by key."""
    reads: dict[str, list[Read]] = defaultdict(list)
    for call in facts.history.calls:
        found = _held(call) if call.answer is not None else _unheld(call)
        if found is not None:
            key, value = found
            since = call.called_at if value == NOBODY else facts.since(call)
            reads[key].append(Read(since, call.ended_at, value, told(call)))
    for stream in facts.history.streams:
        asked = stream.request
        named = asked.session.key or asked.resolve.session.key
        session_id = followed(stream)
        if named and session_id and not asked.resume_token:
            first = stream.frames[0]
            key = first.message.opened.session.key
            since = facts.first_called.get(("ResolveSession", asked.resolve.request_id), stream.opened_at)
            reads[key].append(Read(since, first.at, session_id, told(stream)))
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


def _held(call: Call) -> tuple[str, str] | None:
    """Return the key that a call named and the session that was found to hold it."""
    if call.method not in _SHOWING or not call.request.session.key:
        return None
    answer = call.answer
    disposition = getattr(answer, "disposition", 0) or getattr(answer, "run_disposition", 0)
    if disposition == run_pb2.RUN_DISPOSITION_DUPLICATE:
        return None  # A known run is shown in its own session, wherever that is.
    return answer.session.key, answer.session.session_id


def _unheld(call: Call) -> tuple[str, str] | None:
    if call.refusal is None or call.refusal.reason != "KEY_NOT_BOUND":
        return None
    key = call.refusal.details.get("canonical_key", "")
    return (key, NOBODY) if key else None


def zones(reads: list[Read]) -> list[Zone]:
    """Join the reads of each value; each read of nobody stands for itself, since that comes more than once."""
    joined: dict[str, Zone] = {}
    alone = []
    for read in reads:
        if read.value == NOBODY:
            alone.append(Zone(NOBODY, read.until, read.since, read.where))
            continue
        zone = joined.setdefault(read.value, Zone(read.value, read.until, read.since, read.where))
        zone.first, zone.last = min(zone.first, read.until), max(zone.last, read.since)
    return [*joined.values(), *alone]


def crossings(key: str, reads: list[Read], *, first_delete: float = float("inf")) -> Iterator[str]:
    """Say which values of a key cannot be put into one order."""
    found = zones(reads)
    for number, zone in enumerate(found):
        for other in found[number + 1 :]:
            if _cross(zone, other) or _cross(other, zone):
                yield f"{key} was held by {_named(zone)} and by {_named(other)} at one time"
    first = min((zone.first for zone in found if zone.value != NOBODY), default=float("inf"))
    for read in reads:
        if read.value == NOBODY and read.since > first and read.until < first_delete:
            yield f"{key} had nobody ({read.where}) though it had somebody before and nothing was deleted"


def _cross(zone: Zone, other: Zone) -> bool:
    """Say whether one value is known to have been there around every moment that the other one may have."""
    return zone.forward and zone.first < other.last and other.first < zone.last


def _named(zone: Zone) -> str:
    return f"{zone.value or 'nobody'} ({zone.where})"


def _forks(facts: Facts) -> Iterator[str]:
    """A key begins once, and again only after it was deleted; every other holder took it from the one before."""
    begun: dict[str, list[str]] = defaultdict(list)
    freed: dict[str, int] = defaultdict(int)
    holders: dict[str, set[str]] = defaultdict(set)
    for session_id, log in facts.logs.items():
        for event in log:
            if not event.HasField("session_moved"):
                continue
            moved = event.session_moved
            if moved.holds:
                holders[moved.key].add(session_id)
                if not moved.other_session_id:
                    begun[moved.key].append(session_id)
            else:
                holders[moved.key].discard(session_id)
                freed[moved.key] += moved.reason == event_pb2.MOVE_REASON_DELETED
    for key, sessions in begun.items():
        if len(sessions) > 1 + freed[key]:
            yield f"{key} was begun by {', '.join(sessions)}, and deleted {freed[key]} times"
    for key, now in holders.items():
        if key and len(now) > 1:
            yield f"{key} is held by {', '.join(sorted(now))} in the end"


def _generations(facts: Facts) -> Iterator[str]:
    """The generation of a session never goes back."""
    seen: dict[str, list[Shown]] = defaultdict(list)
    for shown in facts.sessions_shown:
        seen[shown.what.session_id].append(shown)
    for session_id, shows in seen.items():
        for shown in shows:
            before = max((each.what.generation for each in shows if each.until < shown.since), default=0)
            if shown.what.generation < before:
                yield f"{session_id} went back to generation {shown.what.generation} ({shown.where})"
