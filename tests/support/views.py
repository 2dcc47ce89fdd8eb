"""What a subscriber sees, to be held against the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sessionplane.v1.event_pb2 import Event
from tests.support.story import sequences


class View:
    """What one subscriber saw of one session."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._grown = asyncio.Event()

    def saw(self, event: Event) -> None:
        """An event came."""
        self.events.append(event)
        self._grown.set()

    async def reach(self, sequence: int) -> None:
        """Wait until it has seen this much."""
        while not self.events or self.events[-1].sequence < sequence:
            self._grown.clear()
            await self._grown.wait()

    def judge(self, log: Sequence[Event]) -> None:
        """Assert that it saw the log, each event once, in order, and as it is kept."""
        assert sequences(self.events) == sequences(log)
        assert self.events == list(log)
