"""Power cuts while a backup is made: a file with the wanted name is always whole, and is there once it was said so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from sessionplane.proof.powercut.disk import Disk
from sessionplane.proof.powercut.judge import lay_out
from sessionplane.proof.powercut.trace import Event, parse, traced, unavailable
from sessionplane.store.verifying import Verifier
from tests.support.planes import open_bench
from tests.support.rows import broken

needs_strace = pytest.mark.skipif(bool(unavailable()), reason=unavailable())

NAME = "copy.db"
SEEDS = 5


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """A file in which a run has finished, in a folder of its own."""
    (tmp_path / "served").mkdir()
    async with open_bench(tmp_path / "served" / "sessionplane.db") as bench:
        run = await bench.running()
        await bench.publish(run.run_id, "one", "two")
        await bench.finish(run.run_id)
    return tmp_path / "served" / "sessionplane.db"


def backed_up(database: Path, folder: Path) -> Sequence[Event]:
    """Back up into a folder under strace, and return what happened to the folder."""
    folder.mkdir()
    trace = folder.with_suffix(".strace")
    command = [sys.executable, "-m", "sessionplane", "backup", "--db", str(database), str(folder / NAME)]
    subprocess.run(traced(command, trace), check=True, capture_output=True)
    with trace.open(encoding="ascii") as lines:
        return list(parse(lines, folder))


@needs_strace
def test_a_backup_is_whole_or_not_there_and_stays_once_it_was_acknowledged(
    tmp_path: Path, database: Path
) -> None:
    """At every call that it makes. What it leaves unfinished has another name."""
    events = backed_up(database, tmp_path / "backups")
    folder = tmp_path / "cut"
    folder.mkdir()
    disk, there = Disk(), 0
    for at, event in enumerate(events):
        disk.apply(event)
        for seed in range(SEEDS):
            files = disk.cut(Random(at * SEEDS + seed))
            if NAME not in files:
                continue
            there += 1
            lay_out(folder, {NAME: files[NAME]})
            assert broken(folder / NAME) == {}, f"after event {at}"
            with Verifier(folder / NAME) as verifier:
                assert [each.problem for each in verifier.sessions()] == [""]
    assert there > 0
    assert all(disk.cut(Random(seed)).keys() >= {NAME} for seed in range(100))
    assert disk.unsafe_count == 0
