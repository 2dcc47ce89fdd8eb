"""Bytes on a port that speaks HTTP/2: frames that no library would send, as many as one likes.

It knows how frames are laid out and nothing of what may follow what. A header block is written without compression,
so that every byte of it is the test's own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CANCEL = (8).to_bytes(4, "big")
RESOLVE = "/sessionplane.v1.SessionService/ResolveSession"
STREAM = "/sessionplane.v1.SessionService/StreamEvents"
READ_BYTES = 1 << 16
WAIT_S = 20.0


@dataclass(frozen=True)
class Frame:
    """One frame as it came."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(
    kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", *, size: int | None = None
) -> bytes:
    """Encode a frame; `size` lies about its length."""
    length = len(payload) if size is None else size
    return length.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def field(name: bytes, value: bytes) -> bytes:
    """Encode a header field: literal, not remembered, without Huffman."""
    return b"\0" + _length(len(name)) + name + _length(len(value)) + value


def headers(path: str = RESOLVE, *more: tuple[bytes, bytes]) -> bytes:
    """Encode the header block of a gRPC call."""
    usual = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
    return b"".join(field(name, value) for name, value in (*usual, *more))


def message(data: bytes, *, compressed: int = 0, size: int | None = None) -> bytes:
    """Encode a gRPC message; `size` lies about its length."""
    return bytes((compressed,)) + (len(data) if size is None else size).to_bytes(4, "big") + data


def call(stream: int, path: str = RESOLVE, data: bytes = b"") -> bytes:
    """Encode a whole unary call."""
    return frame(HEADERS, END_HEADERS, stream, headers(path)) + frame(DATA, END_STREAM, stream, message(data))


class Raw:
    """One connection. What the server sends is read only when it is asked for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *frames: bytes) -> bool:
        """Send; False if the server has had enough of this connection."""
        try:
            self._writer.write(b"".join(frames))
            async with asyncio.timeout(WAIT_S):
                await self._writer.drain()
        except (ConnectionError, TimeoutError):
            return False
        return True

    async def frames(self) -> AsyncIterator[Frame]:
        """Yield what comes until the server closes."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                yield Frame(head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF, payload)

    async def drained(self) -> int:
        """Read to the end and return how many bytes came."""
        size = 0
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(READ_BYTES):
                size += len(data)
        return size

    def close(self) -> None:
        """Go away without a word."""
        self._writer.transport.abort()


@asynccontextmanager
async def raw(address: str, *first: bytes) -> AsyncIterator[Raw]:
    """Connect and send the first bytes; by default what every client begins with."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = Raw(reader, writer)
    try:
        await connection.send(*(first or greeting()))
        yield connection
    finally:
        connection.close()


def greeting() -> Iterator[bytes]:
    """What every client begins with."""
    yield PREFACE
    yield frame(SETTINGS)


def _length(length: int) -> bytes:
    """Encode an integer with a prefix of seven bits (RFC 7541, 5.1)."""
    if length < 0x7F:
        return bytes([length])
    encoded, rest = bytearray([0x7F]), length - 0x7F
    while rest >= 0x80:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)
