"""A write-ahead log is judged before SQLite drops what it cannot read: torn by a crash, or damaged."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sessionplane.store import wal

FRAME = 24 + 4096
HEADER = 32


@contextmanager
def writing(database: Path, commits: int) -> Iterator[sqlite3.Connection]:
    """Commit so often, two pages at a time, and fold nothing into the file."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for setting in ("journal_mode = WAL", "wal_autocheckpoint = 0"):
            connection.execute(f"PRAGMA {setting}").fetchall()
        connection.execute("CREATE TABLE t (x)")
        for number in range(commits):
            connection.execute("INSERT INTO t VALUES (?)", (f"{number}" * 4_000,))
        yield connection


def left_behind(database: Path, to: Path) -> Path:
    """Copy what a crash at this moment leaves; returns the log."""
    for end in ("", "-wal"):
        shutil.copy(f"{database}{end}", f"{to}{end}")
    return Path(f"{to}-wal")


@pytest.fixture
def crashed(database: Path, tmp_path: Path) -> Path:
    """A database whose log has twenty commits."""
    with writing(database, 20):
        left_behind(database, tmp_path / "crashed.db")
    return tmp_path / "crashed.db"


def log_of(database: Path) -> Path:
    """Where the log is."""
    return Path(f"{database}-wal")


def flip(path: Path, at: int) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def read_by_sqlite(database: Path) -> int:
    """Count the commits that SQLite recovers."""
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])


def test_a_whole_log_is_whole(crashed: Path) -> None:
    """And so is none at all, and an empty one."""
    assert wal.damage(crashed) == ""
    log_of(crashed).write_bytes(b"")
    assert wal.damage(crashed) == ""
    log_of(crashed).unlink()
    assert wal.damage(crashed) == ""


def test_what_an_earlier_log_left_behind_is_no_damage(database: Path, tmp_path: Path) -> None:
    """SQLite writes a new log over the old one, and leaves the rest of that."""
    with writing(database, 20) as connection:
        connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        connection.execute("INSERT INTO t VALUES ('behind')")
        log = left_behind(database, tmp_path / "crashed.db")
        assert log.stat().st_size > 20 * FRAME
        assert wal.damage(tmp_path / "crashed.db") == ""


@pytest.mark.parametrize("keeps", [33, HEADER + FRAME, HEADER + 7 * FRAME + 100, HEADER + 30 * FRAME - 1])
def test_a_log_that_ends_early_is_what_a_crash_leaves(crashed: Path, keeps: int) -> None:
    """Nothing that is there comes behind what is not."""
    log_of(crashed).write_bytes(log_of(crashed).read_bytes()[:keeps])
    assert wal.damage(crashed) == ""


def test_a_torn_last_transaction_is_what_a_crash_leaves(crashed: Path) -> None:
    """Its last frame may be on the disk before its first one."""
    size = log_of(crashed).stat().st_size
    flip(log_of(crashed), size - 2 * FRAME + 100)
    assert wal.damage(crashed) == ""
    assert read_by_sqlite(crashed) == 19


@pytest.mark.parametrize("at", range(0, HEADER, 3))
def test_a_damaged_header_is_found(crashed: Path, at: int) -> None:
    """SQLite would take such a log for none."""
    flip(log_of(crashed), at)
    assert "header" in wal.damage(crashed)


@pytest.mark.parametrize("frame", [3, 7, 25])
@pytest.mark.parametrize("at", [0, 5, 9, 13, 17, 23, 24, 4_000])
def test_a_damaged_frame_is_found_and_the_commits_behind_it_are_counted(
    crashed: Path, frame: int, at: int
) -> None:
    """In its header and in its page: SQLite would drop it and all that follows, and say nothing."""
    flip(log_of(crashed), HEADER + frame * FRAME + at)
    assert f"damaged at frame {frame + 1}, with " in wal.damage(crashed)
    assert read_by_sqlite(crashed) < 20
