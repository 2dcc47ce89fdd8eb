"""The command line as a process of its own: run to its end, or begun and read line by line."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    code: int | None
    out: str
    err: str


async def command(*arguments: str, **variables: str) -> Ended:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sessionplane", *arguments, stdout=PIPE, stderr=PIPE, env=os.environ | variables
    )
    out, err = await process.communicate()
    return Ended(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def begun(*arguments: str, **variables: str) -> AsyncIterator[Process]:
    """Begin a command; what still runs at the end is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sessionplane", *arguments, stdout=PIPE, stderr=PIPE, env=os.environ | variables
    )
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
