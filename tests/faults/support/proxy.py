"""A network that fails: a TCP proxy whose connections are cut in the middle of a frame, or go silent without a FIN."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

READ_BYTES = 1 << 14


@dataclass(eq=False)
class _Link:
    """One connection through the proxy. A direction that is silent loses what is sent, and nobody is told."""

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    silent_up: bool = False
    silent_down: bool = False

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Stands in front of one address."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._links: set[_Link] = set()
        self.address = ""
        self.connections = 0
        self.cut_after: Callable[[], int] | None = None
        """Returns after how many bytes from the server the next connection is cut, with RST on both sides."""

    def silence(self, *, up: bool = False, down: bool = False) -> None:
        """Let nothing through any more on the connections that there are; later ones are good."""
        for link in self._links:
            link.silent_up, link.silent_down = up, down

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a client and connect it through."""
        self.connections += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link((writer, server_writer))
        self._links.add(link)
        room = self.cut_after() if self.cut_after else None
        up = asyncio.create_task(_pipe(reader, server_writer, lambda: link.silent_up))
        down = asyncio.create_task(_pipe(server_reader, writer, lambda: link.silent_down, room))
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        self._links.discard(link)
        link.cut()
        await asyncio.wait({up, down})

    def close(self) -> None:
        """Cut everything."""
        for link in self._links:
            link.cut()


async def _pipe(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    silent: Callable[[], bool],
    room: int | None = None,
) -> None:
    """Carry bytes one way, at most `room` of them, to the end of the connection."""
    try:
        while data := await reader.read(READ_BYTES):
            if silent():
                continue
            piece = data if room is None else data[:room]
            writer.write(piece)
            await writer.drain()
            if room is not None and not (room := room - len(piece)):
                return
    except ConnectionError:
        return


def anywhere(seed: int, least: int, most: int) -> Callable[[], int]:
    """Return places to cut at, the same for the same seed: most of them lie in the middle of a frame."""
    dice = random.Random(seed)
    return lambda: dice.randint(least, most)


@asynccontextmanager
async def proxy(target: str) -> AsyncIterator[Proxy]:
    """Listen on a free port, and carry everything to the target."""
    made = Proxy(target)
    server = await asyncio.start_server(made.join, "127.0.0.1", 0)
    made.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        made.close()
        await server.wait_closed()
