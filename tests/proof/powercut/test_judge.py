"""The judge of what a cut left: each kind of trouble is told, and a healthy file is not."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sessionplane.proof.powercut.evidence import Fact, finished, piece, piece_text, request
from sessionplane.proof.powercut.judge import DATABASE, Judge, lay_out
from tests.support.planes import open_bench
from tests.support.stores import overwrite_events


@pytest.fixture
async def left(tmp_path: Path) -> Path:
    """A folder with a healthy file, in which a run published twice and finished."""
    async with open_bench(tmp_path / DATABASE) as bench:
        await bench.resolve(request_id="r", content="r")
        run = await bench.running("agent:main:main")
        for publication in (1, 2):
            await bench.publish(run.run_id, *(piece_text(publication, number, 2) for number in (1, 2)))
        await bench.finish(run.run_id)
    return tmp_path


async def found(folder: Path, *wanted: Fact) -> str:
    """Return what is said, in one text."""
    return "\n".join(await Judge().problems(folder, wanted))


def change(folder: Path, statement: str) -> None:
    """Change a closed file past the store."""
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        connection.execute(statement)
        connection.commit()


async def test_a_healthy_file_has_no_problems(left: Path) -> None:
    """Nor does a folder in which nothing was made yet, unless something had to be there."""
    with closing(sqlite3.connect(left / DATABASE)) as connection:
        session_id, run_id = connection.execute("SELECT session_id, run_id FROM runs").fetchone()
    wanted = [request("ResolveSession", "r", session_id), finished(run_id), piece(session_id, 1, 1, 2)]
    assert await found(left, *wanted) == ""
    lay_out(left, {})
    assert await found(left) == ""
    assert "acknowledged and lost: 3 facts" in await found(left, *wanted)


async def test_what_was_acknowledged_and_is_not_there_is_told(left: Path) -> None:
    """By what it is."""
    assert await found(left, finished("lost")) == "acknowledged and lost: 1 facts: finished lost"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / DATABASE).write_bytes(b"x" * 9_999), "it cannot be opened"),
        (lambda folder: overwrite_events(folder / DATABASE), "it cannot be read"),
        (
            lambda folder: change(folder, "UPDATE runs SET terminal_sequence = 0"),
            "finished_run_has_its_terminal",
        ),
        (lambda folder: change(folder, "UPDATE sessions SET state = 'ENDED'"), "the log adds up to"),
        (
            lambda folder: change(
                folder, "DELETE FROM events WHERE instr(data, CAST('[2: 2 of 2]' AS BLOB))"
            ),
            "published in part",
        ),
    ],
)
async def test_each_kind_of_trouble_is_told(left: Path, damage: Callable[[Path], object], said: str) -> None:
    """A file that is none, a damaged one, a broken invariant, a row that is not its log's, half a publication."""
    damage(left)
    assert said in await found(left)


async def test_the_same_file_after_another_cut_is_judged_by_what_had_to_be_there_then(left: Path) -> None:
    """It is looked into once, and asked each time."""
    judge = Judge()
    content = (left / DATABASE).read_bytes()
    assert await judge.problems(left, []) == []
    lay_out(left, {DATABASE: content})
    assert await judge.problems(left, [finished("lost")]) != []
