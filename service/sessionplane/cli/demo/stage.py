"""What the story stands on: a server and actors as child processes, started, read, killed and waited for.

Every process that is started here is ended here, whatever happens to the story.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from sessionplane_client import Client

START_S = 20.0
"""How long a process may take to begin, on a busy machine."""

END_S = 30.0
"""How long a process may take to do what it was started for."""


class Process:
    """A child process that prints JSON lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[dict[str, Any]] = []

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read lines until one is wanted; raises EOFError if the process ends before."""
        async with asyncio.timeout(END_S):
            while True:
                line = await self._line()
                if line is None:
                    raise EOFError(f"it ended after {len(self.lines)} lines")
                if wanted(line):
                    return line

    async def rest(self) -> Self:
        """Read what is left and wait for the end."""
        async with asyncio.timeout(END_S):
            while await self._line() is not None:
                continue
            await self._process.wait()
        return self

    async def kill(self) -> None:
        """Kill -9, and read what it had printed before."""
        if self._process.returncode is None:
            self._process.kill()
        await self.rest()

    def freeze(self) -> None:
        """Stop the process as a paused machine does: it neither runs nor ends."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, as if nothing had been."""
        self._process.send_signal(signal.SIGCONT)

    async def start_gun(self) -> None:
        """Send the line that racers wait for."""
        if self._process.stdin is not None:
            self._process.stdin.write(b"go\n")
            await self._process.stdin.drain()

    async def _line(self) -> dict[str, Any] | None:
        if self._process.stdout is None:
            return None
        raw = await self._process.stdout.readline()
        if not raw:
            return None
        line: dict[str, Any] = json.loads(raw)
        self.lines.append(line)
        return line


class Stage:
    """A temporary database, the server on it, and whoever acts."""

    def __init__(self, directory: Path, ends: AsyncExitStack) -> None:
        self.database = directory / "demo.db"
        self._server_log = directory / "server.log"
        self._ends = ends
        self._server: asyncio.subprocess.Process | None = None
        self.target = f"127.0.0.1:{_free_port()}"

    async def start_server(self) -> None:
        """Start the server as a user would, and wait until it answers."""
        with self._server_log.open("ab") as log:
            self._server = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sessionplane", "serve"),
                *("--listen", self.target, "--db", str(self.database)),
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(START_S):
            await self._answering()

    async def _answering(self) -> None:
        """Wait for the first answer; the client's own retries do the waiting."""
        async with Client(self.target) as client:
            while True:
                try:
                    await client.server_info()
                except Exception as error:
                    if self._server is None or self._server.returncode is not None:
                        raise RuntimeError(self._server_log.read_text()) from error
                else:
                    return

    async def kill_server(self) -> None:
        """Kill -9."""
        if self._server is not None and self._server.returncode is None:
            self._server.kill()
            await self._server.wait()

    async def act(self, role: str, **arguments: Any) -> Process:
        """Start an actor; it is killed with the stage if it still lives then."""
        process = Process(
            await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "sessionplane.cli.demo.actors",
                    role,
                    self.target,
                    json.dumps(arguments),
                ),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 22,
            )
        )
        self._ends.push_async_callback(process.kill)
        return process


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Set up and clear away."""
    with TemporaryDirectory(prefix="sessionplane-demo-") as directory:
        async with AsyncExitStack() as ends:
            built = Stage(Path(directory), ends)
            ends.push_async_callback(built.kill_server)
            await built.start_server()
            yield built
