"""A server that does what a test tells it, call by call: for tests of clients, which need its misbehaviour.

Each streaming method takes its calls from a list of scripts, one for each call, in order. Unary methods
answer from a table. What came in is kept in `requests`, with the methods' names.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from sessionplane.v1 import admin_service_pb2_grpc, runner_service_pb2_grpc, session_service_pb2_grpc

Script = Callable[..., Awaitable[None]]


class Scripted:
    """The three services. `answers[method]` is an answer, a Refusal, a function, or a list of these."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Message]] = []
        self.answers: dict[str, Any] = {}
        self.streams: deque[Script] = deque()
        self.watches: deque[Script] = deque()
        self.drives: deque[Script] = deque()
        self.exchanges: deque[Script] = deque()
        self.ended = asyncio.Queue[str]()  # a method's name for each streaming call that is over
        self.port = 0

    @property
    def target(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def named(self, method: str) -> list[Any]:
        """The requests of one method, in order."""
        return [request for name, request in self.requests if name == method]

    def __getattr__(self, method: str) -> Callable[[Any, Any], Awaitable[Message]]:
        async def answer(request: Message, context: grpc.aio.ServicerContext) -> Message:
            self.requests.append((method, request))
            given = self.answers[method]
            given = given.pop(0) if isinstance(given, list) else given
            if isinstance(given, Refusal):
                await given.abort(context)
            return await given(request, context) if callable(given) else given

        return answer

    async def StreamEvents(self, request: Message, context: grpc.aio.ServicerContext) -> None:  # noqa: N802
        """Runs the next script of `streams` with the request and the context."""
        self.requests.append(("StreamEvents", request))
        try:
            await self.streams.popleft()(request, context)
        finally:
            self.ended.put_nowait("StreamEvents")

    async def WatchSessions(self, request: Message, context: grpc.aio.ServicerContext) -> None:  # noqa: N802
        """Runs the next script of `watches` with the request and the context."""
        self.requests.append(("WatchSessions", request))
        try:
            await self.watches.popleft()(request, context)
        finally:
            self.ended.put_nowait("WatchSessions")

    async def DriveRun(self, _: object, context: grpc.aio.ServicerContext) -> None:  # noqa: N802
        """Runs the next script of `drives` with the context, from which it reads and to which it writes."""
        try:
            await self.drives.popleft()(context)
        finally:
            self.ended.put_nowait("DriveRun")

    async def Exchange(self, _: object, context: grpc.aio.ServicerContext) -> None:  # noqa: N802
        """Runs the next script of `exchanges` with the context; without one there is no such method."""
        if not self.exchanges:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        try:
            await self.exchanges.popleft()(context)
        finally:
            self.ended.put_nowait("Exchange")


class Refusal:
    """An error as the real server would answer it."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str = "No.",
        *,
        retry_delay_s: int = 0,
        **metadata: str,
    ) -> None:
        info = error_details_pb2.ErrorInfo(reason=reason, domain="sessionplane", metadata=metadata)
        self.status = status_pb2.Status(code=code.value[0], message=message, details=[_packed(info)])
        if retry_delay_s:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.seconds = retry_delay_s
            self.status.details.append(_packed(retry))

    async def abort(self, context: grpc.aio.ServicerContext) -> None:
        """Ends the call with it."""
        status = rpc_status.to_status(self.status)
        await context.abort(status.code, status.details, status.trailing_metadata)


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    """A scripted server on a free port of the loopback, in this process."""
    servicer = Scripted()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(servicer, server)
    runner_service_pb2_grpc.add_RunnerServiceServicer_to_server(servicer, server)
    session_service_pb2_grpc.add_SessionServiceServicer_to_server(servicer, server)
    servicer.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(None)


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
