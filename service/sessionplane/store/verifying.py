"""Reading a whole file and holding it against itself: every log's bytes against their chain, every row against its log.

Owns what `invariants` cannot ask in SQL. It opens the file for reading only, so a server may be running on it, and
reads each session in a snapshot of its own, so that it never keeps the server's log from being folded into the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sessionplane.domain.errors import Checksum
from sessionplane.domain.events import Entry, EventKind, Fold, Place
from sessionplane.domain.sessions import Session
from sessionplane.store import codec, connections
from sessionplane.store import statements as sql
from sessionplane.store.reading import SqliteReadTx

_PAGE_ENTRIES = 1_000
_PAGE_BYTES = 4 * 1024 * 1024


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

    def session_count(self) -> int:
        """Return how many sessions there are to read."""
        (count,) = self._connection.execute(sql.COUNT_SESSIONS).fetchone()
        return int(count)

    def sessions(self) -> Iterator[Checked]:
        """Read every session, by id."""
        after = ""
        while (row := self._connection.execute(sql.NEXT_SESSION, (after,)).fetchone()) is not None:
            after, namespace = row
            yield self._session(namespace, after)

    def _session(self, namespace: str, session_id: str) -> Checked:
        self._connection.execute(sql.BEGIN_READ)
        try:
            session = self._tx.session(namespace, session_id)
            return Checked(session_id=session_id, events=0) if session is None else self._read(session)
        except Checksum as damage:
            return Checked(session_id=session_id, events=0, problem=str(damage))
        finally:
            self._connection.execute(sql.COMMIT)

    def _read(self, session: Session) -> Checked:
        """Read a log from its floor to its head: reading it checks the chain, and its end is what the row says."""
        state, count = self._tx.floor(session.session_id).fold, 0
        place = Place(session.floor_sequence, session.floor_hash)
        while entries := self._tx.entries(
            session.session_id, after=place, limit=_PAGE_ENTRIES, bytes_max=_PAGE_BYTES
        ):
            for entry in entries:
                state = codec.fold(state, entry)
                problem = self._terminal_problem(session, entry)
                if problem:
                    return Checked(session_id=session.session_id, events=count, problem=problem)
            count += len(entries)
            place = Place(entries[-1].sequence, entries[-1].chain)
        return Checked(session_id=session.session_id, events=count, problem=_difference(session, state))

    def _terminal_problem(self, session: Session, entry: Entry) -> str:
        """Hold a terminal against the one that its run's row keeps."""
        if entry.kind is not EventKind.RUN_TERMINAL:
            return ""
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
