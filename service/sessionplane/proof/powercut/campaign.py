"""Many cuts of one recording, on all processors, and what came of them: a part of the self-test.

Owns which moments are tried, the processes that try them, and how a failure is told, so that one command shows it
again. A cut is a number of events that had happened and a seed for what the disk made of the rest.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from sessionplane.proof.parts import Outcome, Progress
from sessionplane.proof.powercut import judge, recording
from sessionplane.proof.powercut.disk import Disk, Happening
from sessionplane.proof.powercut.evidence import Expected, NeverSent, expectations
from sessionplane.proof.powercut.recording import Recording, RecordingFailed
from sessionplane.proof.powercut.trace import Flushed, NotUnderstood, Sent, Write, unavailable
from sessionplane.proof.workers import workers

NAME = "power cuts"
CLAIM = "Whatever was acknowledged or shown survives a power cut at any moment."
_ROUNDS = range(4, 9)
_CUTS_A_ROUND = 250
_CUTS_A_TASK = 25
_FACTS_MIN = 100
_MEMORY = Path("/dev/shm")  # noqa: S108 - a scratch folder that is made there is its owner's alone


class Cut(NamedTuple):
    """The power fails when `at` events have happened; `seed` decides about what was not flushed."""

    at: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is wrong after a cut, and whether the disk had anything to lose at it."""

    cut: Cut
    problems: Sequence[str]
    at_risk: bool


def run(count: int, *, folder: Path, progress: Progress, seed: int = 1) -> Outcome:
    """Record anew and try `count` cuts. The recording stays in the folder if one of them fails; with another one, the
    same seed means other cuts.
    """
    began = time.monotonic()
    why = unavailable()
    if why:
        return _outcome(began, skipped=why)
    rounds = min(max(count // _CUTS_A_ROUND, _ROUNDS[0]), _ROUNDS[-1])
    with _scratch(folder) as scratch:
        try:
            made = recording.record(scratch, lambda clients: clients.work(rounds), seed=seed)
            wanted = expectations(made.happenings, made.answers)
        except (RecordingFailed, NotUnderstood, NeverSent) as error:
            return _outcome(began, failures=[f"The recording failed. {error}"])
        found = list(attempt(made, wanted, plan(made.happenings, count, seed), progress))
        failed = [each for each in found if each.problems]
        if failed:
            shutil.copytree(scratch, folder / "recording")
    failures = [describe(folder / "recording", each) for each in failed]
    return _outcome(
        began,
        checked=len(found),
        failures=failures or too_little(made, wanted, found),
        measured={
            "acknowledged_facts": len(wanted),
            "recorded_events": len(made.happenings),
            "flushes": sum(isinstance(each, Flushed) for each in made.happenings),
            "cuts_with_something_to_lose": sum(each.at_risk for each in found),
        },
    )


def _outcome(
    began: float,
    *,
    checked: int = 0,
    failures: Sequence[str] = (),
    measured: dict[str, float | str] | None = None,
    skipped: str = "",
) -> Outcome:
    return Outcome(
        name=NAME,
        claim=CLAIM,
        checked=checked,
        unit="cuts",
        failures=failures,
        measured=measured or {},
        seconds=time.monotonic() - began,
        skipped=skipped,
    )


def too_little(made: Recording, wanted: Sequence[Expected], found: Sequence[Found]) -> list[str]:
    """Say what a recording lacks without which its cuts show nothing."""
    first = next(
        (at for at, event in enumerate(made.happenings) if isinstance(event, Sent)), len(made.happenings)
    )
    folded = any(
        isinstance(event, Write) and event.name == judge.DATABASE and at > first
        for at, event in enumerate(made.happenings)
    )
    lacks = []
    if len(wanted) < _FACTS_MIN:
        lacks.append(f"only {len(wanted)} facts were acknowledged")
    if not folded:
        lacks.append("the log was never folded into the file")
    if not any(each.at_risk for each in found):
        lacks.append("at no cut was there anything to lose")
    return [f"The recording shows nothing: {each}." for each in lacks]


def plan(happenings: Sequence[Happening], count: int, seed: int = 1) -> list[Cut]:
    """Choose cuts, in order: half of them anywhere, half where more happens than that a log grows."""
    chance = Random(seed)
    rare = [at for at, event in enumerate(happenings, 1) if not _is_usual(event)] or [0]
    return sorted(
        Cut(chance.choice(rare) if number % 2 else chance.randint(0, len(happenings)), chance.getrandbits(32))
        for number in range(count)
    )


def _is_usual(event: Happening) -> bool:
    return isinstance(event, Sent) or (isinstance(event, Write) and event.name == f"{judge.DATABASE}-wal")


def describe(folder: Path, found: Found) -> str:
    """Return one line: the command that shows a failure again, and what it shows."""
    at, seed = found.cut
    command = f"python -m sessionplane.proof.powercut {folder} --at {at} --seed {seed}"
    return f"{command}: {found.problems[0]}"


def attempt(
    made: Recording, wanted: Sequence[Expected], cuts: Sequence[Cut], progress: Progress
) -> Iterator[Found]:
    """Try cuts, which come in order, on all processors; what is found comes in any order."""
    tasks = [cuts[first : first + _CUTS_A_TASK] for first in range(0, len(cuts), _CUTS_A_TASK)]
    done = 0
    with _scratch() as scratch, workers(_begin, scratch, made.happenings, wanted) as pool:
        for task in as_completed([pool.submit(_try, cuts) for cuts in tasks]):
            found = task.result()
            done += len(found)
            progress(done, len(cuts))
            yield from found


class Replay:
    """Tries the cuts of one recording, best in the order of their moments."""

    def __init__(self, folder: Path, happenings: Sequence[Happening], wanted: Sequence[Expected]) -> None:
        """Use a folder whose content is nobody's."""
        self._folder = folder
        self._happenings = happenings
        self._wanted = wanted
        self._judge = judge.Judge()
        self._disk = Disk()
        self._at = 0

    async def attempt(self, cut: Cut) -> Found:
        """Try one."""
        disk = self._replay(cut.at)
        judge.lay_out(self._folder, disk.cut(Random(cut.seed)))
        wanted = [fact for since, fact in self._wanted if since < cut.at]
        problems = await self._judge.problems(self._folder, wanted)
        return Found(cut=cut, problems=problems, at_risk=disk.unsafe_count > 0)

    def _replay(self, at: int) -> Disk:
        """Return the disk when so many events have happened."""
        if at < self._at:
            self._disk, self._at = Disk(), 0
        for event in self._happenings[self._at : at]:
            self._disk.apply(event)
        self._at = at
        return self._disk


_REPLAY: list[tuple[Replay, asyncio.Runner]] = []
"""A process's own, once it was begun."""


def _begin(folder: Path, happenings: Sequence[Happening], wanted: Sequence[Expected]) -> None:
    mine = folder / str(os.getpid())
    mine.mkdir()
    _REPLAY.append((Replay(mine, happenings, wanted), asyncio.Runner()))
    # Half of a cut's time would go into looking at these again and again.
    gc.freeze()


def _try(cuts: Sequence[Cut]) -> list[Found]:
    ((replay, runner),) = _REPLAY
    return [runner.run(replay.attempt(cut)) for cut in cuts]


@contextmanager
def _scratch(otherwise: Path | None = None) -> Iterator[Path]:
    """Make a folder, in memory if there is such a place: nothing of it has to outlive this process."""
    place = _MEMORY if os.access(_MEMORY, os.W_OK) else otherwise
    with tempfile.TemporaryDirectory(prefix="sessionplane-powercut-", dir=place) as made:
        yield Path(made)
