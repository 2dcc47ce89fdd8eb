"""The time of one open stream: how long it has been silent, how long a write stands still, how old it is.

Owns one timer for the stream's whole life, since tens of thousands of streams are open at once. It must never write
or read anything: it wakes the stream, ends it, or reports that its reader does not read. Everything here belongs to
the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Protocol
from zlib import crc32

from sessionplane.domain.limits import Limits
from sessionplane.domain.streams import ClosingReason

SPREAD = 0.1
"""By how much streams may end before their age, so that those which began together do not end together."""


class Stream(Protocol):
    """What is open: it can be told to look again, and to end."""

    def wake(self) -> None:
        """Look again. May be called more often than there is something to see."""

    def end(self, reason: ClosingReason) -> None:
        """Be over, as soon as what was written has gone out."""


def age_s(limits: Limits, name: str) -> float:
    """Return how old the stream of this name becomes, in seconds: its name decides which part of the spread it gets."""
    return limits.stream_age_ms / 1000 * (1 - SPREAD * crc32(name.encode()) / 2**32)


class Pulse:
    """Use it between `start` and `stop`. Whoever writes says so with `writing`."""

    def __init__(self, stream: Stream, *, limits: Limits, age_s: float = inf) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._progress_s = limits.progress_after_ms / 1000
        self._patience_s = limits.slow_subscriber_ms / 1000
        self._abort_s = limits.stream_abort_ms / 1000
        self._last_frame_s = self._loop.time()
        self._over_at_s = self._last_frame_s + age_s
        self._stuck_at_s = inf
        self._timer: asyncio.TimerHandle | None = None
        self.on_stall: Callable[[], None] | None = None
        """Called once when a write stands still for too long."""

    def start(self) -> None:
        """Begin to watch."""
        self._arm(self._loop.time())

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def writing(self, *, begins: bool) -> None:
        """Note that a write begins or ends; a reader that does not read lets it stand there."""
        now_s = self._loop.time()
        self._stuck_at_s = now_s + self._patience_s if begins else inf
        self._last_frame_s = now_s

    def hurry(self) -> None:
        """Wait for no write longer than ending a stream may take: there is a reason to end it."""
        now_s = self._loop.time()
        self._patience_s = min(self._patience_s, self._abort_s)
        if self._stuck_at_s < inf:
            self._stuck_at_s = min(self._stuck_at_s, now_s + self._abort_s)
        if self._timer is not None:
            self._timer.cancel()
            self._arm(now_s)

    @property
    def silent(self) -> bool:
        """Whether it is time for a sign of life."""
        return self._loop.time() - self._last_frame_s >= self._progress_s

    def _tick(self) -> None:
        now_s = self._loop.time()
        if self._stuck_at_s <= now_s and self.on_stall is not None:
            self.on_stall()
            return
        if self._over_at_s <= now_s:
            self._over_at_s = inf
            self._stream.end(ClosingReason.MAX_AGE)
        elif self._stuck_at_s == inf and self.silent:
            self._stream.wake()
        self._arm(self._loop.time())

    def _arm(self, now_s: float) -> None:
        """Look again when something may be due, and no later than a write that begins right now would be stuck."""
        silent_at_s = self._last_frame_s + self._progress_s
        if silent_at_s <= now_s:
            silent_at_s = now_s + self._progress_s
        due_s = min(silent_at_s, self._over_at_s, self._stuck_at_s, now_s + self._patience_s)
        self._timer = self._loop.call_at(max(due_s, now_s + 0.001), self._tick)
