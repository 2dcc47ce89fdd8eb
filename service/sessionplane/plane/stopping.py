"""How a run is stopped: the stages of an interrupt, each on disk before anybody is told, with exactly one outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sessionplane.domain.errors import InterruptNotFound
from sessionplane.domain.events import InterruptChanged, RunChanged
from sessionplane.domain.interrupts import STAGES, Interrupt, InterruptMode, InterruptStage
from sessionplane.domain.runs import Run, RunCause, RunOutcome, RunState, check_move
from sessionplane.domain.sessions import Session
from sessionplane.plane import lane, logs
from sessionplane.plane.context import Context, run_topic
from sessionplane.store.contract import ReadTx, Tx

INTERRUPT_ID = "int_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a run is to be stopped, and why."""

    mode: InterruptMode = InterruptMode.GRACEFUL
    grace_ms: int
    reason: str = ""


def _new(
    tx: Tx,
    owner: Session | Run,
    run_id: str,
    wish: Wish,
    context: Context,
    *,
    stage: InterruptStage,
    escalate_at_ms: int | None = None,
) -> Interrupt:
    """Write the row and its first event."""
    made = Interrupt(
        interrupt_id=context.new_id(INTERRUPT_ID),
        namespace=owner.namespace,
        session_id=owner.session_id,
        run_id=run_id,
        stage=stage,
        mode=wish.mode,
        reason=wish.reason,
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


def no_op(tx: Tx, session: Session, wish: Wish, context: Context) -> Interrupt:
    """Record that there was nothing to stop. Raises LogFull."""
    made = _new(tx, session, "", wish, context, stage=InterruptStage.NO_OP)
    logs.keep_bounds(tx, session, context, reserve=True)
    return made


def stop(tx: Tx, run: Run, wish: Wish, context: Context) -> Interrupt:
    """Interrupt an unfinished run; if it is being interrupted already, join that."""
    return join(tx, run, wish, context) if run.interrupt_id else begin(tx, run, wish, context)


def begin(tx: Tx, run: Run, wish: Wish, context: Context) -> Interrupt:
    """Interrupt a run that is not being interrupted: a claimed one by its runner, any other at once."""
    graceful = run.state is RunState.RUNNING and wish.mode is InterruptMode.GRACEFUL
    escalate_at_ms = context.judged_ms + wish.grace_ms if graceful else None
    made = _new(
        tx,
        run,
        run.run_id,
        wish,
        context,
        stage=InterruptStage.ACCEPTED,
        escalate_at_ms=escalate_at_ms,
    )
    run = replace(run, interrupt_id=made.interrupt_id)
    if escalate_at_ms is None:
        forced = run.state is RunState.RUNNING
        cause = RunCause.FORCED if forced else RunCause.INTERRUPT
        lane.end(tx, run, outcome=RunOutcome.INTERRUPTED, cause=cause, context=context)
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


def join(tx: Tx, run: Run, wish: Wish, context: Context) -> Interrupt:
    """Return the interrupt that the run has; FORCE makes it one by force, now."""
    joined = tx.interrupt(run.namespace, run.interrupt_id)
    if joined is None:
        raise InterruptNotFound(interrupt_id=run.interrupt_id)
    if wish.mode is InterruptMode.FORCE:
        joined = replace(joined, mode=InterruptMode.FORCE)
        tx.save_interrupt(joined)
        force(tx, run, context)
    return joined


def ask_by(tx: Tx, run: Run, by_ms: int, reason: str, context: Context) -> None:
    """Ask a claimed run to stop by a moment. One that was asked before keeps its interrupt, and an earlier moment."""
    current = tx.interrupt(run.namespace, run.interrupt_id) if run.interrupt_id else None
    if current is None:
        begin(tx, run, Wish(grace_ms=by_ms - context.judged_ms, reason=reason), context)
    elif current.escalate_at_ms is None or current.escalate_at_ms > by_ms:
        tx.save_interrupt(replace(current, escalate_at_ms=by_ms))
        tx.save_run(replace(run, due_at_ms=min(at for at in (run.due_at_ms, by_ms) if at is not None)))
    # Its runner, and whoever waits to claim it, which is in vain now.
    tx.wake(run_topic(run.namespace, run.run_id))


def force(tx: Tx, run: Run, context: Context) -> None:
    """End the run over its runner's head, with the text so far. The runner is fenced: its run is finished."""
    lane.end(tx, run, outcome=RunOutcome.INTERRUPTED, cause=RunCause.FORCED, context=context)


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
    run = tx.run(namespace, run_id)
    if run is not None:
        advance(tx, run, InterruptStage.DELIVERED, context)


UNHEARD = frozenset({InterruptStage.ACCEPTED, InterruptStage.DELIVERED})
"""The stages in which a runner is told again."""


def open_command(tx: ReadTx, run: Run) -> Interrupt | None:
    """Return the interrupt that the run's runner has not acknowledged yet."""
    current = tx.interrupt(run.namespace, run.interrupt_id) if run.interrupt_id else None
    return current if current is not None and current.stage in UNHEARD else None
