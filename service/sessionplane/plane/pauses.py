"""Whether there was a time in which nobody could have been heard: a paused machine, a stopped process.

The event loop looks at the clock every `sweep_ms`, and a look that comes later than two periods follows a pause. The
writer asks before it judges leases, with the reading of the clock by which it judges. So a pause counts wherever it
begins, also between the last look and the judgement, or while the writer deals with the pause before it.
"""

from __future__ import annotations


class Pauses:
    """Keeps three moments, all on the monotonic clock. The loop's thread writes two, the writer's thread the third."""

    def __init__(self, *, now_ms: int, period_ms: int) -> None:
        self._longest_ms = 2 * period_ms
        self._looked_at_ms = now_ms
        self._seen_at_ms = now_ms
        self._asked_at_ms = now_ms

    def look(self, now_ms: int) -> None:
        """Look at the clock; the loop's thread, every period. Never wait for the writer in between: that it takes long
        is no pause, and must not keep dead runners alive.
        """
        # In this order, since the writer reads them in the other: it finds the old look, or the pause that was seen.
        if now_ms - self._looked_at_ms > self._longest_ms:
            self._seen_at_ms = now_ms
        self._looked_at_ms = now_ms

    def asked(self, now_ms: int) -> bool:
        """Say whether there was a pause since it was last asked; the writer's thread, with its own reading."""
        paused = now_ms - self._looked_at_ms > self._longest_ms or self._seen_at_ms > self._asked_at_ms
        self._asked_at_ms = now_ms
        return paused
