"""A runner on a DriveRun stream, one message at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sessionplane.v1 import runner_service_pb2 as pb
from tests.support.refusals import Refusal, refused
from tests.support.wire import DEADLINE_S, Held, Wire, delta


class Driving:
    """One DriveRun call of a runner that decides for itself when to read."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, **request: Any) -> None:
        await self._call.write(pb.DriveRunRequest(**request))

    async def publish(self, *texts: str, first: int = 0) -> None:
        events = [delta(text) for text in texts]
        await self.send(publish=pb.DriveRunPublish(events=events, first_run_sequence=first))

    async def read(self) -> pb.DriveRunResponse:
        async with asyncio.timeout(DEADLINE_S):
            return await self._call.read()

    async def published(self, last: int) -> list[pb.DriveRunPublished]:
        """Read acknowledgements until they cover this run sequence."""
        answers: list[pb.DriveRunPublished] = []
        while not answers or answers[-1].last_run_sequence < last:
            answer = await self.read()
            assert answer.HasField("published"), answer
            answers.append(answer.published)
        return answers

    async def refused(self) -> Refusal:
        return await refused(self.read())


@asynccontextmanager
async def driving(wire: Wire, held: Held) -> AsyncIterator[Driving]:
    """Open a drive, as far as the server's `opened`."""
    call = wire.runs.DriveRun()
    try:
        drive = Driving(call)
        await drive.send(open=pb.DriveRunOpen(run_id=held.run_id, lease_token=held.lease_token))
        opened = await drive.read()
        assert opened.opened.run.run_id == held.run_id
        assert opened.opened.lease.token == held.lease_token
        yield drive
    finally:
        call.cancel()
