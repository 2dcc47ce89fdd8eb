"""A recording: what real servers did to one folder, what they sent, and what their clients were answered.

Owns the files of a recording, so that a cut can be looked at again. Servers work on one folder, one after the other.
It is empty at first. The first one is stopped as operators do it; under the second one the power fails; the third one
starts from what was left. So the cuts that are tried later also fall into a recovery, and into what comes after it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import grpc

from sessionplane.proof.powercut.disk import Disk, Happening, PowerCut
from sessionplane.proof.powercut.evidence import Answer
from sessionplane.proof.powercut.judge import DATABASE, lay_out
from sessionplane.proof.powercut.trace import Event, Sent, parse, traced
from sessionplane.proof.powercut.traffic import Traffic

SERVER = (sys.executable, "-m", "sessionplane")

_STOPS_S = 30
_ABOUT = "recording.json"
_BACK_SOON = (("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 50))


class RecordingFailed(Exception):
    """A server did not do what it was recorded for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What happened, in order, and what was answered."""

    happenings: Sequence[Happening]
    answers: Sequence[Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """One server process, and how the power failed under it: None if it did not."""

    events: Sequence[Event]
    answers: Sequence[Answer]
    cut_seed: int | None = None


Work = Callable[[Traffic], Awaitable[None]]
"""What clients do with a server."""


def record(
    folder: Path,
    work: Work,
    *,
    server: Sequence[str] = SERVER,
    starts: int = 3,
    cut_start: int = 1,
    seed: int = 1,
) -> Recording:
    """Make a recording in an empty folder. `server` is what `serve` is a command of; the power fails under the start of
    the number `cut_start`, if there is one, and `seed` says when and how.

    Raises RecordingFailed, and NotUnderstood for a trace that cannot be followed.
    """
    disk = folder / "disk"
    disk.mkdir()
    made: list[_Start] = []
    for number in range(starts):
        answers = asyncio.run(_one_start(folder, number, server, work))
        made.append(_Start(events=_events(folder, number, disk), answers=answers))
        if number == cut_start:
            made[-1] = _with_cut(made[-1], seed)
            lay_out(disk, _replayed(made).whole())
        elif _replayed(made).whole() != {path.name: path.read_bytes() for path in disk.iterdir()}:
            raise RecordingFailed("The files are not what the trace adds up to: something was overlooked.")
    _save(folder, disk, made)
    return _joined(made)


def load(folder: Path) -> Recording:
    """Read a recording. Raises NotUnderstood."""
    about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    made = []
    for number, start in enumerate(about["starts"]):
        events = _events(folder, number, Path(about["disk"]))[: start["events"]]
        answers = [Answer.from_json(each) for each in start["answers"]]
        made.append(_Start(events=events, answers=answers, cut_seed=start["cut_seed"]))
    return _joined(made)


def _save(folder: Path, disk: Path, made: Sequence[_Start]) -> None:
    starts = [
        {
            "events": len(start.events),
            "cut_seed": start.cut_seed,
            "answers": [each.to_json() for each in start.answers],
        }
        for start in made
    ]
    about = json.dumps({"disk": str(disk), "starts": starts}, indent=1)
    (folder / _ABOUT).write_text(about, encoding="utf-8")


def _events(folder: Path, number: int, disk: Path) -> list[Event]:
    with (folder / f"{number}.strace").open(encoding="ascii") as lines:
        return list(parse(lines, disk))


def _with_cut(start: _Start, seed: int) -> _Start:
    """Let the power fail somewhere in the second half of what a server did. What was answered later never was."""
    chance = Random(seed)
    events = start.events[: chance.randint(len(start.events) // 2, len(start.events))]
    sent = b"".join(event.data for event in events if isinstance(event, Sent))
    answers = [answer for answer in start.answers if answer.raw in sent]
    return _Start(events=events, answers=answers, cut_seed=chance.getrandbits(32))


def _joined(made: Sequence[_Start]) -> Recording:
    happenings: list[Happening] = []
    for start in made:
        happenings.extend(start.events)
        if start.cut_seed is not None:
            happenings.append(PowerCut(start.cut_seed))
    return Recording(happenings=happenings, answers=[answer for start in made for answer in start.answers])


def _replayed(made: Sequence[_Start]) -> Disk:
    disk = Disk()
    for each in _joined(made).happenings:
        disk.apply(each)
    return disk


async def _one_start(folder: Path, number: int, server: Sequence[str], work: Work) -> list[Answer]:
    answers: list[Answer] = []
    try:
        async with _serving(folder, server, f"{number}.strace") as channel:
            await work(Traffic(channel, answers, f"start-{number}"))
    except (grpc.aio.AioRpcError, ExceptionGroup) as failed:
        raise RecordingFailed(f"A call failed: {failed!r}") from failed
    return answers


@asynccontextmanager
async def _serving(folder: Path, server: Sequence[str], trace: str) -> AsyncIterator[grpc.aio.Channel]:
    """Serve the folder's disk under strace, on a socket beside it, until the context is left; then stop the server.

    Raises RecordingFailed if it did not end well.
    """
    socket = folder / "socket"
    command = [
        *server,
        "serve",
        "--listen",
        f"unix:{socket}",
        "--db",
        str(folder / "disk" / DATABASE),
    ]
    with (folder / f"{trace}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *traced(command, folder / trace),
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    try:
        async with grpc.aio.insecure_channel(f"unix:{socket}", options=_BACK_SOON) as channel:
            await _ready(channel, process, folder / f"{trace}.log")
            yield channel
        await _stop(process)
    finally:
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
            await process.wait()


async def _ready(channel: grpc.aio.Channel, process: Process, log: Path) -> None:
    """Wait until the server can be reached. Raises RecordingFailed if it ends instead."""
    reached = asyncio.create_task(channel.channel_ready())
    ended = asyncio.create_task(process.wait())
    await asyncio.wait({reached, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if not reached.done():
        reached.cancel()
        raise RecordingFailed(f"The server did not start; see {log}.")


async def _stop(process: Process) -> None:
    """Ask a server to stop. Raises RecordingFailed if it did not end well."""
    _signal(process, signal.SIGTERM)
    code = await asyncio.wait_for(process.wait(), _STOPS_S)
    if code != 0:
        raise RecordingFailed(f"The server ended with {code}.")


def _signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to what strace runs: strace itself would leave it behind, and ends after it."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    with suppress(FileNotFoundError, ProcessLookupError):
        for child in children.read_text(encoding="ascii").split():
            os.kill(int(child), number)
