"""Processes of Python that start at once: each is forked from one that has imported everything already (`origin`).

Importing the server costs a second of CPU, importing what a command needs a third of one, and the suite starts hundreds
of both. They are processes like any other, with ids, signals, standard streams, variables and exit codes of their own.
Only the way from an executable to `__main__` is left out: who means that way starts Python himself.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from asyncio import StreamReader, StreamReaderProtocol, StreamWriter
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Forked:
    """A process, with as much of `asyncio.subprocess.Process` as tests use."""

    pid: int
    stdin: StreamWriter | None
    stdout: StreamReader | None
    stderr: StreamReader | None
    ended: asyncio.Task[int]

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal's number if that killed it; None while it runs."""
        return self.ended.result() if self.ended.done() else None

    def send_signal(self, number: signal.Signals) -> None:
        """Raises ProcessLookupError if it has ended."""
        if self.ended.done():
            raise ProcessLookupError
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill -9."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait until it has ended and the kernel has taken it away; returns its exit code."""
        return await asyncio.shield(self.ended)

    async def communicate(self, given: bytes = b"") -> tuple[bytes, bytes]:
        """Give it all of its input, and return all that it prints until its end."""
        if self.stdin is not None:
            self.stdin.write(given)
            self.stdin.close()
        out, err = await asyncio.gather(_rest(self.stdout), _rest(self.stderr))
        await self.wait()
        return out, err


async def _rest(stream: StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


async def forked(
    module: str,
    *arguments: str,
    stdin: int = DEVNULL,
    stdout: int = DEVNULL,
    stderr: int = DEVNULL,
    env: Mapping[str, str] | None = None,
) -> Forked:
    """Start `python -m module arguments`. The rest is as `asyncio.create_subprocess_exec` has it; a stream is a
    descriptor, DEVNULL or PIPE.
    """
    environ = dict(os.environ if env is None else env)
    assert _of_python(environ) == _of_python(os.environ), "what these say to Python was said to the origin"
    message = {"argv": [module, *arguments], "environ": environ, "folder": str(Path.cwd())}
    with ExitStack() as theirs:
        read_by_it, writer = await _input(stdin, theirs)
        written_by_it = [await _output(each, theirs) for each in (stdout, stderr)]
        ours, keeper = socket.socketpair()
        theirs.enter_context(keeper)
        descriptors = [read_by_it, *(descriptor for descriptor, _ in written_by_it), keeper.fileno()]
        socket.send_fds(_origin(), [json.dumps(message).encode()], descriptors)
    said, link = await asyncio.open_connection(sock=ours)
    pid = int(await said.readline())
    readers = [reader for _, reader in written_by_it]
    return Forked(pid, writer, *readers, asyncio.create_task(_end(said, link)))


def _of_python(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith("PYTHON")}


async def _input(how: int, theirs: ExitStack) -> tuple[int, StreamWriter | None]:
    """Return what the process reads from, and what writes to it."""
    if how != PIPE:
        return _descriptor(how, theirs), None
    descriptor, ours = os.pipe()
    theirs.callback(os.close, descriptor)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: StreamReaderProtocol(StreamReader()), os.fdopen(ours, "wb", buffering=0)
    )
    return descriptor, StreamWriter(transport, protocol, None, loop)


async def _output(how: int, theirs: ExitStack) -> tuple[int, StreamReader | None]:
    """Return what the process writes to, and what reads from it."""
    if how != PIPE:
        return _descriptor(how, theirs), None
    ours, descriptor = os.pipe()
    theirs.callback(os.close, descriptor)
    reader = StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: StreamReaderProtocol(reader), os.fdopen(ours, "rb", buffering=0)
    )
    return descriptor, reader


def _descriptor(how: int, theirs: ExitStack) -> int:
    if how != DEVNULL:
        return how
    descriptor = os.open(os.devnull, os.O_RDWR)
    theirs.callback(os.close, descriptor)
    return descriptor


async def _end(said: StreamReader, link: StreamWriter) -> int:
    """Wait for the keeper's last line."""
    code = int(await said.readline())
    link.close()
    return code


@cache
def _origin() -> socket.socket:
    """Start the process that all others are forked from. It ends when this one does, since the socket closes then."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        arguments = [sys.executable, "-m", "tests.support.origin", str(theirs.fileno())]
        process = subprocess.Popen(
            arguments, pass_fds=[theirs.fileno()], env=os.environ | {"GRPC_VERBOSITY": "NONE"}
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours
