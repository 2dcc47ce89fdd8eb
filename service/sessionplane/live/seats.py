"""Who has a stream open: a bounded number of seats, each with what operators want to know and can end.

A seat is taken before anything is waited for, and a place in a session before anybody is counted as being there. So
a burst cannot overshoot the bounds, and who is refused has left no trace. Everything here belongs to the event loop
and is forgotten at a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from sessionplane.domain.errors import StreamLimit, SubscriberNotFound
from sessionplane.domain.limits import Limits
from sessionplane.domain.streams import ClosingReason, Presence

SUBSCRIBER_ID = "sub_"


class Occupant(Protocol):
    """What streams from a seat."""

    def end(self, reason: ClosingReason) -> None:
        """Be over, as soon as what was written has gone out."""

    @property
    def through(self) -> int:
        """The sequence up to which the log was accounted for; 0 if it follows no log."""

    @property
    def lag(self) -> int:
        """How many events are committed and not yet accounted for."""


@dataclass(slots=True, kw_only=True, eq=False)
class Seat:
    """One open stream, from the moment it was asked for. Its id lives as long as it does and never comes again.

    `session_id` is empty as long as it is not known, and always if sessions are watched.
    """

    subscriber_id: str
    namespace: str
    name: str = ""
    peer: str = ""
    presence: Presence
    run_id: str = ""
    connected_at_ms: int
    session_id: str = ""
    occupant: Occupant | None = None
    ended: ClosingReason | None = None
    wake: Callable[[], None] | None = None
    """Wakes whoever waits before the stream is open."""

    def end(self, reason: ClosingReason) -> None:
        """End the stream, or do not let it begin. The first reason stays."""
        self.ended = self.ended or reason
        if self.occupant is not None:
            self.occupant.end(self.ended)
        elif self.wake is not None:
            self.wake()

    def occupy(self, occupant: Occupant) -> None:
        """Begin to stream; what ended the seat before that ends the stream now."""
        self.occupant = occupant
        if self.ended is not None:
            occupant.end(self.ended)


class Seats:
    """All seats of a server, oldest first. Bounded by `server_streams_max`, and `session_streams_max` in a session."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._seats: dict[str, Seat] = {}
        self._in_session: dict[str, int] = {}

    def __len__(self) -> int:
        """Return how many seats are taken."""
        return len(self._seats)

    @contextmanager
    def take(self, seat: Seat) -> Iterator[Seat]:
        """Sit down until the context is left. Raises StreamLimit if the server is full."""
        if len(self._seats) >= self._limits.server_streams_max:
            raise StreamLimit(limit=self._limits.server_streams_max, scope="in this server")
        self._seats[seat.subscriber_id] = seat
        try:
            yield seat
        finally:
            self._leave(seat)
            del self._seats[seat.subscriber_id]

    def place(self, seat: Seat, session_id: str) -> None:
        """Give the seat its place in a session; it leaves the one that it had. Raises StreamLimit if that is full."""
        if seat.session_id == session_id:
            return
        count = self._in_session.get(session_id, 0)
        if count >= self._limits.session_streams_max:
            raise StreamLimit(limit=self._limits.session_streams_max, scope="in this session")
        self._leave(seat)
        self._in_session[session_id] = count + 1
        seat.session_id = session_id

    def _leave(self, seat: Seat) -> None:
        session_id, seat.session_id = seat.session_id, ""
        if session_id:
            self._in_session[session_id] -= 1
            if not self._in_session[session_id]:
                del self._in_session[session_id]

    def find(self, namespace: str, subscriber_id: str) -> Seat:
        """Return the seat of that id. Raises SubscriberNotFound."""
        seat = self._seats.get(subscriber_id)
        if seat is None or seat.namespace != namespace:
            raise SubscriberNotFound(subscriber_id=subscriber_id)
        return seat

    def page(self, namespace: str, *, session_id: str, after: str, limit: int) -> list[Seat]:
        """Return seats by id, which is by age, strictly after the given one; of one session if it is named."""
        found = [
            seat
            for seat in self._seats.values()
            if seat.subscriber_id > after
            and seat.namespace == namespace
            and (not session_id or seat.session_id == session_id)
        ]
        return sorted(found, key=lambda seat: seat.subscriber_id)[:limit]

    def end_all(self, reason: ClosingReason) -> None:
        """End every stream."""
        for seat in list(self._seats.values()):
            seat.end(reason)
