"""Bytes that no gRPC client would send: the transport ends them by name, and whatever else is connected goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from sessionplane.v1.session_pb2 import SessionRef
from sessionplane.v1.session_service_pb2 import ResolveSessionRequest
from tests.faults.support import raw
from tests.faults.support.raw import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Frame,
    field,
    frame,
    headers,
    message,
)
from tests.faults.support.target import Target, target

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = ResolveSessionRequest(session=SessionRef(key="idle")).SerializeToString()
NO_TABLE = frame(SETTINGS, payload=b"\0\1\0\0\0\0")
"""Asks the server for header names in full, so that a status can be found without a decoder."""

OK, INVALID, EXHAUSTED, UNIMPLEMENTED, BROKEN = "0", "3", "8", "12", "13"
RESET, CLOSED, SILENT = "reset", "closed", "silent"
ROUNDS = 150


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    """One server for all: none of this may leave anything behind."""
    async with target(tmp_path_factory.mktemp("frames")) as built:
        yield built


def _call(
    *more: tuple[bytes, bytes], path: str = raw.RESOLVE, body: bytes = message(GOOD)
) -> Sequence[bytes]:
    return frame(HEADERS, END_HEADERS, 1, headers(path, *more)), frame(DATA, END_STREAM, 1, body)


def _without(name: bytes) -> Sequence[bytes]:
    """A call whose header block lacks a field."""
    block = b"".join(
        field(key, value)
        for key, value in ((b":method", b"POST"), (b":scheme", b"http"), (b"te", b"trailers"))
        if key != name
    )
    return frame(HEADERS, END_HEADERS, 1, block), frame(DATA, END_STREAM, 1, message(GOOD))


BROKEN_CALLS: dict[str, tuple[Sequence[bytes], str]] = {
    "as it should be": (_call(), OK),
    "a frame of an unknown kind": ((frame(99, payload=b"x" * 100), *_call()), OK),
    "an unknown method": (_call(path="/sessionplane.v1.SessionService/Nothing"), UNIMPLEMENTED),
    "a path that is none": (_call(path="nothing"), UNIMPLEMENTED),
    "no path": (_without(b":path"), RESET),
    "no method": (_without(b":method"), RESET),
    "a compressed message that nobody announced": (_call(body=message(GOOD, compressed=1)), BROKEN),
    "gzip that is none": (_call((b"grpc-encoding", b"gzip"), body=message(b"garbage", compressed=1)), BROKEN),
    "a compression that nobody knows": (
        _call((b"grpc-encoding", b"snappy"), body=message(GOOD, compressed=1)),
        BROKEN,
    ),
    "a compression flag that is none": (_call(body=message(GOOD, compressed=7)), INVALID),
    "a message of 4 GiB": (_call(body=message(GOOD, size=2**32 - 1)), EXHAUSTED),
    "a timeout that is none": (_call((b"grpc-timeout", b"soon")), BROKEN),
    "binary metadata that is none": (_call((b"x-bin", b"***")), BROKEN),
    "a header name in upper case": (_call((b"X-Up", b"a")), BROKEN),
    "headers that cannot be decoded": ((frame(HEADERS, END_HEADERS, 1, b"\xff" * 6),), BROKEN),
    "a window that grows by nothing": ((frame(WINDOW_UPDATE, payload=bytes(4)),), CLOSED),
    "a setting that is cut": ((frame(SETTINGS, payload=b"\0\1\0"),), CLOSED),
    "a frame that is too large": ((frame(DATA, 0, 1, bytes(20_000)),), CLOSED),
    "a message that is cut": (_call(body=message(GOOD, size=100)), SILENT),
    "data on a stream that was never opened": ((frame(DATA, END_STREAM, 7, message(GOOD)),), SILENT),
    "a pushed promise": ((frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + headers()),), SILENT),
}
"""What is sent, and what it comes to. BROKEN is the transport's own INTERNAL: it never reaches a handler of ours."""


def _status(found: Frame) -> str | None:
    """Find the status in headers whose names are in full."""
    if found.kind == RST_STREAM:
        return RESET
    if found.kind == GOAWAY:
        return CLOSED
    at = found.payload.find(b"grpc-status") if found.kind == HEADERS else -1
    return None if at < 0 else found.payload[at + 12 : at + 12 + found.payload[at + 11]].decode()


async def _outcome(connection: raw.Raw) -> str:
    async for found in connection.frames():
        if (status := _status(found)) is not None:
            return status
        if found.kind == raw.PING and found.flags & raw.ACK:
            return SILENT
    return CLOSED


@pytest.mark.parametrize("name", BROKEN_CALLS)
async def test_what_is_broken_has_its_end(server: Target, name: str) -> None:
    """Each comes to what it must, or to nothing while the connection lives: a ping behind it is answered."""
    sent, expected = BROKEN_CALLS[name]
    async with (
        raw.raw(server.server.address, raw.PREFACE, NO_TABLE) as connection,
        asyncio.timeout(raw.WAIT_S),
    ):
        ping = frame(raw.PING, payload=b"12345678") if expected in {SILENT, CLOSED} else b""
        await connection.send(*sent, ping)
        assert await _outcome(connection) == expected
    await server.settle()


async def test_http_1_is_turned_away(server: Target) -> None:
    """Whoever takes the port for a web page is disconnected."""
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with raw.raw(server.server.address, request) as connection, asyncio.timeout(raw.WAIT_S):
        assert await _outcome(connection) == CLOSED
    await server.settle()


async def test_random_frames_hurt_nobody(server: Target) -> None:
    """Frames of any kind with any flags on any stream, cut and changed at random: the server stays as it was."""
    dice = random.Random(4)
    for _ in range(ROUNDS):
        async with raw.raw(server.server.address) as connection:
            await connection.send(*(_random_frame(dice) for _ in range(dice.randrange(1, 12))))
    await server.settle()


def _random_frame(dice: random.Random) -> bytes:
    """A frame that may be valid, is likely not, and may lie about its length."""
    if dice.random() < 0.3:
        whole = bytearray(b"".join(_call()))
        for _ in range(dice.randrange(4)):
            # Within ASCII: a path that is no text is a matter of its own, see test_door.
            whole[dice.randrange(len(whole))] = dice.randrange(128)
        return bytes(whole[: dice.randrange(len(whole))] if dice.random() < 0.3 else whole)
    payload = dice.choice(
        [dice.randbytes(dice.randrange(64)), headers(), message(GOOD), field(b"x", b"y" * 9_000)]
    )
    kind, flags = dice.choice([*range(CONTINUATION + 1), 0xFF]), dice.randrange(256)
    stream = dice.choice([0, 1, 2, 3, 5, 2**31 - 1])
    size = dice.choice([None, None, None, 0, len(payload) + 1, 2**24 - 1])
    return frame(kind, flags, stream, payload, size=size)
