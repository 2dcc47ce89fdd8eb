"""The self-test: its parts, the process that each one runs in, and what they found.

A part runs in a process group and a folder of its own, so that nothing of it is left whatever becomes of it, and the
folder stays if it failed. Nobody stops a part but by ending its standard input: this process does, also when it
is killed, and the part does the rest (see `child`). It must never print; whoever runs it observes.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Protocol

from sessionplane.proof.parts import Outcome

STOP_S = 10.0
"""How long a part may take to clear away."""

_LINE_BYTES_MAX = 1 << 24
_LAST_WORDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PartInfo:
    """A part before it runs: what runs it (`module:function`), how often it does what by default, what it does.

    `seeded` is the name of the argument that takes a seed, empty if it has none.
    """

    run: str
    count: int
    unit: str
    does: str
    seeded: str = ""


PARTS: Mapping[str, PartInfo] = {
    "storm": PartInfo(
        run="sessionplane.proof.storm:run",
        count=10_000,
        unit="calls",
        does="Resolve one new key with N calls at once, from eight processes.",
    ),
    "kill": PartInfo(
        run="sessionplane.proof.kill.part:run",
        count=8,
        unit="kills",
        does="Kill a server under load N times, and judge what its clients saw.",
        seeded="seed",
    ),
    "sim": PartInfo(
        run="sessionplane.proof.sim.part:run",
        count=500,
        unit="seeds",
        does="Simulate N small worlds in which everything goes wrong.",
        seeded="first",
    ),
    "powercut": PartInfo(
        run="sessionplane.proof.powercut.campaign:run",
        count=1_000,
        unit="cuts",
        does="Cut the power at N moments of a real server's work; this needs strace.",
        seeded="seed",
    ),
    "liveness": PartInfo(
        run="sessionplane.proof.liveness.short:run",
        count=5,
        unit="seconds",
        does="Measure under N seconds of load how soon events and interrupts arrive.",
    ),
}
"""All parts in the order in which they run. A name is also an option of the command."""


class Verdict(StrEnum):
    """What became of a part."""

    OK = "OK"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a part found, the command that runs it again, and where its evidence is if it failed."""

    name: str
    outcome: Outcome
    again: str
    evidence: Path | None = None

    @property
    def verdict(self) -> Verdict:
        """In one word."""
        if self.outcome.failures:
            return Verdict.FAILED
        return Verdict.SKIPPED if self.outcome.skipped else Verdict.OK


class Observer(Protocol):
    """Who is told how it goes, from the event loop."""

    def started(self, name: str, count: int) -> None:
        """A part begins."""

    def progressed(self, name: str, done: int, of: int) -> None:
        """It has done so much."""

    def ended(self, result: Result) -> None:
        """It is over."""


async def selftest(
    counts: Mapping[str, int], *, seed: int, observer: Observer, parts: Mapping[str, PartInfo] = PARTS
) -> Sequence[Result]:
    """Run the parts that have a count, in their order, and return what they found.

    All of it happens in a temporary folder; what is left of it in the end is the evidence of parts that failed.
    Cancelled, it ends the part under way and leaves nothing.
    """
    root = Path(mkdtemp(prefix="sessionplane-selftest-"))
    results = []
    try:
        for name, part in parts.items():
            if count := counts.get(name, 0):
                observer.started(name, count)
                results.append(await _Run(name, part, count, seed, root, observer).result())
                observer.ended(results[-1])
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    if not any(result.evidence for result in results):
        shutil.rmtree(root, ignore_errors=True)
    return results


class _Run:
    """One part under way."""

    def __init__(
        self, name: str, part: PartInfo, count: int, seed: int, root: Path, observer: Observer
    ) -> None:
        self._name = name
        self._part = part
        self._count = count
        self._seed = seed
        self._folder = root / name
        self._errors = root / f"{name}.log"
        self._observer = observer

    async def result(self) -> Result:
        """Run it."""
        self._folder.mkdir()
        began_s = time.monotonic()
        told = await self._told()
        outcome = Outcome(**told) if told else self._broke_off(time.monotonic() - began_s)
        seeds = f" --seed {self._seed}" if self._part.seeded else ""
        result = Result(
            name=self._name,
            outcome=outcome,
            again=f"sessionplane selftest --only {self._name} --{self._name} {self._count}{seeds}",
            evidence=self._kept() if outcome.failures else None,
        )
        if result.evidence is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._errors.unlink()
        return result

    async def _told(self) -> dict[str, Any]:
        """Run the process; returns the outcome that it told, or nothing if it broke off."""
        with self._errors.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sessionplane.proof.child", self._part.run, str(self._count)),
                *(str(self._folder), *self._seeds()),
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                limit=_LINE_BYTES_MAX,
                start_new_session=True,  # ctrl-C in a terminal is for this process, which passes it on
            )
        try:
            return await self._followed(process)
        finally:
            await _ended(process)

    def _seeds(self) -> Sequence[str]:
        return [f"{self._part.seeded}={self._seed}"] if self._part.seeded else []

    async def _followed(self, process: Process) -> dict[str, Any]:
        outcome: dict[str, Any] = {}
        assert process.stdout is not None  # noqa: S101  it was started with a pipe
        async for line in process.stdout:
            said = json.loads(line)
            if "outcome" in said:
                outcome = said["outcome"]
            else:
                self._observer.progressed(self._name, said["done"], said["of"])
        return outcome

    def _broke_off(self, seconds: float) -> Outcome:
        """A part that ended without an outcome has shown nothing."""
        last_words = self._errors.read_text(errors="replace").strip().splitlines()[-_LAST_WORDS:]
        return Outcome(
            name=self._name,
            claim=self._part.does,
            checked=0,
            unit=self._part.unit,
            failures=[f"It broke off. {' '.join(last_words) or 'It said nothing.'}"],
            seconds=seconds,
        )

    def _kept(self) -> Path:
        """Put what the part wrote to standard error beside what it left."""
        self._errors.rename(self._folder / "stderr.log")
        return self._folder


async def _ended(process: Process) -> None:
    """Ask the part to stop, unless it has, and clear away whatever it may have left."""
    assert process.stdin is not None  # noqa: S101  it was started with a pipe
    process.stdin.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 2 * STOP_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
