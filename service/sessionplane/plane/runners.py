"""Use cases of a runner that holds a run: publish, stay alive, finish.

`Leases` says until when a token is good, and only the reaper acts on that, so a late heartbeat that comes before the
reaper still counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sessionplane.domain.errors import InterruptNotFound, RunSequenceGap
from sessionplane.domain.events import LateResult, OutputDelta, Published
from sessionplane.domain.inputs import Input
from sessionplane.domain.interrupts import Interrupt, InterruptStage
from sessionplane.domain.runs import FinishResult, Run, RunCause, RunReport, RunState
from sessionplane.domain.sessions import Session, SessionCause, allows
from sessionplane.plane import inputs, lane, logs, sessions, stopping
from sessionplane.plane.claims import Holder, LeaseView, extend_lease, held_run, lease_view, working_run
from sessionplane.plane.context import Context, run_topic
from sessionplane.plane.runs import get_run
from sessionplane.plane.sessions import RunView
from sessionplane.store.contract import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRequest:
    """Publishes events; `first_run_sequence` 0 means whatever comes next. Inputs are acknowledged before."""

    holder: Holder
    events: Sequence[Published]
    first_run_sequence: int = 0
    acknowledged_input_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a runner is told when it was heard: its lease, the interrupt that it should act on, and what it should take
    in, oldest first.
    """

    lease: LeaseView
    interrupt: Interrupt | None
    inputs: Sequence[Input] = ()
    last_run_sequence: int = 0
    last_sequence: int = 0
    duplicate_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRequest:
    """Reports how a run ended; `fingerprint` is the hash of the report. It stands behind the publications up to
    `after_run_sequence`, 0 if it does not say.
    """

    holder: Holder
    report: RunReport
    fingerprint: bytes
    after_run_sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What became of a report, and the run with its terminal."""

    result: FinishResult
    run: Run


def _hear(tx: Tx, run: Run, context: Context) -> Run:
    """Note that the runner was heard: its lease begins anew, and is confirmed from the first time on."""
    extend_lease(tx, run, context)
    if run.lease_confirmed:
        return run
    # Whoever waits to claim the run by its id learns that it is taken.
    tx.wake(run_topic(run.namespace, run.run_id))
    return replace(run, lease_confirmed=True)


def open_drive(tx: Tx, holder: Holder, context: Context) -> tuple[RunView, Heard]:
    """Begin to drive a run over a stream: a sign of life that returns the run with its input.

    Raises RunNotFound, LeaseLost and RunFinished.
    """
    heard = heartbeat(tx, holder, context)
    return get_run(tx, holder.namespace, holder.run_id), heard


def heartbeat(
    tx: Tx,
    holder: Holder,
    context: Context,
    *,
    acknowledged_interrupt_id: str = "",
    acknowledged_input_ids: Sequence[str] = (),
    deliver: bool = True,
) -> Heard:
    """Extend the lease, take acknowledgements, and hand out what the runner should do.

    `deliver` False leaves commands to a stream that hands them out itself.
    Raises RunNotFound, LeaseLost, RunFinished, and InterruptNotFound or InputNotFound for one that is not the run's.
    """
    before = working_run(tx, holder)
    run = _hear(tx, before, context)
    if run != before:
        tx.save_run(run)
    if acknowledged_interrupt_id and acknowledged_interrupt_id != run.interrupt_id:
        raise InterruptNotFound(interrupt_id=acknowledged_interrupt_id)
    if acknowledged_interrupt_id:
        stopping.advance(tx, run, InterruptStage.ACKNOWLEDGED, context)
    inputs.acknowledge(tx, run, acknowledged_input_ids, context)
    return _heard(tx, run, context, deliver=deliver)


def _heard(tx: Tx, run: Run, context: Context, *, deliver: bool, duplicate_count: int = 0) -> Heard:
    """Answer a runner. What is handed out is delivered: the answer is written right after the commit."""
    if deliver:
        stopping.advance(tx, run, InterruptStage.DELIVERED, context)
    return Heard(
        lease=lease_view(run, context),
        interrupt=stopping.open_command(tx, run),
        inputs=inputs.to_hand_out(tx, run, context) if deliver else (),
        last_run_sequence=run.last_run_sequence,
        last_sequence=tx.head(run.session_id).sequence,
        duplicate_count=duplicate_count,
    )


def publish(tx: Tx, request: PublishRequest, context: Context, *, deliver: bool = True) -> Heard:
    """Append the runner's events, all or none; repeats are skipped.

    Raises RunNotFound, LeaseLost, RunFinished, RunSequenceGap, InputNotFound and LogFull.
    """
    run = _hear(tx, working_run(tx, request.holder), context)
    inputs.acknowledge(tx, run, request.acknowledged_input_ids, context)
    expected = run.last_run_sequence + 1
    first = request.first_run_sequence or expected
    if first > expected:
        raise RunSequenceGap(expected=expected)
    fresh = request.events[expected - first :]
    if fresh:
        session = sessions.require(tx, run.namespace, run.session_id)
        _first_event(tx, session, context)
        run = _append(tx, run, fresh, context)
        logs.keep_bounds(tx, session, context)
    tx.save_run(run)
    return _heard(tx, run, context, deliver=deliver, duplicate_count=len(request.events) - len(fresh))


def _first_event(tx: Tx, session: Session, context: Context) -> None:
    """A runner was heard: the session is really under way, with or without somebody watching."""
    if not allows(session.state, SessionCause.RUN_STARTED):
        return
    session = sessions.move(tx, session, SessionCause.RUN_STARTED, context)
    if not context.presence.attached(session.session_id):
        sessions.move(tx, session, SessionCause.DETACHED, context)


def _append(tx: Tx, run: Run, events: Sequence[Published], context: Context) -> Run:
    """Append what the runner published; returns the run with its new numbers, not yet written."""
    number, offset, first = run.last_run_sequence, run.output_bytes, run.first_output_sequence
    for event in events:
        number += 1
        if isinstance(event, OutputDelta):
            body: Published = OutputDelta(text=event.text, offset=offset)
            offset += len(event.text.encode())
        else:
            body = event
        sequence = tx.append(
            run.session_id, body, run_id=run.run_id, run_sequence=number, at_ms=context.now_ms
        )
        first = first or sequence
    return replace(run, last_run_sequence=number, output_bytes=offset, first_output_sequence=first)


def finish(tx: Tx, request: FinishRequest, context: Context) -> Finished:
    """Record the runner's report as the run's terminal; the first terminal stands.

    Raises RunNotFound and LeaseLost, and RunSequenceGap if a publication before the report was not committed.
    """
    run = held_run(tx, request.holder)
    if run.state is RunState.FINISHED:
        return _finished_before(tx, run, request, context)
    if run.last_run_sequence < request.after_run_sequence:
        raise RunSequenceGap(expected=run.last_run_sequence + 1)
    _first_event(tx, sessions.require(tx, run.namespace, run.session_id), context)
    finished = lane.end(
        tx,
        run,
        outcome=request.report.outcome,
        cause=RunCause.RUNNER,
        context=context,
        report=request.report,
        report_fingerprint=request.fingerprint,
    )
    return Finished(result=FinishResult.RECORDED, run=finished)


def _finished_before(tx: Tx, run: Run, request: FinishRequest, context: Context) -> Finished:
    """Answer a report on a run that has ended: a repeat is nothing new, another one is kept beside the log's end, while
    the session is not deleted.
    """
    if run.report_fingerprint == request.fingerprint:
        return Finished(result=FinishResult.DUPLICATE, run=run)
    session = sessions.require_row(tx, run.namespace, run.session_id)
    if not run.late_fingerprint and session.deleted_at_ms is None:
        text, _ = lane.cut_text(request.report.output_text or "", context.limits.terminal_text_bytes_max)
        late = LateResult(run_id=run.run_id, report=replace(request.report, output_text=text))
        tx.append(run.session_id, late, at_ms=context.now_ms)
        run = replace(run, late_fingerprint=request.fingerprint)
        tx.save_run(run)
    return Finished(result=FinishResult.SUPERSEDED, run=run)
