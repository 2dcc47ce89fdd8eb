"""Parts for a test of the self-test: each behaves in a way of its own, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from fcntl import LOCK_EX, flock
from pathlib import Path

from sessionplane.proof.parts import Outcome, Progress

LOCK = "lock"
"""Held beside the folder of all parts by whatever of them still runs."""


def _outcome(count: int, *, failures: tuple[str, ...] = (), skipped: str = "", seed: int = 0) -> Outcome:
    return Outcome(
        name="trial",
        claim="It tries.",
        checked=count,
        unit="trials",
        failures=failures,
        skipped=skipped,
        measured={"seed": seed},
        seconds=0.5,
    )


def fine(count: int, *, folder: Path, progress: Progress, seed: int = 0) -> Outcome:
    """Do it, and write and print on the way."""
    (folder / "scratch").write_text("scratch")
    print("in between")  # noqa: T201
    subprocess.run(["echo", "from a program"], check=True)
    for done in range(1, count + 1):
        progress(done, count)
    return _outcome(count, seed=seed)


def broken(count: int, *, folder: Path, progress: Progress) -> Outcome:
    """Find failures and leave evidence."""
    (folder / "evidence").write_text("evidence")
    progress(count, count)
    return _outcome(count, failures=("trial 1 went wrong",))


def absent(count: int, *, folder: Path, progress: Progress) -> Outcome:  # noqa: ARG001
    """Need something that is not there."""
    return _outcome(0, skipped="there is no trial here")


def raises(count: int, *, folder: Path, progress: Progress) -> Outcome:  # noqa: ARG001
    """Be wrong itself."""
    raise RuntimeError("the trial itself is broken")


def dies(count: int, *, folder: Path, progress: Progress) -> Outcome:  # noqa: ARG001
    """Die without a word, with a program still running."""
    _sleeper(folder)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def endless(count: int, *, folder: Path, progress: Progress) -> Outcome:
    """Start a program, tell a first step, and go on until stopped."""
    _sleeper(folder)
    progress(1, count)
    while True:
        time.sleep(60)


def stubborn(count: int, *, folder: Path, progress: Progress) -> Outcome:
    """As `endless`, and deaf to any wish to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return endless(count, folder=folder, progress=progress)


def _sleeper(folder: Path) -> None:
    """Start a program that knows nobody. It and its starter hold a lock for as long as one of them lives."""
    with (folder.parents[1] / LOCK).open("w") as lock:
        flock(lock, LOCK_EX)
        subprocess.Popen(["sleep", "600"], pass_fds=[os.dup(lock.fileno())])
