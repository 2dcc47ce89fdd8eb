"""The tables, and how a database file comes to have them.

Owns the layout on disk. A released migration never changes: a new layout is a new migration. It must never
read or write rows that callers made, except inside a migration.

Migrations run at opening, under the owner's lock and before any other connection exists, since applying them
is not safe for two starters at once. Each is one transaction together with the note that it ran, so a crash
between two of them leaves a file that the next start completes.

Enum values are text, as in the protos without their prefix; instants are Unix milliseconds; absent is NULL
for instants and '' for ids.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from sqlite_utils import Database, Migrations

APPLICATION_ID = 0x53504C4E
"""Written into the file's header ("SPLN"): how a file is known to be ours."""

migrations = Migrations("sessionplane")
_LIBRARY = "_sqlite_migrations"

_TABLES = (
    # Facts about the file itself: store_id, the key settings, and the version of the rules that made its keys.
    """
    CREATE TABLE meta (
        name TEXT NOT NULL PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    # The newest change number of each namespace. A row of its own, since the session that bore the newest
    # number may be removed, and a number must never come twice. The floor is the highest number of a session
    # that was removed: who has seen less cannot learn of it from the rows.
    """
    CREATE TABLE namespaces (
        namespace TEXT NOT NULL PRIMARY KEY,
        change_number INTEGER NOT NULL,
        floor_change_number INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID
    """,
    # The pointers: the only truth about who holds a key. `spelling` is what the pointer was made from, so that
    # a change of the key settings can ask again what its callers mean. No foreign key, so that a use case may
    # write the pointer before the session that it creates under it.
    """
    CREATE TABLE keys (
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        session_id TEXT NOT NULL,
        spelling TEXT NOT NULL,
        PRIMARY KEY (namespace, key)
    ) STRICT, WITHOUT ROWID
    """,
    # `key` is the label of the key that a session holds or held; `kind` is the key's, written with it since lists
    # ask for it, and '' without a key. A floor is the end of what retention removed: its sequence, its chain hash,
    # the bytes that were removed, and the fold of the log there as JSON. `compact_at_ms` is when retention looks at
    # the session next.
    """
    CREATE TABLE sessions (
        session_id TEXT NOT NULL PRIMARY KEY,
        namespace TEXT NOT NULL,
        key TEXT,
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        final INTEGER NOT NULL DEFAULT 0 CHECK (final IN (0, 1)),
        generation INTEGER NOT NULL,
        active_run_id TEXT NOT NULL DEFAULT '',
        queued_run_count INTEGER NOT NULL DEFAULT 0 CHECK (queued_run_count >= 0),
        created_at_ms INTEGER NOT NULL,
        started_at_ms INTEGER NOT NULL,
        last_interaction_at_ms INTEGER,
        updated_at_ms INTEGER NOT NULL,
        ended_at_ms INTEGER,
        end_reason TEXT,
        quiet_since_ms INTEGER NOT NULL,
        deadline_at_ms INTEGER,
        due_at_ms INTEGER,
        deleted_at_ms INTEGER,
        previous_session_id TEXT NOT NULL DEFAULT '',
        superseded_by TEXT NOT NULL DEFAULT '',
        change_number INTEGER NOT NULL,
        head_sequence INTEGER NOT NULL DEFAULT 0,
        head_hash BLOB NOT NULL DEFAULT x'',
        log_bytes INTEGER NOT NULL DEFAULT 0,
        floor_sequence INTEGER NOT NULL DEFAULT 0,
        floor_hash BLOB NOT NULL DEFAULT x'',
        floor_log_bytes INTEGER NOT NULL DEFAULT 0,
        floor_state TEXT NOT NULL DEFAULT '',
        compact_at_ms INTEGER,
        visibility TEXT NOT NULL DEFAULT 'VISIBLE',
        display_name TEXT NOT NULL DEFAULT '',
        labels TEXT NOT NULL DEFAULT '{}'
    ) STRICT
    """,
    # The input stands in a table of its own: a run's row is written with every publication, and SQLite writes
    # rows whole. What may be long comes last, so that reading the rest stays on one page.
    """
    CREATE TABLE runs (
        namespace TEXT NOT NULL,
        run_id TEXT NOT NULL,
        session_id TEXT NOT NULL REFERENCES sessions (session_id),
        generation INTEGER NOT NULL,
        state TEXT NOT NULL,
        pool TEXT NOT NULL,
        place INTEGER NOT NULL,
        fingerprint BLOB NOT NULL,
        created_at_ms INTEGER NOT NULL,
        start_timeout_ms INTEGER NOT NULL,
        run_timeout_ms INTEGER NOT NULL,
        pending_ms INTEGER NOT NULL,
        pending_since_ms INTEGER,
        claimed_at_ms INTEGER,
        finished_at_ms INTEGER,
        kept_from_ms INTEGER,
        due_at_ms INTEGER,
        runner_id TEXT NOT NULL,
        lease_epoch INTEGER NOT NULL,
        lease_token TEXT NOT NULL,
        lease_ms INTEGER NOT NULL,
        lease_confirmed INTEGER NOT NULL CHECK (lease_confirmed IN (0, 1)),
        last_run_sequence INTEGER NOT NULL,
        output_bytes INTEGER NOT NULL,
        first_sequence INTEGER NOT NULL,
        lane_sequence INTEGER NOT NULL,
        first_output_sequence INTEGER NOT NULL,
        injected INTEGER NOT NULL,
        interrupt_id TEXT NOT NULL,
        outcome TEXT,
        terminal_sequence INTEGER NOT NULL,
        report_fingerprint BLOB NOT NULL,
        late_fingerprint BLOB NOT NULL,
        labels TEXT NOT NULL,
        terminal BLOB NOT NULL,
        PRIMARY KEY (namespace, run_id)
    ) STRICT
    """,
    # What runs were started with, under the run's id. An input that is injected into a run under way waits
    # here under the id of the run that it would have started; `run_id` is whom it waits for or went to, and `spec`
    # is what that run would have been beside its input: empty for what a run was started with.
    """
    CREATE TABLE inputs (
        namespace TEXT NOT NULL,
        input_id TEXT NOT NULL,
        session_id TEXT NOT NULL REFERENCES sessions (session_id),
        run_id TEXT NOT NULL,
        stage TEXT NOT NULL,
        place INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL,
        fingerprint BLOB NOT NULL,
        spec TEXT NOT NULL,
        input BLOB NOT NULL,
        PRIMARY KEY (namespace, input_id)
    ) STRICT
    """,
    """
    CREATE TABLE interrupts (
        namespace TEXT NOT NULL,
        interrupt_id TEXT NOT NULL,
        session_id TEXT NOT NULL REFERENCES sessions (session_id),
        run_id TEXT NOT NULL,
        stage TEXT NOT NULL,
        mode TEXT NOT NULL,
        reason TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        escalate_at_ms INTEGER,
        PRIMARY KEY (namespace, interrupt_id)
    ) STRICT, WITHOUT ROWID
    """,
    # What was imported: the session that another system's session of this id became under this key. It stays when
    # the session goes, so that an import that is repeated brings nothing back that was deleted.
    """
    CREATE TABLE imports (
        namespace TEXT NOT NULL,
        source_id TEXT NOT NULL,
        key TEXT NOT NULL,
        spelling TEXT NOT NULL,
        session_id TEXT NOT NULL,
        PRIMARY KEY (namespace, source_id, key)
    ) STRICT, WITHOUT ROWID
    """,
    # The logs. `data` is the encoded event, `chain` the hash over all events up to it. No foreign key: every
    # append reads and writes its session's row anyway.
    """
    CREATE TABLE events (
        session_id TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        run_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        data BLOB NOT NULL,
        chain BLOB NOT NULL,
        PRIMARY KEY (session_id, sequence)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE requests (
        namespace TEXT NOT NULL,
        rpc TEXT NOT NULL,
        request_id TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        at_ms INTEGER NOT NULL,
        session_id TEXT NOT NULL,
        run_id TEXT NOT NULL,
        interrupt_id TEXT NOT NULL,
        detail TEXT NOT NULL,
        PRIMARY KEY (namespace, rpc, request_id)
    ) STRICT, WITHOUT ROWID
    """,
)

_INDEXES = (
    # statements.SESSIONS: pages of a namespace, newest first.
    "CREATE INDEX sessions_by_update ON sessions (namespace, updated_at_ms, session_id)",
    # statements.CHANGED_SESSIONS: the rows above a change number.
    "CREATE UNIQUE INDEX sessions_by_change ON sessions (namespace, change_number)",
    # statements.MOVING_SESSIONS: the states that upkeep asks for, in which few sessions are at a time.
    """
    CREATE INDEX sessions_moving ON sessions (state, session_id)
    WHERE state IN ('STARTING', 'ACTIVE', 'SUSPENDED', 'CLOSING')
    """,
    # statements.SESSIONS_DUE: the sessions on which the server must act by itself. By state, since after a start some
    # wait for their subscribers, and those must not stand before the others.
    "CREATE INDEX sessions_due ON sessions (state, due_at_ms, session_id) WHERE due_at_ms IS NOT NULL",
    # statements.SESSIONS_TO_COMPACT: the sessions that retention looks at.
    "CREATE INDEX sessions_to_compact ON sessions (compact_at_ms, session_id) WHERE compact_at_ms IS NOT NULL",
    # statements.FIRST_KEPT, RUN_BEHIND and what removes a session: its runs in the order of its log.
    "CREATE INDEX runs_by_log ON runs (session_id, first_sequence)",
    # What removes a session, and the foreign keys behind it.
    "CREATE INDEX inputs_by_session ON inputs (session_id)",
    "CREATE INDEX interrupts_by_session ON interrupts (session_id)",
    # statements.LINE, NEXT_QUEUED, QUEUE_POSITION, QUEUED_BEFORE: the line of a session.
    "CREATE INDEX runs_queued ON runs (session_id, place, run_id) WHERE state = 'QUEUED'",
    # statements.NEXT_PENDING: the oldest run of a pool that waits for a runner.
    "CREATE INDEX runs_pending ON runs (namespace, pool, pending_since_ms, run_id) WHERE state = 'PENDING'",
    # statements.LANE_AT: who left the line of a session last, before a place in its log.
    "CREATE INDEX runs_lane ON runs (session_id, lane_sequence) WHERE lane_sequence > 0",
    # statements.LEASED_RUNS: the runs that runners hold.
    "CREATE INDEX runs_leased ON runs (namespace, run_id) WHERE state IN ('RUNNING', 'INTERRUPTING')",
    # statements.RUNS_DUE: the runs for which the server must act by itself.
    "CREATE INDEX runs_due ON runs (due_at_ms, namespace, run_id) WHERE due_at_ms IS NOT NULL",
    # statements.WAITING_INPUTS, INPUT_IDS: what was injected into a run.
    "CREATE INDEX inputs_injected ON inputs (namespace, run_id, stage, place) WHERE spec <> ''",
    # The promise that a run has one terminal, whatever a use case does; and statements.LAST_TERMINAL.
    "CREATE UNIQUE INDEX events_one_terminal ON events (session_id, run_id) WHERE kind = 'RUN_TERMINAL'",
    # statements.FORGET_REQUESTS: the oldest ones.
    "CREATE INDEX requests_by_age ON requests (at_ms)",
)


@migrations(name="0001_tables")
def _tables(database: Database) -> None:
    for statement in (*_TABLES, *_INDEXES):
        database.execute(statement)


def is_newer(connection: sqlite3.Connection) -> bool:
    """Say whether a later release has changed the file. Reads only."""
    with closing(sqlite3.connect(":memory:")) as empty:
        known = {migration.name for migration in migrations.pending(_wrap(empty))}
    return any(applied.name not in known for applied in migrations.applied(_wrap(connection)))


def is_older(connection: sqlite3.Connection) -> bool:
    """Say whether the file lacks a migration. Reads only."""
    applied = {migration.name for migration in migrations.applied(_wrap(connection))}
    with closing(sqlite3.connect(":memory:")) as empty:
        return any(migration.name not in applied for migration in migrations.pending(_wrap(empty)))


def version() -> int:
    """Return how many migrations this release knows: a database that it opened has just these."""
    with closing(sqlite3.connect(":memory:")) as empty:
        return len(migrations.pending(_wrap(empty)))


def migrate(connection: sqlite3.Connection) -> None:
    """Apply what is missing. The caller holds the owner's lock."""
    migrations.apply(_wrap(connection))


def difference(connection: sqlite3.Connection) -> str:
    """Return the name of a table or index that is not as this release makes it; empty if all are. What else there is
    does not matter. Reads only; the file must have every migration.
    """
    with closing(sqlite3.connect(":memory:")) as made:
        migrate(made)
        wanted, found = _objects(made), _objects(connection)
    return next((name for name, text in wanted.items() if found.get(name) != text), "")


def _objects(connection: sqlite3.Connection) -> dict[str, str]:
    """Return our tables and indexes by name; those of the library that migrates are its own business."""
    every = connection.execute(
        "SELECT name, type || ' ' || tbl_name || ' ' || coalesce(sql, '') FROM sqlite_schema"
    )
    return {name: text for name, text in every.fetchall() if _LIBRARY not in name}


def _wrap(connection: sqlite3.Connection) -> Database:
    # Neither settings of sqlite-utils nor of its plugins: the connection stays as `connections` made it.
    return Database(connection, recursive_triggers=False, execute_plugins=False)
