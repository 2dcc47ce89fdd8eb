"""The command line as a process of its own, run to its end."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
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
