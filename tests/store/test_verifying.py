"""A whole file is read back: every byte that was changed behind SQLite's back is found, and nothing else is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sessionplane.domain.runs import RunOutcome
from sessionplane.store.failures import StoreUnusable
from sessionplane.store.verifying import Checked, Verifier
from tests.support.planes import Bench, open_bench


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """A closed file with a session that has ended, one with a run, one that lost its key, and a deleted one."""
    async with open_bench(tmp_path / "plane.db") as bench:
        await fill(bench)
    return bench.database


async def fill(bench: Bench) -> None:
    """Do something of everything."""
    await bench.running("busy", run_id="done")
    await bench.publish("done", "one", "two")
    await bench.finish("done", outcome=RunOutcome.FAILED)
    await bench.running("busy", run_id="active")
    await bench.publish("active", "three")
    await bench.start(None, run_id="queued")
    await bench.interrupt(run_id="queued")


def check(database: Path) -> list[Checked]:
    """Read the whole file."""
    with Verifier(database) as verifier:
        found = list(verifier.sessions())
        assert len(found) == verifier.session_count()
    return found


def problems(database: Path) -> list[str]:
    """What does not fit."""
    return [each.problem for each in check(database) if each.problem]


def change(database: Path, statement: str, *values: object) -> None:
    """Change rows as no release does."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(statement, values).rowcount > 0
        connection.commit()


async def test_a_whole_file_has_no_problem(database: Path) -> None:
    """Every session is read to its head."""
    with closing(sqlite3.connect(database)) as connection:
        (events,) = connection.execute("SELECT count(*) FROM events").fetchone()
    assert problems(database) == []
    assert sum(each.events for each in check(database)) == events


async def test_a_file_is_verified_while_a_server_writes_it(tmp_path: Path) -> None:
    """Reading disturbs nobody, and sees each session as it was at one commit."""
    async with open_bench(tmp_path / "plane.db") as bench:
        await fill(bench)
        assert problems(bench.database) == []
        await bench.publish("active", "four")
        assert problems(bench.database) == []


@pytest.mark.parametrize("offset", [0, 10, 40])
async def test_a_changed_byte_of_an_event_is_found(database: Path, offset: int) -> None:
    """SQLite's own check sees nothing of it."""
    with closing(sqlite3.connect(database)) as connection:
        (data,) = connection.execute("SELECT data FROM events WHERE kind = 'OUTPUT_DELTA' LIMIT 1").fetchone()
    damaged = bytearray(data)
    damaged[offset] ^= 1
    change(database, "UPDATE events SET data = ? WHERE data = ?", bytes(damaged), data)
    (problem,) = problems(database)
    assert "its log is damaged" in problem


async def test_a_log_that_lost_its_end_is_found(database: Path) -> None:
    """As when a write-ahead log was cut by a bad disk."""
    change(database, "DELETE FROM events WHERE kind = 'OUTPUT_DELTA' AND run_id = 'active'")
    (problem,) = problems(database)
    assert "its log is damaged" in problem


@pytest.mark.parametrize("column", ["state = 'SUSPENDED'", "generation = 7", "key = 'agent:main:other'"])
async def test_a_row_that_is_not_what_its_log_adds_up_to_is_found(database: Path, column: str) -> None:
    """State, generation and key are the fold of the log."""
    change(database, f"UPDATE sessions SET {column} WHERE active_run_id = 'active'")
    (problem,) = problems(database)
    assert "the log adds up to" in problem


async def test_a_run_that_remembers_another_end_is_found(database: Path) -> None:
    """A run's row keeps the terminal that is in the log."""
    change(database, "UPDATE runs SET terminal = x'0801' WHERE run_id = 'done'")
    (problem,) = problems(database)
    assert problem == "The terminal of run done is not the one that the run's row keeps."


@pytest.mark.parametrize("content", [None, b"", b"no database at all" * 100])
def test_only_a_database_of_ours_is_verified(tmp_path: Path, content: bytes | None) -> None:
    """Anything else is a sentence, and is not touched."""
    database = tmp_path / "other.db"
    if content is not None:
        database.write_bytes(content)
    with pytest.raises(StoreUnusable):
        check(database)
    assert (database.read_bytes() if database.exists() else None) == content
