"""Exchange on the wire: unary requests of all services over one stream, for a fraction of what a call costs.

It knows no method. The table of guarded unary methods is the one that the transport serves, and a request is answered
by the same guard, so nothing can differ but the way it comes. One task reads and begins what it reads, each request is
a task of its own, and the handler's own task writes: whatever has been answered by then goes out as one message, so the
busier a stream is the less an answer costs, and nothing ever waits for company.

Owned by the handler's task: the requests under way and the answers that are not written (together bounded by
`exchange_requests_max`; the reader waits for room, and so does the client), each with its task (cancelled and awaited
as it leaves). What a request has given to the store's writer happens whether or not anybody still listens.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import grpc
from google.rpc.status_pb2 import Status

from sessionplane.domain.errors import (
    Draining,
    FieldInvalid,
    LimitExceeded,
    MaxAge,
    SessionPlaneError,
    SlowConsumer,
    StreamLimit,
    TimedOut,
)
from sessionplane.domain.limits import Limits
from sessionplane.domain.streams import ClosingReason
from sessionplane.live.pulse import Pulse, age_s
from sessionplane.rpc import pacing
from sessionplane.rpc.guard import Context, Guarded, snake
from sessionplane.rpc.status import status_of
from sessionplane.store import codec
from sessionplane.v1 import session_service_pb2 as pb

Reply = pb.UnaryResponse.DESCRIPTOR.fields_by_name


def _tag(field: Any, wire_type: int) -> bytes:
    return codec.varint(field.number << 3 | wire_type)


_ID = _tag(Reply["id"], 0)
_BODIES = {name: _tag(field, 2) for name, field in Reply.items() if name != "id"}
_ENTRY = _tag(pb.ExchangeResponse.DESCRIPTOR.fields_by_name["responses"], 2)
_CLOSING = pb.ExchangeResponse(closing=True).SerializeToString()
_ENDS: Mapping[ClosingReason, type[SessionPlaneError]] = {
    ClosingReason.DRAINING: Draining,
    ClosingReason.MAX_AGE: MaxAge,
}


class Exchange:
    """Serves the Exchanges of one server, once it was told what there is to call."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._methods: dict[str, Guarded] = {}
        self._open: dict[_Stream, None] = {}

    def offer(self, methods: Iterable[Guarded]) -> None:
        """Take over the methods that have one request and one response."""
        for each in methods:
            if not (each.method.client_streaming or each.method.server_streaming):
                self._methods[snake(each.method.name)] = each

    def drain(self) -> None:
        """Begin to stop: what is under way is answered, what comes is refused."""
        for stream in tuple(self._open):
            stream.end(ClosingReason.DRAINING)

    async def serve(self, context: Context) -> None:
        """Serve one stream until its client has closed its side and was answered.

        Raises StreamLimit, Malformed, FieldInvalid, LimitExceeded, Draining and MaxAge. A client that sends and does
        not read is ended with SlowConsumer.
        """
        if len(self._open) >= self._limits.server_exchanges_max:
            raise StreamLimit(limit=self._limits.server_exchanges_max, scope="in this server")
        # A first write that stands still could not be given up otherwise: the core takes the headers but once.
        await context.send_initial_metadata(())
        stream = _Stream(self._methods, context, self._limits)
        self._open[stream] = None
        stream.pulse.start()
        try:
            stuck = await pacing.until_stuck(stream, stream.serve())
        finally:
            stream.pulse.stop()
            del self._open[stream]
        if stuck is not None:
            slow = SlowConsumer(seconds=self._limits.slow_subscriber_ms // 1000)
            await pacing.refuse(stream.left or slow, context, self._limits)


class _Inner:
    """What a handler sees of the call that a request would have been."""

    __slots__ = ("_outer", "until_s")

    def __init__(self, outer: Context, until_s: float | None) -> None:
        self._outer = outer
        self.until_s = until_s

    def time_remaining(self) -> float | None:
        """Return the seconds until nobody waits for the answer any more; None if that is not known."""
        return None if self.until_s is None else max(0.0, self.until_s - asyncio.get_running_loop().time())

    def peer(self) -> str:
        """Return who asks."""
        return str(self._outer.peer())


class _Stream:
    """One open Exchange."""

    ended: ClosingReason | None = None

    def __init__(self, methods: Mapping[str, Guarded], context: Context, limits: Limits) -> None:
        self._methods = methods
        self._context = context
        self._limits = limits
        self.pulse = Pulse(self, limits=limits, age_s=age_s(limits, f"{id(self)}"))
        self.left: SessionPlaneError | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._answers: deque[bytes] = deque()
        self._answers_bytes = 0
        # Something to write, or the end; and room for another request.
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._closing = False
        self._over = False
        self._failed: BaseException | None = None
        self._patience: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Nothing is to be said of silence."""

    def end(self, reason: ClosingReason) -> None:
        """Tell the client to go elsewhere with what it asks next; be over when nothing is under way, and at the latest
        when the longest wait is.
        """
        self.left = self.left or _ENDS[reason]()
        self._closing = True
        if reason is ClosingReason.DRAINING:
            self.pulse.hurry()
        wait_s = self._limits.wait_ms_max / 1000
        self._patience = self._patience or asyncio.get_running_loop().call_later(wait_s, self._give_up)
        self._more.set()

    def _give_up(self) -> None:
        self._over = True
        self._more.set()

    async def serve(self) -> None:
        """Answer until the end; raises what that is if the client did not close its side."""
        reader = asyncio.create_task(self._read())
        try:
            while frame := await self._next(reader):
                await pacing.write(self, self._context, frame)
        finally:
            if self._patience is not None:
                self._patience.cancel()
            helpers = [reader, *self._tasks.values()]
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _read(self) -> None:
        """Begin what the client sends, as long as there is room; what is wrong with the stream itself ends it."""
        try:
            while (message := await self._context.read()) is not grpc.aio.EOF:
                if isinstance(message, SessionPlaneError):
                    raise message
                for number in message.cancelled_ids:
                    self._cancel(number)
                # Only then can one of its requests be too large by itself.
                large = message.ByteSize() > self._limits.request_bytes_max
                for request in message.requests:
                    await self._wait_for_room()
                    self._begin(request, large=large)
        except Exception as error:  # noqa: BLE001 - the guard of the stream sees it
            self._failed = error
        finally:
            self._more.set()

    async def _wait_for_room(self) -> None:
        """Wait while as much is under way, or not yet written, as there may be."""
        limits = self._limits
        while (
            len(self._tasks) + len(self._answers) >= limits.exchange_requests_max
            or self._answers_bytes >= limits.exchange_bytes_max
        ):
            self._room.clear()
            await self._room.wait()

    def _begin(self, request: pb.UnaryRequest, *, large: bool) -> None:
        """Let a request be answered. Raises FieldInvalid if its id says nothing."""
        if request.id in self._tasks:
            raise FieldInvalid(field="requests.id", problem=f"{request.id} is under way already")
        task = self._tasks[request.id] = asyncio.create_task(self._serve_one(request, large=large))
        task.add_done_callback(partial(self._served, request.id))

    def _cancel(self, number: int) -> None:
        task = self._tasks.get(number)
        if task is not None:
            task.cancel()

    async def _serve_one(self, request: pb.UnaryRequest, *, large: bool) -> None:
        """Answer one request. One that its client cancelled gets no answer."""
        kind, answer = await self._answer(request, large=large)
        self._put(request.id, kind, answer)

    def _served(self, number: int, task: asyncio.Task[None]) -> None:
        """Make room. What nobody foresaw ends the stream, and does not hide."""
        del self._tasks[number]
        if not task.cancelled() and task.exception() is not None:
            self._failed = task.exception()
        self._room.set()
        self._more.set()

    async def _answer(self, request: pb.UnaryRequest, *, large: bool) -> tuple[str, Any]:
        """Return the name of the method and its response, or the status that refuses it."""
        kind = request.WhichOneof("request")
        if kind is None:
            problem = "it holds no request, or one of a method that this server does not know"
            return "error", status_of(FieldInvalid(field="requests.request", problem=problem))
        asked: Any = getattr(request, kind)
        if large and (size := asked.ByteSize()) > (most := self._limits.request_bytes_max):
            asked = LimitExceeded(field="the request", actual=f"{size} bytes", limit=f"{most} bytes")
        if not request.HasField("timeout"):
            return kind, await self._methods[kind].answer(asked, _Inner(self._context, None))
        return kind, await self._answer_in_time(request, kind, asked)

    async def _answer_in_time(self, request: pb.UnaryRequest, kind: str, asked: Any) -> Any:
        span_s = request.timeout.seconds + request.timeout.nanos / 1e9
        if span_s < 0:
            return status_of(FieldInvalid(field="requests.timeout", problem="it is negative"))
        until_s = asyncio.get_running_loop().time() + span_s
        try:
            async with asyncio.timeout_at(until_s):
                return await self._methods[kind].answer(asked, _Inner(self._context, until_s))
        except TimeoutError:
            return status_of(TimedOut())

    def _put(self, number: int, kind: str, answer: Any) -> None:
        """Let an answer be written: encoded by hand, as it would be by itself, since it has been encoded already."""
        tag = _BODIES["error" if isinstance(answer, Status) else kind]
        data = answer.SerializeToString()
        entry = b"".join((_ID, codec.varint(number), tag, codec.varint(len(data)), data))
        entry = b"".join((_ENTRY, codec.varint(len(entry)), entry))
        self._answers.append(entry)
        self._answers_bytes += len(entry)

    async def _next(self, reader: asyncio.Task[None]) -> bytes:
        """Wait for something to write; empty at the end. Raises what ends the stream otherwise."""
        while True:
            if self._failed is not None:
                raise self._failed
            if self._answers:
                return self._frame()
            if self._closing:
                self._closing = False
                return _CLOSING
            if reader.done() and not self._tasks:
                return b""
            if self.left is not None and (
                self._over or (isinstance(self.left, Draining) and not self._tasks)
            ):
                raise self.left
            self._more.clear()
            await self._more.wait()

    def _frame(self) -> bytes:
        """Put together what is ready, up to what a message may hold."""
        entries = [self._answers.popleft()]
        size = len(entries[0])
        while self._answers and size + len(self._answers[0]) <= self._limits.exchange_frame_bytes_max:
            entries.append(self._answers.popleft())
            size += len(entries[-1])
        self._answers_bytes -= size
        self._room.set()
        return b"".join(entries)
