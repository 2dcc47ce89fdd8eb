"""A runner that sends and does not read: it is noticed, its stream ends by name, and its run is not its victim."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sessionplane.domain.errors import Disconnected, SlowConsumer
from sessionplane.domain.keys import KeySettings
from sessionplane.domain.runs import RunState
from sessionplane.rpc.drive import Driver
from sessionplane.rpc.parse import Parser
from sessionplane.rpc.status import status_of
from sessionplane.v1 import runner_service_pb2 as pb
from tests.support.calls import Aborted, FakeContext
from tests.support.planes import Bench, open_bench

LIMITS = {"slow_subscriber_ms": 20, "stream_abort_ms": 10}


class Deaf(FakeContext):
    """A runner that opens its stream, then neither sends nor reads beyond a few messages."""

    def __init__(self, bench: Bench, run_id: str, *, reads: int) -> None:
        opening = pb.DriveRunOpen(run_id=run_id, lease_token=bench.tokens[run_id])
        super().__init__(pb.DriveRunRequest(open=opening))
        self._reads = reads
        self.stuck = asyncio.Event()

    async def read(self) -> Any:
        """The next message; behind the last one nothing comes."""
        if not self.incoming:
            await asyncio.Event().wait()
        return await super().read()

    async def write(self, message: Any) -> None:
        """Take a message, as long as the runner reads."""
        if len(self.written) == self._reads:
            self.stuck.set()
            await asyncio.Event().wait()
        await super().write(message)


def driver(bench: Bench) -> Driver:
    return Driver(bench.plane, Parser(bench.limits, KeySettings()))


@pytest.mark.parametrize("reads", [0, 1])
async def test_a_runner_that_does_not_read_is_closed(tmp_path: Path, reads: int) -> None:
    """Whatever it does not take, the stream ends with SLOW_CONSUMER and the run goes on by its lease."""
    async with open_bench(tmp_path / "plane.db", **LIMITS) as bench, asyncio.timeout(10):
        run = await bench.running()
        context = Deaf(bench, run.run_id, reads=reads)
        context.incoming.append(pb.DriveRunRequest(heartbeat=pb.DriveRunHeartbeat()))
        drives = driver(bench)
        with pytest.raises(Aborted):
            await drives.serve(context)  # type: ignore[arg-type]
        assert context.status == status_of(SlowConsumer(seconds=0))
        assert len(context.written) == reads
        assert drives._seats == {}
        assert bench.run(run.run_id).state is RunState.RUNNING


async def test_a_deaf_runner_makes_room_for_a_newer_stream_within_the_bound(tmp_path: Path) -> None:
    """The older stream is left no longer than ending it may take, though it could be slow for an hour."""
    limits = {"slow_subscriber_ms": 3_600_000, "stream_abort_ms": 20}
    async with open_bench(tmp_path / "plane.db", **limits) as bench, asyncio.timeout(10):
        run = await bench.running()
        drives, older = driver(bench), Deaf(bench, run.run_id, reads=1)
        older.incoming.append(pb.DriveRunRequest(heartbeat=pb.DriveRunHeartbeat()))
        first = asyncio.ensure_future(drives.serve(older))  # type: ignore[arg-type]
        await older.stuck.wait()
        second = asyncio.ensure_future(drives.serve(Deaf(bench, run.run_id, reads=9)))  # type: ignore[arg-type]
        with pytest.raises(Aborted):
            await first
        assert older.status == status_of(Disconnected())
        assert not second.done()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
