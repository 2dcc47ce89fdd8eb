"""SIGSTOP: processes that neither run nor end, and go on later as if nothing had been."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import PIPE
from pathlib import Path

import grpc

from sessionplane.v1.session_service_pb2 import GetRunRequest
from tests.support.forked import forked
from tests.support.processes import server_process
from tests.support.serving import serving
from tests.support.story import ending
from tests.support.wire import wired

LEASE_S = 1.0


async def test_no_lease_is_lost_while_the_server_is_frozen(database: Path) -> None:
    """Callers see their deadlines; when it goes on, a runner that could not be heard still holds its run."""
    async with server_process(database) as server, wired(server.address) as wire:
        held = await wire.hold((await wire.start("chat")).run.run_id, lease_s=LEASE_S)
        await wire.publish(held, "before")
        server.freeze()
        try:
            await wire.sessions.GetRun(GetRunRequest(run_id=held.run_id), timeout=2 * LEASE_S)
        except grpc.aio.AioRpcError as error:
            late = error.code()
        server.thaw()
        assert late is grpc.StatusCode.DEADLINE_EXCEEDED
        await wire.publish(held, " and behind")
        assert (await wire.finish(held)).terminal.output_text == "before and behind"
        await server.terminate()


async def test_a_runner_that_was_frozen_past_its_lease_is_fenced_as_it_wakes_up(database: Path) -> None:
    """The run is lost in time, the next one is served, and the zombie is told on its first sign of life."""
    async with serving(database) as server:
        wire = server.wire
        run_id = (await wire.start("chat")).run.run_id
        arguments = (server.address, run_id, str(LEASE_S), "unary")
        zombie = await forked("tests.support.mute_runner", *arguments, stdout=PIPE, stderr=PIPE)
        assert zombie.stdout is not None
        assert await zombie.stdout.readline() == b"working\n"
        zombie.send_signal(signal.SIGSTOP)
        assert ending((await wire.wait(run_id)).terminal) == "LOST/LEASE_EXPIRED"
        await wire.run_through((await wire.start("chat")).run.run_id, "alive")
        before = await wire.log("chat")
        zombie.send_signal(signal.SIGCONT)
        _, errors = await asyncio.wait_for(zombie.communicate(), 30)
        assert b"has ended" in errors
        assert await wire.log("chat") == before
