"""A person at a shell: types a block, reads what is printed, types the next."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_OVER = "--- over ---"


class Terminal:
    """One bash that keeps its variables and functions from block to block. What it prints is read as it comes."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._printed: list[str] = []

    async def run(self, commands: str) -> str:
        """Types commands and returns what they printed, errors included, once the last has ended."""
        self._type(commands)
        return await self.ended()

    async def begin(self, commands: str) -> None:
        """Types commands of which the last goes on for a while, and waits until it prints something."""
        self._type(commands)
        self._printed.append(await self._line())

    async def ended(self) -> str:
        """Returns what was printed since the commands were typed, once the last has ended."""
        while (line := await self._line()) != _OVER:
            self._printed.append(line)
        printed, self._printed = self._printed, []
        return "\n".join(printed)

    def _type(self, commands: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{commands}\nprintf '\\n%s\\n' '{_OVER}'\n".encode())

    async def _line(self) -> str:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, f"the shell ended after {self._printed}"
        return line.decode().rstrip("\n")


@asynccontextmanager
async def terminal(directory: Path, environment: Mapping[str, str]) -> AsyncIterator[Terminal]:
    """A terminal in a directory; what still runs in it at the end is killed with it."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "--noprofile",
        "--norc",
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        cwd=directory,
        env=dict(environment),
        start_new_session=True,
    )
    try:
        yield Terminal(process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
