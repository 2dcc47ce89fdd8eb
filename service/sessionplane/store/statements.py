"""The SQL of the store: every statement is a constant here, with one line that says what it is for.

Owns the text of the statements, never their meaning. What is put together below are lists of columns of this
file; values are always bound. The order of columns is the order in which `rows` reads and writes them.
"""

# ruff: noqa: S608

from __future__ import annotations

_SESSION = (
    "s.session_id, s.namespace, s.key, s.state, s.final, s.generation, s.active_run_id, s.queued_run_count,"
    " s.labels, s.display_name, s.visibility, s.created_at_ms, s.started_at_ms, s.last_interaction_at_ms,"
    " s.updated_at_ms, s.ended_at_ms, s.end_reason, s.quiet_since_ms, s.deadline_at_ms, s.due_at_ms,"
    " s.deleted_at_ms, s.previous_session_id, s.superseded_by, s.change_number, s.head_sequence,"
    " s.head_hash, s.log_bytes, s.floor_sequence, s.floor_hash, s.floor_log_bytes, s.compact_at_ms"
)
_RUN = (
    "r.run_id, r.namespace, r.session_id, r.generation, r.state, r.pool, r.place, i.input, r.fingerprint,"
    " r.labels, r.created_at_ms, r.start_timeout_ms, r.run_timeout_ms, r.pending_ms, r.pending_since_ms,"
    " r.claimed_at_ms, r.finished_at_ms, r.kept_from_ms, r.due_at_ms, r.runner_id, r.lease_epoch, r.lease_token,"
    " r.lease_ms, r.lease_confirmed, r.last_run_sequence, r.output_bytes, r.first_sequence, r.lane_sequence,"
    " r.first_output_sequence, r.injected, r.interrupt_id, r.outcome, r.terminal, r.terminal_sequence,"
    " r.report_fingerprint, r.late_fingerprint"
)
_RUN_ALONE = _RUN.replace("i.input", "x''")
_INPUT = "namespace, input_id, session_id, run_id, stage, place, created_at_ms, fingerprint, spec, input"
_RUNS = f"SELECT {_RUN} FROM runs r JOIN inputs i ON i.namespace = r.namespace AND i.input_id = r.run_id"

# Transactions.

# Takes the write lock at once, so that reading before writing cannot fail later.
BEGIN_WRITE = "BEGIN IMMEDIATE"
# One snapshot for all reads until COMMIT.
BEGIN_READ = "BEGIN DEFERRED"
COMMIT = "COMMIT"
ROLLBACK = "ROLLBACK"
# The part of a group's transaction that one use case may undo.
SAVEPOINT = "SAVEPOINT use_case"
RELEASE = "RELEASE use_case"
UNDO = "ROLLBACK TO use_case"

# Facts about the file.

# What is known under a name.
META = "SELECT value FROM meta WHERE name = ?"
# Writes a fact once; what is there stays.
SEED_META = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING"
# Writes a fact, or another one in its place.
SAVE_META = """
    INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""

# Sessions and keys.

# One session by id.
SESSION = f"SELECT {_SESSION} FROM sessions s WHERE s.session_id = ? AND s.namespace = ?"
# The session that a key's pointer names.
SESSION_BY_KEY = (
    f"SELECT {_SESSION} FROM keys k JOIN sessions s ON s.session_id = k.session_id"
    " WHERE k.namespace = ? AND k.key = ?"
)
# A stretch of a namespace. Conditions of `statements_listing` may follow, and NEWEST_FIRST does.
SESSIONS = (
    f"SELECT {_SESSION} FROM sessions s WHERE s.namespace = ? AND (s.updated_at_ms, s.session_id) < (?, ?)"
    " AND (s.updated_at_ms, s.session_id) >= (?, ?) AND s.deleted_at_ms IS NULL"
)
NEWEST_FIRST = " ORDER BY s.updated_at_ms DESC, s.session_id DESC LIMIT ?"
# Where a stretch of so many rows ends, if it is that long; on the index alone.
STRETCH_END = (
    "SELECT updated_at_ms, session_id FROM sessions WHERE namespace = ? AND (updated_at_ms, session_id) < (?, ?)"
    " AND updated_at_ms >= ? ORDER BY updated_at_ms DESC, session_id DESC LIMIT 1 OFFSET ?"
)
# What an input was, whatever became of it.
INPUT_ALONE = "SELECT input FROM inputs WHERE namespace = ? AND input_id = ?"
# Whether there is any: one step into an index.
HAS_SESSIONS = "SELECT 1 FROM sessions WHERE session_id > '' LIMIT 1"
# Sessions in one of the states that sessions_moving covers.
MOVING_SESSIONS = (
    f"SELECT {_SESSION} FROM sessions s WHERE s.state = ? AND s.session_id > ?"
    " AND s.state IN ('STARTING', 'ACTIVE', 'SUSPENDED', 'CLOSING') ORDER BY s.session_id LIMIT ?"
)
# Sessions in a resting state: walks all of them, for checks and tools only.
RESTING_SESSIONS = (
    f"SELECT {_SESSION} FROM sessions s WHERE s.state = ? AND s.session_id > ? ORDER BY s.session_id LIMIT ?"
)
# The sessions in a state on which the server must act by now.
SESSIONS_DUE = (
    f"SELECT {_SESSION} FROM sessions s WHERE s.state = ? AND s.due_at_ms <= ?"
    " ORDER BY s.due_at_ms, s.session_id LIMIT ?"
)
# A new session; its log is empty.
ADD_SESSION = """
    INSERT INTO sessions (
        key, kind, state, final, generation, active_run_id, queued_run_count, labels, display_name, visibility,
        created_at_ms, started_at_ms, last_interaction_at_ms, updated_at_ms, ended_at_ms, end_reason,
        quiet_since_ms, deadline_at_ms, due_at_ms, deleted_at_ms, previous_session_id, superseded_by,
        compact_at_ms, change_number, session_id, namespace
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# All of a session but its head and its floor.
SAVE_SESSION = """
    UPDATE sessions SET
        key = ?, kind = ?, state = ?, final = ?, generation = ?, active_run_id = ?, queued_run_count = ?, labels = ?,
        display_name = ?, visibility = ?, created_at_ms = ?, started_at_ms = ?, last_interaction_at_ms = ?,
        updated_at_ms = ?, ended_at_ms = ?, end_reason = ?, quiet_since_ms = ?, deadline_at_ms = ?,
        due_at_ms = ?, deleted_at_ms = ?, previous_session_id = ?, superseded_by = ?, compact_at_ms = ?,
        change_number = ?
    WHERE session_id = ? AND namespace = ?
"""
# The last interaction moves forward only.
TOUCH_SESSION = """
    UPDATE sessions SET last_interaction_at_ms = ?1
    WHERE session_id = ?2 AND namespace = ?3
      AND (last_interaction_at_ms IS NULL OR last_interaction_at_ms < ?1)
"""
# What only the server's own upkeep goes by.
POSTPONE_SESSION = (
    "UPDATE sessions SET quiet_since_ms = ?, due_at_ms = ? WHERE session_id = ? AND namespace = ?"
)
# Where a key points.
POINTER = "SELECT namespace, key, session_id, spelling FROM keys WHERE namespace = ? AND key = ?"
# All pointers, a page at a time.
POINTERS = """
    SELECT namespace, key, session_id, spelling FROM keys
    WHERE (namespace, key) > (?, ?) ORDER BY namespace, key LIMIT ?
"""
# A new pointer; a rival's stays.
BIND_KEY = """
    INSERT INTO keys (namespace, key, session_id, spelling) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
# Takes a pointer from the session that it names.
RELEASE_KEY = """
    DELETE FROM keys WHERE namespace = ? AND key = ? AND session_id = ?
    RETURNING namespace, key, session_id, spelling
"""
# The sessions that changed after a change number, as they are now.
CHANGED_SESSIONS = (
    f"SELECT {_SESSION} FROM sessions s WHERE s.namespace = ? AND s.change_number > ?"
    " ORDER BY s.change_number LIMIT ?"
)
# The newest change number of a namespace, and the highest one that was removed.
CHANGE_NUMBERS = "SELECT change_number, floor_change_number FROM namespaces WHERE namespace = ?"
# The newest change number of a namespace.
CHANGE_NUMBER = "SELECT change_number FROM namespaces WHERE namespace = ?"
# Keeps the newest change number.
SAVE_CHANGE_NUMBER = """
    INSERT INTO namespaces (namespace, change_number) VALUES (?, ?)
    ON CONFLICT (namespace) DO UPDATE SET change_number = excluded.change_number
"""

# What was imported.

# The session that an imported one became.
IMPORTED = "SELECT session_id FROM imports WHERE namespace = ? AND source_id = ? AND key = ?"
# All imported sessions, a page at a time.
IMPORTS = """
    SELECT namespace, source_id, key, spelling, session_id FROM imports
    WHERE (namespace, source_id, key) > (?, ?, ?) ORDER BY namespace, source_id, key LIMIT ?
"""
# A session that was imported.
ADD_IMPORT = "INSERT INTO imports (namespace, source_id, key, spelling, session_id) VALUES (?, ?, ?, ?, ?)"
# Another form of the key that it was imported under; where two meet, the one that is there stays.
RENAME_IMPORT = """
    UPDATE OR IGNORE imports SET key = ? WHERE namespace = ? AND source_id = ? AND key = ?
"""

# Runs.

# One run by id.
RUN = f"{_RUNS} WHERE r.namespace = ? AND r.run_id = ?"
# The first in a session's line.
NEXT_QUEUED = f"{_RUNS} WHERE r.session_id = ? AND r.state = 'QUEUED' ORDER BY r.place, r.run_id LIMIT 1"
# A session's line.
LINE = f"{_RUNS} WHERE r.session_id = ? AND r.state = 'QUEUED' ORDER BY r.place, r.run_id"
# A session's runs in some states, as a JSON array, newest first, without their inputs.
RUNS_LISTED = (
    f"SELECT {_RUN_ALONE} FROM runs r WHERE r.session_id = ? AND r.first_sequence < ?"
    " AND r.state IN (SELECT value FROM json_each(?)) ORDER BY r.first_sequence DESC LIMIT ?"
)
# How many stand in a session's line up to a place.
QUEUE_POSITION = """
    SELECT count(*) FROM runs WHERE session_id = ? AND state = 'QUEUED' AND (place, run_id) <= (?, ?)
"""
# How many stand in a session's line before a place.
QUEUED_BEFORE = "SELECT count(*) FROM runs WHERE session_id = ? AND state = 'QUEUED' AND place < ?"
# The run of a pool that waits longest.
NEXT_PENDING = (
    f"{_RUNS} WHERE r.namespace = ? AND r.pool = ? AND r.state = 'PENDING'"
    " ORDER BY r.pending_since_ms, r.run_id LIMIT 1"
)
# The run that left a session's line last, at or before a place in the log.
LANE_AT = (
    f"{_RUNS} WHERE r.session_id = ? AND r.lane_sequence > 0 AND r.lane_sequence <= ?"
    " ORDER BY r.lane_sequence DESC LIMIT 1"
)
# The runs that runners hold.
LEASED_RUNS = (
    f"{_RUNS} WHERE r.state IN ('RUNNING', 'INTERRUPTING') AND (r.namespace, r.run_id) > (?, ?)"
    " ORDER BY r.namespace, r.run_id LIMIT ?"
)
# The runs for which the server must act by now.
RUNS_DUE = f"{_RUNS} WHERE r.due_at_ms <= ? ORDER BY r.due_at_ms, r.namespace, r.run_id LIMIT ?"
# A new run.
ADD_RUN = """
    INSERT INTO runs (
        session_id, generation, state, pool, place, fingerprint, labels, created_at_ms, start_timeout_ms,
        run_timeout_ms, pending_ms, pending_since_ms, claimed_at_ms, finished_at_ms, kept_from_ms, due_at_ms,
        runner_id, lease_epoch, lease_token, lease_ms, lease_confirmed, last_run_sequence, output_bytes,
        first_sequence, lane_sequence, first_output_sequence, injected, interrupt_id, outcome, terminal,
        terminal_sequence, report_fingerprint, late_fingerprint, namespace, run_id
    ) VALUES (
        ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,
        ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
    )
"""
# The input that a run starts with, or one that is injected.
ADD_INPUT = f"""
    INSERT INTO inputs ({_INPUT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# What became of an injected input.
SAVE_INPUT = """
    UPDATE inputs SET run_id = ?, stage = ?, place = ? WHERE spec <> '' AND namespace = ? AND input_id = ?
"""
# One injected input by id.
INPUT = f"SELECT {_INPUT} FROM inputs WHERE namespace = ? AND input_id = ? AND spec <> ''"
# What was injected into a run and waits for it, behind a place.
WAITING_INPUTS = (
    f"SELECT {_INPUT} FROM inputs WHERE namespace = ? AND run_id = ? AND spec <> '' AND stage = 'RECORDED'"
    " AND place > ? ORDER BY place"
)
# The ids of what was injected into a run, of one stage, last place first.
INPUT_IDS = (
    "SELECT input_id FROM inputs WHERE namespace = ? AND run_id = ? AND spec <> '' AND stage = ?"
    " ORDER BY place DESC LIMIT ?"
)
# All of a run but its input, which never changes.
SAVE_RUN = """
    UPDATE runs SET
        session_id = ?, generation = ?, state = ?, pool = ?, place = ?, fingerprint = ?, labels = ?,
        created_at_ms = ?, start_timeout_ms = ?, run_timeout_ms = ?, pending_ms = ?, pending_since_ms = ?,
        claimed_at_ms = ?, finished_at_ms = ?, kept_from_ms = ?, due_at_ms = ?, runner_id = ?, lease_epoch = ?,
        lease_token = ?, lease_ms = ?, lease_confirmed = ?, last_run_sequence = ?, output_bytes = ?,
        first_sequence = ?, lane_sequence = ?, first_output_sequence = ?, injected = ?, interrupt_id = ?, outcome = ?,
        terminal = ?, terminal_sequence = ?, report_fingerprint = ?, late_fingerprint = ?
    WHERE namespace = ? AND run_id = ?
"""

# Interrupts and request ids.

# One interrupt by id.
INTERRUPT = """
    SELECT interrupt_id, namespace, session_id, run_id, stage, mode, reason, created_at_ms, escalate_at_ms
    FROM interrupts WHERE namespace = ? AND interrupt_id = ?
"""
# A new interrupt.
ADD_INTERRUPT = """
    INSERT INTO interrupts (
        interrupt_id, namespace, session_id, run_id, stage, mode, reason, created_at_ms, escalate_at_ms
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# How far an interrupt has come.
SAVE_INTERRUPT = """
    UPDATE interrupts SET stage = ?, mode = ?, created_at_ms = ?, escalate_at_ms = ?
    WHERE namespace = ? AND interrupt_id = ?
"""
# What is remembered of a request id.
REQUEST = """
    SELECT namespace, rpc, request_id, fingerprint, at_ms, session_id, run_id, interrupt_id, detail
    FROM requests WHERE namespace = ? AND rpc = ? AND request_id = ?
"""
# A new request id.
REMEMBER = """
    INSERT INTO requests (
        namespace, rpc, request_id, fingerprint, at_ms, session_id, run_id, interrupt_id, detail
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# The oldest request ids, a step at a time.
FORGET_REQUESTS = """
    DELETE FROM requests WHERE (namespace, rpc, request_id) IN (
        SELECT namespace, rpc, request_id FROM requests WHERE at_ms < ? ORDER BY at_ms LIMIT ?
    )
"""

# Logs.

# The newest place of a log, and its size.
HEAD = "SELECT head_sequence, head_hash, log_bytes FROM sessions WHERE session_id = ?"
# Moves the head after appending.
SAVE_HEAD = "UPDATE sessions SET head_sequence = ?, head_hash = ?, log_bytes = ? WHERE session_id = ?"
# The oldest place of a log, what was removed up to it, and what that added up to.
FLOOR = "SELECT floor_sequence, floor_hash, floor_log_bytes, floor_state FROM sessions WHERE session_id = ?"
# How many sessions a check of the whole file has before it.
COUNT_SESSIONS = "SELECT count(*) FROM sessions WHERE deleted_at_ms IS NULL"
# The next session of such a check.
NEXT_SESSION = """
    SELECT session_id, namespace FROM sessions
    WHERE session_id > ? AND deleted_at_ms IS NULL ORDER BY session_id LIMIT 1
"""
# The chain hash behind one event.
CHAIN = "SELECT chain FROM events WHERE session_id = ? AND sequence = ?"
# New events: APPEND[n - 1] writes n of them. One statement for many rows, since the interpreter's lock is
# given up and asked for again with every step, and a busy event loop makes that wait.
APPEND_MAX = 32
APPEND = tuple(
    "INSERT INTO events (session_id, sequence, run_id, kind, data, chain) VALUES (?, ?, ?, ?, ?, ?)"
    + ", (?, ?, ?, ?, ?, ?)" * further
    for further in range(APPEND_MAX)
)
# The log behind a sequence.
ENTRIES = """
    SELECT sequence, run_id, kind, data, chain FROM events
    WHERE session_id = ? AND sequence > ? ORDER BY sequence LIMIT ?
"""
# A run's deltas, in order.
DELTAS = """
    SELECT data FROM events
    WHERE session_id = ? AND sequence BETWEEN ? AND ? AND run_id = ? AND kind = 'OUTPUT_DELTA'
    ORDER BY sequence
"""

# Retention.

# The sessions that retention looks at by now.
SESSIONS_TO_COMPACT = (
    f"SELECT {_SESSION} FROM sessions s WHERE s.compact_at_ms <= ?"
    " ORDER BY s.compact_at_ms, s.session_id LIMIT ?"
)
# When retention looks at a session next.
PLAN_COMPACTION = "UPDATE sessions SET compact_at_ms = ? WHERE session_id = ?"
# The first run in a stretch of a log that is unfinished, or ended later than a moment.
FIRST_KEPT = """
    SELECT first_sequence, kept_from_ms FROM runs
    WHERE session_id = ? AND first_sequence > ? AND first_sequence <= ?
      AND (kept_from_ms IS NULL OR kept_from_ms > ?)
    ORDER BY first_sequence LIMIT 1
"""
# Whether a run begins behind a place of a log.
RUN_BEHIND = "SELECT 1 FROM runs WHERE session_id = ? AND first_sequence > ? LIMIT 1"
# The newest terminal of a log: among its terminals, however many other events lie behind the last of them.
LAST_TERMINAL = """
    SELECT max(sequence) FROM events INDEXED BY events_one_terminal WHERE session_id = ? AND kind = 'RUN_TERMINAL'
"""
# The oldest events of a log; `RAISE_FLOOR` belongs into the same transaction.
REMOVE_EVENTS = "DELETE FROM events WHERE session_id = ? AND sequence <= ?"
# Where a log begins after its oldest events were removed.
RAISE_FLOOR = """
    UPDATE sessions SET floor_sequence = ?, floor_hash = ?, floor_log_bytes = ?, floor_state = ?
    WHERE session_id = ?
"""
# What hangs on a session that is to be removed: some of it with its size, and one of it.
INPUTS_OF = "SELECT rowid, length(input) FROM inputs WHERE session_id = ? LIMIT ?"
REMOVE_INPUT = "DELETE FROM inputs WHERE rowid = ?"
INTERRUPTS_OF = "SELECT namespace, interrupt_id, length(reason) FROM interrupts WHERE session_id = ? LIMIT ?"
REMOVE_INTERRUPT = "DELETE FROM interrupts WHERE namespace = ? AND interrupt_id = ?"
RUNS_OF = "SELECT rowid, length(terminal) FROM runs WHERE session_id = ? LIMIT ?"
REMOVE_RUN = "DELETE FROM runs WHERE rowid = ?"
EVENTS_OF = (
    "SELECT session_id, sequence, length(data) FROM events WHERE session_id = ? ORDER BY sequence LIMIT ?"
)
REMOVE_EVENT = "DELETE FROM events WHERE session_id = ? AND sequence = ?"
# The events come last, so that nobody finds a run whose log has a hole.
REMOVALS = (
    (INPUTS_OF, REMOVE_INPUT),
    (INTERRUPTS_OF, REMOVE_INTERRUPT),
    (RUNS_OF, REMOVE_RUN),
    (EVENTS_OF, REMOVE_EVENT),
)
# A session on which nothing hangs.
REMOVE_SESSION = "DELETE FROM sessions WHERE session_id = ? AND namespace = ?"
# The highest change number of a session that was removed.
RAISE_CHANGE_FLOOR = """
    UPDATE namespaces SET floor_change_number = max(floor_change_number, ?) WHERE namespace = ?
"""
