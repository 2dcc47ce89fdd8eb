"""What is ended underneath the gRPC core: the sockets at one address, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sessionplane.rpc.hanging_up import hang_up

Open = asyncio.StreamReader


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[tuple[str, Open]]:
    """Listen on an address, and connect to it: the address as it is then, and what the client reads."""

    async def greet(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        await left.wait()
        writer.close()

    left = asyncio.Event()
    async with await _listen(greet, address) as server:
        name = server.sockets[0].getsockname()
        where = address if address.startswith("unix:") else f"127.0.0.1:{name[1]}"
        reader, writer = await _connect(where)
        yield where, reader
        left.set()
        writer.close()
        server.close()


async def _listen(greet: object, address: str) -> asyncio.Server:
    if address.startswith("unix:"):
        return await asyncio.start_unix_server(greet, address.removeprefix("unix:"))
    return await asyncio.start_server(greet, "127.0.0.1", 0)


async def _connect(where: str) -> tuple[Open, asyncio.StreamWriter]:
    if where.startswith("unix:"):
        return await asyncio.open_unix_connection(where.removeprefix("unix:"))
    host, _, port = where.rpartition(":")
    return await asyncio.open_connection(host, int(port))


@pytest.mark.parametrize("kind", ["127.0.0.1:0", "unix:"])
async def test_what_was_written_arrives_and_then_nothing(kind: str, tmp_path: Path) -> None:
    """The client reads what was sent before, then the end; nobody can connect; another address does not notice."""
    address = f"unix:{tmp_path}/a.sock" if kind == "unix:" else kind
    async with connected(address) as (where, reader), connected("127.0.0.1:0") as (other, untouched):
        assert await reader.readexactly(5) == b"hello"
        hang_up(where)
        assert await reader.read() == b""
        with pytest.raises(OSError):  # noqa: PT011 - which one is the system's business
            await _connect(where)
        assert await untouched.readexactly(5) == b"hello"
        _, writer = await _connect(other)
        writer.close()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await untouched.read()
