"""The tables and their indexes: what a query touches, and what a file from the future is."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from sessionplane.store import schema, statements

WALKS = {"RESTING_SESSIONS", "COUNT_SESSIONS"}
"""Statements that may look at every row: none of them runs on a caller's behalf."""
UNASKED: set[str] = set()
"""Indexes that no statement asks, each with its reason."""
QUERIES = {
    name: text
    for name, text in vars(statements).items()
    if isinstance(text, str)
    and name.isupper()
    and not name.startswith("_")
    and re.match(r"\s*(SELECT|UPDATE|DELETE)", text)
}


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A database with our tables, in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.migrate(connection)
        yield connection


def plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    values = (None,) * (3 if "?3" in statement else statement.count("?"))
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_a_statement_walks_no_table_and_sorts_nothing(connection: sqlite3.Connection, name: str) -> None:
    """What a call costs does not grow with the number of sessions, runs or events."""
    steps = plan(connection, QUERIES[name])
    slow = [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step]
    # What a call itself brought along, as a list.
    slow = [step for step in slow if not step.startswith("SCAN json_each ")]
    assert not slow or name in WALKS, steps


def test_every_index_has_a_query(connection: sqlite3.Connection) -> None:
    """An index that nobody asks costs every write."""
    made = (
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name NOT GLOB '_*'"
    )
    indexes = {name for (name,) in connection.execute(made)}
    steps = " ".join(step for text in QUERIES.values() for step in plan(connection, text))
    assert {name for name in indexes if not re.search(rf"\b{name}\b", steps)} == UNASKED


def test_a_row_that_others_refer_to_can_be_removed_without_a_walk(connection: sqlite3.Connection) -> None:
    """SQLite looks for whoever refers to a row that goes, in an index that begins with the reference or everywhere."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    refers = {
        (name, key[3]) for name in tables for key in connection.execute(f"PRAGMA foreign_key_list({name})")
    }
    assert refers
    for table, column in refers:
        steps = plan(connection, f"SELECT 1 FROM {table} WHERE {column} = ?")
        assert all(step.startswith("SEARCH") for step in steps), steps


def test_every_table_of_ours_is_strict(connection: sqlite3.Connection) -> None:
    """A text in a column of numbers is an error when it is written."""
    tables = connection.execute("PRAGMA table_list").fetchall()
    ours = {row[1]: row[5] for row in tables if row[0] == "main" and not row[1].startswith(("sqlite_", "_"))}
    assert ours
    assert all(ours.values()), ours


def test_migrating_again_changes_nothing(connection: sqlite3.Connection) -> None:
    """Each start applies what is missing, and that may be nothing."""
    before = list(connection.iterdump())
    schema.migrate(connection)
    assert list(connection.iterdump()) == before
    assert not schema.is_newer(connection)


def test_a_migration_that_we_do_not_know_is_newer(connection: sqlite3.Connection) -> None:
    """Whatever its name is."""
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('sessionplane', '9999_later', '')"
    )
    assert schema.is_newer(connection)
