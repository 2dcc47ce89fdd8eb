"""Bounds in milliseconds under rated load: delivery, interrupts, and what stalled subscribers do to others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median

import grpc

from sessionplane.v1.session_pb2 import PRESENCE_OBSERVER, SessionRef
from sessionplane.v1.session_service_pb2 import (
    STREAM_START_OLDEST,
    StreamEventsRequest,
)
from sessionplane.v1.session_service_pb2_grpc import SessionServiceStub
from sessionplane_client import Client

from . import bounds
from .bounds import Measured, percentile
from .load import Load, keys

INTERRUPTED_AT_ONCE = 4
PIECE, PIECES = "x" * 100_000, 20
SETTLE_S = 1.0
# A window that does not grow, and a connection of its own: else gRPC hides some MiB before the server notices.
NARROW = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_536),
    ("grpc.use_local_subchannel_pool", 1),
)


async def delivery(load: Load, seconds: int, note: Callable[[], None]) -> Measured:
    """Measure the time from the runner's write to each subscriber."""
    load.collect()
    for _ in range(seconds):
        await asyncio.sleep(1)
        note()
    return bounds.at_percentile(bounds.DELIVERY, load.collect())


async def interrupts(address: str, count: int, note: Callable[[], None]) -> Measured:
    """Interrupt so many runs, and measure the time until each runner hears of it."""
    took_ms: list[float] = []
    waiting = iter(range(count))
    async with Client(address) as callers, Client(address) as runners:

        async def some() -> None:
            for number in waiting:
                took_ms.append(await _interrupt(callers, runners, f"interrupted-{number}"))
                note()

        await asyncio.gather(*(some() for _ in range(INTERRUPTED_AT_ONCE)))
    return bounds.at_percentile(bounds.INTERRUPT, took_ms)


async def _interrupt(callers: Client, runners: Client, key: str) -> float:
    """Start a run, interrupt it once its runner is connected, and return after how many milliseconds that heard it."""
    run_id = (await callers.start_run(key=key, input="hello")).run.run_id
    claim = await runners.claim_run(run_id)
    if claim is None:
        raise RuntimeError(f"{run_id} could not be claimed")
    async with runners.run(claim) as run:
        await run.write("working")
        await run.flush()
        began_s = time.perf_counter()
        asking = asyncio.create_task(callers.interrupt(run_id=run_id))
        await run.interrupted.wait()
        took_ms = (time.perf_counter() - began_s) * 1000
        await asking
    return took_ms


async def lengthen(address: str) -> None:
    """Give each session of rated load a log that is longer than any buffer on the way to a subscriber."""
    async with Client(address) as client:
        for key in keys():
            run_id = (await client.start_run(key=key, input="long")).run.run_id
            claim = await client.claim_run(run_id)
            if claim is None:
                raise RuntimeError(f"{run_id} could not be claimed")
            async with client.run(claim) as run:
                for _ in range(PIECES):
                    await run.custom("piece", PIECE)


async def stalled(
    load: Load, address: str, *, pairs: int, seconds: float, note: Callable[[], None]
) -> Measured:
    """Measure delivery by turns with and without subscribers that do not read."""
    changes: list[float] = []
    before_ms: list[float] = []
    for number in range(pairs):
        p99_ms = {}
        # By turns in another order, so that what only grows or only shrinks favours neither.
        for stuck in (False, True) if number % 2 == 0 else (True, False):
            p99_ms[stuck] = await _round(load, address, seconds, stuck=stuck)
            note()
        before_ms.append(p99_ms[False])
        changes.append((p99_ms[True] / p99_ms[False] - 1) * 100)
    return Measured(
        bound=bounds.STALLED,
        value=median(changes),
        typical=median(changes),
        samples=pairs,
        note=f"pairs from {min(changes):+.0f} to {max(changes):+.0f} %;"
        f" p99 without them {min(before_ms):.1f} to {max(before_ms):.1f} ms",
    )


async def _round(load: Load, address: str, seconds: float, *, stuck: bool) -> float:
    async with AsyncExitStack() as stack:
        if stuck:
            await stack.enter_async_context(_stuck(address, keys()))
        await asyncio.sleep(SETTLE_S)
        load.collect()
        await asyncio.sleep(seconds)
        return percentile(load.collect(), 0.99)


@asynccontextmanager
async def _stuck(address: str, sessions: Sequence[str]) -> AsyncIterator[None]:
    """Open a stream on each session, on a connection of its own, take its first frame and then nothing any more."""
    async with AsyncExitStack() as stack:
        for key in sessions:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=NARROW))
            request = StreamEventsRequest(
                session=SessionRef(key=key), start=STREAM_START_OLDEST, presence=PRESENCE_OBSERVER
            )
            call = SessionServiceStub(channel).StreamEvents(request)
            stack.callback(call.cancel)
            await call.read()
        yield
