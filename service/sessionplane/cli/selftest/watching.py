"""How the self-test goes, on stderr: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sessionplane.cli.calls import say
from sessionplane.proof.selftest import PARTS, Observer, Result

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_EVERY_S = 10.0


@contextmanager
def watching(*, quiet: bool) -> Iterator[Observer]:
    """Give whom the test is to tell. Quiet, nothing is said unless somebody sits there."""
    if sys.stderr.isatty():
        with _bars() as progress:
            yield Bars(progress)
    else:
        yield Silence() if quiet else Lines()


class Silence:
    """For a program that wants the verdict only."""

    def started(self, name: str, count: int) -> None:
        """Say nothing."""

    def progressed(self, name: str, done: int, of: int) -> None:
        """Say nothing."""

    def ended(self, result: Result) -> None:
        """Say nothing."""


class Lines:
    """For a log: when a part begins, every ten seconds, and when it is over."""

    def __init__(self) -> None:
        self._told_at = 0.0

    def started(self, name: str, count: int) -> None:
        """Say that it begins."""
        self._told_at = time.monotonic()
        say(f"{name}: {count:,} {PARTS[name].unit} ...")

    def progressed(self, name: str, done: int, of: int) -> None:
        """Say how far it is, unless that was said a moment ago."""
        now = time.monotonic()
        if now - self._told_at >= _LINE_EVERY_S:
            self._told_at = now
            say(f"{name}: {done:,} of {of:,}")

    def ended(self, result: Result) -> None:
        """Say what became of it."""
        say(f"{result.name}: {result.verdict}, in {result.outcome.seconds:.0f} s")


class Bars:
    """For a person: a bar for each part, which stays."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def started(self, name: str, count: int) -> None:
        """Add a bar."""
        self._tasks[name] = self._progress.add_task(name, total=count, verdict="")

    def progressed(self, name: str, done: int, of: int) -> None:
        """Move it."""
        self._progress.update(self._tasks[name], completed=done, total=of)

    def ended(self, result: Result) -> None:
        """Stop it, full if all was done."""
        self._progress.update(self._tasks[result.name], verdict=result.verdict)
        self._progress.stop_task(self._tasks[result.name])


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[verdict]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress
