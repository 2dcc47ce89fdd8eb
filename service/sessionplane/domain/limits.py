"""Every bound of the service, in one place. What is not bounded here is a bug.

Times are milliseconds, sizes bytes. Each field carries its one-line meaning, from which the table in
docs/protocol.md is generated. All can be set (see `settings`), so tests shrink what they are about.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields


def _bound(default: int, meaning: str) -> int:
    value: int = field(default=default, metadata={"meaning": meaning})
    return value


_S = 1_000
_MIN = 60 * _S
_H = 60 * _MIN
_KIB = 1024
_MIB = 1024 * _KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one server. The defaults are the documented ones."""

    # What a request may hold.
    raw_key_bytes_max: int = _bound(1 * _KIB, "a key as it is sent")
    key_rest_bytes_max: int = _bound(512, "a canonical key behind its agent")
    id_bytes_max: int = _bound(128, "a request, run, runner or pool id, a name, a custom event's type")
    reason_bytes_max: int = _bound(1 * _KIB, "the reason of an interrupt")
    failure_message_bytes_max: int = _bound(4 * _KIB, "the message of a run's failure")
    payload_bytes_max: int = _bound(256 * _KIB, "an input, a result, the body of one event")
    publish_events_max: int = _bound(256, "events in one publication")
    publish_bytes_max: int = _bound(1 * _MIB, "bytes in one publication")
    request_bytes_max: int = _bound(1 * _MIB + 64 * _KIB, "a request message")
    exchange_bytes_max: int = _bound(
        4 * _MIB, "a message of an Exchange; each request in it is bounded as by itself"
    )
    filter_types_max: int = _bound(64, "types of custom events in a filter")
    acknowledged_inputs_max: int = _bound(256, "inputs acknowledged in one message")
    labels_max: int = _bound(32, "labels of a session or run")
    labels_bytes_max: int = _bound(4 * _KIB, "all labels of a session or run together")
    import_entries_max: int = _bound(500, "sessions in one ImportSessions")
    filter_bytes_max: int = _bound(4 * _KIB, "the text of a list's filter")
    filter_conditions_max: int = _bound(32, "conditions in a list's filter")

    # What an answer may hold.
    page_sessions_max: int = _bound(1_000, "sessions in a page")
    page_examined_max: int = _bound(10_000, "sessions that are looked at for a page")
    page_runs_max: int = _bound(1_000, "runs in a page")
    page_events_max: int = _bound(1_000, "events in a page")
    page_subscribers_max: int = _bound(1_000, "subscribers in a page")
    page_bytes_max: int = _bound(1 * _MIB, "a page")
    command_inputs_bytes_max: int = _bound(
        1 * _MIB, "inputs among the commands of one answer; one larger input goes alone"
    )
    batch_events_max: int = _bound(256, "events in one frame of a stream")
    batch_bytes_max: int = _bound(256 * _KIB, "bytes in one frame of a stream; one larger event goes alone")
    terminal_text_bytes_max: int = _bound(256 * _KIB, "the text of a terminal")

    # Sessions and runs.
    run_queue_max: int = _bound(20, "runs that wait in a session, first in, first out")
    run_first_max: int = _bound(20, "runs and inputs that wait in a session before those")
    lease_ms_default: int = _bound(15 * _S, "a lease")
    lease_ms_min: int = _bound(2 * _S, "the shortest lease")
    lease_ms_max: int = _bound(10 * _MIN, "the longest lease")
    interrupt_grace_ms_default: int = _bound(10 * _S, "the grace of an interrupt")
    interrupt_grace_ms_max: int = _bound(5 * _MIN, "the longest grace of an interrupt")
    start_timeout_ms_default: int = _bound(10 * _MIN, "how long a run waits for a runner")
    start_timeout_ms_max: int = _bound(24 * _H, "the longest start_timeout")
    run_timeout_ms_default: int = _bound(24 * _H, "how long a run takes from its first claim")
    run_timeout_ms_max: int = _bound(7 * 24 * _H, "the longest run_timeout")
    timeout_ms_min: int = _bound(1 * _S, "the shortest start_timeout and run_timeout")
    detach_linger_ms: int = _bound(10 * _S, "how long the last attached subscriber may be away")
    suspend_grace_ms_default: int = _bound(2 * _MIN, "how long a suspension lasts")
    suspend_grace_ms_max: int = _bound(1 * _H, "the longest suspension")
    close_timeout_ms_default: int = _bound(
        2 * _MIN, "how long a claimed run may go on in a session that closes"
    )
    close_timeout_ms_max: int = _bound(1 * _H, "the longest close_timeout")
    detached_ttl_ms: int = _bound(
        48 * _H, "how long a session without a run and without subscribers is kept open"
    )
    ended_ttl_ms: int = _bound(30 * 24 * _H, "how long an ended session is kept")
    deleted_ttl_ms: int = _bound(24 * _H, "how long the rows of a deleted session are kept, hidden")
    log_window_ms: int = _bound(7 * 24 * _H, "how long the events of a finished run are kept")
    log_events_max: int = _bound(50_000, "events in one session's log")
    log_bytes_max: int = _bound(50 * _MIB, "bytes in one session's log")
    log_reserve_events_max: int = _bound(1_000, "events above that bound which are not published")
    log_reserve_bytes_max: int = _bound(5 * _MIB, "bytes above that bound which are not published")
    log_large_events_min: int = _bound(10_000, "events in a log of which operators are told")
    log_large_bytes_min: int = _bound(10 * _MIB, "bytes in a log of which operators are told")
    request_id_ms: int = _bound(24 * _H, "how long a request id is remembered")

    # Streams and waits.
    session_streams_max: int = _bound(256, "streams of one session")
    server_streams_max: int = _bound(20_000, "streams of one server")
    progress_after_ms: int = _bound(10 * _S, "silence on a stream before a progress frame")
    slow_subscriber_ms: int = _bound(30 * _S, "how long a subscriber may not read")
    stream_abort_ms: int = _bound(5 * _S, "how long ending a slow stream may take")
    stream_age_ms: int = _bound(
        55 * _MIN, "the age at which a stream ends and is to be resumed; some end up to a tenth earlier"
    )
    watch_sessions_max: int = _bound(100, "sessions that a watch reads at once")
    exchange_requests_max: int = _bound(1_024, "requests of one Exchange that are under way")
    exchange_frame_bytes_max: int = _bound(
        1 * _MIB, "answers in one message of an Exchange; one larger goes alone"
    )
    server_exchanges_max: int = _bound(2_000, "Exchanges of one server")
    pending_timeout_ms_max: int = _bound(10 * _MIN, "how long a stream waits for a run that does not exist")
    wait_ms_max: int = _bound(60 * _S, "how long WaitRun and ClaimRun wait")
    wait_margin_ms_min: int = _bound(100, "how long before a call's deadline a waiting call answers")
    drain_ms: int = _bound(10 * _S, "how long stopping may take")

    # Memory of one process.
    writer_commands_max: int = _bound(5_000, "commands that wait for the writer")
    writer_bytes_max: int = _bound(64 * _MIB, "bytes that wait for the writer")
    group_commands_max: int = _bound(512, "commands in one commit")
    tail_events_max: int = _bound(1_024, "newest events kept in memory for each followed session")
    tail_bytes_max: int = _bound(1 * _MIB, "bytes of newest events kept in memory for each followed session")
    pool_waiters_max: int = _bound(1_000, "runners that wait on one pool")
    waiters_max: int = _bound(20_000, "calls that wait in one server")
    drive_open_ms: int = _bound(10 * _S, "how long a DriveRun may take to send its first message")
    drive_window_max: int = _bound(64, "publications of one DriveRun that wait for their commit")
    key_cache_max: int = _bound(4_096, "spellings whose canonical form is remembered")
    touched_sessions_max: int = _bound(10_000, "sessions whose last interaction waits to be written")

    # Upkeep.
    sweep_ms: int = _bound(1 * _S, "the period in which leases and deadlines are looked at")
    upkeep_step_max: int = _bound(200, "rows that one step of upkeep touches")
    compact_step_events_max: int = _bound(500, "events that one step of retention removes")
    compact_step_bytes_max: int = _bound(512 * _KIB, "bytes that one step of retention removes")
    compact_steps_max: int = _bound(50, "steps of retention in one sweep")


DEFAULT = Limits()


def meanings() -> dict[str, str]:
    """The one-line meaning of each bound, by name."""
    return {each.name: each.metadata["meaning"] for each in fields(Limits)}
