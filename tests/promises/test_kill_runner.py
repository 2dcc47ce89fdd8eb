"""Kill -9 of runners: whoever follows a run learns within lease, sweep and a second that it is lost, with its text."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionplane.v1.session_service_pb2 import STREAM_START_OLDEST, STREAM_UNTIL_RUN_END
from tests.support.forked import forked
from tests.support.mute_runner import TEXT
from tests.support.processes import server_process
from tests.support.serving import Served, serving
from tests.support.story import ending
from tests.support.wire import wired

LEASE_S = 1.5
SWEEP_S = 0.5
LIMITS = {"sweep_ms": 500}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    """A server whose sweep outlasts the pauses of a busy machine, since one that comes late extends every lease."""
    async with serving(tmp_path / "plane.db", limits=LIMITS) as served:
        yield served


async def _kill_a_runner(address: str, run_id: str, way: str) -> float:
    """Start a runner process, let it work, and kill it; returns when it was dead."""
    runner = await forked("tests.support.mute_runner", address, run_id, str(LEASE_S), way, stdout=PIPE)
    try:
        assert runner.stdout is not None
        assert await runner.stdout.readline() == b"working\n"
    finally:
        runner.kill()
        await runner.communicate()
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("way", ["unary", "drive"])
async def test_the_run_of_a_killed_runner_is_lost_in_time_for_every_subscriber(
    server: Served, way: str
) -> None:
    """By session, key and run, each subscriber gets LOST with the text so far, and the next message is served."""
    wire = server.wire
    started = await wire.start("chat")
    until = {"until": STREAM_UNTIL_RUN_END, "start": STREAM_START_OLDEST}
    async with (
        wire.stream("chat", **until) as by_key,
        wire.stream(session_id=started.session.session_id, **until) as by_session,
        wire.stream(run_id=started.run.run_id, **until) as by_run,
    ):
        dead_at_s = await _kill_a_runner(server.address, started.run.run_id, way)
        for stream in (by_key, by_session, by_run):
            await stream.rest()
            assert stream.ended_by == "RUN_END"
            terminal = stream.events[-1].run_terminal
            assert (ending(terminal), terminal.output_text) == ("LOST/LEASE_EXPIRED", TEXT)
    assert asyncio.get_running_loop().time() - dead_at_s < LEASE_S + SWEEP_S + 1
    await wire.run_through((await wire.start("chat")).run.run_id, "alive")


async def test_a_run_whose_runner_and_server_are_killed_together_is_lost_when_the_server_is_back(
    tmp_path: Path,
) -> None:
    """After a crash the bound counts from being ready again, and the text that was acknowledged is in the terminal."""
    async with server_process(tmp_path / "plane.db", limits=LIMITS) as server:
        async with wired(server.address) as wire:
            started = await wire.start("chat")
            await _kill_a_runner(server.address, started.run.run_id, "unary")
            await server.kill()
        await server.start()
        ready_at_s = asyncio.get_running_loop().time()
        async with wired(server.address) as wire:
            run = await wire.wait(started.run.run_id)
        assert asyncio.get_running_loop().time() - ready_at_s < LEASE_S + SWEEP_S + 1
    assert (ending(run.terminal), run.terminal.output_text) == ("LOST/LEASE_EXPIRED", TEXT)
