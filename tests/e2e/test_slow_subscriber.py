"""A subscriber that does not read delays nobody: it is closed by name after a while, and goes on from its token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from sessionplane.v1.admin_service_pb2 import GetServerInfoRequest
from sessionplane.v1.session_service_pb2 import STREAM_START_OLDEST, STREAM_UNTIL_RUN_END
from tests.support.serving import Served, serving
from tests.support.story import check_log
from tests.support.wire import DEADLINE_S, Held, Wire

# A window that does not grow: a channel with gRPC's own options hides some MiB before the server notices anything.
NARROW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
PIECE = "x" * 100_000
PIECES = 60


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[Served]:
    """A server that waits half a second for a subscriber to read."""
    limits = {"slow_subscriber_ms": 500, "stream_abort_ms": 500, "labels_bytes_max": 200_000}
    async with serving(tmp_path / "strict.db", limits=limits) as served:
        yield served


@pytest.fixture
async def narrow(strict: Served) -> AsyncIterator[Wire]:
    """A connection for the subscriber that will not read."""
    async with grpc.aio.insecure_channel(strict.address, options=NARROW) as channel:
        yield Wire(channel)


async def _publish(wire: Wire, held: Held) -> None:
    """Publish much more than any buffer on the way holds."""
    for _ in range(PIECES):
        await wire.publish(held, PIECE)


async def _streams(wire: Wire, count: int) -> None:
    """Ask until the server has only so many streams."""
    async with asyncio.timeout(DEADLINE_S):
        while (await wire.admin.GetServerInfo(GetServerInfoRequest())).open_stream_count != count:
            continue


async def test_a_subscriber_that_does_not_read_is_closed_and_its_token_goes_on(
    strict: Served, narrow: Wire
) -> None:
    """It ends with SLOW_CONSUMER; with its newest token the rest comes, each event once."""
    wire = strict.wire
    held = await wire.hold((await wire.start("chat")).run.run_id)
    async with narrow.stream("chat", start=STREAM_START_OLDEST) as slow:
        await _streams(wire, 1)
        await _publish(wire, held)
        await _streams(wire, 0)
        await slow.rest()
    assert slow.refusal is not None
    assert (slow.refusal.code, slow.refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SLOW_CONSUMER")
    assert slow.refusal.retry_after_s is not None
    assert (slow.refusal.metadata or {})["seconds"] == "0"  # half a second, rounded down
    await wire.finish(held)
    log = await wire.log("chat")
    assert len(slow.events) < len(log)
    async with narrow.stream("chat", resume_token=slow.token, until=STREAM_UNTIL_RUN_END) as again:
        await again.rest()
    check_log(log)
    assert slow.events + again.events == log


async def test_a_watch_that_is_not_read_is_closed_and_its_token_goes_on(strict: Served, narrow: Wire) -> None:
    """It ends with SLOW_CONSUMER, takes no seat any more, and misses nothing once it comes back."""
    wire = strict.wire
    async with narrow.watch() as slow:
        for number in range(PIECES):
            await wire.resolve(f"chat-{number}", labels={"piece": PIECE})
        await _streams(wire, 0)
        await slow.rest()
    assert slow.refusal is not None
    assert (slow.refusal.code, slow.refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SLOW_CONSUMER")
    assert 0 < len(slow.copy) < PIECES
    async with wire.watch(resume_token=slow.token) as again:
        await again.caught_up()
    assert len(slow.copy | again.copy) == PIECES


async def test_a_subscriber_that_does_not_read_delays_nobody(strict: Served, narrow: Wire) -> None:
    """While one stands still the run, its runner and its other subscribers go on as if it were not there."""
    wire = strict.wire
    held = await wire.hold((await wire.start("chat")).run.run_id)
    async with (
        narrow.stream("chat", start=STREAM_START_OLDEST),
        wire.stream("chat", start=STREAM_START_OLDEST, until=STREAM_UNTIL_RUN_END) as reader,
    ):
        reading = asyncio.create_task(reader.rest())
        await _publish(wire, held)
        await wire.finish(held)
        await reading
        assert reader.ended_by == "RUN_END"
        assert reader.events == await wire.log("chat")
        await _streams(wire, 0)


async def test_a_stalled_subscriber_is_not_there_any_more_once_it_is_closed(
    strict: Served, narrow: Wire
) -> None:
    """It is no longer counted as attached, like after any other end of a stream."""
    wire = strict.wire
    held = await wire.hold((await wire.start("chat")).run.run_id)
    async with narrow.stream("chat", start=STREAM_START_OLDEST):
        assert (await wire.get("chat")).session.attached_count == 1
        await _publish(wire, held)
        async with asyncio.timeout(DEADLINE_S):
            while (await wire.get("chat")).session.attached_count:
                continue
