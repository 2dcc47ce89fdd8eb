"""Who is there: how many attached streams each session has, and since when the last one is gone.

Memory of the writer's thread, kept in commit order; it never routes. A restart begins with nobody.
"""

from __future__ import annotations

from collections.abc import Callable


class Attendance:
    """Counts of attached streams, and lingers: the moments until which a session waits for its last subscriber
    to come back. Bounded by the open streams, and by those that closed within one linger.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lingers: dict[str, tuple[str, int]] = {}

    def attached(self, session_id: str) -> int:
        """Return how many attached streams the session has."""
        return self._counts.get(session_id, 0)

    def arrive(self, session_id: str) -> Callable[[], None]:
        """Count one more; whoever was missed is back. Returns what undoes it."""
        count, linger = self._counts.get(session_id), self._lingers.pop(session_id, None)
        self._counts[session_id] = (count or 0) + 1

        def undo() -> None:
            if count is None:
                del self._counts[session_id]
            else:
                self._counts[session_id] = count
            if linger is not None:
                self._lingers[session_id] = linger

        return undo

    def leave(self, namespace: str, session_id: str, *, linger_until_ms: int) -> None:
        """Count one less; after the last one the session lingers."""
        left = self.attached(session_id) - 1
        if left > 0:
            self._counts[session_id] = left
            return
        self._counts.pop(session_id, None)
        self._lingers[session_id] = (namespace, linger_until_ms)

    def lingering(self, session_id: str) -> bool:
        """Say whether the session still waits for its last subscriber."""
        return session_id in self._lingers

    def overdue(self, *, now_ms: int, limit: int) -> list[tuple[str, str]]:
        """Take up to `limit` sessions (namespace, id) whose linger is over, longest gone first.

        Lingers are all of one length, so the dictionary's order is the order of their ends (but for one
        that was put back, which may be late by a sweep).
        """
        late: list[tuple[str, str]] = []
        for session_id, (namespace, until_ms) in self._lingers.items():
            if until_ms > now_ms or len(late) == limit:
                break
            late.append((namespace, session_id))
        for _, session_id in late:
            del self._lingers[session_id]
        return late
