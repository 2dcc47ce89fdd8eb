"""What becomes of the parts of a self-test: found, kept, told, cleared away."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

import pytest

from sessionplane.proof import selftest as under_test
from sessionplane.proof.selftest import PartInfo, Result, Verdict, selftest
from tests.support.trial_parts import LOCK


def part(name: str, seeded: str = "") -> PartInfo:
    return PartInfo(
        run=f"tests.support.trial_parts:{name}", count=1, unit="trials", does="Tries.", seeded=seeded
    )


class Notes:
    """Remembers what an observer is told; `on_progress` happens at each step."""

    def __init__(self, on_progress: Callable[[], object] = lambda: None) -> None:
        self.steps: list[tuple[str, int, int]] = []
        self.told: list[str] = []
        self._on_progress = on_progress

    def started(self, name: str, count: int) -> None:
        self.told.append(f"{name} {count}")

    def progressed(self, name: str, done: int, of: int) -> None:
        self.steps.append((name, done, of))
        self._on_progress()

    def ended(self, result: Result) -> None:
        self.told.append(f"{result.name} {result.verdict}")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


async def _one(name: str, *, seeded: str = "", notes: Notes | None = None) -> Result:
    (result,) = await selftest(
        {"trial": 3}, seed=7, observer=notes or Notes(), parts={"trial": part(name, seeded)}
    )
    return result


def _runs(place: Path) -> bool:
    """Whether something of a part still runs."""
    with (place / LOCK).open() as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return True
    return False


async def _gone(place: Path) -> None:
    """Wait until nothing of a part runs."""
    with (place / LOCK).open() as lock:
        await asyncio.to_thread(flock, lock, LOCK_EX)


def _left(place: Path) -> list[str]:
    """What is in the folder of temporary folders."""
    return sorted(entry.name for entry in place.iterdir() if entry.name != LOCK)


async def test_a_part_that_finds_nothing_leaves_nothing(place: Path) -> None:
    """Its outcome comes back whole, whatever it and its programs print, and its folder is gone."""
    notes = Notes()
    result = await _one("fine", notes=notes)
    assert (result.verdict, result.outcome.checked, result.outcome.claim) == (Verdict.OK, 3, "It tries.")
    assert notes.steps[-1] == ("trial", 3, 3)
    assert notes.told == ["trial 3", "trial OK"]
    assert not _left(place)


async def test_a_part_that_fails_keeps_its_evidence_and_says_how_to_run_it_again(place: Path) -> None:
    """What it left stays where the result says; the other parts run all the same, and leave nothing."""
    parts = {"broken": part("broken"), "fine": part("fine", "seed"), "absent": part("absent")}
    first, second, third = await selftest(dict.fromkeys(parts, 2), seed=7, observer=Notes(), parts=parts)
    assert (first.verdict, second.verdict, third.verdict) == (Verdict.FAILED, Verdict.OK, Verdict.SKIPPED)
    assert first.evidence is not None
    assert (first.evidence / "evidence").read_text() == "evidence"
    assert first.again == "sessionplane selftest --only broken --broken 2"
    assert second.again == "sessionplane selftest --only fine --fine 2 --seed 7"
    assert second.outcome.measured == {"seed": 7}
    (root,) = _left(place)
    assert _left(place / root) == ["broken"]


async def test_a_part_that_is_left_out_does_not_run() -> None:
    """A count of 0 means not at all."""
    parts = {"raises": part("raises"), "fine": part("fine")}
    (only,) = await selftest({"raises": 0, "fine": 1}, seed=0, observer=Notes(), parts=parts)
    assert only.name == "fine"


async def test_a_part_that_breaks_off_has_failed_with_its_last_words() -> None:
    """A bug in a part is no proof of anything, so it is not green; its traceback is the evidence."""
    result = await _one("raises")
    assert result.verdict is Verdict.FAILED
    assert "RuntimeError: the trial itself is broken" in result.outcome.failures[0]
    assert result.evidence is not None
    assert "Traceback" in (result.evidence / "stderr.log").read_text()


async def test_a_part_that_dies_has_failed_and_its_programs_are_gone(place: Path) -> None:
    """Killed from outside, by a machine that is out of memory, say: nothing of it runs on."""
    result = await _one("dies")
    assert result.verdict is Verdict.FAILED
    assert result.outcome.failures == ["It broke off. It said nothing."]
    await _gone(place)


@pytest.mark.parametrize("name", ["endless", "stubborn"])
async def test_whoever_stops_the_test_stops_everything(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled under way, it ends the part and its programs, also one that is deaf, and removes their folders."""
    monkeypatch.setattr(under_test, "STOP_S", 0.2)
    begun = asyncio.Event()
    running = asyncio.create_task(_one(name, notes=Notes(begun.set)))
    await begun.wait()
    assert _runs(place)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await _gone(place)
    assert not _left(place)


async def test_a_part_does_not_outlive_whoever_started_it(place: Path) -> None:
    """Its input ends with whoever held the other end; then it stops by itself, and takes its programs with it."""
    folder = place / "root" / "trial"
    folder.mkdir(parents=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sessionplane.proof.child"),
        *("tests.support.trial_parts:endless", "5", str(folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert await process.stdout.readline() == b'{"done": 1, "of": 5}\n'
    assert _runs(place)
    process.stdin.close()
    await process.wait()
    await _gone(place)
