"""What passes between a store and the rest besides the values of the domain. `contract` says what it means.

Owns shapes only: nothing here reads, writes or decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sessionplane.domain.events import Entry, Fold, Place
from sessionplane.domain.keys import SessionKey
from sessionplane.domain.sessions import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is remembered of a call with a request id: the hash of its content and the ids it led to."""

    namespace: str
    rpc: str
    request_id: str
    fingerprint: bytes
    at_ms: int
    session_id: str = ""
    run_id: str = ""
    interrupt_id: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """Who holds a key; the key comes with the spelling that the pointer was made from."""

    namespace: str
    key: SessionKey
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPage:
    """Some sessions of a list, perhaps none, and the pair before which it goes on; None if nothing is left."""

    sessions: Sequence[Session]
    next_before: tuple[int, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """A session of another system, and the session that it became here; the key comes with its spelling."""

    namespace: str
    source_id: str
    key: SessionKey
    session_id: str


class Topic(NamedTuple):
    """What a waiter waits for: something about this subject may have changed. Carries no data of record."""

    kind: str
    namespace: str
    subject: str


class ChangeNumbers(NamedTuple):
    """How far a namespace has come: its newest change number, and the highest one of a session that was removed."""

    newest: int
    floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What one commit brought: the new entries of each session in order, the topics to wake, and the namespaces in
    which sessions got new change numbers.
    """

    entries: Mapping[str, Sequence[Entry]]
    topics: Sequence[Topic]
    namespaces: frozenset[str] = frozenset()


class Violations(NamedTuple):
    """How many rows break an invariant, and some of them by name."""

    total: int
    examples: Sequence[str]


class Floor(NamedTuple):
    """Where a log begins: the place, the bytes that were removed up to it, and what those events added up to."""

    place: Place
    log_bytes: int
    fold: Fold


class Kept(NamedTuple):
    """A run whose events stay: where it begins in its log, and since when its end is kept; None: unfinished."""

    first_sequence: int
    kept_from_ms: int | None


class Extent(NamedTuple):
    """How much of a log is meant."""

    events: int
    bytes: int
