"""A runner of the load generator: starts a run, claims it, and drives it with a window of publications in flight."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

from http2 import CallFailed, Connection
from load import patiently
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as service
from sessionplane.v1.event_pb2 import OutputDelta
from texts import texts

DRIVE = "/sessionplane.v1.RunnerService/DriveRun"
START = "/sessionplane.v1.SessionService/StartRun"
CLAIM = "/sessionplane.v1.RunnerService/ClaimRun"


class Held(NamedTuple):
    """A run that is held, and its session."""

    session_id: str
    run_id: str
    lease_token: str


async def hold_run(connection: Connection) -> Held:
    """Start a run in a new session, and claim it."""
    spec = run_pb2.RunSpec(input=run_pb2.Payload(text="measure"))
    started = await connection.unary(START, service.StartRunRequest(run=spec), service.StartRunResponse)
    request = runner.ClaimRunRequest(run_id=started.run.run_id)
    claimed = await connection.unary(CLAIM, request, runner.ClaimRunResponse)
    return Held(started.run.session_id, started.run.run_id, claimed.lease.token)


def session_of(held: Held) -> session_pb2.SessionRef:
    """Name the session of a run."""
    return session_pb2.SessionRef(session_id=held.session_id)


def publication(size: int) -> bytes:
    """Encode a publication of so many events."""
    events = [runner.NewEvent(output_delta=OutputDelta(text=text)) for text in texts(size)]
    return runner.DriveRunRequest(publish=runner.DriveRunPublish(events=events)).SerializeToString()


class Drive:
    """One DriveRun stream; made by `driving`."""

    def __init__(self, connection: Connection, held: Held) -> None:
        self._connection = connection
        self._acknowledged = 0
        self._more = asyncio.Event()
        self._status: str | None = None
        opening = runner.DriveRunOpen(run_id=held.run_id, lease_token=held.lease_token)
        first = runner.DriveRunRequest(open=opening).SerializeToString()
        self._call = connection.call(DRIVE, self, first, closing=False)
        self._opened = False

    def message(self, data: bytes) -> None:
        """Take an answer."""
        answer = runner.DriveRunResponse.FromString(data)
        self._opened = True
        if answer.HasField("published"):
            self._acknowledged = answer.published.last_run_sequence
        self._more.set()

    def end(self, status: str) -> None:
        """Take the end."""
        self._status = status
        self._more.set()

    async def opened(self) -> None:
        """Wait for the first answer."""
        while not self._opened:
            await self._changed()

    async def publish(self, data: bytes, *, events: int, count: int, window: int) -> None:
        """Send a publication `count` times, `window` of them not acknowledged; returns when all are."""
        begin, sent = self._acknowledged, 0
        while self._acknowledged < begin + count * events:
            room = min(count, (self._acknowledged - begin) // events + window) - sent
            if room > 0:
                self._connection.send(self._call, *[data] * room)
                sent += room
            await self._changed()

    def publish_one(self, data: bytes) -> None:
        """Send a publication, and look at nothing."""
        self._connection.send(self._call, data)

    async def acknowledged(self, number: int) -> None:
        """Wait until the event with this number is."""
        while self._acknowledged < number:
            await self._changed()

    async def finish(self) -> None:
        """Report the end of the run, and wait for the end of the stream."""
        report = runner.DriveRunFinish(outcome=run_pb2.RUN_OUTCOME_SUCCEEDED, output_text="")
        request = runner.DriveRunRequest(finish=report).SerializeToString()
        self._connection.send(self._call, request, closing=True)
        while self._status is None:
            await self._changed(may_end=True)

    async def _changed(self, *, may_end: bool = False) -> None:
        self._more.clear()
        await patiently(self._more.wait())
        if self._status not in ({None, "0"} if may_end else {None}):
            raise CallFailed(f"DriveRun ended with status {self._status}")


@contextlib.asynccontextmanager
async def driving(connection: Connection, held: Held) -> AsyncIterator[Drive]:
    """Drive a run, and report its success at the end."""
    drive = Drive(connection, held)
    await drive.opened()
    yield drive
    await drive.finish()


async def fill(connection: Connection, held: Held, events: int) -> None:
    """Publish so many events as quickly as it goes."""
    async with driving(connection, held) as drive:
        await drive.publish(publication(100), events=100, count=events // 100, window=16)
