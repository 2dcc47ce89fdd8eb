"""A database that has been in use for a while: written past the server, by its own statements and codec.

Each session was created under a key, had one run that finished within the window, and was left: ten events. So every
index has as many entries as a server would have made; nothing in the file is due for as long as a measurement takes.

Events are encoded once for a session and a run with ids of the right length, which are then put in: that is the same
bytes a hundred times sooner. The chain is that of the real bytes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sessionplane.domain.events import (
    Body,
    EventKind,
    InputRecorded,
    OutputDelta,
    RunChanged,
    SessionChanged,
    SessionMoved,
)
from sessionplane.domain.inputs import InputStage
from sessionplane.domain.keys import SessionKey, from_stored
from sessionplane.domain.limits import DEFAULT
from sessionplane.domain.runs import Run, RunCause, RunOutcome, RunState, RunTerminal
from sessionplane.domain.sessions import MoveReason, Session, SessionCause, SessionState
from sessionplane.store import codec, connections, key_rows, rows, schema
from sessionplane.store import statements as sql
from sessionplane.store.contract import Request
from sessionplane.store.reading import next_chain

NAMESPACE = "default"
EVENTS = 10
GROUP = 5_000
"""Sessions in one transaction."""
REQUESTS_EACH = 10
"""One session in so many was made under a request id that is still remembered."""

TEXT = "It takes a sentence or two to be a piece of an answer that a person would wait for. " * 2
_SESSION, _RUN, _KEY = "ses_" + "5e" * 16, "run_" + "4a" * 16, "agent:main:user-99999999"


def key_text(number: int) -> str:
    """Return the key of a session by its number."""
    return f"agent:main:user-{number:08d}"


class _Mould:
    """One session with its run and its log, and how to make others of it."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.terminal = RunTerminal(
            outcome=RunOutcome.SUCCEEDED,
            cause=RunCause.RUNNER,
            output_text=TEXT,
            output_complete=True,
            finished_at_ms=now_ms,
        )
        self.encoded_terminal = codec.encode_terminal(self.terminal)
        self.entries = [
            (*self._entry(sequence, body, run_id), run_id)
            for sequence, (body, run_id) in enumerate(self._story(), start=1)
        ]

    def _story(self) -> Iterator[tuple[Body | None, str]]:
        """What happens in a session; None is the terminal."""

        def session(from_state: SessionState | None, to_state: SessionState, cause: SessionCause) -> Body:
            return SessionChanged(from_state=from_state, to_state=to_state, cause=cause, generation=1)

        def run(from_state: RunState | None, to_state: RunState, epoch: int) -> Body:
            return RunChanged(from_state=from_state, to_state=to_state, lease_epoch=epoch, runner_id="runner")

        state, cause = SessionState, SessionCause
        yield session(None, state.CREATED, cause.CREATED), ""
        yield SessionMoved(key=from_stored(_KEY), reason=MoveReason.CREATED, holds=True), ""
        yield InputRecorded(input_id=_RUN, stage=InputStage.RECORDED, input=b""), _RUN
        yield run(None, RunState.PENDING, 0), _RUN
        yield run(RunState.PENDING, RunState.RUNNING, 1), _RUN
        yield session(state.CREATED, state.STARTING, cause.RUN_CLAIMED), ""
        yield session(state.STARTING, state.DETACHED, cause.RUN_STARTED), ""
        yield OutputDelta(text=TEXT), _RUN
        yield run(RunState.RUNNING, RunState.FINISHED, 1), _RUN
        yield None, _RUN

    def _entry(self, sequence: int, body: Body | None, run_id: str) -> tuple[int, EventKind, bytes]:
        if body is None:
            data = codec.encode_ended(_SESSION, sequence, run_id, self.now_ms, self.encoded_terminal)
            return sequence, EventKind.RUN_TERMINAL, data
        return (
            sequence,
            body.kind,
            codec.encode(
                _SESSION, sequence, run_id, int(body.kind is EventKind.OUTPUT_DELTA), self.now_ms, body
            ),
        )

    def log(self, session_id: str, run_id: str, key: str) -> tuple[list[Sequence[Any]], bytes, int]:
        """Return the rows of one session's log, its last hash and its bytes."""
        made: list[Sequence[Any]] = []
        chain, size = b"", 0
        names = [(_SESSION.encode(), session_id.encode()), (_RUN.encode(), run_id.encode())]
        for sequence, kind, mould, of_run in self.entries:
            data = mould.replace(*names[0]).replace(*names[1]).replace(_KEY.encode(), key.encode())
            chain, size = next_chain(chain, data), size + len(data)
            made.append((session_id, sequence, run_id if of_run else "", kind.value, data, chain))
        return made, chain, size

    def session(self, session_id: str, key: SessionKey) -> Session:
        """Return the row that the log adds up to."""
        return Session(
            session_id=session_id,
            namespace=NAMESPACE,
            key=key,
            state=SessionState.DETACHED,
            created_at_ms=self.now_ms,
            started_at_ms=self.now_ms,
            last_interaction_at_ms=self.now_ms,
            updated_at_ms=self.now_ms,
            quiet_since_ms=self.now_ms,
            due_at_ms=self.now_ms + DEFAULT.detached_ttl_ms,
            compact_at_ms=self.now_ms + DEFAULT.log_window_ms,
        )

    def run(self, session_id: str, run_id: str) -> Run:
        """Return the row of the finished run."""
        return Run(
            run_id=run_id,
            namespace=NAMESPACE,
            session_id=session_id,
            generation=1,
            state=RunState.FINISHED,
            fingerprint=b"f" * 16,
            created_at_ms=self.now_ms,
            start_timeout_ms=DEFAULT.start_timeout_ms_default,
            run_timeout_ms=DEFAULT.run_timeout_ms_default,
            claimed_at_ms=self.now_ms,
            finished_at_ms=self.now_ms,
            kept_from_ms=self.now_ms,
            runner_id="runner",
            lease_epoch=1,
            lease_ms=DEFAULT.lease_ms_default,
            lease_confirmed=True,
            last_run_sequence=1,
            output_bytes=len(TEXT),
            first_sequence=3,
            lane_sequence=4,
            first_output_sequence=8,
            outcome=self.terminal.outcome,
            terminal=self.encoded_terminal,
            terminal_sequence=EVENTS,
        )


def build(database: Path, sessions: int) -> float:
    """Write a file with so many sessions; returns the seconds that took."""
    began_s = time.monotonic()
    connection = connections.open_writer(database)
    schema.migrate(connection)
    # Nobody is told of what is written here, so a crash may take it along.
    connection.execute("PRAGMA synchronous = OFF")
    mould = _Mould(time.time_ns() // 1_000_000)
    # Keys lie in no order of time, as in life.
    numbers = list(range(sessions))
    random.Random(1).shuffle(numbers)  # noqa: S311 - the same file each time
    remaining = iter(enumerate(numbers, start=1))
    while group := list(islice(remaining, GROUP)):
        connection.execute(sql.BEGIN_WRITE)
        _write(connection, mould, group)
        connection.execute(sql.COMMIT)
    connection.execute(sql.SAVE_CHANGE_NUMBER, (NAMESPACE, sessions))
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    return time.monotonic() - began_s


def _write(connection: Any, mould: _Mould, group: Sequence[tuple[int, int]]) -> None:
    events: list[Sequence[Any]] = []
    for serial, number in group:
        session_id, run_id, key = f"ses_{serial:032x}", f"run_{serial:032x}", key_text(number)
        log, chain, size = mould.log(session_id, run_id, key)
        events += log
        stored = from_stored(key)
        run = mould.run(session_id, run_id)
        connection.execute(sql.ADD_SESSION, rows.session_row(mould.session(session_id, stored), serial))
        connection.execute(sql.SAVE_HEAD, (len(log), chain, size, session_id))
        connection.execute(sql.BIND_KEY, key_rows.pointer_row(NAMESPACE, stored, session_id))
        connection.execute(sql.ADD_RUN, rows.run_row(run))
        connection.execute(sql.ADD_INPUT, rows.input_row(run))
        if serial % REQUESTS_EACH == 0:
            connection.execute(sql.REMEMBER, rows.request_row(_request(mould, serial, session_id)))
    connection.executemany(sql.APPEND[0], events)


def _request(mould: _Mould, serial: int, session_id: str) -> Request:
    return Request(
        namespace=NAMESPACE,
        rpc="ResolveSession",
        request_id=f"request-{serial}",
        fingerprint=b"f" * 16,
        at_ms=mould.now_ms,
        session_id=session_id,
        detail="CREATED",
    )
