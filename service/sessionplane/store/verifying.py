"""Reading a whole file and holding it against itself: pages against indexes, rows against the invariants and against
their logs, every log's bytes against their chain.

Owns what `invariants` cannot ask in SQL. A byte that was changed behind SQLite's back is found, unless it stands where
nothing else says what it was: in a label, a name or a time, or in what nobody uses. It opens the file for reading only,
so a server may be running on it, and reads each session in a snapshot of its own, so that it never keeps the server's
log from being folded into the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sessionplane.domain.errors import Checksum, Damaged
from sessionplane.domain.events import Entry, EventKind, Fold, Place
from sessionplane.domain.sessions import Session
from sessionplane.store import codec, connections, schema
from sessionplane.store import statements as sql
from sessionplane.store.invariants import INVARIANTS, counted
from sessionplane.store.reading import SqliteReadTx

_PAGE_ENTRIES = 1_000
_PAGE_BYTES = 4 * 1024 * 1024
# The last two: a column holds what no column of its type does.
_UNREADABLE = (sqlite3.Error, codec.Unreadable, TypeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One session that was read to its end; `problem` is empty if everything fits."""

    session_id: str
    events: int
    problem: str = ""


class Verifier:
    """Reads one file. Use as a context manager."""

    def __init__(self, database: Path) -> None:
        """Open the file. Raises StoreUnusable if it is not ours or cannot be read."""
        connections.require(database)
        self._connection = connections.open_reader(database)
        self._tx = SqliteReadTx(self._connection, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def problems(self) -> Iterator[str]:
        """Hold the file against itself as a whole: each problem is a sentence. Takes as long as reading all of it."""
        try:
            table = schema.difference(self._connection)
            if table:
                yield f"The table or index {table} is not as this release makes it."
            yield from self._torn()
            for invariant in INVARIANTS.values():
                (count,) = self._connection.execute(counted(invariant)).fetchone()
                if count:
                    yield f"{invariant.name} does not hold, {count} times. {invariant.description}"
        except _UNREADABLE as error:
            yield f"The file cannot be read: {error}."

    def _torn(self) -> Iterator[str]:
        """Ask SQLite whether its pages are whole, and its indexes are what the tables say."""
        for (line,) in self._connection.execute("PRAGMA integrity_check(20)").fetchall():
            if line != "ok":
                yield f"SQLite finds: {line.removeprefix('*** in database main ***').strip()}."
        for table, row, _, _ in self._connection.execute("PRAGMA foreign_key_check").fetchall():
            yield f"Row {row} of {table} belongs to a session that is not there."

    def session_count(self) -> int:
        """Return how many sessions there are to read."""
        (count,) = self._connection.execute(sql.COUNT_SESSIONS).fetchone()
        return int(count)

    def sessions(self) -> Iterator[Checked]:
        """Read every session, by id."""
        after = ""
        while True:
            try:
                row = self._connection.execute(sql.NEXT_SESSION, (after,)).fetchone()
            except _UNREADABLE as error:
                yield Checked(session_id=after, events=0, problem=f"What follows it cannot be read: {error}.")
                return
            if row is None:
                return
            after, namespace = row
            yield self._session(namespace, after)

    def _session(self, namespace: str, session_id: str) -> Checked:
        self._connection.execute(sql.BEGIN_READ)
        try:
            session = self._tx.session(namespace, session_id)
            return Checked(session_id=session_id, events=0) if session is None else self._read(session)
        except (Checksum, Damaged) as damage:
            return Checked(session_id=session_id, events=0, problem=str(damage))
        except _UNREADABLE as error:
            return Checked(session_id=session_id, events=0, problem=f"It cannot be read: {error}.")
        finally:
            # An error may have ended it already.
            if self._connection.in_transaction:
                self._connection.execute(sql.ROLLBACK)

    def _read(self, session: Session) -> Checked:
        """Read a log from its floor to its head: reading it checks the chain, and its end is what the row says."""
        state, count = self._tx.floor(session.session_id).fold, 0
        place = Place(session.floor_sequence, session.floor_hash)
        while entries := self._tx.entries(
            session.session_id, after=place, limit=_PAGE_ENTRIES, bytes_max=_PAGE_BYTES
        ):
            for entry in entries:
                state = codec.fold(state, entry)
                problem = self._entry_problem(session, entry)
                if problem:
                    return Checked(session_id=session.session_id, events=count, problem=problem)
            count += len(entries)
            place = Place(entries[-1].sequence, entries[-1].chain)
        return Checked(session_id=session.session_id, events=count, problem=_difference(session, state))

    def _entry_problem(self, session: Session, entry: Entry) -> str:
        """Hold an event against what stands beside it, and against the row that keeps the same."""
        if not codec.is_entry(entry, session.session_id):
            return f"Event {entry.sequence} stands in the table as something else."
        if entry.kind is EventKind.RUN_TERMINAL:
            return self._terminal_problem(session, entry)
        if entry.kind is EventKind.INPUT_RECORDED:
            return self._input_problem(session, entry)
        return ""

    def _input_problem(self, session: Session, entry: Entry) -> str:
        input_id, recorded = codec.recorded_input(entry)
        row = self._connection.execute(sql.INPUT_ALONE, (session.namespace, input_id)).fetchone()
        # What became of an input is told without it.
        if not recorded.ByteSize() or (row is not None and codec.is_payload(row[0], recorded)):
            return ""
        return f"The input {input_id} is not the one that its row keeps."

    def _terminal_problem(self, session: Session, entry: Entry) -> str:
        run = self._tx.run(session.namespace, entry.run_id)
        if run is not None and codec.is_terminal(entry.data, run.terminal):
            return ""
        return f"The terminal of run {entry.run_id} is not the one that the run's row keeps."


def _difference(session: Session, state: Fold) -> str:
    """Say where a row is not what its log adds up to."""
    holds = session.key.text if session.key is not None and not session.final else ""
    row = Fold(session.state.value, session.generation, holds)
    if row == state:
        return ""
    return f"The row says {row}, the log adds up to {state}."
