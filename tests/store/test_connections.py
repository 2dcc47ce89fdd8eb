"""Connections: their settings, which files are refused, and what is said about this SQLite."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessionplane.store import connections, schema
from sessionplane.store.failures import StoreUnusable
from sessionplane.store.sqlite import SqliteStore, open_store

_JOURNAL = bytes.fromhex("d9d505f920a163d7")
"""How a rollback journal begins that has to be rolled back."""


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    """Return what a connection answers about one of its settings."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


EVERY = {"foreign_keys": 1, "trusted_schema": 0, "mmap_size": 0, "busy_timeout": 2_000, "temp_store": 2}


@pytest.mark.parametrize(
    ("name", "value"),
    (EVERY | {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1, "wal_autocheckpoint": 1_000}).items(),
)
async def test_the_writer_s_connection_is_set(store: SqliteStore, name: str, value: object) -> None:
    """FULL, since NORMAL loses acknowledged commits at a power cut."""
    assert pragma(store._connection, name) == value


@pytest.mark.parametrize(("name", "value"), (EVERY | {"query_only": 1, "wal_autocheckpoint": 0}).items())
async def test_every_reader_s_connection_is_set(store: SqliteStore, name: str, value: object) -> None:
    """No reader ever checkpoints."""
    assert pragma(store._scanners.get()._connection, name) == value
    assert pragma(store._points._connection, name) == value


async def test_a_reader_cannot_write(store: SqliteStore) -> None:
    """Neither by its mode nor by its settings."""
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        store._points._connection.execute("DELETE FROM meta")
    assert store._points._connection.execute("SELECT count(*) FROM meta").fetchone() == (1,)


def refused(database: Path, match: str) -> None:
    """Open a file that must be refused, and find that it was not touched."""
    before = database.read_bytes()
    with pytest.raises(StoreUnusable, match=match):
        open_store(database)
    assert database.read_bytes() == before


async def test_a_newer_schema_is_refused_untouched(database: Path) -> None:
    """An older release cannot know what it would break."""
    await open_store(database).close()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
            " VALUES ('sessionplane', '9999_later', '')"
        )
        connection.commit()
    refused(database, "later release")


def test_a_file_of_an_earlier_release_is_not_read_by_those_who_only_read(database: Path) -> None:
    """A check or a backup migrates nothing: its owner serves the file once, and it is as it was until then."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    before = database.read_bytes()
    with pytest.raises(StoreUnusable, match="earlier release"):
        connections.require(database)
    assert database.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(database: Path) -> None:
    """Somebody's notes stay somebody's notes."""
    database.write_bytes(b"not a database, but long enough to be taken for one. " * 100)
    refused(database, "cannot be read as an SQLite database")


def test_another_program_s_database_is_refused(database: Path) -> None:
    """It has tables, and not our mark."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    refused(database, "another program")


def test_a_database_with_another_mark_is_refused(database: Path) -> None:
    """Even without a table."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA application_id = 1")
    refused(database, "another program")


@pytest.mark.parametrize("marked", [False, True])
async def test_a_start_that_was_cut_short_is_completed(database: Path, *, marked: bool) -> None:
    """An empty file, or one that has our mark and no table yet."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID if marked else 0}")
    store = open_store(database)
    assert len(store.store_id) == 32
    await store.close()


def half_a_start(database: Path) -> None:
    """Leave what a power cut leaves of the first write of a file: part of a page, and a journal."""
    database.write_bytes(b"SQLite format 3\0".ljust(4096, b"\x55"))
    pages_before, records = 0, 0
    header = struct.pack(">8sIIIII", _JOURNAL, records, 1, pages_before, 512, 4096)
    database.with_name(f"{database.name}-journal").write_bytes(header.ljust(512, b"\0"))


async def test_a_first_start_that_lost_its_power_is_begun_again(database: Path) -> None:
    """The journal says that there was nothing before."""
    half_a_start(database)
    store = open_store(database)
    assert len(store.store_id) == 32
    await store.close()


async def test_a_path_may_hold_any_character(tmp_path: Path) -> None:
    """It is no part of a URI before it was quoted."""
    database = tmp_path / "ein% #?größe&mode=ro.db"
    await open_store(database).close()
    assert database.exists()


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ("3.6.23", False),
        ("3.7.0", True),
        ("3.40.1", True),
        ("3.44.5", True),
        ("3.44.6", False),
        ("3.45.0", True),
        ("3.50.6", True),
        ("3.50.7", False),
        ("3.51.0", True),
        ("3.51.2", True),
        ("3.51.3", False),
        ("3.53.0", False),
    ],
)
def test_the_verdict_knows_which_versions_have_the_wal_reset_bug(version: str, *, affected: bool) -> None:
    """And says that one writer does not bring it about."""
    sentence = connections.verdict(version)
    assert version in sentence
    assert ("has the WAL-reset bug" in sentence) is affected
