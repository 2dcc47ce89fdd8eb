"""The lane of a session and the line behind it: how a run gets in, and the one place where a run gets its terminal.

A session has a lane for one run, its active one; the others wait in line. Whoever ends a run goes through `end`,
which writes the terminal, frees the lane, lets the next one in and ends the session where the table says so, all
in the transaction of whatever ended the run. So a terminal can neither be forgotten nor come twice.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sessionplane.domain.events import InterruptChanged, RunChanged
from sessionplane.domain.interrupts import InterruptStage, check_stage
from sessionplane.domain.runs import (
    CLAIMED,
    Run,
    RunCause,
    RunOutcome,
    RunReport,
    RunState,
    RunTerminal,
    check_move,
)
from sessionplane.domain.sessions import Session, SessionCause, allows, next_state
from sessionplane.plane import inputs, sessions
from sessionplane.plane.context import Context, pool_topic, run_topic
from sessionplane.plane.leases import RunRef
from sessionplane.plane.sessions import require
from sessionplane.store.contract import Tx


def enter_lane(tx: Tx, run: Run, from_state: RunState | None, context: Context) -> Run:
    """Make the run the one that may be claimed, and wake those who wait to claim it."""
    changed = RunChanged(from_state=from_state, to_state=RunState.PENDING)
    sequence = tx.append(run.session_id, changed, run_id=run.run_id, at_ms=context.now_ms)
    return wait_for_runner(tx, replace(run, lane_sequence=sequence), context)


def wait_for_runner(tx: Tx, run: Run, context: Context) -> Run:
    """Return the run as PENDING, with its deadline, and wake the runners of its pool."""
    pending = replace(run, state=RunState.PENDING, pending_since_ms=context.judged_ms)
    if run.pool:
        tx.wake(pool_topic(run.namespace, run.pool))
    tx.wake(run_topic(run.namespace, run.run_id))
    return replace(pending, due_at_ms=pending.deadline_ms)


def end(
    tx: Tx,
    run: Run,
    *,
    outcome: RunOutcome,
    cause: RunCause,
    context: Context,
    report: RunReport | None = None,
    report_fingerprint: bytes = b"",
) -> Run:
    """Give an unfinished run its one terminal, free its place and see to the session. The inputs that nobody took are
    in line before. Returns the run as written.
    """
    run = replace(run, report_fingerprint=report_fingerprint)
    returned = inputs.give_back(tx, run, context)
    finished = _finish(tx, run, outcome, cause, context, report)
    _free_place(tx, run, returned, context)
    return finished


def _finish(
    tx: Tx, run: Run, outcome: RunOutcome, cause: RunCause, context: Context, report: RunReport | None = None
) -> Run:
    """Write the run's terminal and take its lease; its place in the session is still to be freed."""
    check_move(run.state, RunState.FINISHED)
    _complete_interrupt(tx, run, context)
    changed = RunChanged(
        from_state=run.state, to_state=RunState.FINISHED, lease_epoch=run.lease_epoch, runner_id=run.runner_id
    )
    tx.append(run.session_id, changed, run_id=run.run_id, at_ms=context.now_ms)
    terminal = _terminal(tx, run, outcome, cause, report, context)
    ended = replace(run, kept_from_ms=context.judged_ms, pending_since_ms=None)
    finished = tx.finish_run(ended, terminal)
    drop_lease(tx, run, context)
    tx.wake(run_topic(run.namespace, run.run_id))
    return finished


def end_all(tx: Tx, session: Session, cause: SessionCause, context: Context) -> Session:
    """End a session and every unfinished run of it: the waiting ones as rejected, a claimed one interrupted.

    Raises InvalidTransition if the cause does not end the session from here; nothing was changed then.
    """
    next_state(session.state, cause)
    session = reject_waiting(tx, session, context)
    active = tx.run(session.namespace, session.active_run_id) if session.active_run_id else None
    if active is not None:
        outcome = RunOutcome.INTERRUPTED if active.state in CLAIMED else RunOutcome.REJECTED
        _finish(tx, active, outcome, RunCause.SESSION_ENDED, context)
    return sessions.move(tx, replace(_with_end_to_age(session, context), active_run_id=""), cause, context)


def reject_waiting(tx: Tx, session: Session, context: Context) -> Session:
    """End what waits in a session that ends: runs in line, and inputs that nobody took. Returns the session, not yet
    written.
    """
    session, _ = _end_waiting(tx, session, RunOutcome.REJECTED, RunCause.SESSION_ENDED, context)
    return session


def drop_waiting(tx: Tx, session: Session, keep: Collection[str], context: Context) -> int:
    """End what waits in a session that goes on, but what has one of the ids to keep; return how many there were."""
    session, dropped = _end_waiting(
        tx, session, RunOutcome.INTERRUPTED, RunCause.INTERRUPT, context, keep=keep
    )
    if dropped:
        sessions.save(tx, session, context)
    return dropped


def _end_waiting(
    tx: Tx,
    session: Session,
    outcome: RunOutcome,
    cause: RunCause,
    context: Context,
    *,
    keep: Collection[str] = (),
) -> tuple[Session, int]:
    """Make waiting inputs runs and end all runs in line; return the session, not yet written, and how many ended."""
    active = tx.run(session.namespace, session.active_run_id) if session.active_run_id else None
    if active is not None:
        inputs.give_back(tx, active, context, keep=keep)
    line = tx.line(session.session_id)
    ending = [run for run in line if run.run_id not in keep]
    for run in ending:
        _finish(tx, run, outcome, cause, context)
    return replace(session, queued_run_count=len(line) - len(ending)), len(ending)


def drop_lease(tx: Tx, run: Run, context: Context) -> None:
    """Forget when the run's lease runs out; it has none any more."""
    ref = RunRef(run.namespace, run.run_id)
    term = context.leases.term(ref)
    context.leases.drop(ref)
    tx.on_undo(lambda: context.leases.restore(ref, term))


def _complete_interrupt(tx: Tx, run: Run, context: Context) -> None:
    """Bring the run's interrupt to its outcome, before the terminal: that is the run's last event."""
    interrupt = tx.interrupt(run.namespace, run.interrupt_id) if run.interrupt_id else None
    if interrupt is None:
        return
    check_stage(interrupt.stage, InterruptStage.COMPLETED)
    tx.save_interrupt(replace(interrupt, stage=InterruptStage.COMPLETED, escalate_at_ms=None))
    changed = InterruptChanged(
        interrupt_id=interrupt.interrupt_id,
        stage=InterruptStage.COMPLETED,
        mode=interrupt.mode,
        reason=interrupt.reason,
    )
    tx.append(run.session_id, changed, run_id=run.run_id, at_ms=context.now_ms)


def _terminal(
    tx: Tx, run: Run, outcome: RunOutcome, cause: RunCause, report: RunReport | None, context: Context
) -> RunTerminal:
    """Build the terminal: the text as the runner gave it, else what its deltas say."""
    bytes_max = context.limits.terminal_text_bytes_max
    given = report.output_text if report is not None else None
    if given is not None:
        text, whole = cut_text(given, bytes_max)
    else:
        text, whole = tx.output_text(run, bytes_max=bytes_max)
    return RunTerminal(
        outcome=outcome,
        cause=cause,
        output_text=text,
        output_complete=whole and (given is not None or outcome is RunOutcome.SUCCEEDED),
        result=report.result if report is not None else b"",
        failure=report.failure if report is not None else None,
        interrupt_id=run.interrupt_id,
        finished_at_ms=context.now_ms,
    )


def cut_text(text: str, bytes_max: int) -> tuple[str, bool]:
    """Return the text's first `bytes_max` bytes of UTF-8, cut between two characters, and whether that is all."""
    encoded = text.encode()
    if len(encoded) <= bytes_max:
        return text, True
    return encoded[:bytes_max].decode(errors="ignore"), False


def _free_place(tx: Tx, run: Run, returned: int, context: Context) -> None:
    """Take the run out of its session: let the next one into the lane, or end a session that this was all of.
    `returned` runs came into the line meanwhile.
    """
    session = require(tx, run.namespace, run.session_id)
    session = replace(session, queued_run_count=session.queued_run_count + returned)
    if run.state is RunState.QUEUED:
        session = replace(session, queued_run_count=session.queued_run_count - 1)
    else:
        session = _promote(tx, replace(session, active_run_id=""), context)
    session = _with_end_to_age(session, context)
    if not session.running:
        session = replace(session, quiet_since_ms=context.judged_ms)
    if not session.running and allows(session.state, SessionCause.RUN_ENDED):
        sessions.move(tx, session, SessionCause.RUN_ENDED, context)
    else:
        sessions.save(tx, session, context)


def _with_end_to_age(session: Session, context: Context) -> Session:
    """Let retention look at the session once this end is old, if it looks no earlier. Returns it, not yet written."""
    if session.compact_at_ms is not None:
        return session
    return replace(session, compact_at_ms=context.judged_ms + context.limits.log_window_ms)


def _promote(tx: Tx, session: Session, context: Context) -> Session:
    """Let the first run in line into the free lane. Returns the session, not yet written."""
    run = tx.next_queued(session.session_id) if session.queued_run_count else None
    if run is None:
        return session
    check_move(run.state, RunState.PENDING)
    tx.save_run(enter_lane(tx, run, run.state, context))
    return replace(session, active_run_id=run.run_id, queued_run_count=session.queued_run_count - 1)
