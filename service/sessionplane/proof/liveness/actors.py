"""The processes that are killed or frozen: a runner and a subscriber.

Each is started as `python -m sessionplane.proof.liveness.actors ROLE ADDRESS NAME`, says `ready` once it is at work,
and goes on until it is ended from outside. They are processes so that kill -9 and SIGSTOP are real.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sessionplane.v1.session_pb2 import PRESENCE_OBSERVER
from sessionplane_client import Client

TEXT = "the answer is"


class Actor:
    """One of these processes, seen from the one that started it."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def ready(self) -> None:
        """Wait until it is at work. Raises RuntimeError if it ends instead."""
        if self.process.stdout is None or await self.process.stdout.readline() != b"ready\n":
            raise RuntimeError("an actor ended before it was at work")

    async def kill(self) -> None:
        """Kill -9, and wait until the kernel has taken it away."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


@asynccontextmanager
async def actor(role: str, address: str, name: str) -> AsyncIterator[Actor]:
    """Start a process and wait until it is at work; it is killed as the context is left."""
    arguments = ("-m", "sessionplane.proof.liveness.actors", role, address, name)
    started = Actor(await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE))
    try:
        await started.ready()
        yield started
    finally:
        await started.kill()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _runner(address: str, run_id: str) -> None:
    """Claim a run, write something, and stay alive for ever."""
    async with Client(address) as client:
        claim = await client.claim_run(run_id)
        if claim is None:
            raise RuntimeError(f"{run_id} could not be claimed")
        async with client.run(claim) as run:
            await run.write(TEXT)
            await run.flush()
            _say("ready")
            await run.interrupted.wait()


async def _subscriber(address: str, key: str) -> None:
    """Follow a session for ever."""
    async with Client(address) as client, client.stream(key=key, presence=PRESENCE_OBSERVER) as stream:
        _say("ready")
        async for _ in stream:
            continue


def main(role: str, address: str, name: str) -> None:
    """Play a role."""
    asyncio.run({"runner": _runner, "subscriber": _subscriber}[role](address, name))


if __name__ == "__main__":
    main(*sys.argv[1:])
