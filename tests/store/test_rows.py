"""Rows and values: whatever a value holds, the database gives it back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionplane.domain.errors import Damaged
from sessionplane.domain.events import Entry, EventKind
from sessionplane.domain.inputs import InputStage
from sessionplane.domain.interrupts import InterruptMode, InterruptStage
from sessionplane.domain.runs import RunOutcome, RunState
from sessionplane.domain.sessions import SessionCause, SessionState, Visibility
from sessionplane.store import rows, schema, statements
from sessionplane.store.contract import Request
from tests.support.values import injected, interrupt, key, run, session

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBER = st.integers(0, 2**63 - 1)
BLOB = st.binary(max_size=20)
OF_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXT,
    "int": NUMBER,
    "int | None": st.none() | NUMBER,
    "bytes": BLOB,
    "bool": st.booleans(),
    "Mapping[str, str]": st.dictionaries(TEXT, TEXT, max_size=3),
    "SessionKey | None": st.none() | st.sampled_from([key(), key("größe")]),
    "SessionState": st.sampled_from(SessionState),
    "Visibility": st.sampled_from(Visibility),
    "SessionCause | None": st.none() | st.sampled_from(SessionCause),
    "RunState": st.sampled_from(RunState),
    "RunOutcome | None": st.none() | st.sampled_from(RunOutcome),
    "InputStage": st.sampled_from(InputStage),
    "InterruptStage": st.sampled_from(InterruptStage),
    "InterruptMode": st.sampled_from(InterruptMode),
}
LOG = {
    "head_sequence": 0,
    "head_hash": b"",
    "log_bytes": 0,
    "floor_sequence": 0,
    "floor_hash": b"",
    "floor_log_bytes": 0,
}
"""What is the log's and not the caller's."""


def like(value: Any) -> st.SearchStrategy[Any]:
    """Give values of this one's class, every field filled by its type: a new field needs no new test."""
    drawn = {each.name: OF_TYPE[str(each.type)] for each in fields(value)}
    return st.fixed_dictionaries(drawn).map(lambda changed: replace(value, **changed))


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    """A database with our tables in memory; foreign keys are off, since rows are what is tested."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.migrate(connection)
        yield connection


def clear(connection: sqlite3.Connection, *tables: str) -> None:
    for table in tables:
        connection.execute(f"DELETE FROM {table}")


@given(value=like(session()))
def test_a_session_survives_its_row(connection: sqlite3.Connection, value: Any) -> None:
    """All but the head and the floor, which adding ignores."""
    clear(connection, "sessions")
    connection.execute(statements.ADD_SESSION, rows.session_row(value, value.change_number))
    row = connection.execute(statements.SESSION, (value.session_id, value.namespace)).fetchone()
    assert rows.session_of(row) == replace(value, **LOG)


@given(value=like(session()))
def test_a_saved_session_survives_its_row(connection: sqlite3.Connection, value: Any) -> None:
    """Whatever stood there before."""
    clear(connection, "sessions")
    first = session(session_id=value.session_id, namespace=value.namespace)
    connection.execute(statements.ADD_SESSION, rows.session_row(first, 1))
    connection.execute(statements.SAVE_SESSION, rows.session_row(value, value.change_number))
    row = connection.execute(statements.SESSION, (value.session_id, value.namespace)).fetchone()
    assert rows.session_of(row) == replace(value, **LOG)


@given(value=like(run()))
def test_a_run_survives_its_rows(connection: sqlite3.Connection, value: Any) -> None:
    """The input has a row of its own."""
    clear(connection, "runs", "inputs")
    connection.execute(statements.ADD_RUN, rows.run_row(value))
    connection.execute(statements.ADD_INPUT, rows.input_row(value))
    row = connection.execute(statements.RUN, (value.namespace, value.run_id)).fetchone()
    assert rows.run_of(row) == value


@given(value=like(run()), first_input=BLOB)
def test_a_saved_run_survives_its_row(connection: sqlite3.Connection, value: Any, first_input: bytes) -> None:
    """All but the input, which never changes."""
    clear(connection, "runs", "inputs")
    first = run(run_id=value.run_id, namespace=value.namespace, input=first_input)
    connection.execute(statements.ADD_RUN, rows.run_row(first))
    connection.execute(statements.ADD_INPUT, rows.input_row(first))
    connection.execute(statements.SAVE_RUN, rows.run_row(value))
    row = connection.execute(statements.RUN, (value.namespace, value.run_id)).fetchone()
    assert rows.run_of(row) == replace(value, input=first_input)


@given(value=like(injected()))
def test_an_injected_input_survives_its_row(connection: sqlite3.Connection, value: Any) -> None:
    """Every field of it, also what only the run needs that it may become."""
    clear(connection, "inputs")
    connection.execute(statements.ADD_INPUT, rows.injected_row(value))
    row = connection.execute(statements.INPUT, (value.namespace, value.input_id)).fetchone()
    assert rows.injected_of(row) == value


@given(value=like(interrupt()))
def test_an_interrupt_survives_its_row(connection: sqlite3.Connection, value: Any) -> None:
    """Every field of it."""
    clear(connection, "interrupts")
    connection.execute(statements.ADD_INTERRUPT, rows.interrupt_row(value))
    row = connection.execute(statements.INTERRUPT, (value.namespace, value.interrupt_id)).fetchone()
    assert rows.interrupt_of(row) == value


@given(value=like(Request(namespace="", rpc="", request_id="", fingerprint=b"", at_ms=0)))
def test_a_request_survives_its_row(connection: sqlite3.Connection, value: Any) -> None:
    """Every field of it."""
    clear(connection, "requests")
    connection.execute(statements.REMEMBER, rows.request_row(value))
    row = connection.execute(statements.REQUEST, (value.namespace, value.rpc, value.request_id)).fetchone()
    assert rows.request_of(row) == value


@pytest.mark.parametrize("kind", list(EventKind))
def test_an_entry_survives_its_row(connection: sqlite3.Connection, kind: EventKind) -> None:
    """Every kind of it."""
    clear(connection, "events")
    entry = Entry(1, "run_1", kind, b"data", b"chain")
    connection.execute(statements.APPEND[0], rows.entry_row("ses_1", entry))
    row = connection.execute(statements.ENTRIES, ("ses_1", 0, 1)).fetchone()
    assert rows.entry_of(row) == entry


def test_a_row_that_we_never_wrote_is_an_error() -> None:
    """An unknown state is damage, and not a state."""
    with pytest.raises(Damaged, match="event 1"):
        rows.entry_of((1, "", "NO_SUCH_KIND", b"", b""))
