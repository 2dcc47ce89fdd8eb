"""Whoever watches the sessions of a namespace: which rows changed behind a change number, and when to look again.

A watch is a cursor among change numbers. It reads the rows above it, page by page, in the order in which they changed
last; a row that changed ten times since is there once, as it is now. When there are none it waits for a commit that
moved numbers of its namespace. Such a word carries nothing: the watch reads again.

All who stand at the same number and look at the same time share one reading, so that a change costs one read, however
many watch. Nothing here is of record or kept for later, and everything belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Self

from sessionplane.domain.errors import TokenCompacted
from sessionplane.domain.limits import Limits
from sessionplane.domain.sessions import Session, Visibility
from sessionplane.domain.streams import ClosingReason
from sessionplane.live.pulse import Pulse


@dataclass(slots=True, kw_only=True, eq=False)
class Changes:
    """Sessions above a change number, lowest first, as they were at one moment. Everything up to `through` is accounted
    for; `more` says whether there was more. `floor` is the highest number of a session that was removed for good.

    `frames` is room for whoever encodes them, so that it is done once for all who read the same.
    """

    sessions: Sequence[Session]
    through: int
    more: bool
    floor: int
    frames: list[bytes] | None = None


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Nothing to tell, but a sign of life: everything up to here was told."""

    through: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The watch is over."""

    reason: ClosingReason


Read = Callable[[str, int], Awaitable[Changes]]
"""(namespace, change number) -> what changed above it."""


class Watches:
    """All watches. Bounded by the open streams."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._boards: dict[str, Board] = {}

    def changed(self, namespace: str) -> None:
        """Let those who watch the namespace look again."""
        board = self._boards.get(namespace)
        if board is not None:
            board.changed()

    def follow(self, namespace: str, watch: Watch) -> Board:
        """Begin to watch: whatever is committed from now on wakes the watch."""
        board = self._boards.get(namespace)
        if board is None:
            board = self._boards[namespace] = Board(namespace, self._read)
        board.watches[watch] = None
        return board

    def leave(self, board: Board, watch: Watch) -> None:
        """Stop watching; the last one takes along what was shared."""
        board.watches.pop(watch, None)
        if not board.watches:
            self._boards.pop(board.namespace, None)


@dataclass(slots=True, eq=False)
class Board:
    """Those who watch one namespace, and the readings under way that they share. Bounded by those who watch."""

    namespace: str
    _read: Read
    # In the order in which they came, which is the order in which they are woken.
    watches: dict[Watch, None] = field(default_factory=dict)
    _readings: dict[int, asyncio.Future[Changes]] = field(default_factory=dict)

    def changed(self) -> None:
        """Share no reading any more that began before the change, and wake all."""
        self._readings = {}
        for watch in self.watches:
            watch.changed()

    async def above(self, number: int) -> Changes:
        """Return what changed above a number, from a reading that began after the last change was told of."""
        reading = self._readings.get(number)
        if reading is None:
            reading = self._readings[number] = asyncio.ensure_future(self._read(self.namespace, number))
            reading.add_done_callback(lambda done: self._ended(number, done))
        # Whoever leaves while it is read takes it from nobody else.
        return await asyncio.shield(reading)

    def _ended(self, number: int, reading: asyncio.Future[Changes]) -> None:
        """Whoever comes later reads again: who attends a session changes without a word. A failure that nobody waits
        for any more is nobody's.
        """
        if self._readings.get(number) is reading:
            del self._readings[number]
        if not reading.cancelled():
            reading.exception()


class Watch:
    """One watch. Use as a context manager: leaving it stops watching. It is used by one task, as a feed is.

    It begins above `begin`. Up to `goal` it tells what was there when it was opened; then it has caught up. A `fresh`
    one knows nothing, so it need not be told of what was deleted before. Hidden sessions are told of only on request.
    """

    through = 0
    lag = 0

    def __init__(
        self,
        *,
        namespace: str,
        begin: int,
        goal: int,
        fresh: bool,
        show_internal: bool,
        watches: Watches,
        limits: Limits,
        age_s: float = inf,
    ) -> None:
        self.ended: ClosingReason | None = None
        self.pulse = Pulse(self, limits=limits, age_s=age_s)
        self._namespace = namespace
        self._cursor = begin
        self._goal = goal
        self._fresh = fresh
        self._show_internal = show_internal
        self._watches = watches
        self._caught_up = False
        # Whether something may have changed since it was read last.
        self._stale = True
        self._waiting: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._board = self._watches.follow(self._namespace, self)
        self.pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        self._watches.leave(self._board, self)
        self.pulse.stop()

    def changed(self) -> None:
        """Look again: a commit moved change numbers."""
        self._stale = True
        self.wake()

    def wake(self) -> None:
        """Look up: see `live.pulse`."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def end(self, reason: ClosingReason) -> None:
        """Be over, as soon as what was written has gone out. The first reason stays."""
        self.ended = self.ended or reason
        self.pulse.hurry()
        self.wake()

    def tells(self, session: Session) -> bool:
        """Say whether a session is told of here."""
        if session.visibility is Visibility.INTERNAL and not self._show_internal:
            return False
        gone_before = session.deleted_at_ms is not None and session.change_number <= self._goal
        return not (self._fresh and gone_before)

    async def next(self) -> Changes | CaughtUp | Ended:
        """Return what to tell next. After the end it is not asked again.

        Raises TokenCompacted if sessions were removed for good that could no longer be told as gone, and what reading
        raises.
        """
        while self.ended is None:
            if self._cursor >= self._goal and not self._caught_up:
                self._caught_up = True
                return CaughtUp(self._cursor)
            if self._caught_up and self.pulse.silent:
                return CaughtUp(self._cursor)
            if not self._stale:
                await self._wait()
                continue
            changes = await self._look()
            if changes.sessions:
                return changes
        return Ended(self.ended)

    async def _look(self) -> Changes:
        self._stale = False
        changes = await self._board.above(self._cursor)
        if changes.floor > max(self._cursor, self._goal if self._fresh else 0):
            raise TokenCompacted
        self._cursor = changes.through
        self._stale = self._stale or changes.more
        return changes

    async def _wait(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None
