"""The writer's transaction as use cases see it.

Owns sequences, the chain hash, change numbers, and what a use case brought (`Effects`). It must never begin,
commit or roll back: the writer does.

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
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sessionplane.domain.errors import StoreFailed
from sessionplane.domain.events import Body, Entry, EventKind, Place
from sessionplane.domain.inputs import Input
from sessionplane.domain.interrupts import Interrupt
from sessionplane.domain.keys import SessionKey
from sessionplane.domain.runs import Run, RunState, RunTerminal
from sessionplane.domain.sessions import Session
from sessionplane.store import codec, failures, key_rows, rows
from sessionplane.store import statements as sql
from sessionplane.store.contract import Extent, Floor, Import, Request, Topic
from sessionplane.store.reading import SqliteReadTx, next_chain

_HEADS_MAX = 10_000


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
    topics: list[Topic] = field(default_factory=list)
    namespaces: set[str] = field(default_factory=set)
    undos: list[Callable[[], None]] = field(default_factory=list)

    def undo(self) -> None:
        """Take back what mirrors rows, latest first.

        Raises StoreFailed if that fails: memory would go on saying what no row says.
        """
        try:
            while self.undos:
                self.undos.pop()()
        except Exception as error:
            raise StoreFailed from error


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

    def save_fact(self, name: str, value: str) -> None:
        self._execute(sql.SAVE_META, (name, value))

    def add_session(self, session: Session) -> None:
        self._insert(sql.ADD_SESSION, rows.session_row(session, self._next_number(session.namespace)))
        self._heads[session.session_id] = _EMPTY_LOG
        self._touched.add(session.session_id)

    def save_session(self, session: Session) -> None:
        self._update(sql.SAVE_SESSION, rows.session_row(session, self._next_number(session.namespace)))

    def touch_session(self, namespace: str, session_id: str, *, interaction_at_ms: int) -> None:
        self._execute(sql.TOUCH_SESSION, (interaction_at_ms, session_id, namespace))

    def postpone_session(self, session: Session) -> None:
        values = (session.quiet_since_ms, session.due_at_ms, session.session_id, session.namespace)
        self._execute(sql.POSTPONE_SESSION, values)

    def bind_key(self, namespace: str, key: SessionKey, session_id: str) -> str:
        if self._execute(sql.BIND_KEY, key_rows.pointer_row(namespace, key, session_id)).rowcount:
            return session_id
        return key_rows.pointer_of(self._execute(sql.POINTER, (namespace, key.text)).fetchone()).session_id

    def release_key(self, namespace: str, key: SessionKey, session_id: str) -> SessionKey | None:
        released = self._execute(sql.RELEASE_KEY, (namespace, key.text, session_id)).fetchall()
        return key_rows.pointer_of(released[0]).key if released else None

    def add_import(self, imported: Import) -> None:
        self._insert(sql.ADD_IMPORT, key_rows.import_row(imported))

    def rename_import(self, imported: Import, key: SessionKey) -> None:
        old = (imported.namespace, imported.source_id, imported.key.text)
        self._execute(sql.RENAME_IMPORT, (key.text, *old))

    def add_run(self, run: Run, *, injected: bool = False) -> None:
        self._insert(sql.ADD_RUN, rows.run_row(run))
        if not injected:
            self._insert(sql.ADD_INPUT, rows.input_row(run))

    def save_run(self, run: Run) -> None:
        self._update(sql.SAVE_RUN, rows.run_row(run))

    def finish_run(self, run: Run, terminal: RunTerminal) -> Run:
        head = self._head(run.session_id)
        sequence, encoded = head.sequence + 1, codec.encode_terminal(terminal)
        data = codec.encode_ended(run.session_id, sequence, run.run_id, terminal.finished_at_ms, encoded)
        self._take(run.session_id, head, run.run_id, EventKind.RUN_TERMINAL, data)
        finished = replace(
            run,
            state=RunState.FINISHED,
            outcome=terminal.outcome,
            terminal=encoded,
            terminal_sequence=sequence,
            finished_at_ms=terminal.finished_at_ms,
            due_at_ms=None,
        )
        # Written now, so that a second terminal is refused here and not at some later statement.
        self._flush()
        self.save_run(finished)
        return finished

    def add_input(self, injected: Input) -> None:
        self._insert(sql.ADD_INPUT, rows.injected_row(injected))

    def save_input(self, injected: Input) -> None:
        self._update(sql.SAVE_INPUT, rows.input_change(injected))

    def add_interrupt(self, interrupt: Interrupt) -> None:
        self._insert(sql.ADD_INTERRUPT, rows.interrupt_row(interrupt))

    def save_interrupt(self, interrupt: Interrupt) -> None:
        self._update(sql.SAVE_INTERRUPT, rows.interrupt_change(interrupt))

    def append(
        self, session_id: str, body: Body, *, at_ms: int, run_id: str = "", run_sequence: int = 0
    ) -> int:
        head = self._head(session_id)
        data = codec.encode(session_id, head.sequence + 1, run_id, run_sequence, at_ms, body)
        return self._take(session_id, head, run_id, body.kind, data)

    def _take(self, session_id: str, head: Head, run_id: str, kind: EventKind, data: bytes) -> int:
        """Put an entry behind the head, which it moves; returns its sequence."""
        entry = Entry(head.sequence + 1, run_id, kind, data, next_chain(head.chain, data))
        self._heads[session_id] = Head(entry.sequence, entry.chain, head.log_bytes + len(data))
        self._touched.add(session_id)
        self._moved.add(session_id)
        self._unwritten.append(rows.entry_row(session_id, entry))
        self._effects.entries.setdefault(session_id, []).append(entry)
        return entry.sequence

    def head(self, session_id: str) -> Place:
        head = self._head(session_id)
        return Place(head.sequence, head.chain)

    def log_bytes(self, session_id: str) -> int:
        return self._head(session_id).log_bytes

    def remove_events(self, session_id: str, *, through: int, bytes_max: int) -> Extent:
        floor = self.floor(session_id)
        count = max(0, through - floor.place.sequence)
        gone = self.entries(session_id, after=floor.place, limit=count, bytes_max=bytes_max)
        if not gone:
            return Extent(0, 0)
        fold = floor.fold
        for entry in gone:
            fold = codec.fold(fold, entry)
        size = sum(len(entry.data) for entry in gone)
        last = Place(gone[-1].sequence, gone[-1].chain)
        self._execute(sql.REMOVE_EVENTS, (session_id, last.sequence))
        raised = Floor(last, floor.log_bytes + size, fold)
        self._execute(sql.RAISE_FLOOR, rows.floor_row(session_id, raised))
        return Extent(len(gone), size)

    def remove_rows(self, session_id: str, *, limit: int, bytes_max: int) -> int:
        for found, remove in sql.REMOVALS:
            keys: list[rows.Row] = []
            room = bytes_max
            for *key, size in self._query(found, (session_id, limit)).fetchall():
                room -= size
                if keys and room < 0:
                    break
                keys.append(tuple(key))
            if keys:
                self._connection.executemany(remove, keys)
                return len(keys)
        return 0

    def remove_session(self, session: Session) -> None:
        self._update(sql.REMOVE_SESSION, (session.session_id, session.namespace))
        self._execute(sql.RAISE_CHANGE_FLOOR, (session.change_number, session.namespace))
        self._heads.pop(session.session_id, None)

    def plan_compaction(self, session_id: str, at_ms: int | None) -> None:
        self._execute(sql.PLAN_COMPACTION, (at_ms, session_id))

    def remember(self, request: Request) -> None:
        self._insert(sql.REMEMBER, rows.request_row(request))

    def forget_requests(self, *, before_ms: int, limit: int) -> int:
        return self._execute(sql.FORGET_REQUESTS, (before_ms, limit)).rowcount

    def wake(self, topic: Topic) -> None:
        self._effects.topics.append(topic)

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
        """Forget the use case under way and all that mirrors rows: the transaction is lost. For the writer."""
        self.undo()
        self._heads.clear()

    def _head(self, session_id: str) -> Head:
        known = self._heads.get(session_id)
        if known is not None:
            return known
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
        self._effects.namespaces.add(namespace)
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
