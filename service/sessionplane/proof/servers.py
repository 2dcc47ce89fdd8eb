"""A server as people run it: a process of its own on a file, to be killed, stopped and started again.

The same port serves across restarts, since that is what clients come back to. It is taken from below the range
that the kernel hands out by itself: no outgoing connection can sit on it while the server is away.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

READY_S = 30.0
_PORTS = range(15_000, 32_000)
_SETTINGS = "SESSIONPLANE_"
_POLLS = (("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 20))


class DidNotStart(Exception):
    """A server ended instead of serving. The message is what it wrote."""


class AlreadyEnded(Exception):
    """A server that was to be killed had ended by itself. The message is what it wrote."""


@dataclass(frozen=True, slots=True)
class Exited:
    """How a process ended: its code (minus the signal's number if that killed it) and its standard error."""

    code: int
    errors: str


class ServerProcess:
    """`sessionplane serve` on one file and one port. Bounds are set by the environment, as an operator would."""

    def __init__(
        self, database: Path, *, limits: Mapping[str, int] | None = None, port: int | None = None
    ) -> None:
        self.database = database
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._errors = database.with_name(f"{self.port}-{database.stem}.stderr")
        # Whatever the caller's own shell is set up for, this server has the settings that are given here.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
        self._environment = kept | {
            f"{_SETTINGS}LIMITS__{name.upper()}": str(value) for name, value in (limits or {}).items()
        }
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it and wait until it says that it serves. Raises DidNotStart, and TimeoutError."""
        await self.spawn()
        serving = asyncio.create_task(_serving(self.address))
        exited = asyncio.create_task(self.exited())
        await asyncio.wait({serving, exited}, return_when=asyncio.FIRST_COMPLETED)
        if exited.done():
            serving.cancel()
            raise DidNotStart(str(exited.result()))
        exited.cancel()
        await serving

    async def spawn(self) -> None:
        """Start it, and do not wait."""
        with self._errors.open("wb") as errors:
            self._process = await self._begin(
                *("serve", "--listen", self.address, "--db", str(self.database)),
                errors=errors.fileno(),
                environment=self._environment,
            )

    @staticmethod
    async def _begin(*arguments: str, errors: int, environment: Mapping[str, str]) -> Process:
        """Begin a command that writes its errors to a descriptor. Tests have another way, which costs less."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sessionplane", *arguments),
            stdout=DEVNULL,
            stderr=errors,
            env=environment,
        )

    async def kill(self) -> None:
        """Kill -9, and wait until the kernel has taken it away. Raises AlreadyEnded if it had ended by itself."""
        if self.runs:
            await self._signal(signal.SIGKILL)
        if (ended := await self.exited()).code != -signal.SIGKILL:
            raise AlreadyEnded(str(ended))

    async def terminate(self) -> Exited:
        """Ask it to stop, and return how it did."""
        await self._signal(signal.SIGTERM)
        return await self.exited()

    def freeze(self) -> None:
        """Stop it as a paused machine does: it neither runs nor ends, and its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, as if nothing had been."""
        os.kill(self.pid, signal.SIGCONT)

    async def exited(self) -> Exited:
        """Wait for its end."""
        code = await self._started().wait()
        return Exited(code, self.written())

    def written(self) -> str:
        """Return what this process has written to its standard error so far."""
        return self._errors.read_text()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._started().pid

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    def _started(self) -> Process:
        if self._process is None:
            raise RuntimeError("the server was not started yet")
        return self._process

    async def _signal(self, number: signal.Signals) -> None:
        process = self._started()
        process.send_signal(number)
        await process.wait()


def server_process(
    database: Path, *, limits: Mapping[str, int] | None = None
) -> AbstractAsyncContextManager[ServerProcess]:
    """Run a server process until the context is left; it is killed if it still runs then. Raises DidNotStart."""
    return started(ServerProcess(database, limits=limits))


@asynccontextmanager
async def started(server: ServerProcess) -> AsyncIterator[ServerProcess]:
    """Start a server and keep it until the context is left; it is killed if it still runs then. Raises DidNotStart."""
    try:
        await server.start()
        yield server
    finally:
        if server.runs:
            await server.kill()


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - a port is no secret
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


async def _serving(address: str) -> None:
    """Wait for SERVING, through whatever the connection suffers meanwhile. Raises TimeoutError."""
    async with asyncio.timeout(READY_S), grpc.aio.insecure_channel(address, options=_POLLS) as channel:
        while not await _says_serving(channel):
            pass


async def _says_serving(channel: grpc.aio.Channel) -> bool:
    """Watch until it says so; the health service tells each change. False if the watch was broken off."""
    watch = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )(HealthCheckRequest(), wait_for_ready=True)
    try:
        async for answer in watch:
            if answer.status == HealthCheckResponse.SERVING:
                return True
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
    finally:
        watch.cancel()
    return False
