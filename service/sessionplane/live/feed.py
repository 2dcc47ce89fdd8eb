"""One subscriber: what it gets next, until what it waits for was delivered.

A feed is a cursor in a log. While the cursor is inside the tail it hands out slices of that; otherwise it reads
pages of the log until it has caught up. A wake-up carries nothing, so that none can be lost: the feed looks at the
tail's head before it waits, and both belong to the event loop. It is used by one task, which asks for the next piece
only after it has sent the one before: what arrives meanwhile goes out together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Self

from sessionplane.domain.errors import SessionNotFound
from sessionplane.domain.events import Entry, EventKind, Place
from sessionplane.domain.limits import Limits
from sessionplane.domain.streams import DELIVERED, EVERYTHING, ClosingReason, Plan, TypeOf, Until
from sessionplane.live.pulse import Pulse
from sessionplane.live.tail import Slice, Tails, bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookmark:
    """Nothing to deliver, but a sign of life: everything up to `through` was accounted for."""

    through: Place
    caught_up: bool
    lag: int


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The stream is over."""

    reason: ClosingReason
    through: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMark:
    """What a session event means to a stream: the generation that it ended (0: none), and why there will be nothing
    behind it, if so: the session lost its key for good, or was deleted.
    """

    ended_generation: int = 0
    last: ClosingReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where a feed reads: a page of the log behind a place, the newest sequence, what a session event means, and of
    which type a custom event is.
    """

    page: Callable[[Place], Awaitable[Sequence[Entry]]]
    head: Callable[[], int]
    mark: Callable[[Entry], SessionMark]
    type_of: TypeOf


class Feed:
    """The events of one stream. Use as a context manager: leaving it stops following."""

    def __init__(
        self,
        *,
        session_id: str,
        plan: Plan,
        tails: Tails,
        sources: Sources,
        limits: Limits,
        age_s: float = inf,
    ) -> None:
        self.session_id = session_id
        self.until_run_id = plan.until_run_id
        self._plan = plan
        self._tails = tails
        self._sources = sources
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._cursor = plan.begin
        self._outside = plan.outside
        self.ended: ClosingReason | None = None
        self._stop: ClosingReason | None = None
        self._announce = False
        self._waiting: asyncio.Future[None] | None = None
        self.pulse = Pulse(self, limits=limits, age_s=age_s)

    def __enter__(self) -> Self:
        """Look where the log ends and begin to follow, in one turn of the loop: whatever comes later wakes the feed."""
        head = self._sources.head()
        self._tail = self._tails.follow(self.session_id, self)
        self._tail.head = max(self._tail.head, head)
        self.pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop following."""
        self._tails.leave(self.session_id, self)
        self.pulse.stop()

    def wake(self) -> None:
        """Look again."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def end(self, reason: ClosingReason) -> None:
        """Be over for a reason of the server's, as soon as the task asks for more. The first reason stays."""
        self.ended = self.ended or reason
        self.pulse.hurry()
        self.wake()

    @property
    def cursor(self) -> Place:
        """The place up to which everything was handed out or filtered."""
        return self._cursor

    @property
    def through(self) -> int:
        """The sequence of that place."""
        return self._cursor.sequence

    @property
    def lag(self) -> int:
        """How many events are committed behind that place, as far as is known here."""
        return max(0, self._tail.head - self._cursor.sequence)

    async def next(self) -> Slice | Bookmark | End:
        """Return the next piece: events, a sign of life, or the end. After the end it is not asked again.

        Raises Checksum if the log is damaged, TokenCompacted if retention has removed what comes next, and
        SessionNotFound if it has removed the session.
        """
        if self._outside:
            return self._hand_out_outside()
        while True:
            ended = self._over()
            if ended is not None:
                return End(reason=ended, through=self._cursor)
            if self._announce:
                self._announce = False
                return self._bookmark()
            if self._cursor.sequence < self._tail.head:
                piece = self._advance(await self._look())
                if piece is not None:
                    return piece
            elif self.pulse.silent:
                return self._bookmark()
            else:
                await self._wait()

    def _hand_out_outside(self) -> Slice:
        """Return the one event that accounts for nothing: it is handed out at a place, and lies elsewhere."""
        at, data, self._outside = self._cursor, self._outside, b""
        entry = Entry(at.sequence, "", EventKind.RUN_TERMINAL, data, at.chain)
        return Slice(at, [entry], EVERYTHING, self._sources.type_of)

    def _over(self) -> ClosingReason | None:
        """Return why the stream is over here, if it is. What it waited for wins over everything else."""
        goal = self._plan.goal
        reached = self._plan.goal_reason if goal is not None and self._cursor.sequence >= goal else None
        return reached if reached in DELIVERED else self._stop or reached or self.ended

    async def _look(self) -> Slice:
        """Return what lies behind the cursor, from the tail or else from the log."""
        piece = self._tail.slice(self._cursor, self._plan.filter)
        if piece is not None:
            return piece
        entries = await self._sources.page(self._cursor)
        if not entries:
            raise SessionNotFound(session_id=self.session_id)
        return Slice(self._cursor, bounded(entries, self._limits), self._plan.filter, self._sources.type_of)

    def _advance(self, piece: Slice) -> Slice | None:
        """Move the cursor over the slice, or to where the stream stops in it. None if nothing in it passes."""
        goal = self._plan.goal
        if goal is not None and goal < piece.through.sequence:
            piece = piece.until(goal, self._plan.filter)
        for mark in piece.marks:
            self._stop = self._stopped_by(mark)
            if self._stop is None:
                continue
            piece = piece.until(mark.sequence, self._plan.filter)
            break
        self._cursor = piece.through
        return piece if piece.count else None

    def _stopped_by(self, mark: Entry) -> ClosingReason | None:
        """Say whether this event ends the stream, and take note of the run that is waited for."""
        until = self._plan.until
        if mark.kind is EventKind.RUN_TERMINAL:
            waited_for = until is Until.RUN_END and mark.run_id == self.until_run_id
            return ClosingReason.RUN_END if waited_for else None
        if mark.kind is EventKind.INPUT_RECORDED:
            unknown = until is Until.RUN_END and not self.until_run_id
            if unknown and mark.sequence > self._plan.discover_after:
                self.until_run_id, self._announce = mark.run_id, True
            return None
        meaning = self._sources.mark(mark)
        if meaning.last is not None:
            # Of a session that was final at the opening all is shown: a late result may lie behind.
            goal = self._plan.goal
            return meaning.last if goal is None or mark.sequence >= goal else None
        generation = self._plan.until_generation
        ended = meaning.ended_generation and generation in (0, meaning.ended_generation)
        return ClosingReason.SESSION_END if ended and until is Until.SESSION_END else None

    def _bookmark(self) -> Bookmark:
        return Bookmark(through=self._cursor, caught_up=self.lag == 0, lag=self.lag)

    async def _wait(self) -> None:
        """Wait until the tail grows, the stream is ended, or a sign of life is due."""
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None
