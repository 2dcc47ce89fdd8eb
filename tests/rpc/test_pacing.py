"""Pacing: a stream is over when its reader does not read, and for no other silence."""

from __future__ import annotations

import asyncio
from typing import Any

from sessionplane.domain.limits import Limits
from sessionplane.domain.streams import ClosingReason
from sessionplane.live.pulse import Pulse
from sessionplane.rpc import pacing
from tests.support.calls import FakeContext
from tests.support.virtual import run_virtual

LIMITS = Limits(slow_subscriber_ms=30_000, progress_after_ms=10_000)


class Stream:
    """A stream that has nothing to say by itself."""

    ended: ClosingReason | None = None

    def __init__(self) -> None:
        self.pulse = Pulse(self, limits=LIMITS)
        self.pulse.start()

    def wake(self) -> None:
        """It says nothing of silence."""

    def end(self, reason: ClosingReason) -> None:
        """It has no age."""


class Deaf(FakeContext):
    """A reader that never takes anything."""

    async def write(self, _message: Any) -> None:
        await asyncio.Event().wait()


def test_a_reader_that_reads_is_not_slow_however_long_nothing_is_written() -> None:
    """A conversation may be quiet for hours after its last event: its subscribers stay."""

    async def scenario() -> str:
        stream = Stream()

        async def work() -> str:
            await pacing.write(stream, FakeContext(), b"an event")  # type: ignore[arg-type]
            await asyncio.sleep(3 * 3_600)
            return "still there"

        found = await pacing.until_stuck(stream, work())
        stream.pulse.stop()
        return found

    assert run_virtual(scenario()) == "still there"


def test_a_reader_that_does_not_read_is_slow_after_its_time() -> None:
    """The write stands still for as long as a reader may take, and no longer."""

    async def scenario() -> tuple[object, float]:
        stream = Stream()
        found = await pacing.until_stuck(stream, pacing.write(stream, Deaf(), b"an event"))  # type: ignore[arg-type]
        stream.pulse.stop()
        return found, asyncio.get_running_loop().time()

    assert run_virtual(scenario()) == (ClosingReason.SLOW_CONSUMER, 30)
