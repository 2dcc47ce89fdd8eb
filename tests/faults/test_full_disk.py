"""A full disk: writes are refused aloud, everything else goes on, and when there is space again all is well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from tests.support.disks import fill, mounted
from tests.support.refusals import Refusal, refused
from tests.support.serving import Served, serving
from tests.support.story import check_log, terminals
from tests.support.wire import Held, Wire

TEXT = "x" * 100_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that holds eight MiB."""
    with mounted(tmp_path / "disk", kib=8192) as disk:
        yield disk


@pytest.fixture
async def cramped(small_disk: Path) -> AsyncIterator[Served]:
    async with serving(small_disk / "plane.db") as served:
        yield served


async def _publish_until_refused(wire: Wire, held: Held) -> tuple[int, Refusal]:
    """Write until the disk takes no more; returns how many texts were acknowledged before."""
    for acknowledged in range(200):
        try:
            await wire.publish(held, TEXT, first=acknowledged + 1)
        except grpc.aio.AioRpcError:
            return acknowledged, await refused(wire.publish(held, TEXT, first=acknowledged + 1))
    raise AssertionError("the disk is not full at all")


async def test_a_full_disk_refuses_writes_and_keeps_everything_else_going(cramped: Served) -> None:
    """STORAGE_FULL says when to try again; what was acknowledged is read and streamed; later the run goes on."""
    wire = cramped.wire
    held = await wire.hold((await wire.start("chat")).run.run_id)
    async with wire.stream("chat", start=pb.STREAM_START_OLDEST) as stream:
        filler = fill(cramped.database.parent)
        acknowledged, refusal = await _publish_until_refused(wire, held)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")
        assert refusal.retry_after_s
        await _everything_else_goes_on(wire, held, acknowledged)

        filler.unlink()
        await wire.publish(held, "there is space again", first=acknowledged + 1)
        await wire.finish(held, output_text="done")
        await stream.until(lambda event: event.HasField("run_terminal"))
    log = await wire.log("chat")
    check_log(log)
    assert stream.events == log
    assert sum(event.HasField("output_delta") for event in log) == acknowledged + 1
    assert terminals(log) == ["SUCCEEDED/RUNNER"]


async def _everything_else_goes_on(wire: Wire, held: Held, acknowledged: int) -> None:
    """Read, list and follow, and be refused to begin something, while there is no space."""
    session = (await wire.get("chat")).session
    assert session.running
    assert (await wire.get_run(held.run_id)).last_run_sequence == acknowledged
    caught_up = await wire.stream(
        "chat",
        start=pb.STREAM_START_OLDEST,
        until=pb.STREAM_UNTIL_CAUGHT_UP,
        presence=session_pb2.PRESENCE_OBSERVER,
    ).rest()
    assert caught_up.ended_by == "CAUGHT_UP"
    assert caught_up.events == await wire.log("chat")
    for _ in range(3):
        refusals = await asyncio.gather(*[refused(wire.start(f"new-{n}", text=TEXT)) for n in range(20)])
        assert {refusal.reason for refusal in refusals} == {"STORAGE_FULL"}
    for n in range(20):
        assert (await refused(wire.get(f"new-{n}"))).reason == "KEY_NOT_BOUND"


async def test_what_a_full_disk_acknowledged_is_there_after_a_restart(small_disk: Path) -> None:
    """The file that a full disk left behind is whole: the next server finds every acknowledged event in it."""
    database = small_disk / "plane.db"
    async with serving(database) as server:
        held = await server.wire.hold((await server.wire.start("chat")).run.run_id)
        filler = fill(small_disk)
        acknowledged, _ = await _publish_until_refused(server.wire, held)
        before = await server.wire.log("chat")
    filler.unlink()
    async with serving(database) as server:
        assert await server.wire.log("chat") == before
        await server.wire.publish(held, "more", first=acknowledged + 1)
