"""Unary calls over one stream, shared by all callers of a client: SessionService.Exchange.

Theory of operation. `ExchangeChannel` stands where the channel stood under the generated stubs: a unary method becomes
a request in the line of the present stream, and what the stub returns is the future of its answer. Each stream has a
sender and a reader. The sender writes whatever has come together while its last write was under way, so the more
callers there are the less a call costs, and nobody waits for company. An answer settles the future of its id.

A stream ends in one of three ways. If the server asks for it (`closing`), it is answered to its end while the next
requests go over a new one. If it breaks, what was not answered is sent again over a new one, as the transport's own
retries do with unary calls, and with the same request ids, so nothing happens twice. If there is no such method (an
older server, a proxy) or the stream never brought an answer, every call is made as a unary one from then on.

Owned here: the streams and their tasks, ended by `close`. Unanswered requests are bounded by their callers, and of
those no more than `UNDER_WAY_MAX` are on a stream.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.rpc import status_pb2
from grpc.aio import AioRpcError, Metadata
from grpc_status import rpc_status

from sessionplane.v1.session_service_pb2 import (
    ExchangeRequest,
    ExchangeResponse,
    UnaryError,
    UnaryRequest,
    UnaryResponse,
)

from .backoff import Backoff, is_transient
from .errors import from_rpc_error

if TYPE_CHECKING:
    from grpc.aio import Channel, StreamStreamCall, UnaryUnaryMultiCallable

    _Call = StreamStreamCall[ExchangeRequest, ExchangeResponse]
    _Unary = UnaryUnaryMultiCallable[Any, Any]

UNDER_WAY_MAX = 1_000
"""Requests that a stream carries at a time. The server reads no further at 1,024."""

MESSAGE_BYTES_MAX = 1024 * 1024
"""Bytes in one message, but for a larger request, which goes alone. The server takes 4 MiB."""

ATTEMPTS_MAX = 5
_AGAIN = Backoff(first_s=0.15, factor=2.0, max_s=2.0)
"""As the service config has it for unary calls."""

_BROKEN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED}
_KINDS = frozenset(field.name for field in UnaryRequest.DESCRIPTOR.oneofs_by_name["request"].fields)


@dataclass(slots=True, eq=False)
class _Asked:
    """One request and who waits for it. `alone` makes the call without a stream."""

    kind: str
    request: Any
    alone: _Unary
    timeout_s: float | None
    until_s: float | None
    future: asyncio.Future[Any]
    attempts: int = 1


class ExchangeChannel:
    """A channel whose unary calls share a stream. Everything else goes straight to the channel."""

    def __init__(self, channel: Channel, *, attempts_max: int = ATTEMPTS_MAX) -> None:
        self._channel = channel
        self._exchange = Exchange(channel, attempts_max)

    def unary_unary(self, path: str, *serializers: Any, **more: Any) -> Callable[..., Any]:
        """Return what a stub calls for a unary method."""
        alone = self._channel.unary_unary(path, *serializers, **more)
        kind = re.sub(r"(?<!^)(?=[A-Z])", "_", path.rpartition("/")[2]).lower()
        if kind not in _KINDS:
            return cast("Callable[..., Any]", alone)

        def call(request: Any, *, timeout: float | None = None) -> Any:
            return self._exchange.ask(kind, request, alone, timeout_s=timeout)

        return call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    async def aclose(self) -> None:
        """Close the streams, and leave the channel to who made it."""
        await self._exchange.close()


class Exchange:
    """The streams of one channel: the present one, and those that are answered to their end."""

    def __init__(self, channel: Channel, attempts_max: int) -> None:
        self._attempts_max = attempts_max
        self._open = channel.stream_stream(
            "/sessionplane.v1.SessionService/Exchange",
            request_serializer=ExchangeRequest.SerializeToString,
            response_deserializer=ExchangeResponse.FromString,
        )
        self._line: _Line | None = None
        self._lines: set[_Line] = set()
        # What is sent again after a while.
        self._later: dict[_Asked, asyncio.TimerHandle] = {}
        self._count = 0
        self._worked = False
        self._absent = False
        self._closed = False

    def ask(self, kind: str, request: Any, alone: _Unary, *, timeout_s: float | None) -> asyncio.Future[Any]:
        """Send a request. The future raises AioRpcError; cancelling it tells the server that nobody waits."""
        loop = asyncio.get_running_loop()
        until_s = None if timeout_s is None else loop.time() + timeout_s
        asked = _Asked(kind, request, alone, timeout_s, until_s, loop.create_future())
        if until_s is not None:
            timer = loop.call_at(until_s, self._late, asked)
            asked.future.add_done_callback(lambda _: timer.cancel())
        self._send(asked)
        return asked.future

    def _send(self, asked: _Asked) -> None:
        self._later.pop(asked, None)
        if asked.future.done():
            return
        if self._absent:
            self._make_alone(asked)
            return
        if self._line is None:
            self._line = _Line(self, cast("_Call", self._open()))
            self._lines.add(self._line)
        self._count += 1
        self._line.add(self._count, asked)

    def _make_alone(self, asked: _Asked) -> None:
        """Make the call without a stream, and let the future follow it."""
        call = asked.alone(asked.request, timeout=asked.timeout_s)
        task = asyncio.ensure_future(_result(call))

        def settle(_: object) -> None:
            if asked.future.done():
                return
            if task.cancelled():
                asked.future.cancel()
            elif (error := task.exception()) is not None:
                asked.future.set_exception(error)
            else:
                asked.future.set_result(task.result())

        task.add_done_callback(settle)
        asked.future.add_done_callback(lambda future: task.cancel() if future.cancelled() else None)

    def _late(self, asked: _Asked) -> None:
        """Let a request fail whose time is over. If no answer ever came, something in between holds them back."""
        self._absent = self._absent or not self._worked
        if not asked.future.done():
            asked.future.set_exception(_timed_out())

    # As a line tells it.

    def worked(self) -> None:
        """An answer came: there is such a method."""
        self._worked = True

    def leave(self, line: _Line) -> None:
        """Send what comes next over another stream."""
        if self._line is line:
            self._line = None

    def refused(self, asked: _Asked, error: AioRpcError) -> None:
        """Let a request fail with its own status; UNAVAILABLE is asked again, as the transport does with calls."""
        self._again(asked, error, may=error.code() is grpc.StatusCode.UNAVAILABLE)

    def _again(self, asked: _Asked, error: AioRpcError, *, may: bool) -> None:
        """Send a request again after a while, or let it fail."""
        if asked.future.done():
            return
        if not may or asked.attempts >= self._attempts_max:
            asked.future.set_exception(error)
            return
        delay_s = _AGAIN.delay_s(asked.attempts, random.random())  # noqa: S311
        asked.attempts += 1
        self._later[asked] = asyncio.get_running_loop().call_later(delay_s, self._send, asked)

    def ended(self, line: _Line, left: list[_Asked], error: AioRpcError | None) -> None:
        """A stream is over, and these requests were not answered."""
        self.leave(line)
        self._lines.discard(line)
        if self._closed:
            for asked in left:
                asked.future.cancel()
        elif error is not None and self._is_missing(error):
            self._absent = True
            for asked in left:
                self._send(asked)
        else:
            cut = error or _cut()
            may = is_transient(from_rpc_error(cut))
            for asked in left:
                self._again(asked, cut, may=may)

    def _is_missing(self, error: AioRpcError) -> bool:
        """Whether a stream ended as one does that nobody serves: our own refusals have a reason, and what breaks is
        UNAVAILABLE, or INTERNAL if it broke under our hands.
        """
        return not self._worked and error.code() not in _BROKEN and not from_rpc_error(error).reason

    async def close(self) -> None:
        """End all streams. Who waits for an answer is cancelled."""
        self._closed = True
        for asked, timer in self._later.items():
            timer.cancel()
            asked.future.cancel()
        await asyncio.gather(*(line.close() for line in tuple(self._lines)))


class _Line:
    """One stream: what waits to be sent on it, and what waits for an answer."""

    def __init__(self, exchange: Exchange, call: _Call) -> None:
        self._exchange = exchange
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._unsent: dict[int, _Asked] = {}
        self._sent: dict[int, _Asked] = {}
        self._cancelled: list[int] = []
        self._more = asyncio.Event()
        self._closing = False
        self._sender = asyncio.create_task(self._send())
        self._reader = asyncio.create_task(self._read())

    def add(self, number: int, asked: _Asked) -> None:
        """Put a request in line."""
        self._unsent[number] = asked
        asked.future.add_done_callback(partial(self._settled, number))
        self._more.set()

    def _settled(self, number: int, _future: asyncio.Future[Any]) -> None:
        """Forget a request that nobody waits for, and tell the server if it knows it."""
        self._unsent.pop(number, None)
        if self._sent.pop(number, None) is not None:
            self._cancelled.append(number)
            self._more.set()

    async def _send(self) -> None:
        """Write what has come together; close our side once nothing more will come."""
        with suppress(AioRpcError, asyncio.InvalidStateError):  # The reader hears how it ended.
            while True:
                message = self._next_message()
                if message is not None:
                    await self._call.write(message)
                elif self._closing:
                    await self._call.done_writing()
                    return
                else:
                    self._more.clear()
                    await self._more.wait()

    def _next_message(self) -> ExchangeRequest | None:
        """Put together what waits and may go out; None if there is nothing."""
        message = ExchangeRequest(cancelled_ids=self._cancelled)
        self._cancelled.clear()
        size = 0
        while self._unsent and len(self._sent) < UNDER_WAY_MAX:
            number, asked = next(iter(self._unsent.items()))
            size += asked.request.ByteSize()
            if message.requests and size > MESSAGE_BYTES_MAX:
                break
            del self._unsent[number]
            self._sent[number] = asked
            self._fill(message.requests.add(id=number), asked)
        return message if message.requests or message.cancelled_ids else None

    def _fill(self, entry: UnaryRequest, asked: _Asked) -> None:
        body = getattr(entry, asked.kind)
        body.SetInParent()
        body.MergeFrom(asked.request)
        if asked.until_s is not None:
            entry.timeout.FromMicroseconds(max(0, int((asked.until_s - self._loop.time()) * 1e6)))

    async def _read(self) -> None:
        """Settle what is answered, to the end of the stream."""
        error = None
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                self._take(cast("ExchangeResponse", message))
        except AioRpcError as raised:
            error = raised
        finally:
            self._sender.cancel()
            left = [*self._sent.values(), *self._unsent.values()]
            self._sent.clear()
            self._unsent.clear()
            self._exchange.ended(self, left, error)

    def _take(self, message: ExchangeResponse) -> None:
        for response in message.responses:
            asked = self._sent.pop(response.id, None)
            if asked is not None:
                self._settle(asked, response)
            self._exchange.worked()
        if self._unsent:
            self._more.set()
        if message.closing:
            self._exchange.leave(self)
            self._closing = True
            self._more.set()

    def _settle(self, asked: _Asked, response: UnaryResponse) -> None:
        kind = response.WhichOneof("response")
        if asked.future.done():
            return
        if kind == asked.kind:
            asked.future.set_result(getattr(response, kind))
        else:
            self._exchange.refused(asked, _error(response.error))

    async def close(self) -> None:
        """End the stream."""
        self._call.cancel()
        await asyncio.gather(self._reader, self._sender, return_exceptions=True)


async def _result(call: Any) -> Any:
    return await call


def _error(refused: UnaryError) -> AioRpcError:
    """What the call would have raised by itself. The wire of an error is that of google.rpc.Status."""
    packed = refused.SerializeToString()
    status = rpc_status.to_status(status_pb2.Status.FromString(packed))
    trailing = Metadata(*status.trailing_metadata)
    return AioRpcError(status.code, Metadata(), trailing, details=status.details)


def _timed_out() -> AioRpcError:
    return AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, Metadata(), Metadata(), details="Deadline Exceeded")


def _cut() -> AioRpcError:
    return AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), details="The stream ended.")
