"""Unary load: a list of encoded requests, so many of them in flight, over a few connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from http2 import CallFailed, Connection
from processes import Server

RESOLVE = "/sessionplane.v1.SessionService/ResolveSession"
CONNECTIONS = 4
PATIENCE_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """What every workload is given: the servers, a folder on the disk, how much to do and how often."""

    ours: Server
    floor: Server
    folder: Path
    scale: float
    rounds: int

    def size(self, nominal: int, *, step: int = 1) -> int:
        """Return a workload's size: its nominal one by the scale, in whole steps."""
        return max(1, round(nominal * self.scale / step)) * step


@asynccontextmanager
async def connected(server: Server, count: int = CONNECTIONS) -> AsyncIterator[list[Connection]]:
    """Open connections to a server, and close them."""
    async with AsyncExitStack() as stack:
        connections = []
        for _ in range(count):
            connection = await Connection.open(server.address)
            stack.push_async_callback(connection.close)
            connections.append(connection)
        yield connections


async def patiently(awaitable: Awaitable[T]) -> T:
    """Wait, but not for ever: a server that hangs ends the benchmarks."""
    return await asyncio.wait_for(awaitable, PATIENCE_S)


async def make_calls(
    connections: Sequence[Connection],
    path: str,
    requests: Sequence[bytes],
    *,
    in_flight: int,
    take: Callable[[bytes], None] | None = None,
) -> None:
    """Make all calls, `in_flight` of them at a time. Raises CallFailed with the first that is not OK."""
    if requests:
        await patiently(_Calls(connections, path, requests, take).run(in_flight))


class _Calls:
    """The calls of one load. It is the handler of each of them: an end makes the next one begin."""

    def __init__(
        self,
        connections: Sequence[Connection],
        path: str,
        requests: Sequence[bytes],
        take: Callable[[bytes], None] | None,
    ) -> None:
        self._lanes = [_Lane(self, connection) for connection in connections]
        self._path = path
        self._requests = iter(requests)
        self._open = len(requests)
        self._take = take
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, in_flight: int) -> None:
        for number in range(in_flight):
            self.begin(self._lanes[number % len(self._lanes)])
        await self._done

    def begin(self, lane: _Lane) -> None:
        request = next(self._requests, None)
        if request is not None:
            lane.connection.call(self._path, lane, request)

    def message(self, data: bytes) -> None:
        if self._take is not None:
            self._take(data)

    def end(self, status: str, lane: _Lane) -> None:
        if status != "0" and not self._done.done():
            self._done.set_exception(CallFailed(f"{self._path} ended with status {status}"))
        self._open -= 1
        if not self._open and not self._done.done():
            self._done.set_result(None)
        self.begin(lane)


class _Lane:
    """The calls of one connection."""

    def __init__(self, calls: _Calls, connection: Connection) -> None:
        self.connection = connection
        self._calls = calls
        self.message = calls.message

    def end(self, status: str) -> None:
        self._calls.end(status, self)
