"""Background loops: do the work, then wait for the next time or for the stop.

A loop that fails for a reason that passes by itself (a full disk, a full queue) says so and goes on. Any other
failure is a bug or a broken disk: it ends the loop, and whoever supervises it ends the process, loudly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from sessionplane.domain.errors import Draining, Overloaded, StorageFull, StoreBusy, StoreFailed

log = structlog.get_logger(__name__)

PASSING = (Overloaded, StorageFull, StoreBusy)
"""What a loop may meet and outlive."""


async def every(
    period_s: float, work: Callable[[], Awaitable[None]], *, name: str, stop: asyncio.Event
) -> None:
    """Do the work, wait a period, and so on until `stop` is set. Raises what the work raises, but for PASSING."""
    while not stop.is_set():
        try:
            await work()
        except PASSING as error:
            log.warning("loop.delayed", loop=name, reason=error.reason)
        except Draining:
            return
        try:
            async with asyncio.timeout(period_s):
                await stop.wait()
        except TimeoutError:
            continue


STOPPING = (*PASSING, Draining, StoreFailed, asyncio.CancelledError)
"""What a step meets for all of its pieces, so that none of the rest is worth trying now."""


async def all_of(waiting: Sequence[Awaitable[object]], *, what: str) -> None:
    """Wait for a step's pieces. One that fails is said aloud and hurts no other; what stops them all is raised."""
    failures = [
        outcome
        for outcome in await asyncio.gather(*waiting, return_exceptions=True)
        if isinstance(outcome, BaseException)
    ]
    for failure in failures:
        if isinstance(failure, STOPPING):
            raise failure
        log.error("loop.piece_failed", what=what, exc_info=failure)
