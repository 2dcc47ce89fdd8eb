"""Background loops: they go on through what passes, stop when told, and fail aloud."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import structlog

from sessionplane.domain.errors import Draining, Overloaded, StorageFull, StoreBusy, StoreFailed
from sessionplane.live.loops import all_of, every

PERIOD_S = 0.001


def work(stop: asyncio.Event, *errors: Exception | None) -> tuple[Callable[[], Awaitable[None]], list[int]]:
    """Work that fails as told, then stops its loop; and how often it was done."""
    done: list[int] = []

    async def piece() -> None:
        done.append(len(done))
        if len(done) > len(errors):
            stop.set()
        elif (error := errors[len(done) - 1]) is not None:
            raise error

    return piece, done


async def test_a_loop_works_until_it_is_stopped() -> None:
    """Work is done at once, again after each period, and not after the stop."""
    stop = asyncio.Event()
    piece, done = work(stop, None, None)
    async with asyncio.timeout(5):
        await every(PERIOD_S, piece, name="test", stop=stop)
    assert len(done) == 3


async def test_a_stop_does_not_wait_for_the_period() -> None:
    """A loop with a long period ends as soon as it is told."""
    stop = asyncio.Event()
    piece, done = work(stop, None)
    loop = asyncio.ensure_future(every(3_600, piece, name="test", stop=stop))
    await asyncio.sleep(0)
    stop.set()
    async with asyncio.timeout(5):
        await loop
    assert len(done) == 1


async def test_a_stopped_loop_does_nothing() -> None:
    """A loop that is stopped before it begins does no work."""
    stop = asyncio.Event()
    stop.set()
    piece, done = work(stop)
    await every(PERIOD_S, piece, name="test", stop=stop)
    assert done == []


@pytest.mark.parametrize("error", [Overloaded(), StorageFull(), StoreBusy()])
async def test_a_loop_outlives_what_passes(error: Exception) -> None:
    """A full queue, a full disk and a busy store are said aloud, and the loop goes on."""
    stop = asyncio.Event()
    piece, done = work(stop, error)
    with structlog.testing.capture_logs() as logs:
        async with asyncio.timeout(5):
            await every(PERIOD_S, piece, name="sweep", stop=stop)
    assert len(done) == 2
    assert [(line["event"], line["loop"]) for line in logs] == [("loop.delayed", "sweep")]


async def test_a_loop_ends_while_draining() -> None:
    """A store that accepts nothing more is the end of a loop, not a failure."""
    stop = asyncio.Event()
    piece, done = work(stop, Draining())
    await every(PERIOD_S, piece, name="test", stop=stop)
    assert len(done) == 1


@pytest.mark.parametrize("error", [StoreFailed(), ValueError("bug")])
async def test_a_loop_fails_aloud(error: Exception) -> None:
    """A broken store and a bug end the loop with what it was."""
    stop = asyncio.Event()
    piece, _ = work(stop, error)
    with pytest.raises(type(error)):
        await every(PERIOD_S, piece, name="test", stop=stop)


async def passes() -> None:
    """A piece that works."""


async def fails(error: BaseException) -> None:
    """A piece that does not."""
    raise error


async def test_a_piece_that_fails_hurts_no_other() -> None:
    """A bug in one piece of a step is logged with its cause, and the step goes on."""
    error = ValueError("one bad row")
    with structlog.testing.capture_logs() as logs:
        await all_of([passes(), fails(error), passes()], what="sweep")
    assert [(line["event"], line["what"], line["exc_info"]) for line in logs] == [
        ("loop.piece_failed", "sweep", error)
    ]


@pytest.mark.parametrize("error", [Overloaded(), StorageFull(), Draining(), StoreFailed()])
async def test_a_refusal_is_the_loops_business(error: Exception) -> None:
    """What every piece would meet is raised, after all pieces have ended."""
    ended: list[int] = []

    async def late() -> None:
        await asyncio.sleep(0)
        ended.append(1)

    with pytest.raises(type(error)):
        await all_of([fails(error), late()], what="sweep")
    assert ended == [1]


async def test_nothing_to_wait_for_is_fine() -> None:
    """A step without pieces ends at once."""
    await all_of([], what="sweep")
