"""Floods over HTTP/2: whoever sends them pays more than the server, which answers others meanwhile and forgets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sessionplane.proof.servers import ServerProcess
from sessionplane.v1.session_pb2 import SessionRef
from sessionplane.v1.session_service_pb2 import StreamEventsRequest
from tests.faults.support import raw
from tests.faults.support.costs import resident_bytes
from tests.faults.support.raw import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    call,
    field,
    frame,
    headers,
    message,
)
from tests.support.processes import server_process
from tests.support.wire import DEADLINE_S, wired

MIB = 1024 * 1024
BATCH = 250
STREAM = StreamEventsRequest(session=SessionRef(key="idle")).SerializeToString()
INDEXED_62 = bytes([0x80 | 62])
"""The newest entry of the dynamic table: one byte that stands for all of it."""


async def _rapid_resets(address: str, count: int) -> None:
    """Open calls and take them back at once (CVE-2023-44487)."""
    await _opened(
        address, count, lambda number: call(number, raw.STREAM, STREAM) + frame(RST_STREAM, 0, number, CANCEL)
    )


async def _unfinished_calls(address: str, count: int) -> None:
    """Open calls whose message never comes to its end."""
    cut = frame(DATA, 0, 1, message(b"abc", size=1_000_000))[9:]
    await _opened(
        address,
        count,
        lambda number: frame(HEADERS, END_HEADERS, number, headers()) + frame(DATA, 0, number, cut),
    )


async def _unread_streams(address: str, count: int) -> None:
    """Open streams and read nothing, with a window for nothing."""
    nothing = frame(SETTINGS, payload=b"\0\4\0\0\0\0")
    await _opened(address, count, lambda number: call(number, raw.STREAM, STREAM), raw.PREFACE, nothing)


async def _header_bombs(address: str, count: int) -> None:
    """One large header, and thousands of references to it in each call."""
    bomb = headers() + b"\x40" + field(b"x-big", b"a" * 3_900)[1:] + INDEXED_62 * 11_000
    await _opened(address, count // 100, lambda number: frame(HEADERS, END_HEADERS, number, bomb))


async def _opened(address: str, count: int, made: Callable[[int], bytes], *first: bytes) -> None:
    """Send something for each of so many streams, then stay a moment, as whoever measures the effect would."""
    async with raw.raw(address, *first) as connection:
        reading = asyncio.create_task(connection.drained())
        for begin in range(0, count, BATCH):
            numbers = range(2 * begin + 1, 2 * min(begin + BATCH, count), 2)
            if not await connection.send(*(made(number) for number in numbers)):
                break
        await _answered(address)
        reading.cancel()


async def _endless_headers(address: str, count: int) -> None:
    """A header block that never ends (CVE-2024-27316)."""
    more = frame(CONTINUATION, 0, 1, field(b"x", b"a" * 16_000))
    await _repeated(address, count // BATCH, frame(HEADERS, 0, 1, headers()), more * BATCH)


async def _settings(address: str, count: int) -> None:
    """Settings, each of which asks for an acknowledgement."""
    await _repeated(address, count // BATCH, b"", frame(SETTINGS, payload=b"\0\4\0\0\xff\xff") * BATCH)


async def _pings(address: str, count: int) -> None:
    """Pings, each of which asks for an answer."""
    await _repeated(address, count // BATCH, b"", frame(PING, payload=b"12345678") * BATCH)


async def _repeated(address: str, times: int, first: bytes, then: bytes) -> None:
    async with raw.raw(address) as connection:
        await connection.send(first)
        for _ in range(times):
            if not await connection.send(then):
                break
        await _answered(address)


async def _slow_connections(address: str, count: int) -> None:
    """Connections that begin, say a byte now and then, and never come to the point."""
    async with AsyncExitStack() as stack:
        begun = [
            await stack.enter_async_context(raw.raw(address, raw.PREFACE[:5] if number % 2 else raw.PREFACE))
            for number in range(count // 20)
        ]
        for byte in raw.PREFACE[5:8]:
            for connection in begun:
                await connection.send(bytes([byte]))
        await _answered(address)


FLOODS: dict[str, tuple[Callable[[str, int], Awaitable[None]], int]] = {
    "rapid resets": (_rapid_resets, 600),
    "unfinished calls": (_unfinished_calls, 1_200),
    "unread streams": (_unread_streams, 700),
    "header bombs": (_header_bombs, 1_200),
    "endless headers": (_endless_headers, 200),
    "settings": (_settings, 100),
    "pings": (_pings, 100),
    "slow connections": (_slow_connections, 200),
}
"""Each with the MiB that it may make a server grow by, however often it comes."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    async with server_process(tmp_path / "plane.db", limits={"session_streams_max": 20_000}) as started:
        async with wired(started.address) as wire:
            await wire.resolve("idle")
        yield started


async def _answered(address: str) -> None:
    """Be a fresh client that is answered within its deadline."""
    async with wired(address) as fresh, asyncio.timeout(DEADLINE_S):
        await fresh.resolve("idle")


async def _forgotten(server: ServerProcess) -> None:
    """Assert that nothing is left of a flood: no stream, and no bug in the log."""
    async with wired(server.address) as wire, asyncio.timeout(DEADLINE_S):
        while (await wire.get("idle")).session.attached_count:
            continue
    written = server.written()
    assert "Traceback" not in written, written
    assert "incident" not in written, written


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_leaves_nothing_behind(server: ServerProcess, name: str) -> None:
    """Others are answered while it lasts, and nothing of it is left afterwards."""
    flood, _ = FLOODS[name]
    await flood(server.address, 1_000)
    await _answered(server.address)
    await _forgotten(server)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_that_goes_on_makes_a_server_grow_no_further(server: ServerProcess, name: str) -> None:
    """Eight floods of 9,000 each: memory stays within the bound, and others are answered all the time."""
    flood, grows_mib = FLOODS[name]
    before = resident_bytes(server.pid)
    for _ in range(8):
        await flood(server.address, 9_000)
    await _forgotten(server)
    grown = (resident_bytes(server.pid) - before) / MIB
    print(f"{name}: grown by {grown:.0f} MiB")  # noqa: T201 - a figure that people ask for
    assert grown < grows_mib
