"""Writes at the pace of whoever reads, and no longer waits for one that does not.

A reader that does not read blocks the handler in `write`, for as long as it likes. The stream's pulse notices and
cancels that write; the handler leaves what it followed first, so that a stuck stream costs nobody anything more, and
then ends the call within a bound, since even a status waits behind data that is not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol, TypeVar

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.limits import Limits
from sessionplane.domain.streams import ClosingReason
from sessionplane.live.pulse import Pulse
from sessionplane.rpc.guard import Context
from sessionplane.rpc.status import abort_within, status_of

T = TypeVar("T")


class Paced(Protocol):
    """A stream with a pulse."""

    pulse: Pulse
    ended: ClosingReason | None


async def write(stream: Paced, context: Context, message: object) -> None:
    """Write one message, watched by the stream's pulse."""
    stream.pulse.writing(begins=True)
    await context.write(message)
    stream.pulse.writing(begins=False)


async def until_stuck(stream: Paced, work: Awaitable[T]) -> T | ClosingReason:
    """Do the work of a stream; if a write stands still for too long, return why the stream is over instead."""
    task = asyncio.current_task()
    stuck = asyncio.Event()

    def stop() -> None:
        stuck.set()
        if task is not None:
            task.cancel()

    stream.pulse.on_stall = stop
    try:
        return await work
    except asyncio.CancelledError:
        # Ours is taken back; one of the transport's stays.
        if not stuck.is_set() or task is None or task.uncancel() > 0:
            raise
    return stream.ended or ClosingReason.SLOW_CONSUMER


async def refuse(error: SessionPlaneError, context: Context, limits: Limits) -> None:
    """End the call with an error. A status that cannot get out is left to the transport after a while."""
    await abort_within(limits.stream_abort_ms / 1000, context, status_of(error))
