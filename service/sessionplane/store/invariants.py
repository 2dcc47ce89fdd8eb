"""What must hold in every database at every commit, each as a query for what breaks it.

Owns these queries and the promise that each stands for; tests, operators and the server ask the same ones. They walk
whole tables: for reader threads and for files that nobody serves, never for the path of a call. What rows cannot say
(that a log's bytes are as they were, and that rows are the fold of their logs) is `verifying`'s.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """`query` answers with one text for each row that breaks it; `promise` is a heading of docs/promises.md."""

    name: str
    promise: str
    description: str
    query: str


_ONE_KEY = "One key, one session"
_ENDS = "Every run ends, once, for everyone"
_ORDER = "Order without gaps"
_FENCING = "Fencing"
_INTENT = "An interrupt is durable intent"
_STATE = "State decides"
_SPELLING = "One spelling"
_RESUME = "Resume never lies"

_UNFINISHED = "('QUEUED', 'PENDING', 'RUNNING', 'INTERRUPTING')"
_PAST_QUEUED = "('PENDING', 'RUNNING', 'INTERRUPTING')"

_ALL = (
    Invariant(
        name="pointer_names_its_session",
        promise=_ONE_KEY,
        description="The session that a key points to exists, holds this key, and is neither final nor deleted.",
        query="""
            SELECT k.key || ' -> ' || k.session_id FROM keys k LEFT JOIN sessions s USING (session_id)
            WHERE s.session_id IS NULL OR s.namespace <> k.namespace OR s.key IS NOT k.key OR s.final
               OR s.deleted_at_ms IS NOT NULL
        """,
    ),
    Invariant(
        name="keyed_session_has_its_pointer",
        promise=_ONE_KEY,
        description="A session that holds a key and is not final is the one that the key points to.",
        query="""
            SELECT s.session_id FROM sessions s LEFT JOIN keys k ON k.namespace = s.namespace AND k.key = s.key
            WHERE s.key IS NOT NULL AND NOT s.final AND k.session_id IS NOT s.session_id
        """,
    ),
    Invariant(
        name="final_session_has_ended",
        promise=_STATE,
        description="A final session is ENDED, one with a successor is final, and so is a deleted one.",
        query="""
            SELECT session_id FROM sessions
            WHERE (final AND state <> 'ENDED') OR (superseded_by <> '' AND NOT final)
               OR (deleted_at_ms IS NOT NULL AND NOT final)
        """,
    ),
    Invariant(
        name="key_is_canonical",
        promise=_SPELLING,
        description="A key in the database has the canonical form.",
        query="""
            SELECT key FROM keys WHERE key NOT GLOB 'agent:[a-z0-9]*:?*' OR key <> trim(key) OR key GLOB '*::*'
               OR length(key) > 1024
        """,
    ),
    Invariant(
        name="lane_holds_one_run",
        promise=_STATE,
        description="At most one run of a session is past QUEUED, and it is the one that the session names.",
        query=f"""
            SELECT s.session_id || ' names ' || s.active_run_id || ', has ' || group_concat(r.run_id)
            FROM sessions s JOIN runs r ON r.session_id = s.session_id AND r.state IN {_PAST_QUEUED}
            GROUP BY s.session_id HAVING count(*) > 1 OR min(r.run_id) <> s.active_run_id
            UNION ALL
            SELECT s.session_id || ' names ' || s.active_run_id FROM sessions s WHERE s.active_run_id <> ''
               AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.namespace = s.namespace
                               AND r.run_id = s.active_run_id AND r.state IN {_PAST_QUEUED})
        """,
    ),
    Invariant(
        name="line_is_counted",
        promise=_STATE,
        description="A session knows how many of its runs wait, and none waits behind a free lane.",
        query="""
            SELECT s.session_id FROM sessions s
            WHERE s.queued_run_count <> (SELECT count(*) FROM runs r
                                         WHERE r.session_id = s.session_id AND r.state = 'QUEUED')
               OR (s.queued_run_count > 0 AND s.active_run_id = '')
        """,
    ),
    Invariant(
        name="ended_session_has_no_unfinished_run",
        promise=_ENDS,
        description="Every run of an ended session is finished.",
        query=f"""
            SELECT r.run_id FROM runs r JOIN sessions s USING (session_id)
            WHERE s.state = 'ENDED' AND r.state IN {_UNFINISHED}
        """,
    ),
    Invariant(
        name="run_ends_by_itself",
        promise=_ENDS,
        description="A run past QUEUED has a moment at which the server ends it if nobody else does.",
        query=f"SELECT run_id FROM runs WHERE state IN {_PAST_QUEUED} AND due_at_ms IS NULL",
    ),
    Invariant(
        name="finished_run_has_its_terminal",
        promise=_ENDS,
        description="A run is finished if and only if it has an outcome, its terminal, and the terminal's place.",
        query="""
            SELECT run_id FROM runs
            WHERE (state = 'FINISHED') <> (outcome IS NOT NULL)
               OR (state = 'FINISHED') <> (terminal_sequence > 0)
               OR (state = 'FINISHED') <> (length(terminal) > 0)
        """,
    ),
    Invariant(
        name="terminal_is_in_the_log",
        promise=_ENDS,
        description="The terminal of a run is in its session's log where the run says, unless retention removed it.",
        query="""
            SELECT r.run_id FROM runs r JOIN sessions s USING (session_id)
            LEFT JOIN events e ON e.session_id = r.session_id AND e.sequence = r.terminal_sequence
            WHERE r.terminal_sequence > s.floor_sequence
              AND (e.kind IS NOT 'RUN_TERMINAL' OR e.run_id IS NOT r.run_id)
        """,
    ),
    Invariant(
        name="terminal_is_the_last_of_its_run",
        promise=_ENDS,
        description="No event bears a run's id behind its terminal, and no unfinished run has one.",
        query="""
            SELECT e.run_id || ' at ' || e.sequence FROM events e
            JOIN sessions s ON s.session_id = e.session_id
            JOIN runs r ON r.namespace = s.namespace AND r.run_id = e.run_id
            WHERE (r.terminal_sequence > 0 AND e.sequence > r.terminal_sequence)
               OR (e.kind = 'RUN_TERMINAL' AND e.sequence <> r.terminal_sequence)
        """,
    ),
    Invariant(
        name="input_is_never_lost",
        promise=_ENDS,
        description="An injected input waits for a session's active run, or was taken, or has a run of its own.",
        query=f"""
            SELECT i.input_id FROM inputs i
            LEFT JOIN runs r ON r.namespace = i.namespace AND r.run_id = i.run_id
            WHERE i.spec <> ''
              AND ((i.stage = 'RECORDED' AND coalesce(r.state, '') NOT IN {_PAST_QUEUED})
                   OR (i.stage = 'QUEUED' AND (i.run_id <> i.input_id OR r.run_id IS NULL)))
        """,
    ),
    Invariant(
        name="log_has_no_gap",
        promise=_ORDER,
        description="A log holds each sequence from behind its floor to its head, once.",
        query="""
            SELECT s.session_id FROM sessions s LEFT JOIN (
                SELECT session_id, count(*) AS held, min(sequence) AS first, max(sequence) AS last
                FROM events GROUP BY session_id
            ) e USING (session_id)
            WHERE s.deleted_at_ms IS NULL
              AND (coalesce(e.held, 0) <> s.head_sequence - s.floor_sequence
                   OR coalesce(e.first, s.floor_sequence + 1) <> s.floor_sequence + 1
                   OR coalesce(e.last, s.head_sequence) <> s.head_sequence)
        """,
    ),
    Invariant(
        name="log_size_is_known",
        promise=_ORDER,
        description="A log holds as many bytes as were ever appended to it, less those that retention removed.",
        query="""
            SELECT s.session_id FROM sessions s LEFT JOIN (
                SELECT session_id, sum(length(data)) AS size FROM events GROUP BY session_id
            ) e USING (session_id)
            WHERE s.deleted_at_ms IS NULL AND coalesce(e.size, 0) <> s.log_bytes - s.floor_log_bytes
        """,
    ),
    Invariant(
        name="log_belongs_to_a_session",
        promise=_ORDER,
        description="Every event belongs to a session that exists.",
        query="""
            SELECT DISTINCT e.session_id FROM events e LEFT JOIN sessions s USING (session_id)
            WHERE s.session_id IS NULL
        """,
    ),
    Invariant(
        name="head_is_the_newest_event",
        promise=_RESUME,
        description="The chain hash in a session's row is that of its newest event, or of its floor.",
        query="""
            SELECT s.session_id FROM sessions s
            LEFT JOIN events e ON e.session_id = s.session_id AND e.sequence = s.head_sequence
            WHERE s.head_hash IS NOT coalesce(e.chain, s.floor_hash) AND s.deleted_at_ms IS NULL
        """,
    ),
    Invariant(
        name="held_run_has_a_lease",
        promise=_FENCING,
        description="A run that a runner holds has a token, an epoch and a span; one that waits has no token.",
        query="""
            SELECT run_id FROM runs
            WHERE (state IN ('RUNNING', 'INTERRUPTING') AND (lease_token = '' OR lease_epoch < 1 OR lease_ms < 1))
               OR (state IN ('QUEUED', 'PENDING') AND lease_token <> '')
        """,
    ),
    Invariant(
        name="interrupt_has_one_outcome",
        promise=_INTENT,
        description="The interrupt of a finished run is COMPLETED, that of an unfinished one is not.",
        query="""
            SELECT i.interrupt_id FROM interrupts i
            JOIN runs r ON r.namespace = i.namespace AND r.run_id = i.run_id
            WHERE (r.state = 'FINISHED') <> (i.stage = 'COMPLETED')
        """,
    ),
    Invariant(
        name="change_number_is_known",
        promise=_RESUME,
        description="No session was changed behind the newest change number of its namespace.",
        query="""
            SELECT s.session_id FROM sessions s LEFT JOIN namespaces n USING (namespace)
            WHERE n.change_number IS NULL OR s.change_number > n.change_number
        """,
    ),
)

INVARIANTS: Mapping[str, Invariant] = MappingProxyType({each.name: each for each in _ALL})
"""name -> invariant, in the order in which they are checked and shown."""


def counted(invariant: Invariant) -> str:
    """Return the query for how many rows break it."""
    return f"SELECT count(*) FROM ({invariant.query})"


def examples(invariant: Invariant) -> str:
    """Return the query for some of the rows that break it; its one value says how many."""
    return f"SELECT * FROM ({invariant.query}) LIMIT ?"
