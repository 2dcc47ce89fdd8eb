"""A recording: what real servers did to one folder, what they sent, and what their clients were answered.

Owns the files of a recording, so that a cut can be looked at again. Servers work on one folder, one after the other.
It is empty at first. One is stopped as operators do it, one is killed, under one the power fails, and each starts from
what was left. So the cuts that are tried later also fall into recoveries, and into what comes after them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any

import grpc

from sessionplane.proof.powercut.disk import Disk, Happening, PowerCut
from sessionplane.proof.powercut.evidence import Answer
from sessionplane.proof.powercut.judge import DATABASE, lay_out
from sessionplane.proof.powercut.trace import Event, Sent, parse, traced
from sessionplane.proof.powercut.traffic import Traffic

SERVER = (sys.executable, "-m", "sessionplane")

_STOPS_S = 30
_KILLED_AT = range(20, 40)
"""Of the flushes of one thread, and none makes as many before its server is ready."""
_TURNS_MAX = 100
_ABOUT = "recording.json"
_BACK_SOON = (("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 50))


class End(Enum):
    """What becomes of a server."""

    STOPPED = "stopped as operators do it"
    KILLED = "killed as it was about to flush a commit"
    CUT = "lost its power"
    LAST = "stopped at last"


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
    ends: Sequence[End] = tuple(End),
    seed: int = 1,
) -> Recording:
    """Make a recording in an empty folder: a server for each of the `ends`. `server` is what `serve` is a command of;
    `seed` says when a server is killed, and when and how the power fails.

    Raises RecordingFailed, and NotUnderstood for a trace that cannot be followed.
    """
    disk = folder / "disk"
    disk.mkdir()
    made: list[_Start] = []
    chance = Random(seed)
    unanswered: list[Any] = []
    for number, end in enumerate(ends):
        run = _Run(folder, number, server, chance.choice(_KILLED_AT) if end is End.KILLED else 0)
        answers = asyncio.run(run.answers(work, unanswered))
        made.append(_Start(events=_events(folder, number, disk), answers=answers))
        _compare(_replayed(made), disk)
        if end is End.CUT:
            made[-1] = _with_cut(made[-1], chance)
            # Nobody has them open yet, so what stands in them is known.
            lay_out(disk, {name: content or b"" for name, content in _replayed(made).whole().items()})
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


def _compare(told: Disk, disk: Path) -> None:
    """Make sure that nothing was overlooked: the files are what the trace adds up to. Raises RecordingFailed."""
    whole = told.whole()
    real = {path.name: path.read_bytes() for path in disk.iterdir()}
    wrong = [
        name for name in whole.keys() | real.keys() if whole.get(name, b"?") not in {real.get(name), None}
    ]
    if wrong:
        raise RecordingFailed(f"The trace does not add up to what {wrong} hold: something was overlooked.")


def _with_cut(start: _Start, chance: Random) -> _Start:
    """Let the power fail somewhere in the second half of what a server did. What was answered later never was."""
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


@dataclass(frozen=True, slots=True)
class _Run:
    """One server process under strace; killed at one of its flushes, or stopped as operators do it."""

    folder: Path
    number: int
    server: Sequence[str]
    killed_at_flush: int

    async def answers(self, work: Work, unanswered: list[Any]) -> list[Answer]:
        """Serve for as long as the work takes, or until the server is killed; returns what it answered.

        Raises RecordingFailed if it does not end as it should, or refuses what every healthy server does.
        """
        answers: list[Answer] = []
        process = await self._start()
        try:
            async with grpc.aio.insecure_channel(self._address, options=_BACK_SOON) as channel:
                await self._ready(channel, process)
                for turn in range(_TURNS_MAX if self.killed_at_flush else 1):
                    clients = Traffic(channel, f"start-{self.number}-{turn}", answers, unanswered)
                    await clients.ask_again()
                    await work(clients)
            await self._stop(process)
        except (grpc.aio.AioRpcError, ExceptionGroup) as failed:
            if not self.killed_at_flush or await _ended(process) != -signal.SIGKILL:
                raise RecordingFailed(f"A call failed: {failed!r}") from failed
        finally:
            if process.returncode is None:
                _signal(process, signal.SIGKILL)
                await process.wait()
        return answers

    @property
    def _address(self) -> str:
        return f"unix:{self.folder / 'socket'}"

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.number}.log"

    async def _start(self) -> Process:
        command = [*self.server, "serve", "--listen", self._address]
        command += ["--db", str(self.folder / "disk" / DATABASE)]
        into = self.folder / f"{self.number}.strace"
        with self._log.open("wb") as log:
            return await asyncio.create_subprocess_exec(
                *traced(command, into, killed_at_flush=self.killed_at_flush),
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    async def _ready(self, channel: grpc.aio.Channel, process: Process) -> None:
        """Wait until the server can be reached. Raises RecordingFailed if it ends instead."""
        reached = asyncio.create_task(channel.channel_ready())
        ended = asyncio.create_task(process.wait())
        await asyncio.wait({reached, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not reached.done():
            reached.cancel()
            raise RecordingFailed(f"The server did not start; see {self._log}.")

    async def _stop(self, process: Process) -> None:
        """Ask the server to stop."""
        if self.killed_at_flush:
            raise RecordingFailed("The server was not killed.")
        _signal(process, signal.SIGTERM)
        code = await _ended(process)
        if code != 0:
            raise RecordingFailed(f"The server ended with {code}; see {self._log}.")


async def _ended(process: Process) -> int:
    """Return how a process ends. Raises RecordingFailed if it does not."""
    try:
        return await asyncio.wait_for(process.wait(), _STOPS_S)
    except TimeoutError:
        raise RecordingFailed(f"The server did not end within {_STOPS_S} s.") from None


def _signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to what strace runs: strace itself would leave it behind, and ends after it."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    with suppress(FileNotFoundError, ProcessLookupError):
        for child in children.read_text(encoding="ascii").split():
            os.kill(int(child), number)
