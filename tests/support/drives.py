"""The server's side of DriveRun calls, scripted: what a test says to a runner, and what it hears from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from sessionplane.v1 import run_pb2
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane_client import Claim
from tests.support.scripted import Refusal, Scripted

UNAVAILABLE = Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING", "The server is stopping.")
LEASE_LOST = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "LEASE_LOST", "Stop.")
RUN_FINISHED = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "RUN_FINISHED", "It has ended.")


def lease(seconds: float = 15.0) -> run_pb2.Lease:
    """A lease by the clock of a server that is a year ahead: only distances may count."""
    now = datetime.now(UTC) + timedelta(days=365)
    granted = run_pb2.Lease(token="secret", epoch=1)
    granted.expire_time.FromDatetime(now + timedelta(seconds=seconds))
    granted.next_heartbeat_time.FromDatetime(now + timedelta(seconds=seconds / 3))
    granted.duration.FromTimedelta(timedelta(seconds=seconds))
    return granted


def claim(seconds: float = 15.0) -> Claim:
    return Claim(run=run_pb2.Run(run_id="run_1"), lease=lease(seconds))


class Side:
    """The server's side of one DriveRun call."""

    def __init__(self, context: grpc.aio.ServicerContext) -> None:
        self.context = context
        self.publications: list[runner.DriveRunPublish] = []
        self.others: list[Any] = []

    async def open(self, last_run_sequence: int = 0) -> None:
        """Reads `open` and grants it."""
        request = await self.context.read()
        assert request.open == runner.DriveRunOpen(run_id="run_1", lease_token="secret")
        run = run_pb2.Run(run_id="run_1", last_run_sequence=last_run_sequence)
        await self.say(opened=runner.DriveRunOpened(run=run, lease=lease()))

    async def say(self, **response: Any) -> None:
        await self.context.write(runner.DriveRunResponse(**response))

    async def hear(self, kind: str = "") -> Any:
        """Reads until a message of this kind comes; keeps publications and the rest apart."""
        while True:
            request = await self.context.read()
            assert request is not grpc.aio.EOF, f"the runner ended the stream instead of {kind}"
            heard = request.WhichOneof("request")
            if heard == "publish":
                self.publications.append(request.publish)
            elif heard != kind:
                self.others.append(request)
            if heard == kind:
                return getattr(request, heard)

    async def acknowledge(self) -> None:
        last = self.publications[-1]
        number = last.first_run_sequence + len(last.events) - 1
        await self.say(published=runner.DriveRunPublished(last_run_sequence=number))

    async def finish(self, result: int = run_pb2.FINISH_RESULT_RECORDED) -> runner.DriveRunFinish:
        """Reads everything up to the report and records it."""
        report = await self.hear("finish")
        terminal = run_pb2.RunTerminal(outcome=report.outcome)
        await self.say(finished=runner.DriveRunFinished(finish_result=result, terminal=terminal))
        return report

    @property
    def texts(self) -> list[str]:
        return [event.output_delta.text for each in self.publications for event in each.events]


class Drives:
    """Scripts for the calls of one test, and what their sides saw."""

    def __init__(self, server: Scripted) -> None:
        self.server = server
        self.sides: list[Side] = []
        self.reports: list[runner.DriveRunFinish] = []

    def then(self, script: Callable[[Side], Awaitable[runner.DriveRunFinish | None]]) -> None:
        async def play(context: grpc.aio.ServicerContext) -> None:
            side = Side(context)
            self.sides.append(side)
            report = await script(side)
            if report is not None:
                self.reports.append(report)

        self.server.drives.append(play)


async def takes_all(side: Side) -> runner.DriveRunFinish:
    await side.open()
    return await side.finish()


def ends(refusal: Refusal) -> Callable[[Side], Awaitable[None]]:
    async def script(side: Side) -> None:
        await side.open()
        await refusal.abort(side.context)

    return script
