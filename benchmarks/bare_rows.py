"""Bare SQLite: the rows of the real schema, written by the real statements, and nothing else.

Everything is made before: ids, encoded events, tuples. What is left is what no server on SQLite can do without: the
statements and one flushed commit for each group (write-ahead log, synchronous=FULL). No savepoints, no reads, no
checks. The connection is opened by the store's own module, so every PRAGMA is the product's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import uuid_utils

from sessionplane.domain.events import Body, Entry, OutputDelta, SessionChanged, SessionMoved
from sessionplane.domain.keys import KeySettings, SessionKey, canonical
from sessionplane.domain.runs import Run, RunState
from sessionplane.domain.sessions import MoveReason, Session, SessionCause, SessionState
from sessionplane.store import codec, connections, rows, schema
from sessionplane.store import statements as sql

NAMESPACE = "default"
NOW_MS = 1_790_000_000_000
CHAIN = bytes(range(16))


class Step(NamedTuple):
    """One statement with its values."""

    statement: str
    values: Sequence[object]


def open_database(path: Path) -> sqlite3.Connection:
    """Make a database as the product would."""
    connection = connections.open_writer(path)
    schema.migrate(connection)
    return connection


def commit_each(connection: sqlite3.Connection, groups: Iterable[Iterable[Step]]) -> None:
    """Write each group in a transaction of its own."""
    execute = connection.execute
    for group in groups:
        execute(sql.BEGIN_WRITE)
        for step in group:
            execute(*step)
        execute(sql.COMMIT)


def new_id(prefix: str) -> str:
    """Return an id as the server mints it."""
    return prefix + uuid_utils.uuid7().hex


def _entry(session_id: str, sequence: int, body: Body, run_id: str = "", run_sequence: int = 0) -> Entry:
    data = codec.encode(session_id, sequence, run_id, run_sequence, NOW_MS, body)
    return Entry(sequence, run_id, body.kind, data, CHAIN)


def _append(session_id: str, entries: Sequence[Entry]) -> Iterable[Step]:
    values = [value for entry in entries for value in rows.entry_row(session_id, entry)]
    yield Step(sql.APPEND[len(entries) - 1], values)
    yield Step(
        sql.SAVE_HEAD, (entries[-1].sequence, CHAIN, sum(len(entry.data) for entry in entries), session_id)
    )


def _session(key: SessionKey | None, session_id: str) -> Session:
    return Session(
        session_id=session_id,
        namespace=NAMESPACE,
        key=key,
        state=SessionState.CREATED,
        created_at_ms=NOW_MS,
        started_at_ms=NOW_MS,
        last_interaction_at_ms=NOW_MS,
        updated_at_ms=NOW_MS,
    )


def resolve_steps(number: int, raw_key: str) -> list[Step]:
    """Return what the resolve of a new key writes."""
    key = canonical(raw_key, settings=KeySettings())
    session_id = new_id("ses_")
    born = SessionChanged(
        from_state=None, to_state=SessionState.CREATED, cause=SessionCause.CREATED, generation=1
    )
    bound = SessionMoved(key=key, reason=MoveReason.CREATED, holds=True)
    entries = [_entry(session_id, 1, born), _entry(session_id, 2, bound)]
    return [
        Step(sql.ADD_SESSION, rows.session_row(_session(key, session_id), number)),
        Step(sql.BIND_KEY, (NAMESPACE, key.text, session_id, key.text)),
        *_append(session_id, entries),
        Step(sql.SAVE_CHANGE_NUMBER, (NAMESPACE, number)),
    ]


class BareRun:
    """A session with one claimed run, to which deltas are appended."""

    def __init__(self, connection: sqlite3.Connection, number: int = 1) -> None:
        self._session_id = new_id("ses_")
        self._run = Run(
            run_id=new_id("run_"),
            namespace=NAMESPACE,
            session_id=self._session_id,
            generation=1,
            state=RunState.RUNNING,
            fingerprint=CHAIN,
            created_at_ms=NOW_MS,
            start_timeout_ms=600_000,
            run_timeout_ms=86_400_000,
            claimed_at_ms=NOW_MS,
            due_at_ms=NOW_MS,
            lease_epoch=1,
            lease_token=new_id("lse_"),
            lease_ms=15_000,
            lease_confirmed=True,
        )
        self._sequence = 0
        connection.execute(sql.ADD_SESSION, rows.session_row(_session(None, self._session_id), number))
        connection.execute(sql.ADD_RUN, rows.run_row(self._run))

    def publish_steps(self, texts: Sequence[str]) -> list[Step]:
        """Return what a publication of these texts writes: the events, the log's head, the run."""
        first = self._sequence + 1
        self._sequence += len(texts)
        entries = [
            _entry(self._session_id, sequence, OutputDelta(text=text), self._run.run_id, sequence)
            for sequence, text in enumerate(texts, first)
        ]
        return [*_append(self._session_id, entries), Step(sql.SAVE_RUN, rows.run_row(self._run))]
