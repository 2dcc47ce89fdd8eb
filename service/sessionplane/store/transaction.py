"""One transaction as use cases see it: `SqliteReadTx` to read, `SqliteTx` to read and write.

Owns sequences, the chain hash, change numbers, and what a use case brought (`Effects`). It must never begin,
commit or roll back: its owner does, the writer's thread for `SqliteTx` and whoever holds the connection for
`SqliteReadTx`.

Theory of operation. Events that a use case appends are encoded at once and wait in its memory; they are
written, with the heads and change numbers that they moved, before the next statement of that use case reads
and at its end. So everything that is read is read from the database, in the transaction's own view, and many
appends cost one statement. Heads and change numbers are also kept between use cases, since only the writer's
thread moves them; what an undone use case touched is forgotten and read again, and after a lost transaction
all of it is.

An error of SQLite can end the whole transaction under a use case. From then on every statement here refuses
to run, since SQLite would commit each one by itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import NamedTuple

from sessionplane.domain.errors import Checksum
from sessionplane.domain.events import Body, Entry, Place, RunTerminal
from sessionplane.domain.interrupts import Interrupt
from sessionplane.domain.keys import SessionKey
from sessionplane.domain.runs import Run, RunState
from sessionplane.domain.runs import RunTerminal as Terminal
from sessionplane.domain.sessions import Session
from sessionplane.store import codec, failures, rows
from sessionplane.store import statements as sql
from sessionplane.store.contract import Request, Topic

_CHAIN_BYTES = 16
_INTEGER_MAX = 2**63 - 1
_HEADS_MAX = 10_000
_MOVING = frozenset({"STARTING", "ACTIVE", "SUSPENDED", "CLOSING"})
"""The states that the index sessions_moving covers."""


def next_chain(chain: bytes, data: bytes) -> bytes:
    """Return the hash behind an entry: over the hash before it and its bytes."""
    return blake2b(chain + data, digest_size=_CHAIN_BYTES).digest()


class Head(NamedTuple):
    """Where a log ends, and how large it is."""

    sequence: int
    chain: bytes
    log_bytes: int


_EMPTY_LOG = Head(0, b"", 0)


@dataclass(slots=True)
class Effects:
    """What a use case brought besides rows."""

    entries: dict[str, list[Entry]] = field(default_factory=dict)
    topics: dict[Topic, None] = field(default_factory=dict)
    undos: list[Callable[[], None]] = field(default_factory=list)

    def undo(self) -> None:
        """Take back what mirrors rows, latest first."""
        while self.undos:
            self.undos.pop()()


class SqliteReadTx:
    """See `contract.ReadTx`."""

    def __init__(self, connection: sqlite3.Connection, store_id: str) -> None:
        self._connection = connection
        self._store_id = store_id

    @property
    def store_id(self) -> str:
        return self._store_id

    def session(self, namespace: str, session_id: str) -> Session | None:
        row = self._row(sql.SESSION, (session_id, namespace))
        return None if row is None else rows.session_of(row)

    def session_by_key(self, namespace: str, key: SessionKey) -> Session | None:
        row = self._row(sql.SESSION_BY_KEY, (namespace, key.text))
        return None if row is None else rows.session_of(row)

    def sessions(self, namespace: str, *, before: tuple[int, str] | None, limit: int) -> list[Session]:
        updated_at_ms, session_id = before or (_INTEGER_MAX, "")
        found = self._query(sql.SESSIONS, (namespace, updated_at_ms, session_id, limit))
        return [rows.session_of(row) for row in found.fetchall()]

    def sessions_in_state(self, state: str, *, after: str, limit: int) -> list[Session]:
        statement = sql.MOVING_SESSIONS if state in _MOVING else sql.RESTING_SESSIONS
        # A StrEnum member is a str, but only an exact one is bound without asking for adapters.
        found = self._query(statement, (str(state), after, limit))
        return [rows.session_of(row) for row in found.fetchall()]

    def run(self, namespace: str, run_id: str) -> Run | None:
        return self._run_or_none(sql.RUN, (namespace, run_id))

    def next_queued(self, session_id: str) -> Run | None:
        return self._run_or_none(sql.NEXT_QUEUED, (session_id,))

    def queue_position(self, run: Run) -> int:
        (position,) = self._query(sql.QUEUE_POSITION, (run.session_id, run.place, run.run_id)).fetchone()
        return int(position)

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

    def place(self, session_id: str, sequence: int) -> Place | None:
        floor = self._row(sql.FLOOR, (session_id,))
        if floor is None or sequence < floor[0]:
            return None
        if sequence == floor[0]:
            return Place(*floor)
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
                    raise Checksum(session_id=session_id, sequence=sequence)
                found.append(entry)
        if len(found) < limit:
            self._check_end(session_id, sequence)
        return found

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

    def _check_end(self, session_id: str, sequence: int) -> None:
        """Refuse a log whose last entries are gone: waiting for them would never end."""
        row = self._row(sql.HEAD, (session_id,))
        if row is not None and row[0] > sequence:
            raise Checksum(session_id=session_id, sequence=sequence + 1)

    def _run_or_none(self, statement: str, values: rows.Row) -> Run | None:
        row = self._row(statement, values)
        return None if row is None else rows.run_of(row)

    def _row(self, statement: str, values: rows.Row) -> rows.Row | None:
        row: rows.Row | None = self._query(statement, values).fetchone()
        return row

    def _query(self, statement: str, values: rows.Row) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)


class SqliteTx(SqliteReadTx):
    """See `contract.Tx`. One object serves all use cases of the writer's thread, one after the other."""

    def __init__(self, connection: sqlite3.Connection, store_id: str) -> None:
        super().__init__(connection, store_id)
        # Kept between use cases. Bounds: _HEADS_MAX, and one number for each namespace.
        self._heads: dict[str, Head] = {}
        self._numbers: dict[str, int] = {}
        self._begin()

    def _begin(self) -> None:
        self._effects = Effects()
        self._touched: set[str] = set()
        self._unwritten: list[rows.Row] = []
        self._moved: set[str] = set()
        self._renumbered: set[str] = set()
        self._spoiled: Exception | None = None

    def add_session(self, session: Session) -> None:
        self._insert(sql.ADD_SESSION, rows.session_row(session, self._next_number(session.namespace)))
        self._heads[session.session_id] = _EMPTY_LOG
        self._touched.add(session.session_id)

    def save_session(self, session: Session) -> None:
        self._update(sql.SAVE_SESSION, rows.session_row(session, self._next_number(session.namespace)))

    def touch_session(self, namespace: str, session_id: str, *, interaction_at_ms: int) -> None:
        self._execute(sql.TOUCH_SESSION, (interaction_at_ms, session_id, namespace))

    def bind_key(self, namespace: str, key: SessionKey, session_id: str) -> str:
        if self._execute(sql.BIND_KEY, (namespace, key.text, session_id)).rowcount:
            return session_id
        (holder,) = self._execute(sql.POINTER, (namespace, key.text)).fetchone()
        return str(holder)

    def add_run(self, run: Run) -> None:
        self._insert(sql.ADD_RUN, rows.run_row(run))
        self._insert(sql.ADD_INPUT, rows.input_row(run))

    def save_run(self, run: Run) -> None:
        self._update(sql.SAVE_RUN, rows.run_row(run))

    def finish_run(self, run: Run, terminal: Terminal, *, at_ms: int) -> Run:
        sequence = self.append(run.session_id, RunTerminal(terminal=terminal), at_ms=at_ms, run_id=run.run_id)
        finished = replace(
            run,
            state=RunState.FINISHED,
            outcome=terminal.outcome,
            terminal=codec.encode_terminal(terminal),
            terminal_sequence=sequence,
            finished_at_ms=terminal.finished_at_ms,
            due_at_ms=None,
        )
        # Written now, so that a second terminal is refused here and not at some later statement.
        self._flush()
        self.save_run(finished)
        return finished

    def add_interrupt(self, interrupt: Interrupt) -> None:
        self._insert(sql.ADD_INTERRUPT, rows.interrupt_row(interrupt))

    def save_interrupt(self, interrupt: Interrupt) -> None:
        self._update(sql.SAVE_INTERRUPT, rows.interrupt_change(interrupt))

    def append(
        self, session_id: str, body: Body, *, at_ms: int, run_id: str = "", run_sequence: int = 0
    ) -> int:
        head = self._heads.get(session_id) or self._load_head(session_id)
        sequence = head.sequence + 1
        data = codec.encode(session_id, sequence, run_id, run_sequence, at_ms, body)
        entry = Entry(sequence, run_id, body.kind, data, next_chain(head.chain, data))
        self._heads[session_id] = Head(sequence, entry.chain, head.log_bytes + len(data))
        self._touched.add(session_id)
        self._moved.add(session_id)
        self._unwritten.append(rows.entry_row(session_id, entry))
        self._effects.entries.setdefault(session_id, []).append(entry)
        return sequence

    def remember(self, request: Request) -> None:
        self._insert(sql.REMEMBER, rows.request_row(request))

    def forget_requests(self, *, before_ms: int, limit: int) -> int:
        return self._execute(sql.FORGET_REQUESTS, (before_ms, limit)).rowcount

    def wake(self, topic: Topic) -> None:
        self._effects.topics[topic] = None

    def on_undo(self, undo: Callable[[], None]) -> None:
        self._effects.undos.append(undo)

    def finish(self) -> Effects:
        """Write what waits, and hand over what the use case brought. For the writer."""
        self._flush()
        self._require_usable()
        effects = self._effects
        if len(self._heads) > _HEADS_MAX:
            self._heads.clear()
        self._begin()
        return effects

    def undo(self) -> None:
        """Forget the use case under way, which failed. For the writer."""
        effects = self._effects
        for session_id in self._touched:
            self._heads.pop(session_id, None)
        self._numbers.clear()
        self._begin()
        effects.undo()

    def forget(self) -> None:
        """Forget all that mirrors rows: the transaction was lost. For the writer."""
        self._heads.clear()
        self._numbers.clear()
        self._begin()

    def _load_head(self, session_id: str) -> Head:
        row = self._row(sql.HEAD, (session_id,))
        if row is None:
            raise KeyError(session_id)
        return Head(*row)

    def _next_number(self, namespace: str) -> int:
        number = self._numbers.get(namespace)
        if number is None:
            row = self._row(sql.CHANGE_NUMBER, (namespace,))
            number = 0 if row is None else row[0]
        self._numbers[namespace] = number + 1
        self._renumbered.add(namespace)
        return number + 1

    def _flush(self) -> None:
        """Write what waits: events, the heads that they moved, change numbers."""
        if not self._unwritten and not self._renumbered:
            return
        self._require_usable()
        events, heads, numbers = self._unwritten, self._moved, self._renumbered
        self._unwritten, self._moved, self._renumbered = [], set(), set()
        execute = self._connection.execute
        try:
            for start in range(0, len(events), sql.APPEND_MAX):
                some = events[start : start + sql.APPEND_MAX]
                execute(sql.APPEND[len(some) - 1], [value for event in some for value in event])
            for session_id in heads:
                execute(sql.SAVE_HEAD, (*self._heads[session_id], session_id))
            for namespace in numbers:
                execute(sql.SAVE_CHANGE_NUMBER, (namespace, self._numbers[namespace]))
        except sqlite3.Error as error:
            # The memory of this use case is ahead of its rows now: it may only be undone.
            self._spoiled = _refused(error)
            raise self._spoiled from error

    def _query(self, statement: str, values: rows.Row) -> sqlite3.Cursor:
        self._flush()
        return self._execute(statement, values)

    def _execute(self, statement: str, values: rows.Row) -> sqlite3.Cursor:
        self._require_usable()
        return self._connection.execute(statement, values)

    def _insert(self, statement: str, values: rows.Row) -> None:
        try:
            self._execute(statement, values)
        except sqlite3.IntegrityError as error:
            raise _refused(error) from error

    def _update(self, statement: str, values: rows.Row) -> None:
        if not self._execute(statement, values).rowcount:
            raise KeyError(values[-2:])

    def _require_usable(self) -> None:
        if self._spoiled is not None:
            raise self._spoiled
        if not self._connection.in_transaction:
            raise sqlite3.OperationalError("the transaction was ended by an error that a use case has kept")


def _refused(error: sqlite3.Error) -> Exception:
    """Return KeyError for a row whose key is taken, else the error itself."""
    taken = isinstance(error, sqlite3.IntegrityError) and failures.is_taken(error)
    return KeyError(str(error)) if taken else error
