"""A request that kills the library's own loop: the server is there for everybody else, and streams go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionplane.proof.servers import ServerProcess
from sessionplane.v1.session_service_pb2 import STREAM_UNTIL_RUN_END
from tests.faults.support import raw
from tests.faults.support.raw import END_HEADERS, HEADERS, field, frame, headers
from tests.support.processes import server_process
from tests.support.wire import DEADLINE_S, wired

NO_TEXT = b"/sessionplane.v1.SessionService/Resolve" + b"\xd7Session"
TIMES = 3


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    async with server_process(tmp_path / "plane.db") as started:
        yield started


async def _break(server: ServerProcess) -> None:
    """Send a call whose path is no UTF-8, and wait until it has done what it does."""
    broken = server.written().count("door.open_again")
    block = headers("PATH").replace(field(b":path", b"PATH"), field(b":path", NO_TEXT))
    async with raw.raw(server.address) as connection, asyncio.timeout(DEADLINE_S):
        await connection.send(frame(HEADERS, END_HEADERS, 1, block))
        while server.written().count("door.open_again") == broken:  # noqa: ASYNC110 - another process's log
            await asyncio.sleep(0.01)


async def test_a_path_that_is_no_text_closes_the_door_to_nobody(server: ServerProcess) -> None:
    """As often as it comes, a new client is served, and a stream that was open loses and repeats nothing."""
    async with wired(server.address) as wire:
        held = await wire.hold((await wire.start("chat")).run.run_id)
        async with wire.stream("chat", until=STREAM_UNTIL_RUN_END) as stream:
            for number in range(TIMES):
                await _break(server)
                async with wired(server.address) as fresh:
                    await fresh.publish(held, f"piece {number} ")
            async with wired(server.address) as fresh:
                await fresh.finish(held)
                await stream.rest()
                assert stream.ended_by == "RUN_END"
                assert stream.events == (await fresh.log("chat"))[-len(stream.events) :]
                assert stream.events[-1].run_terminal.output_text == "piece 0 piece 1 piece 2 "


async def test_a_server_whose_door_was_broken_stops_in_order(server: ServerProcess) -> None:
    """SIGTERM finds streams on the old server and on the new one; both are told to come again, within the bound."""
    async with wired(server.address) as before, wired(server.address) as after:
        await before.resolve("chat")
        async with before.stream("chat") as old:
            await _break(server)
            async with after.stream("chat") as new:
                stopped = asyncio.create_task(server.terminate())
                for stream in (old, new):
                    await stream.rest()
                    assert stream.ended_by == "DRAINING"
                    assert stream.refusal is not None
                    assert stream.refusal.reason == "DRAINING"
                assert (await stopped).code == 0
