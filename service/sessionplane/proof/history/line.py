"""Clients over gRPC that write down what they call and see: the recorder of real processes.

Whoever has a `Line` is one client; all lines of a recording share its clock, which is monotonic and the same for all
processes of a machine. A call that was cut off, or not answered in time, is lost: nobody knows what became of it. All
else is the server's word. DriveRun is written down as the unary calls that mean the same, so that it is judged as they
are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from sessionplane.proof.history.records import Call, Recorder, Refusal
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1.runner_service_pb2_grpc import RunnerServiceStub
from sessionplane.v1.session_service_pb2 import StreamEventsRequest, StreamEventsResponse
from sessionplane.v1.session_service_pb2_grpc import SessionServiceStub
from sessionplane_client.errors import from_rpc_error

UNHEARD = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
"""What the transport says when the server did not say anything."""


class Lost(Exception):
    """Nobody knows what became of the call."""


class Refused(Exception):
    """The server refused the call."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.reason)


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal | None:
    """Return what the server said; None if it was the transport, which does not know."""
    said = from_rpc_error(error)
    if not said.reason and said.code in UNHEARD:
        return None
    return Refusal(said.code.name, said.reason, said.metadata)


class Line:
    """One client's line to a server."""

    def __init__(self, channel: grpc.aio.Channel, recorder: Recorder, name: str) -> None:
        self.name = name
        self.recorder = recorder
        self.sessions: Any = SessionServiceStub(channel)
        self.runs: Any = RunnerServiceStub(channel)

    async def call(self, method: str, request: Any, *, timeout_s: float = 15.0) -> Any:
        """Call and return the answer; wait for a server to be there. Raises Refused and Lost."""
        stub = getattr(self.sessions, method, None) or getattr(self.runs, method)
        record = self.recorder.called(self.name, method, request)
        try:
            answer = await stub(request, timeout=timeout_s, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            if refusal is None:
                self.recorder.lost(record, error.code().name)
                raise Lost(method) from error
            self.recorder.refused(record, refusal)
            raise Refused(refusal) from error
        except asyncio.CancelledError:
            self.recorder.lost(record, "left")
            raise
        self.recorder.answered(record, answer)
        return answer

    async def follow(self, request: StreamEventsRequest) -> AsyncGenerator[StreamEventsResponse, None]:
        """Read a stream to its end. Raises Refused and Lost."""
        call = self.sessions.StreamEvents(request, wait_for_ready=True)
        record = self.recorder.opened(self.name, request)
        try:
            async for frame in call:
                self.recorder.framed(record, frame, prompt=True)
                yield frame
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            if refusal is None:
                self.recorder.cut(record, error.code().name)
                raise Lost("StreamEvents") from error
            self.recorder.closed(record, refusal)
            raise Refused(refusal) from error
        except (GeneratorExit, asyncio.CancelledError):
            self.recorder.left(record)
            raise
        else:
            self.recorder.closed(record, None)
        finally:
            call.cancel()

    @asynccontextmanager
    async def drive(self, run_id: str, lease_token: str) -> AsyncIterator[Drive]:
        """Drive a run. Raises Lost when the stream ends, since that answers nothing that was sent before."""
        call = self.runs.DriveRun(wait_for_ready=True)
        drive = Drive(self.recorder, self.name, call, {"run_id": run_id, "lease_token": lease_token})
        try:
            await drive.open()
            yield drive
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            # The second is what a write raises that comes when the stream has just ended.
            raise Lost("DriveRun") from error
        finally:
            drive.end()
            call.cancel()


class Drive:
    """One DriveRun. What is sent waits for its answer before anything else is sent."""

    def __init__(self, recorder: Recorder, name: str, call: Any, holder: dict[str, Any]) -> None:
        self.interrupt_id = ""
        self._recorder = recorder
        self._name = name
        self._call = call
        self._holder = holder
        self._waiting: Call | None = None

    async def open(self) -> None:
        """Show the lease, which is a sign of life. Raises Lost if the run has ended, or AioRpcError."""
        self._record("HeartbeatRun", runner.HeartbeatRunRequest(**self._holder))
        await self._call.write(runner.DriveRunRequest(open=runner.DriveRunOpen(**self._holder)))
        await self._until("opened")
        self._answered(runner.HeartbeatRunResponse())

    async def publish(self, events: list[runner.NewEvent], first: int) -> int:
        """Publish and return the number of the last event. Raises Lost if the run has ended, or AioRpcError."""
        asked = runner.PublishEventsRequest(**self._holder, events=events, first_run_sequence=first)
        self._record("PublishEvents", asked)
        publish = runner.DriveRunPublish(events=events, first_run_sequence=first)
        await self._call.write(runner.DriveRunRequest(publish=publish))
        said = await self._until("published")
        self._answered(
            runner.PublishEventsResponse(
                last_run_sequence=said.last_run_sequence,
                last_sequence=said.last_sequence,
                duplicate_count=said.duplicate_count,
            )
        )
        return int(said.last_run_sequence)

    async def finish(self, outcome: Any) -> None:
        """Report. Raises AioRpcError."""
        self._record("FinishRun", runner.FinishRunRequest(**self._holder, outcome=outcome))
        await self._call.write(runner.DriveRunRequest(finish=runner.DriveRunFinish(outcome=outcome)))
        said = await self._until("finished")
        self._answered(
            runner.FinishRunResponse(
                finish_result=said.finish_result,
                terminal=said.terminal,
                terminal_sequence=said.terminal_sequence,
            )
        )

    def end(self) -> None:
        """Say that what waits for an answer gets none."""
        if self._waiting is not None:
            self._recorder.lost(self._waiting, "the stream ended")

    def _record(self, method: str, request: Any) -> None:
        self._waiting = self._recorder.called(self._name, method, request)

    def _answered(self, answer: Any) -> None:
        if self._waiting is not None:
            self._recorder.answered(self._waiting, answer)
        self._waiting = None

    async def _until(self, kind: str) -> Any:
        """Read until the answer comes. An end that was not asked for answers nothing."""
        while (response := await self._call.read()) is not grpc.aio.EOF:
            said = response.WhichOneof("response")
            if said == kind and (kind != "finished" or response.finished.finish_result):
                return getattr(response, kind)
            if said == "finished":
                break
            self.interrupt_id = response.command.interrupt.interrupt_id or self.interrupt_id
        raise Lost("DriveRun")
