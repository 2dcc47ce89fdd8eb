"""A snapshot as queries see it: the reading half of a transaction.

Owns the questions that can be asked of a database, and the check of the chain hash over what it answers. It must
never begin or end a transaction, and never write: whoever holds the connection does.

Every answer is fetched to its end or its cursor closed, so that no statement stays open behind a snapshot: an open
one would keep the log from being folded into the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from hashlib import blake2b

from sessionplane.domain.errors import Checksum, SessionPlaneError
from sessionplane.domain.events import Entry, Place
from sessionplane.domain.inputs import Input, InputStage
from sessionplane.domain.interrupts import Interrupt
from sessionplane.domain.keys import SessionKey
from sessionplane.domain.listing import SessionFilter
from sessionplane.domain.runs import Run, RunState
from sessionplane.domain.sessions import Session
from sessionplane.domain.tokens import compacted
from sessionplane.store import codec, key_rows, rows
from sessionplane.store import statements as sql
from sessionplane.store.contract import (
    ChangeNumbers,
    Floor,
    Import,
    Kept,
    Pointer,
    Request,
    SessionPage,
    Violations,
)
from sessionplane.store.invariants import INVARIANTS, counted, examples
from sessionplane.store.selecting import narrowed

_CHAIN_BYTES = 16
_INTEGER_MAX = 2**63 - 1
_MOVING = frozenset({"STARTING", "ACTIVE", "SUSPENDED", "CLOSING"})
"""The states that the index sessions_moving covers."""


def next_chain(chain: bytes, data: bytes) -> bytes:
    """Return the hash behind an entry: over the hash before it and its bytes."""
    return blake2b(chain + data, digest_size=_CHAIN_BYTES).digest()


class SqliteReadTx:
    """See `contract.ReadTx`."""

    def __init__(self, connection: sqlite3.Connection, store_id: str) -> None:
        self._connection = connection
        self._store_id = store_id

    @property
    def store_id(self) -> str:
        return self._store_id

    def fact(self, name: str) -> str | None:
        row = self._row(sql.META, (name,))
        return None if row is None else str(row[0])

    def session(self, namespace: str, session_id: str) -> Session | None:
        row = self._row(sql.SESSION, (session_id, namespace))
        return None if row is None else rows.session_of(row)

    def session_by_key(self, namespace: str, key: SessionKey) -> Session | None:
        row = self._row(sql.SESSION_BY_KEY, (namespace, key.text))
        return None if row is None else rows.session_of(row)

    def pointer(self, namespace: str, key: SessionKey) -> Pointer | None:
        row = self._row(sql.POINTER, (namespace, key.text))
        return None if row is None else key_rows.pointer_of(row)

    def pointers(self, *, after: tuple[str, str], limit: int) -> list[Pointer]:
        return [key_rows.pointer_of(row) for row in self._query(sql.POINTERS, (*after, limit)).fetchall()]

    def imported(self, namespace: str, source_id: str, key: SessionKey) -> str:
        row = self._row(sql.IMPORTED, (namespace, source_id, key.text))
        return "" if row is None else str(row[0])

    def imports(self, *, after: tuple[str, str, str], limit: int) -> list[Import]:
        return [key_rows.import_of(row) for row in self._query(sql.IMPORTS, (*after, limit)).fetchall()]

    def sessions(
        self,
        namespace: str,
        *,
        wanted: SessionFilter,
        show_internal: bool,
        before: tuple[int, str] | None,
        limit: int,
        examine_max: int,
    ) -> SessionPage:
        first_ms, last_ms = wanted.updated_within()
        above = min(before or (_INTEGER_MAX, ""), (last_ms + 1, ""))
        end = self._row(sql.STRETCH_END, (namespace, *above, first_ms, examine_max - 1))
        condition, values = narrowed(wanted, show_internal=show_internal)
        stretch = (namespace, *above, *(end or (first_ms, "")))
        found = self._query(sql.SESSIONS + condition + sql.NEWEST_FIRST, (*stretch, *values, limit + 1))
        sessions = [rows.session_of(row) for row in found.fetchall()]
        if len(sessions) <= limit:
            return SessionPage(sessions=sessions, next_before=end and (end[0], end[1]))
        last = sessions[limit - 1]
        return SessionPage(sessions=sessions[:limit], next_before=(last.updated_at_ms, last.session_id))

    def has_sessions(self) -> bool:
        return self._row(sql.HAS_SESSIONS, ()) is not None

    def sessions_in_state(self, state: str, *, after: str, limit: int) -> list[Session]:
        statement = sql.MOVING_SESSIONS if state in _MOVING else sql.RESTING_SESSIONS
        # A StrEnum member is a str, but only an exact one is bound without asking for adapters.
        found = self._query(statement, (str(state), after, limit))
        return [rows.session_of(row) for row in found.fetchall()]

    def sessions_due(self, state: str, *, at_ms: int, limit: int) -> list[Session]:
        found = self._query(sql.SESSIONS_DUE, (str(state), at_ms, limit))
        return [rows.session_of(row) for row in found.fetchall()]

    def sessions_to_compact(self, *, at_ms: int, limit: int) -> list[Session]:
        found = self._query(sql.SESSIONS_TO_COMPACT, (at_ms, limit))
        return [rows.session_of(row) for row in found.fetchall()]

    def sessions_changed(self, namespace: str, *, after: int, limit: int) -> list[Session]:
        found = self._query(sql.CHANGED_SESSIONS, (namespace, after, limit))
        return [rows.session_of(row) for row in found.fetchall()]

    def change_numbers(self, namespace: str) -> ChangeNumbers:
        row = self._row(sql.CHANGE_NUMBERS, (namespace,))
        return ChangeNumbers(0, 0) if row is None else ChangeNumbers(*row)

    def run(self, namespace: str, run_id: str) -> Run | None:
        return self._run_or_none(sql.RUN, (namespace, run_id))

    def next_queued(self, session_id: str) -> Run | None:
        return self._run_or_none(sql.NEXT_QUEUED, (session_id,))

    def runs(
        self, session_id: str, states: Collection[RunState], *, before: int | None, limit: int
    ) -> list[Run]:
        wanted = json.dumps([state.value for state in states])
        span = (session_id, _INTEGER_MAX if before is None else before, wanted, limit)
        # One by one: terminals may be long, and what is long about them is not shown.
        with closing(self._query(sql.RUNS_LISTED, span)) as found:
            return [
                replace(run, terminal=codec.brief_terminal(run.terminal)) for run in map(rows.run_of, found)
            ]

    def line(self, session_id: str) -> list[Run]:
        return [rows.run_of(row) for row in self._query(sql.LINE, (session_id,)).fetchall()]

    def queue_position(self, run: Run) -> int:
        (position,) = self._query(sql.QUEUE_POSITION, (run.session_id, run.place, run.run_id)).fetchone()
        return int(position)

    def queued_before(self, session_id: str, place: int) -> int:
        (count,) = self._query(sql.QUEUED_BEFORE, (session_id, place)).fetchone()
        return int(count)

    def input(self, namespace: str, input_id: str) -> Input | None:
        row = self._row(sql.INPUT, (namespace, input_id))
        return None if row is None else rows.injected_of(row)

    def waiting_inputs(
        self, run: Run, *, after: int | None = None, bytes_max: int | None = None
    ) -> list[Input]:
        behind = -_INTEGER_MAX if after is None else after
        room = _INTEGER_MAX if bytes_max is None else bytes_max
        found: list[Input] = []
        with closing(self._query(sql.WAITING_INPUTS, (run.namespace, run.run_id, behind))) as waiting:
            for each in map(rows.injected_of, waiting):
                room -= len(each.input)
                if found and room < 0:
                    break
                found.append(each)
        return found

    def input_ids(self, run: Run, stage: InputStage, *, limit: int) -> list[str]:
        found = self._query(sql.INPUT_IDS, (run.namespace, run.run_id, stage.value, limit))
        return [input_id for (input_id,) in reversed(found.fetchall())]

    def next_pending(self, namespace: str, pool: str) -> Run | None:
        return self._run_or_none(sql.NEXT_PENDING, (namespace, pool))

    def lane_at(self, session_id: str, sequence: int) -> Run | None:
        run = self._run_or_none(sql.LANE_AT, (session_id, sequence))
        if run is None or 0 < run.terminal_sequence <= sequence:
            return None
        return run

    def leased_runs(self, *, after: tuple[str, str], limit: int) -> list[Run]:
        found = self._query(sql.LEASED_RUNS, (*after, limit))
        return [rows.run_of(row) for row in found.fetchall()]

    def runs_due(self, *, at_ms: int, limit: int) -> list[Run]:
        return [rows.run_of(row) for row in self._query(sql.RUNS_DUE, (at_ms, limit)).fetchall()]

    def interrupt(self, namespace: str, interrupt_id: str) -> Interrupt | None:
        row = self._row(sql.INTERRUPT, (namespace, interrupt_id))
        return None if row is None else rows.interrupt_of(row)

    def request(self, namespace: str, rpc: str, request_id: str) -> Request | None:
        row = self._row(sql.REQUEST, (namespace, rpc, request_id))
        return None if row is None else rows.request_of(row)

    def head(self, session_id: str) -> Place:
        row = self._row(sql.HEAD, (session_id,))
        if row is None:
            raise KeyError(session_id)
        return Place(row[0], row[1])

    def log_bytes(self, session_id: str) -> int:
        row = self._row(sql.HEAD, (session_id,))
        if row is None:
            raise KeyError(session_id)
        return int(row[2])

    def floor(self, session_id: str) -> Floor:
        row = self._row(sql.FLOOR, (session_id,))
        if row is None:
            raise KeyError(session_id)
        return rows.floor_of(row)

    def place(self, session_id: str, sequence: int) -> Place | None:
        floor = self._row(sql.FLOOR, (session_id,))
        if floor is None or sequence < floor[0]:
            return None
        if sequence == floor[0]:
            return Place(floor[0], floor[1])
        row = self._row(sql.CHAIN, (session_id, sequence))
        return None if row is None else Place(sequence, row[0])

    def entries(self, session_id: str, *, after: Place, limit: int, bytes_max: int) -> list[Entry]:
        found: list[Entry] = []
        sequence, chain, size = after.sequence, after.chain, 0
        with closing(self._query(sql.ENTRIES, (session_id, sequence, limit))) as log:
            for row in log:
                entry = rows.entry_of(row)
                size += len(entry.data)
                if found and size > bytes_max:
                    return found
                sequence, chain = sequence + 1, next_chain(chain, entry.data)
                if entry.sequence != sequence or entry.chain != chain:
                    raise self._broken(session_id, after, sequence)
                found.append(entry)
        if len(found) < limit:
            self._check_end(session_id, after, sequence)
        return found

    def first_kept(
        self, session_id: str, *, after: int, through: int, ended_after_ms: int | None
    ) -> Kept | None:
        since_ms = _INTEGER_MAX if ended_after_ms is None else ended_after_ms
        row = self._row(sql.FIRST_KEPT, (session_id, after, through, since_ms))
        return None if row is None else Kept(*row)

    def has_run_behind(self, session_id: str, sequence: int) -> bool:
        return self._row(sql.RUN_BEHIND, (session_id, sequence)) is not None

    def last_terminal(self, session_id: str) -> int:
        row = self._row(sql.LAST_TERMINAL, (session_id,))
        return (row and row[0]) or 0

    def terminal_data(self, run: Run) -> bytes:
        at_ms = run.finished_at_ms or 0
        return codec.encode_ended(run.session_id, run.terminal_sequence, run.run_id, at_ms, run.terminal)

    def output_text(self, run: Run, *, bytes_max: int) -> tuple[str, bool]:
        if not run.first_output_sequence:
            return "", True
        span = (run.session_id, run.first_output_sequence, run.terminal_sequence or _INTEGER_MAX, run.run_id)
        pieces, room = bytearray(), bytes_max
        with closing(self._query(sql.DELTAS, span)) as deltas:
            for (data,) in deltas:
                piece = codec.delta_text(data).encode()
                pieces += piece[:room]
                room -= len(piece)
                if room < 0:
                    return pieces.decode(errors="ignore"), False
        return pieces.decode(), True

    def violations(self, invariant: str, *, limit: int) -> Violations:
        asked = INVARIANTS[invariant]
        (total,) = self._query(counted(asked), ()).fetchone()
        found = self._query(examples(asked), (limit,)).fetchall() if total else []
        return Violations(total, [str(row[0]) for row in found])

    def _check_end(self, session_id: str, after: Place, sequence: int) -> None:
        """Refuse a log whose last entries are gone: waiting for them would never end."""
        row = self._row(sql.HEAD, (session_id,))
        if row is not None and row[0] > sequence:
            raise self._broken(session_id, after, sequence + 1)

    def _broken(self, session_id: str, after: Place, sequence: int) -> SessionPlaneError:
        """Say why a log does not go on behind `after` with this sequence: retention was there, or damage."""
        row = self._row(sql.FLOOR, (session_id,))
        if row is not None and after.sequence < row[0]:
            return compacted(self._store_id, session_id, Place(row[0], row[1]))
        return Checksum(session_id=session_id, sequence=sequence)

    def _run_or_none(self, statement: str, values: rows.Row) -> Run | None:
        row = self._row(statement, values)
        return None if row is None else rows.run_of(row)

    def _row(self, statement: str, values: rows.Row) -> rows.Row | None:
        row: rows.Row | None = self._query(statement, values).fetchone()
        return row

    def _query(self, statement: str, values: rows.Row) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)
