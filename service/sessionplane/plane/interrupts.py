"""Use cases of interrupts: a wish that a run stop, on disk before anybody is told, with exactly one outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sessionplane.domain.errors import InterruptNotFound, KeyNotBound
from sessionplane.domain.events import InterruptChanged, RunChanged
from sessionplane.domain.interrupts import (
    STAGES,
    Interrupt,
    InterruptMode,
    InterruptStage,
)
from sessionplane.domain.runs import Run, RunCause, RunOutcome, RunState, check_move
from sessionplane.domain.sessions import Session
from sessionplane.plane import runs
from sessionplane.plane.context import Call, Context, recall, remember, run_topic
from sessionplane.plane.sessions import SessionRef, find, require
from sessionplane.store.contract import ReadTx, Tx

INTERRUPT_ID = "int_"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptRequest:
    """Asks that a run stop: the active one of a session, or one by its id."""

    call: Call
    session: SessionRef | None = None
    run_id: str = ""
    expected_run_id: str = ""
    mode: InterruptMode = InterruptMode.GRACEFUL
    grace_ms: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The interrupt at its present stage, with its session, and the run if there was one to stop."""

    interrupt: Interrupt
    session: Session
    run: runs.RunView | None


def interrupt(tx: Tx, request: InterruptRequest, context: Context) -> Interrupted:
    """Record the wish and do what can be done at once.

    Raises RequestIdReused, SessionNotFound, KeyNotBound and RunNotFound.
    """
    namespace = request.call.namespace
    known = recall(tx, request.call)
    if known is not None:
        return get_interrupt(tx, namespace, known.interrupt_id)
    session, run = _target(tx, request)
    wanted = request.expected_run_id
    if run is None or run.state is RunState.FINISHED or (wanted and wanted != run.run_id):
        made = _no_op(tx, session, request, context)
    elif run.interrupt_id:
        made = _join(tx, run, request, context)
    else:
        made = _begin(tx, run, request, context)
    remember(tx, request.call, context, session_id=session.session_id, interrupt_id=made.interrupt_id)
    return get_interrupt(tx, namespace, made.interrupt_id)


def get_interrupt(tx: ReadTx, namespace: str, interrupt_id: str) -> Interrupted:
    """Read an interrupt at its present stage. Raises InterruptNotFound."""
    found = tx.interrupt(namespace, interrupt_id)
    if found is None:
        raise InterruptNotFound(interrupt_id=interrupt_id)
    run = runs.get_run(tx, namespace, found.run_id) if found.run_id else None
    return Interrupted(interrupt=found, session=require(tx, namespace, found.session_id), run=run)


def _target(tx: ReadTx, request: InterruptRequest) -> tuple[Session, Run | None]:
    """Return the session, and the run that would be stopped."""
    namespace = request.call.namespace
    if request.session is None:
        run = runs.require_run(tx, namespace, request.run_id)
        return require(tx, namespace, run.session_id), run
    session = find(tx, namespace, request.session)
    if session is None:
        raise KeyNotBound(canonical_key=request.session.key)
    return session, tx.run(namespace, session.active_run_id) if session.active_run_id else None


def _new(
    tx: Tx,
    session_id: str,
    run_id: str,
    request: InterruptRequest,
    context: Context,
    *,
    stage: InterruptStage,
    escalate_at_ms: int | None = None,
) -> Interrupt:
    """Write the row and its first event."""
    made = Interrupt(
        interrupt_id=context.new_id(INTERRUPT_ID),
        namespace=request.call.namespace,
        session_id=session_id,
        run_id=run_id,
        stage=stage,
        mode=request.mode,
        reason=request.reason,
        created_at_ms=context.now_ms,
        escalate_at_ms=escalate_at_ms,
    )
    tx.add_interrupt(made)
    _tell(tx, made, context)
    return made


def _tell(tx: Tx, made: Interrupt, context: Context) -> None:
    """Say in the log which stage was reached. A NO_OP bears no run id, so that a terminal stays its run's last."""
    changed = InterruptChanged(
        interrupt_id=made.interrupt_id, stage=made.stage, mode=made.mode, reason=made.reason
    )
    tx.append(made.session_id, changed, run_id=made.run_id, at_ms=context.now_ms)


def _no_op(tx: Tx, session: Session, request: InterruptRequest, context: Context) -> Interrupt:
    """Record that there was nothing to stop."""
    return _new(tx, session.session_id, "", request, context, stage=InterruptStage.NO_OP)


def _begin(tx: Tx, run: Run, request: InterruptRequest, context: Context) -> Interrupt:
    """Interrupt a run that is not being interrupted: a claimed one by its runner, any other at once."""
    graceful = run.state is RunState.RUNNING and request.mode is InterruptMode.GRACEFUL
    escalate_at_ms = context.judged_ms + request.grace_ms if graceful else None
    made = _new(
        tx,
        run.session_id,
        run.run_id,
        request,
        context,
        stage=InterruptStage.ACCEPTED,
        escalate_at_ms=escalate_at_ms,
    )
    run = replace(run, interrupt_id=made.interrupt_id)
    if escalate_at_ms is None:
        forced = run.state is RunState.RUNNING
        cause = RunCause.FORCED if forced else RunCause.INTERRUPT
        runs.end(tx, run, outcome=RunOutcome.INTERRUPTED, cause=cause, context=context)
        return made
    check_move(run.state, RunState.INTERRUPTING)
    changed = RunChanged(
        from_state=run.state,
        to_state=RunState.INTERRUPTING,
        lease_epoch=run.lease_epoch,
        runner_id=run.runner_id,
    )
    tx.append(run.session_id, changed, run_id=run.run_id, at_ms=context.now_ms)
    stopping = replace(run, state=RunState.INTERRUPTING)
    due = min(at for at in (stopping.deadline_ms, escalate_at_ms) if at is not None)
    tx.save_run(replace(stopping, due_at_ms=due))
    tx.wake(run_topic(run.namespace, run.run_id))
    return made


def _join(tx: Tx, run: Run, request: InterruptRequest, context: Context) -> Interrupt:
    """Return the interrupt that the run has; FORCE makes it one by force, now."""
    joined = tx.interrupt(run.namespace, run.interrupt_id)
    if joined is None:
        raise InterruptNotFound(interrupt_id=run.interrupt_id)
    if request.mode is InterruptMode.FORCE:
        joined = replace(joined, mode=InterruptMode.FORCE)
        tx.save_interrupt(joined)
        force(tx, run, context)
    return joined


def force(tx: Tx, run: Run, context: Context) -> None:
    """End the run over its runner's head, with the text so far. The runner is fenced: its run is finished."""
    runs.end(tx, run, outcome=RunOutcome.INTERRUPTED, cause=RunCause.FORCED, context=context)


def advance(tx: Tx, run: Run, stage: InterruptStage, context: Context) -> None:
    """Bring the run's interrupt to a stage, if it may go there; else it has come further already."""
    current = tx.interrupt(run.namespace, run.interrupt_id) if run.interrupt_id else None
    if current is None or stage not in STAGES[current.stage]:
        return
    reached = replace(current, stage=stage)
    tx.save_interrupt(reached)
    _tell(tx, reached, context)


def deliver(tx: Tx, namespace: str, run_id: str, context: Context) -> None:
    """Note that the run's interrupt was written to its runner; nothing if the run ended meanwhile."""
    run = runs.require_run(tx, namespace, run_id)
    advance(tx, run, InterruptStage.DELIVERED, context)


UNHEARD = frozenset({InterruptStage.ACCEPTED, InterruptStage.DELIVERED})
"""The stages in which a runner is told again."""


def open_command(tx: ReadTx, run: Run) -> Interrupt | None:
    """Return the interrupt that the run's runner has not acknowledged yet."""
    current = tx.interrupt(run.namespace, run.interrupt_id) if run.interrupt_id else None
    return current if current is not None and current.stage in UNHEARD else None
