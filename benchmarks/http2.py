"""The load generator's client: just enough HTTP/2 to make gRPC calls with next to no work of its own.

A call through grpc.aio costs its client as much as its server, so on a small machine a client like that measures
itself. This one costs about a tenth. Requests are bytes that were encoded before; answers stay bytes until somebody
looks at them. It keeps to the protocol: flow control both ways, header compression with the shared table on the way
there. For the way back it allows no table, so that the server writes names in full and `grpc-status` can be found
without a decoder.

It talks to servers that this program started itself, and to nobody else.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PADDED_OR_PRIORITY = 0x28

HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEFAULT_WINDOW = 65_535
FRAME_MAX = 16_384
STREAM_WINDOW = 4 * 1024 * 1024
CONNECTION_WINDOW = 1024 * 1024 * 1024
STREAM_GRANT = STREAM_WINDOW // 4
CONNECTION_GRANT = CONNECTION_WINDOW // 4

# :method POST and :scheme http from the static table, then :path, :authority, content-type and te as this
# connection's first call put them into the dynamic table, where a later entry has a lower number.
COMMON_HEADERS = bytes([0x83, 0x86])
REMEMBERED = bytes([0x80 | 64, 0x80 | 63, 0x80 | 62])


class CallFailed(Exception):
    """A call ended with a status that is not OK, or its connection broke."""


class Handler(Protocol):
    """Whoever made a call and hears of its answer."""

    def message(self, data: bytes) -> None:
        """Take one message."""

    def end(self, status: str) -> None:
        """Take the status; "0" is OK. The call is over."""


class Listener:
    """A handler made of two functions."""

    __slots__ = ("end", "message")

    def __init__(self, message: Callable[[bytes], None], end: Callable[[str], None]) -> None:
        self.message = message
        self.end = end


class Call:
    """One open call."""

    __slots__ = ("_buffer", "closing", "consumed", "handler", "number", "pending", "window")

    def __init__(self, number: int, handler: Handler, window: int) -> None:
        self.number = number
        self.handler = handler
        self.window = window
        self.pending: deque[bytes] = deque()
        self.closing = False
        self.consumed = 0
        self._buffer = b""

    def take(self, data: bytes) -> None:
        """Cut what arrived into messages."""
        buffer = self._buffer + data if self._buffer else data
        at, size = 0, len(buffer)
        while size - at >= 5:
            end = at + 5 + int.from_bytes(buffer[at + 1 : at + 5], "big")
            if end > size:
                break
            self.handler.message(buffer[at + 5 : end])
            at = end
        self._buffer = buffer[at:] if at < size else b""


class Connection(asyncio.Protocol):
    """One connection. What is to be sent is collected and written once in each round of the event loop."""

    def __init__(self, authority: str) -> None:
        self._authority = authority.encode()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, Call] = {}
        self._blocked: dict[int, Call] = {}
        self._paths: dict[str, bytes] = {}
        self._next = 1
        self._window = DEFAULT_WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._consumed = 0
        self._rest = b""
        self._out: list[bytes] = []
        self._scheduled = False
        self._lost = self._loop.create_future()

    @classmethod
    async def open(cls, address: str) -> Connection:
        """Connect to host:port."""
        host, _, port = address.rpartition(":")
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: cls(address), host, int(port)
        )
        return connection

    async def close(self) -> None:
        """Close, and wait until it is."""
        if self._transport is not None:
            self._transport.close()
            await self._lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the server: no header table for its answers, and wide windows."""
        self._transport = cast("asyncio.Transport", transport)
        settings = struct.pack(">HIHI", HEADER_TABLE_SIZE, 0, INITIAL_WINDOW_SIZE, STREAM_WINDOW)
        self._out.append(PREFACE + _frame(SETTINGS, 0, 0, settings))
        self._grant(0, CONNECTION_WINDOW - DEFAULT_WINDOW)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is open."""
        if not self._lost.done():
            self._lost.set_result(exc)
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.handler.end("connection lost")

    def call(self, path: str, handler: Handler, *messages: bytes, closing: bool = True) -> Call:
        """Begin a call with its first messages; `closing` False leaves the sending side open."""
        call = Call(self._next, handler, self._stream_window)
        self._next += 2
        self._calls[call.number] = call
        self._out.append(_frame(HEADERS, END_HEADERS, call.number, self._headers(path)))
        self.send(call, *messages, closing=closing)
        return call

    def send(self, call: Call, *messages: bytes, closing: bool = False) -> None:
        """Send messages, as soon as the server has room for them."""
        call.pending.extend(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)
        call.closing = call.closing or closing
        if closing and not call.pending:
            self._out.append(_frame(DATA, END_STREAM, call.number, b""))
        self._pump(call)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    async def unary(self, path: str, request: Message, response: type[M]) -> M:
        """Make one call and wait for its answer. Raises CallFailed."""
        answer = _Answer(self._loop.create_future())
        self.call(path, answer, request.SerializeToString())
        return response.FromString(await answer.future)

    def data_received(self, data: bytes) -> None:
        """Take what arrived, frame by frame."""
        buffer = self._rest + data if self._rest else data
        at, size = 0, len(buffer)
        while size - at >= 9:
            end = at + 9 + int.from_bytes(buffer[at : at + 3], "big")
            if end > size:
                break
            number = int.from_bytes(buffer[at + 5 : at + 9], "big") & 0x7FFFFFFF
            self._take(buffer[at + 3], buffer[at + 4], number, buffer[at + 9 : end])
            at = end
        self._rest = buffer[at:] if at < size else b""
        self._flush()

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == DATA:
            self._take_data(number, payload, flags)
        elif kind == HEADERS:
            assert not flags & PADDED_OR_PRIORITY, "gRPC servers send neither padding nor priorities"
            if flags & END_STREAM:
                self._end(number, _status(payload))
        elif kind == WINDOW_UPDATE:
            self._widen(number, int.from_bytes(payload, "big"))
        elif kind == SETTINGS and not flags & ACK:
            self._take_settings(payload)
        elif kind == PING and not flags & ACK:
            self._out.append(_frame(PING, ACK, 0, payload))
        elif kind == RST_STREAM:
            self._end(number, f"reset {int.from_bytes(payload, 'big')}")
        elif kind == GOAWAY:
            raise CallFailed(f"the server closes the connection: {payload[8:].decode(errors='replace')}")

    def _take_data(self, number: int, payload: bytes, flags: int) -> None:
        assert not flags & PADDED_OR_PRIORITY, "gRPC servers send neither padding nor priorities"
        self._consumed += len(payload)
        if self._consumed >= CONNECTION_GRANT:
            self._grant(0, self._consumed)
            self._consumed = 0
        call = self._calls.get(number)
        if call is None:
            return
        call.consumed += len(payload)
        if call.consumed >= STREAM_GRANT:
            self._grant(number, call.consumed)
            call.consumed = 0
        call.take(payload)

    def _take_settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.window += value - self._stream_window
                self._stream_window = value
        self._out.append(_frame(SETTINGS, ACK, 0, b""))
        self._unblock()

    def _widen(self, number: int, more: int) -> None:
        if number == 0:
            self._window += more
            self._unblock()
        elif call := self._calls.get(number):
            call.window += more
            self._pump(call)

    def _unblock(self) -> None:
        for call in list(self._blocked.values()):
            self._pump(call)

    def _pump(self, call: Call) -> None:
        """Send what waits, as far as both windows reach."""
        while call.pending:
            room = min(FRAME_MAX, self._window, call.window)
            if room <= 0:
                self._blocked[call.number] = call
                return
            data = call.pending.popleft()
            if len(data) > room:
                call.pending.appendleft(data[room:])
                data = data[:room]
            self._window -= len(data)
            call.window -= len(data)
            flags = END_STREAM if call.closing and not call.pending else 0
            self._out.append(_frame(DATA, flags, call.number, data))
        self._blocked.pop(call.number, None)

    def _end(self, number: int, status: str) -> None:
        call = self._calls.pop(number, None)
        self._blocked.pop(number, None)
        if call is not None:
            call.handler.end(status)

    def _grant(self, number: int, size: int) -> None:
        self._out.append(_frame(WINDOW_UPDATE, 0, number, size.to_bytes(4, "big")))

    def _flush(self) -> None:
        self._scheduled = False
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _headers(self, path: str) -> bytes:
        """Return the header block of a call; the connection's first one teaches the server what repeats."""
        known = self._paths.get(path)
        if known is not None:
            return COMMON_HEADERS + known + REMEMBERED
        literal = b"\x04" + _text(path.encode())
        self._paths[path] = literal
        if len(self._paths) > 1:
            return COMMON_HEADERS + literal + REMEMBERED
        authority = b"\x41" + _text(self._authority)
        content_type = b"\x5f" + _text(b"application/grpc")
        return (
            COMMON_HEADERS + literal + authority + content_type + b"\x40" + _text(b"te") + _text(b"trailers")
        )


class _Answer:
    """The answer to one unary call."""

    def __init__(self, future: asyncio.Future[bytes]) -> None:
        self.future = future
        self._data = b""

    def message(self, data: bytes) -> None:
        self._data = data

    def end(self, status: str) -> None:
        if self.future.done():
            return
        if status == "0":
            self.future.set_result(self._data)
        else:
            self.future.set_exception(CallFailed(f"status {status}"))


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload


def _text(text: bytes) -> bytes:
    """Encode a header text of up to 126 bytes, without compression."""
    assert len(text) < 127
    return bytes([len(text)]) + text


def _status(block: bytes) -> str:
    """Find the status in trailers whose names are in full."""
    at = block.find(b"grpc-status")
    if at < 0:
        return "none"
    begin = at + len(b"grpc-status") + 1
    return block[begin : begin + (block[begin - 1] & 0x7F)].decode()
