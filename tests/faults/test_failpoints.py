"""Kill -9 at named places: before and after each step of a write, an answer, a sweep, a compaction, a first start.

Whatever was acknowledged by then is there; what was not is told by the same request id; everything goes on.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sessionplane.proof.servers import DidNotStart
from tests.faults.errand import errand
from tests.faults.files import check_file
from tests.faults.launch import POINTS, STATEMENTS
from tests.support.forked import Forked, forked
from tests.support.processes import ServerProcess, server_process
from tests.support.wire import wired

LATER = {
    "begin": 20,
    "commit": 20,
    "hand-over": 20,
    "publish": 12,
    "reply": 12,
    "claim": 3,
    "interrupt": 3,
    "finish": 4,
    "lapse": 2,
    "compaction": 3,
    "removal": 2,
    "sweep": 4,
}
"""point -> a later passage of it, in an errand of two rounds. A start has one passage of `recovery`."""

EVERY = [
    f"{when}:{point}:{passage}"
    for when, point in itertools.product(("before", "after"), (*POINTS, *STATEMENTS))
    for passage in (1, LATER.get(point))
    if passage
]
QUICK = ["after:begin:20", "after:commit:20", "before:reply:12"]
"""What the default suite shows: a group half done, one that nobody was told about, and an answer that was not sent."""


class Doomed(ServerProcess):
    """A server that starts with a failpoint, if it has one."""

    point = ""

    async def _begin(self, *arguments: str, errors: int, environment: Mapping[str, str]) -> Forked:
        program = ("tests.faults.launch", self.point) if self.point else ("sessionplane",)
        return await forked(*program, *arguments, stderr=errors, env=environment)


@asynccontextmanager
async def doomed(database: Path, point: str) -> AsyncIterator[ServerProcess]:
    """Run a server that dies at the point and is started again as it is; at the end it must have died, once."""
    server = Doomed(database)
    server.point = point
    await server.spawn()
    server.point = ""

    died = asyncio.Event()

    async def start_again() -> None:
        exited = await server.exited()
        assert exited.code == -signal.SIGKILL, exited.errors
        died.set()
        await server.start()

    again = asyncio.create_task(start_again())
    try:
        yield server
        assert died.is_set(), f"{point} was never passed"
        await again
        assert (await server.terminate()).code == 0
    finally:
        again.cancel()
        if server.runs:
            await server.kill()
    check_file(database)


async def check_point(database: Path, point: str, keys: tuple[str, ...] = ("first", "second")) -> None:
    """Run an errand through a server that dies on the way."""
    async with doomed(database, point) as server, errand(server.address) as caller:
        for key in keys:
            await caller.run(key)
        await caller.judge()


@pytest.mark.parametrize("point", QUICK)
async def test_a_server_killed_on_the_way_of_a_call_loses_nothing(database: Path, point: str) -> None:
    """The same request id tells what happened, no key has two sessions, and every run ends once, with its text."""
    await check_point(database, point)


@pytest.mark.slow
@pytest.mark.parametrize("point", [point for point in EVERY if point not in QUICK])
async def test_a_server_killed_at_any_named_place_loses_nothing(database: Path, point: str) -> None:
    """The same before and after every named step, at its first and at a later passage."""
    await check_point(database, point)


async def killed_in_its_first_start(database: Path, point: str) -> bool:
    """Start a server that dies at the point; whether it did, or was ready before."""
    server = Doomed(database)
    server.point = point
    try:
        await server.start()
    except DidNotStart:
        return True
    assert (await server.terminate()).code == 0
    return False


async def check_first_start(database: Path, point: str) -> bool:
    """Kill a first start at the point, and have the next one make the database; whether the point was passed."""
    killed = await killed_in_its_first_start(database, point)
    async with server_process(database) as server, wired(server.address) as wire:
        await wire.run_through((await wire.start("chat")).run.run_id, "made")
        await server.terminate()
    check_file(database)
    return killed


@pytest.mark.parametrize("point", ["before:migration:9", "after:migration:40"])
async def test_a_first_start_that_is_killed_is_completed_by_the_next(database: Path, point: str) -> None:
    """Before the file has its log, and between two tables."""
    assert await check_first_start(database, point)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_first_start_may_be_killed_at_each_of_its_statements(tmp_path: Path, when: str) -> None:
    """From the first setting of the writer's connection to the last index."""
    passage = 1
    while await check_first_start(tmp_path / f"{passage}.db", f"{when}:migration:{passage}"):
        passage += 1
    assert passage > 40
