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
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.serving import BOUNDS

READY_S = 30.0
_PORTS = range(15_000, 32_000)


@dataclass(frozen=True)
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
        bounds = BOUNDS | dict(limits or {})
        self._environment = os.environ | {
            f"SESSIONPLANE_LIMITS__{name.upper()}": str(value) for name, value in bounds.items()
        }
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it and wait until it says that it serves."""
        await self.spawn()
        serving = asyncio.create_task(_serving(self.address))
        exited = asyncio.create_task(self.exited())
        await asyncio.wait({serving, exited}, return_when=asyncio.FIRST_COMPLETED)
        if exited.done():
            serving.cancel()
            raise AssertionError(f"the server did not start: {exited.result()}")
        exited.cancel()
        await serving

    async def spawn(self) -> None:
        """Start it, and do not wait."""
        with self._errors.open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sessionplane",
                "serve",
                "--listen",
                self.address,
                "--db",
                str(self.database),
                stdout=DEVNULL,
                stderr=errors,
                env=self._environment,
            )

    async def kill(self) -> None:
        """Kill -9, and wait until the kernel has taken it away."""
        assert await self._signal(signal.SIGKILL) == -signal.SIGKILL

    async def terminate(self) -> Exited:
        """Ask it to stop, and return how it did."""
        await self._signal(signal.SIGTERM)
        return await self.exited()

    async def exited(self) -> Exited:
        """Wait for its end."""
        assert self._process is not None
        code = await self._process.wait()
        return Exited(code, self._errors.read_text())

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def _signal(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return await self._process.wait()


@asynccontextmanager
async def server_process(
    database: Path, *, limits: Mapping[str, int] | None = None
) -> AsyncIterator[ServerProcess]:
    """Run a server process until the context is left; it is killed if it still runs then."""
    server = ServerProcess(database, limits=limits)
    try:
        await server.start()
        yield server
    finally:
        if server.runs:
            await server.kill()


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


async def _serving(address: str) -> None:
    """Wait for SERVING: the health service tells each change, so nothing is asked twice."""
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=READY_S
        )
        async for answer in watch:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                watch.cancel()
                return
