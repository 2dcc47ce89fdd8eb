"""The command line as a process of its own: run to its end, or begun and read line by line."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.forked import Forked, forked


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit code and what it printed."""

    code: int | None
    out: str
    err: str


async def command(*arguments: str, given: str = "", **variables: str) -> Ended:
    """Run a command to its end, with what it is given on standard input."""
    return await end(await start(*arguments, **variables), given)


async def start(*arguments: str, **variables: str) -> Forked:
    """Start a command. Who cannot be sure that it comes to an end uses `begun`."""
    env = os.environ | variables
    return await forked("sessionplane", *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env)


async def end(process: Forked | Process, given: str = "") -> Ended:
    """Let a command come to its end."""
    out, err = await process.communicate(given.encode())
    return Ended(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def begun(*arguments: str, **variables: str) -> AsyncIterator[Forked]:
    """Begin a command; what still runs at the end is killed."""
    process = await start(*arguments, **variables)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_with(stream: asyncio.StreamReader | None, text: str) -> str:
    """Read up to the line that holds this text."""
    assert stream is not None
    while line := (await stream.readline()).decode():
        if text in line:
            return line
    raise AssertionError(f"the command ended without {text!r}")
