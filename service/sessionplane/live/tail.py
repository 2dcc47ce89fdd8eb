"""The newest events of each session that somebody follows, kept so that they need not be read back.

A tail is fed on the event loop after each commit, in commit order, and hands out slices: joined bytes, the same
object for all followers at the same place. It is only a shortcut: what it does not hold, the log does. Catch-up and
live are the same bytes. Everything here belongs to the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sessionplane.domain.events import Entry, EventKind, Place
from sessionplane.domain.limits import Limits
from sessionplane.domain.streams import EVERYTHING, Filter, TypeOf

MARKS = frozenset(
    {
        EventKind.SESSION_CHANGED,
        EventKind.SESSION_MOVED,
        EventKind.INPUT_RECORDED,
        EventKind.RUN_TERMINAL,
    }
)
"""The kinds that may decide how a stream goes on."""


class Slice:
    """A stretch of a log: what lies behind `after` up to `through`, as far as a filter lets it pass.

    `frame` is room for whoever encodes the slice, so that it is done once for all followers.
    """

    __slots__ = ("_entries", "_type_of", "after", "count", "data", "frame", "marks", "through")

    def __init__(self, after: Place, entries: Sequence[Entry], wanted: Filter, type_of: TypeOf) -> None:
        """Join the entries, which follow `after` without a gap and are at least one."""
        last = entries[-1]
        self._entries = entries
        self._type_of = type_of
        self.after = after
        self.through = Place(last.sequence, last.chain)
        if wanted is EVERYTHING or wanted == EVERYTHING:
            passing: Sequence[Entry] = entries
        else:
            passing = [entry for entry in entries if wanted.passes(entry, type_of)]
        self.count = len(passing)
        self.data = b"".join([entry.data for entry in passing])
        self.marks = [entry for entry in entries if entry.kind in MARKS]
        self.frame: bytes | None = None

    def until(self, sequence: int, wanted: Filter) -> Slice:
        """Return the part up to and with a sequence: what lies behind it is no longer of the stream that asks."""
        if sequence == self.through.sequence:
            return self
        count = sequence - self.after.sequence
        return Slice(self.after, self._entries[:count], wanted, self._type_of)


def bounded(entries: Sequence[Entry], limits: Limits) -> Sequence[Entry]:
    """Return the first entries that fit one frame; one that is too large goes alone."""
    size = 0
    for index, entry in enumerate(entries):
        size += len(entry.data)
        if index and (size > limits.batch_bytes_max or index >= limits.batch_events_max):
            return entries[:index]
    return entries


class Follower(Protocol):
    """Whoever wants to know that a tail grew."""

    def wake(self) -> None:
        """Look again. May be called more often than there is something to see."""


class Tail:
    """The newest events of one session, as long as somebody follows it.

    `head` is the newest sequence known to be committed. The entries are without a gap. They may end before `head`,
    since a feed that begins reads the head from the log, which may hold a commit that the loop is still to be told
    of. Bounded by `tail_events_max` and `tail_bytes_max`, and so are the slices that are kept to be shared: followers
    that begin at many places of a quiet session must not make it keep a copy for each. The type of a custom event is
    read once for all followers that filter by it, and forgotten with the entries.
    """

    def __init__(self, head: int, limits: Limits, read_type: TypeOf) -> None:
        self.head = head
        # In the order in which they came, which is the order in which they are woken.
        self.followers: dict[Follower, None] = {}
        self._limits = limits
        self._read_type = read_type
        self._types: dict[int, str] = {}
        self._entries: list[Entry] = []
        self._bytes = 0
        self._forget_slices()

    def _type_of(self, entry: Entry) -> str:
        known = self._types.get(entry.sequence)
        if known is None:
            known = self._types[entry.sequence] = self._read_type(entry)
        return known

    def _forget_slices(self) -> None:
        self._slices: dict[tuple[int, Filter], Slice] = {}
        self._slice_bytes = 0

    def grow(self, entries: Sequence[Entry]) -> None:
        """Take what was committed, and wake the followers."""
        if self._entries and self._entries[-1].sequence + 1 != entries[0].sequence:
            self._entries, self._bytes, self._types = [], 0, {}
        self._entries.extend(entries)
        self._bytes += sum(len(entry.data) for entry in entries)
        self.head = max(self.head, entries[-1].sequence)
        self._forget_slices()
        self._trim()
        for follower in self.followers:
            follower.wake()

    def _trim(self) -> None:
        """Drop the oldest half when it got too much, so that trimming costs little per event."""
        while len(self._entries) > self._limits.tail_events_max or self._bytes > self._limits.tail_bytes_max:
            half = max(1, len(self._entries) // 2)
            self._bytes -= sum(len(entry.data) for entry in self._entries[:half])
            del self._entries[:half]
            # What is left is read again if it is asked for: once more for each event at the most.
            self._types = {}

    def slice(self, after: Place, wanted: Filter) -> Slice | None:
        """Return what lies behind `after`, as much as fits one frame; None if the next entry is not here."""
        if (
            not self._entries
            or not self._entries[0].sequence <= after.sequence + 1 <= self._entries[-1].sequence
        ):
            return None
        known = self._slices.get((after.sequence, wanted))
        if known is None:
            index = after.sequence + 1 - self._entries[0].sequence
            known = Slice(after, bounded(self._entries[index:], self._limits), wanted, self._type_of)
            self._share(known, wanted)
        return known

    def _share(self, piece: Slice, wanted: Filter) -> None:
        """Keep a slice for whoever comes to the same place before the tail grows."""
        full = len(self._slices) >= self._limits.tail_events_max
        if full or self._slice_bytes + len(piece.data) > self._limits.tail_bytes_max:
            self._forget_slices()
        self._slices[piece.after.sequence, wanted] = piece
        self._slice_bytes += len(piece.data)


class Tails:
    """The tails of all sessions that are followed. Bounded by the open streams."""

    def __init__(self, limits: Limits, read_type: TypeOf) -> None:
        self._limits = limits
        self._read_type = read_type
        self._tails: dict[str, Tail] = {}

    def __len__(self) -> int:
        """Return how many sessions are followed."""
        return len(self._tails)

    def follow(self, session_id: str, follower: Follower) -> Tail:
        """Begin to follow. What is committed from now on is in the tail; the caller sets its `head` from the log."""
        tail = self._tails.get(session_id)
        if tail is None:
            tail = self._tails[session_id] = Tail(0, self._limits, self._read_type)
        tail.followers[follower] = None
        return tail

    def leave(self, session_id: str, follower: Follower) -> None:
        """Stop following; the last one takes the tail along."""
        tail = self._tails.get(session_id)
        if tail is None or follower not in tail.followers:
            return
        del tail.followers[follower]
        if not tail.followers:
            del self._tails[session_id]

    def grow(self, session_id: str, entries: Sequence[Entry]) -> None:
        """Take what was committed for a session; nobody follows: it is in the log."""
        tail = self._tails.get(session_id)
        if tail is not None:
            tail.grow(entries)
