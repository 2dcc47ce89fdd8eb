"""DriveRun at its edges: what comes first, and what comes behind the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessionplane.domain.errors import FieldInvalid, StorageFull
from sessionplane.domain.keys import KeySettings
from sessionplane.rpc.drive import Driver
from sessionplane.rpc.parse import Parser
from sessionplane.v1 import runner_service_pb2 as pb
from sessionplane.v1.run_pb2 import RUN_OUTCOME_SUCCEEDED
from tests.support.calls import FakeContext
from tests.support.planes import Bench, lose_the_commit, open_bench
from tests.support.stores import HeldWriter
from tests.support.wire import delta


def driver(bench: Bench) -> Driver:
    return Driver(bench.plane, Parser(bench.limits, KeySettings()))


class Sending(FakeContext):
    """A runner that sends now and then, and goes on listening."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: asyncio.Queue[pb.DriveRunRequest] = asyncio.Queue()

    async def read(self) -> Any:
        return await self.sent.get()

    def send(self, **request: Any) -> None:
        self.sent.put_nowait(pb.DriveRunRequest(**request))


@pytest.mark.parametrize(
    "first",
    [[], [pb.DriveRunRequest()], [pb.DriveRunRequest(heartbeat=pb.DriveRunHeartbeat())]],
    ids=["nothing", "an empty message", "a heartbeat"],
)
async def test_a_drive_that_does_not_begin_with_open_is_refused(
    bench: Bench, first: list[pb.DriveRunRequest]
) -> None:
    """Also one whose runner closes its side at once: it hears what was missing, and the server has no bug."""
    with pytest.raises(FieldInvalid, match="the first message must be `open`"):
        await driver(bench).serve(FakeContext(*first))  # type: ignore[arg-type]


async def _until(reached: Callable[[], object]) -> None:
    """Let the event loop turn until something is so."""
    async with asyncio.timeout(10):
        while not reached():  # noqa: ASYNC110 - turn by turn of the loop
            await asyncio.sleep(0)


async def test_what_stands_behind_a_refused_report_is_not_published(tmp_path: Path) -> None:
    """A publication is lost with its commit, so the report behind it is refused; what comes behind that is unread."""
    async with open_bench(tmp_path / "plane.db", group_commands_max=2) as bench:
        run = await bench.running()
        runner = Sending()
        runner.send(open=pb.DriveRunOpen(run_id=run.run_id, lease_token=bench.tokens[run.run_id]))
        drive = asyncio.ensure_future(driver(bench).serve(runner))  # type: ignore[arg-type]
        await _until(lambda: runner.written)
        async with HeldWriter(bench.store):
            runner.send(publish=pb.DriveRunPublish(events=[delta("lost")]))
            await _until(lambda: bench.store._waiting == 2)
            lost = bench.plane.execute(lose_the_commit)
            runner.send(finish=pb.DriveRunFinish(outcome=RUN_OUTCOME_SUCCEEDED))
            runner.send(publish=pb.DriveRunPublish(events=[delta("behind")]))
            await _until(runner.sent.empty)
        for refused in (lost, drive):
            with pytest.raises(StorageFull):
                await refused
        await bench.settled()
        assert not [each for each in bench.story() if "behind" in each]
