"""What had to be kept, and from when on: all that a server let anybody know.

Owns the facts that an answer or a frame stands for, as texts that a database either has or has not; when each of them
left the server; and how they are found in a file. An answer counts from the call that sent its bytes, whoever read
them when. A resume token says that its session's log went that far, wherever in an answer or a frame it stands, and
has a checksum, so each one that was sent is believed.
"""

from __future__ import annotations

import re
import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from sessionplane.domain.errors import TokenInvalid
from sessionplane.domain.tokens import parse_resume_token, stamp
from sessionplane.proof.powercut.disk import Happening
from sessionplane.proof.powercut.trace import Sent

Fact = tuple[str, ...]
"""What it is about, and its columns; made only by the functions below."""

_TOKEN = re.compile(rb"G(A[Q-Za-f][A-Za-z0-9_-]{69})")
"""A resume token as it stands in a message: its length, 71, which is a G, its version, and the rest."""
_PIECE = re.compile(rb"\[(\d+): (\d+) of (\d+)\]")


def request(
    rpc: str, request_id: str, session_id: str = "", run_id: str = "", interrupt_id: str = ""
) -> Fact:
    """A request id is known, with what it led to."""
    return ("request", rpc, request_id, session_id, run_id, interrupt_id)


def finished(run_id: str) -> Fact:
    """A run has its terminal."""
    return ("finished", run_id)


def interrupt(interrupt_id: str) -> Fact:
    """An interrupt is there."""
    return ("interrupt", interrupt_id)


def piece(session_id: str, publication: int, number: int, count: int) -> Fact:
    """One of the events of a publication is in a session's log."""
    return ("piece", session_id, str(publication), str(number), str(count))


def piece_text(publication: int, number: int, count: int) -> str:
    """Return what an event says, so that it is found again."""
    return f"[{publication}: {number} of {count}]"


def place(session_id: str, sequence: int, chain: bytes) -> Fact:
    """A session's log has an event at a place, with all that comes before it."""
    return ("place", session_id, str(sequence), stamp(chain).hex())


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer: its bytes as they were sent, and what follows from it."""

    rpc: str
    raw: bytes
    facts: Sequence[Fact]

    def to_json(self) -> dict[str, Any]:
        """Return what can be written into a file of JSON."""
        return {"rpc": self.rpc, "raw": self.raw.hex(), "facts": [list(fact) for fact in self.facts]}

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Self:
        """Undo `to_json`."""
        facts = [tuple(fact) for fact in read["facts"]]
        return cls(rpc=read["rpc"], raw=bytes.fromhex(read["raw"]), facts=facts)


class Expected(NamedTuple):
    """A fact, and the first event of the recording at which somebody outside could know it."""

    since: int
    fact: Fact


class NeverSent(Exception):
    """A client got an answer that is not in the trace: the recording is worth nothing."""


def expectations(happenings: Sequence[Happening], answers: Iterable[Answer]) -> list[Expected]:
    """Say what had to be kept since when, in order. Raises NeverSent."""
    stream = _Stream(happenings)
    first: dict[Fact, int] = {}
    for answer in answers:
        since = stream.sent(answer.raw)
        if since is None:
            raise NeverSent(f"An answer to {answer.rpc} was received, and never sent: {answer.facts}")
        for fact in answer.facts:
            first[fact] = min(since, first.get(fact, since))
    for since, fact in stream.places():
        first[fact] = min(since, first.get(fact, since))
    return sorted(Expected(since, fact) for fact, since in first.items())


class _Stream:
    """All that was sent, one after the other, and where each call of it begins."""

    def __init__(self, happenings: Sequence[Happening]) -> None:
        self._at: list[int] = []
        self._ends: list[int] = []
        parts: list[bytes] = []
        length = 0
        for at, event in enumerate(happenings):
            if isinstance(event, Sent):
                length += len(event.data)
                parts.append(event.data)
                self._at.append(at)
                self._ends.append(length)
        self._bytes = b"".join(parts)

    def sent(self, raw: bytes) -> int | None:
        """Return the event that sent the last of these bytes first."""
        found = self._bytes.find(raw)
        return None if found < 0 else self._event(found + len(raw))

    def places(self) -> Iterable[Expected]:
        """Return what the resume tokens in all this say."""
        for found in _TOKEN.finditer(self._bytes):
            try:
                token = parse_resume_token(found[1].decode())
            except TokenInvalid:
                continue
            if token.sequence:
                yield Expected(self._event(found.end()), place(token.session_id, token.sequence, token.chain))

    def _event(self, end: int) -> int:
        return self._at[bisect_left(self._ends, end)]


@dataclass(slots=True)
class Kept:
    """What a database has. `floors` says up to where retention removed a session's log; None: all of it."""

    facts: set[Fact] = field(default_factory=set)
    floors: dict[str, int | None] = field(default_factory=dict)

    def missing(self, wanted: Iterable[Fact]) -> list[Fact]:
        """Return those that are not there, and were not removed by retention."""
        return [fact for fact in wanted if fact not in self.facts and not self._removed(fact)]

    def _removed(self, fact: Fact) -> bool:
        kind, about, *rest = fact
        if kind not in {"place", "piece"} or about not in self.floors:
            return False
        floor = self.floors[about]
        if floor is None:
            return True
        return int(rest[0]) <= floor if kind == "place" else floor > 0

    def halves(self) -> list[str]:
        """Return the publications that are there in part."""
        seen: dict[tuple[str, str], set[str]] = {}
        counts: dict[tuple[str, str], int] = {}
        for fact in self.facts:
            if fact[0] == "piece" and self.floors[fact[1]] == 0:
                _, session_id, publication, number, count = fact
                seen.setdefault((session_id, publication), set()).add(number)
                counts[session_id, publication] = int(count)
        return [
            f"publication {publication} of {session_id}: {len(numbers)} of {counts[session_id, publication]}"
            for (session_id, publication), numbers in seen.items()
            if len(numbers) != counts[session_id, publication]
        ]


def kept(connection: sqlite3.Connection) -> Kept:
    """Read what a database has."""
    found = Kept()
    facts = found.facts
    for row in connection.execute("SELECT rpc, request_id, session_id, run_id, interrupt_id FROM requests"):
        facts.add(request(*row))
    for (run_id,) in connection.execute("SELECT run_id FROM runs WHERE state = 'FINISHED'"):
        facts.add(finished(run_id))
    for (interrupt_id,) in connection.execute("SELECT interrupt_id FROM interrupts"):
        facts.add(interrupt(interrupt_id))
    for session_id, floor, deleted in connection.execute(
        "SELECT session_id, floor_sequence, deleted_at_ms IS NOT NULL FROM sessions"
    ):
        found.floors[session_id] = None if deleted else floor
    for session_id, sequence, chain, kind, data in connection.execute(
        "SELECT session_id, sequence, chain, kind, data FROM events"
    ):
        facts.add(place(session_id, sequence, chain))
        if kind == "OUTPUT_DELTA":
            facts.update(piece(session_id, *map(int, each.groups())) for each in _PIECE.finditer(data))
    return found
