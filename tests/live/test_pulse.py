"""The time of a stream: silence is broken, a reader that does not read is noticed, and no stream grows too old."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import inf

import pytest

from sessionplane.domain.limits import Limits
from sessionplane.domain.streams import ClosingReason
from sessionplane.live.pulse import SPREAD, Pulse, age_s
from tests.support.virtual import run_virtual

LIMITS = Limits(progress_after_ms=10_000, slow_subscriber_ms=30_000, stream_abort_ms=5_000)
IMPATIENT = Limits(progress_after_ms=10_000, slow_subscriber_ms=2_000, stream_abort_ms=1_000)


@dataclass
class Watched:
    """A stream that writes down what happens to it, and when."""

    happened: list[tuple[float, str]] = field(default_factory=list)

    def _note(self, what: str) -> None:
        self.happened.append((asyncio.get_running_loop().time(), what))

    def wake(self) -> None:
        self._note("woken")

    def end(self, reason: ClosingReason) -> None:
        self._note(reason)

    def stall(self) -> None:
        self._note("stalled")


def lived(
    story: Callable[[Pulse], Awaitable[None]], *, limits: Limits = LIMITS, age: float = inf
) -> list[tuple[float, str]]:
    """Let a stream live through a story; return what its pulse did."""

    async def live() -> list[tuple[float, str]]:
        watched = Watched()
        pulse = Pulse(watched, limits=limits, age_s=age)
        pulse.on_stall = watched.stall
        pulse.start()
        try:
            await story(pulse)
        finally:
            pulse.stop()
        await asyncio.sleep(1_000)
        return watched.happened

    return run_virtual(live())


def quiet(for_s: float) -> Callable[[Pulse], Awaitable[None]]:
    """A stream on which nothing happens."""
    return lambda _: asyncio.sleep(for_s)


def test_a_silent_stream_is_woken_again_and_again() -> None:
    """Every progress_after_ms without a frame it is time for a sign of life; after `stop` never again."""
    assert lived(quiet(35)) == [(10, "woken"), (20, "woken"), (30, "woken")]


def test_a_frame_begins_the_silence_anew() -> None:
    """What was written a moment ago is a sign of life itself."""

    async def story(pulse: Pulse) -> None:
        await asyncio.sleep(6)
        pulse.writing(begins=True)
        pulse.writing(begins=False)
        assert not pulse.silent
        await asyncio.sleep(11)
        assert pulse.silent

    assert lived(story) == [(16, "woken")]


@pytest.mark.parametrize("begins_s", [0, 1, 3, 9, 10, 14])
@pytest.mark.parametrize(("limits", "patience_s"), [(LIMITS, 30), (IMPATIENT, 2)])
def test_a_write_that_stands_still_is_noticed_in_time(limits: Limits, patience_s: int, begins_s: int) -> None:
    """After slow_subscriber_ms a write is stuck, whenever it began and however long silence lasts; it is said once."""

    async def story(pulse: Pulse) -> None:
        await asyncio.sleep(begins_s)
        pulse.writing(begins=True)
        await asyncio.sleep(100)

    happened = lived(story, limits=limits)
    assert [when for when, what in happened if what == "stalled"] == [begins_s + patience_s]
    assert all(when <= begins_s for when, what in happened if what == "woken")


def test_a_stream_ends_at_its_age() -> None:
    """At its age a stream is ended, once; the signs of life go on until it is gone."""
    assert lived(quiet(36), age=25) == [
        (10, "woken"),
        (20, "woken"),
        (25, "MAX_AGE"),
        (35, "woken"),
    ]


def test_a_stream_that_is_to_end_waits_less_for_its_reader() -> None:
    """Once there is a reason to end it, a write may stand still no longer than stream_abort_ms, also a later one."""

    async def stuck_before(pulse: Pulse) -> None:
        pulse.writing(begins=True)
        await asyncio.sleep(20)
        pulse.hurry()
        await asyncio.sleep(100)

    async def stuck_after(pulse: Pulse) -> None:
        await asyncio.sleep(12)
        pulse.hurry()
        await asyncio.sleep(2)
        pulse.writing(begins=True)
        await asyncio.sleep(100)

    async def nearly_over(pulse: Pulse) -> None:
        pulse.writing(begins=True)
        await asyncio.sleep(28)
        pulse.hurry()
        await asyncio.sleep(100)

    assert lived(stuck_before) == [(25, "stalled")]
    assert lived(stuck_after) == [(10, "woken"), (19, "stalled")]
    assert lived(nearly_over) == [(30, "stalled")]


def test_what_has_stopped_is_not_hurried() -> None:
    """A stream that is gone sets no timer any more."""

    async def story(pulse: Pulse) -> None:
        pulse.stop()
        pulse.hurry()

    assert lived(story, age=5) == []


def test_ages_are_spread() -> None:
    """Streams that begin together end apart, none later than its age; which ends when follows from its name alone."""
    limits = Limits(stream_age_ms=3_300_000)
    ages = [age_s(limits, f"sub_{number}") for number in range(1_000)]
    assert ages == [age_s(limits, f"sub_{number}") for number in range(1_000)]
    assert 3_300 * (1 - SPREAD) <= min(ages) <= max(ages) <= 3_300
    buckets = [sum(1 for age in ages if int((3_300 - age) / 33) == tenth) for tenth in range(10)]
    assert all(50 < count < 150 for count in buckets), buckets
