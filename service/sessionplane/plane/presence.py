"""Who is there: how many attached streams each session has, and since when the last one is gone.

Memory of the writer's thread, kept in commit order; it never routes. A restart begins with nobody. Whatever changes
it returns what undoes that, so that a lost commit leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Undo = Callable[[], None]


class Linger(NamedTuple):
    """Until when a session waits for its last subscriber to come back."""

    namespace: str
    until_ms: int


class Attendance:
    """Counts of attached streams, and lingers. Bounded by the open streams, and by those that closed within one
    linger.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        # All of one length, so that the order of the dictionary is the order of their ends.
        self._lingers: dict[str, Linger] = {}
        self._complete_from_ms = 0

    def begin(self, *, complete_from_ms: int) -> None:
        """Note that the server has started: until then, whoever was here before may still come back."""
        self._complete_from_ms = complete_from_ms

    def complete(self, *, now_ms: int) -> bool:
        """Say whether everybody has had the time to come back after the start, so that absence means something."""
        return now_ms >= self._complete_from_ms

    def attached(self, session_id: str) -> int:
        """Return how many attached streams the session has."""
        return self._counts.get(session_id, 0)

    def arrive(self, session_id: str) -> Undo:
        """Count one more; whoever was missed is back."""
        undo = self._undo(session_id)
        self._lingers.pop(session_id, None)
        self._counts[session_id] = self.attached(session_id) + 1
        return undo

    def leave(self, namespace: str, session_id: str, *, linger_until_ms: int) -> Undo:
        """Count one less; after the last one the session lingers."""
        undo = self._undo(session_id)
        left = self.attached(session_id) - 1
        if left > 0:
            self._counts[session_id] = left
        else:
            self._counts.pop(session_id, None)
            self._lingers[session_id] = Linger(namespace, linger_until_ms)
        return undo

    def missed(self, session_id: str, *, now_ms: int) -> bool:
        """Say whether nobody is there, and the session no longer waits for anybody."""
        if self.attached(session_id) or not self.complete(now_ms=now_ms):
            return False
        linger = self._lingers.get(session_id)
        return linger is None or linger.until_ms <= now_ms

    def give_up(self, session_id: str) -> Undo:
        """Wait no longer."""
        undo = self._undo(session_id)
        self._lingers.pop(session_id, None)
        return undo

    def overdue(self, *, now_ms: int, limit: int) -> list[tuple[str, str]]:
        """Return up to `limit` sessions (namespace, id) whose linger is over, longest gone first. They come again
        until they are given up.
        """
        late: list[tuple[str, str]] = []
        for session_id, linger in self._lingers.items():
            if linger.until_ms > now_ms or len(late) == limit:
                break
            late.append((linger.namespace, session_id))
        return late

    def _undo(self, session_id: str) -> Undo:
        """Return what puts the session's count and linger back as they are now."""
        count, linger = self._counts.get(session_id), self._lingers.get(session_id)

        def undo() -> None:
            self._counts.pop(session_id, None)
            self._lingers.pop(session_id, None)
            if count is not None:
                self._counts[session_id] = count
            if linger is not None:
                self._lingers[session_id] = linger
                self._lingers = dict(sorted(self._lingers.items(), key=lambda each: each[1].until_ms))

        return undo
