"""Use cases of runners: claim a run, publish, stay alive, finish, give back; and what happens when they do not.

Every write shows the lease token and is judged here, in the transaction that it changes: a token that is not the
run's current one changes nothing. `Leases` says until when a token is good; only the reaper acts on that, so a
late heartbeat that comes before the reaper still counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hmac import compare_digest

from sessionplane.domain import routing
from sessionplane.domain.errors import (
    InterruptNotFound,
    InvalidTransition,
    LeaseLost,
    LogFull,
    RunFinished,
    RunSequenceGap,
)
from sessionplane.domain.events import LateResult, OutputDelta, Published, RunChanged
from sessionplane.domain.interrupts import Interrupt, InterruptStage
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.runs import (
    CLAIMED,
    FinishResult,
    Run,
    RunCause,
    RunOutcome,
    RunReport,
    RunState,
    check_move,
)
from sessionplane.domain.sessions import Session, SessionCause, allows
from sessionplane.plane import interrupts, runs, sessions
from sessionplane.plane.context import Call, Context, recall, remember, run_topic
from sessionplane.plane.leases import RunRef
from sessionplane.plane.runs import RunView, get_run, require_run
from sessionplane.store.contract import ReadTx, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """Asks for one run, or for the next one of a pool."""

    call: Call
    run_id: str = ""
    pool: str = ""
    runner_id: str = ""
    lease_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """A lease as an answer shows it. The times are wall-clock estimates."""

    token: str
    epoch: int
    expires_at_ms: int
    next_heartbeat_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A run that the caller holds now (with its lease), or one that cannot be claimed (without)."""

    run: RunView
    lease: LeaseView | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who says it holds which run."""

    namespace: str
    run_id: str
    lease_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRequest:
    """Publishes events; `first_run_sequence` 0 means whatever comes next."""

    holder: Holder
    events: Sequence[Published]
    first_run_sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a runner is told when it was heard: its lease, and the interrupt that it should act on."""

    lease: LeaseView
    interrupt: Interrupt | None
    last_run_sequence: int = 0
    last_sequence: int = 0
    duplicate_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRequest:
    """Reports how a run ended; `fingerprint` is the hash of the report."""

    holder: Holder
    report: RunReport
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What became of a report, and the run with its terminal."""

    result: FinishResult
    run: Run


def claim(tx: Tx, request: ClaimRequest, context: Context) -> Claimed | None:
    """Give the caller a run; None means: nothing yet, wait and ask again.

    Raises RunNotFound and RequestIdReused.
    """
    namespace = request.call.namespace
    known = recall(tx, request.call)
    if known is not None:
        return _claimed_before(tx, require_run(tx, namespace, known.run_id), int(known.detail), context)
    if request.run_id:
        run: Run | None = require_run(tx, namespace, request.run_id)
    else:
        run = tx.next_pending(namespace, request.pool)
    if run is None:
        return None
    session = sessions.require(tx, namespace, run.session_id)
    if routing.route(Verb.CLAIM, session) is Action.DECLINE:
        return Claimed(run=get_run(tx, namespace, run.run_id), lease=None)
    if run.state is RunState.PENDING:
        return _grant(tx, run, session, request, context)
    if run.state is RunState.QUEUED or (run.state in CLAIMED and not run.lease_confirmed):
        return None
    return Claimed(run=get_run(tx, namespace, run.run_id), lease=None)


def _claimed_before(tx: ReadTx, run: Run, epoch: int, context: Context) -> Claimed:
    """Answer a repeated claim: the same lease while it is the run's current one, else none."""
    current = run.state in CLAIMED and run.lease_epoch == epoch
    return Claimed(
        run=get_run(tx, run.namespace, run.run_id), lease=lease_view(run, context) if current else None
    )


def _grant(tx: Tx, run: Run, session: Session, request: ClaimRequest, context: Context) -> Claimed:
    """Put the run under a new lease."""
    check_move(run.state, RunState.RUNNING)
    waited_ms = context.now_ms - (run.pending_since_ms or context.now_ms)
    held = replace(
        run,
        state=RunState.RUNNING,
        runner_id=request.runner_id,
        lease_epoch=run.lease_epoch + 1,
        lease_token=context.new_secret(),
        lease_ms=request.lease_ms,
        lease_confirmed=False,
        claimed_at_ms=run.claimed_at_ms or context.now_ms,
        pending_ms=run.pending_ms + max(0, waited_ms),
        pending_since_ms=None,
    )
    held = replace(held, due_at_ms=held.deadline_ms)
    changed = RunChanged(
        from_state=run.state, to_state=held.state, lease_epoch=held.lease_epoch, runner_id=held.runner_id
    )
    tx.append(run.session_id, changed, run_id=run.run_id, at_ms=context.now_ms)
    tx.save_run(held)
    extend_lease(tx, held, context)
    if allows(session.state, SessionCause.RUN_CLAIMED):
        sessions.move(tx, session, SessionCause.RUN_CLAIMED, context)
    remember(
        tx,
        request.call,
        context,
        session_id=run.session_id,
        run_id=run.run_id,
        detail=str(held.lease_epoch),
    )
    tx.wake(run_topic(run.namespace, run.run_id))
    return Claimed(run=get_run(tx, run.namespace, run.run_id), lease=lease_view(held, context))


def extend_lease(tx: Tx, run: Run, context: Context) -> None:
    """Grant the run's lease in full from now."""
    ref = RunRef(run.namespace, run.run_id)
    before = context.leases.term(ref)
    context.leases.grant(ref, now_ms=context.monotonic_ms, lease_ms=run.lease_ms)
    tx.on_undo(lambda: context.leases.restore(ref, before))


def lease_view(run: Run, context: Context) -> LeaseView:
    """Show the lease of a claimed run, with what is left of it as wall-clock times."""
    term = context.leases.term(RunRef(run.namespace, run.run_id))
    left_ms = max(0, term.deadline_ms - context.monotonic_ms) if term else run.lease_ms
    expires_at_ms = context.now_ms + left_ms
    return LeaseView(
        token=run.lease_token,
        epoch=run.lease_epoch,
        expires_at_ms=expires_at_ms,
        next_heartbeat_at_ms=expires_at_ms - run.lease_ms * 2 // 3,
    )


def held_run(tx: ReadTx, holder: Holder) -> Run:
    """Return the run if the holder's token is its current or its last one.

    Raises RunNotFound, or LeaseLost with the current epoch.
    """
    run = require_run(tx, holder.namespace, holder.run_id)
    if not run.lease_token or not compare_digest(run.lease_token.encode(), holder.lease_token.encode()):
        raise LeaseLost(run_id=run.run_id, current_epoch=run.lease_epoch)
    return run


def _working(tx: ReadTx, holder: Holder) -> Run:
    """Return the run that the holder works on. Raises RunFinished if it has ended, and what `held_run` raises."""
    run = held_run(tx, holder)
    if run.state is RunState.FINISHED:
        raise RunFinished(run_id=run.run_id, outcome=run.outcome, terminal_sequence=run.terminal_sequence)
    return run


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
    tx: Tx, holder: Holder, context: Context, *, acknowledged_interrupt_id: str = "", deliver: bool = True
) -> Heard:
    """Extend the lease, take acknowledgements, and hand out what the runner should do.

    `deliver` False leaves the interrupt to a stream that will say so itself once it was written.
    Raises RunNotFound, LeaseLost, RunFinished, and InterruptNotFound for one that is not the run's.
    """
    before = _working(tx, holder)
    run = _hear(tx, before, context)
    if run != before:
        tx.save_run(run)
    if acknowledged_interrupt_id and acknowledged_interrupt_id != run.interrupt_id:
        raise InterruptNotFound(interrupt_id=acknowledged_interrupt_id)
    if acknowledged_interrupt_id:
        interrupts.advance(tx, run, InterruptStage.ACKNOWLEDGED, context)
    return _heard(tx, run, context, deliver=deliver)


def _heard(tx: Tx, run: Run, context: Context, *, deliver: bool, duplicate_count: int = 0) -> Heard:
    """Answer a runner. What is handed out is delivered: the answer is written right after the commit."""
    if deliver:
        interrupts.advance(tx, run, InterruptStage.DELIVERED, context)
    return Heard(
        lease=lease_view(run, context),
        interrupt=interrupts.open_command(tx, run),
        last_run_sequence=run.last_run_sequence,
        last_sequence=tx.head(run.session_id).sequence,
        duplicate_count=duplicate_count,
    )


def publish(tx: Tx, request: PublishRequest, context: Context, *, deliver: bool = True) -> Heard:
    """Append the runner's events, all or none; repeats are skipped.

    Raises RunNotFound, LeaseLost, RunFinished, RunSequenceGap and LogFull.
    """
    run = _hear(tx, _working(tx, request.holder), context)
    expected = run.last_run_sequence + 1
    first = request.first_run_sequence or expected
    if first > expected:
        raise RunSequenceGap(expected=expected)
    fresh = request.events[expected - first :]
    if fresh:
        session = sessions.require(tx, run.namespace, run.session_id)
        _check_room(session, run, len(fresh), context)
        _first_event(tx, session, context)
        run = _append(tx, run, fresh, context)
    tx.save_run(run)
    return _heard(tx, run, context, deliver=deliver, duplicate_count=len(request.events) - len(fresh))


def _check_room(session: Session, run: Run, count: int, context: Context) -> None:
    """Refuse what would make the log too long. Only this run's part counts: what lies before it may be removed."""
    events = session.head_sequence - run.first_sequence + 1 + count
    if events > context.limits.log_events_max:
        raise LogFull(session_id=session.session_id, limit=f"{context.limits.log_events_max} events")
    if session.log_bytes - run.first_log_bytes > context.limits.log_bytes_max:
        raise LogFull(session_id=session.session_id, limit=f"{context.limits.log_bytes_max} bytes")


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

    Raises RunNotFound and LeaseLost.
    """
    run = held_run(tx, request.holder)
    if run.state is RunState.FINISHED:
        return _finished_before(tx, run, request, context)
    _first_event(tx, sessions.require(tx, run.namespace, run.session_id), context)
    finished = runs.end(
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
    """Answer a report on a run that has ended: a repeat is nothing new, another one is kept beside the log's end."""
    if run.report_fingerprint == request.fingerprint:
        return Finished(result=FinishResult.DUPLICATE, run=run)
    if run.late_fingerprint != request.fingerprint:
        text, _ = runs.cut_text(request.report.output_text or "", context.limits.terminal_text_bytes_max)
        late = LateResult(run_id=run.run_id, report=replace(request.report, output_text=text))
        tx.append(run.session_id, late, at_ms=context.now_ms)
        run = replace(run, late_fingerprint=request.fingerprint)
        tx.save_run(run)
    return Finished(result=FinishResult.SUPERSEDED, run=run)


def release(tx: Tx, call: Call, holder: Holder, context: Context) -> RunView:
    """Give a run back of which nothing was published.

    Raises RunNotFound, LeaseLost, RunFinished, InvalidTransition and RequestIdReused.
    """
    known = recall(tx, call)
    if known is not None:
        return get_run(tx, holder.namespace, known.run_id)
    run = _working(tx, holder)
    if run.last_run_sequence and run.state is RunState.RUNNING:
        raise InvalidTransition(subject="The run", **{"from": run.state, "to": RunState.PENDING})
    give_back(tx, run, context)
    remember(tx, call, context, session_id=run.session_id, run_id=run.run_id)
    return get_run(tx, holder.namespace, run.run_id)


def give_back(tx: Tx, run: Run, context: Context) -> None:
    """Offer a claimed run to others again; one that is to stop, or whose session closes, ends instead."""
    session = sessions.require(tx, run.namespace, run.session_id)
    if run.state is RunState.INTERRUPTING:
        runs.end(tx, run, outcome=RunOutcome.INTERRUPTED, cause=RunCause.INTERRUPT, context=context)
    elif routing.route(Verb.RELEASE, session) is Action.BY_LEASE_THEN_END:
        runs.end(tx, run, outcome=RunOutcome.REJECTED, cause=RunCause.SESSION_ENDED, context=context)
    else:
        check_move(run.state, RunState.PENDING)
        runs.drop_lease(tx, run, context)
        changed = RunChanged(
            from_state=run.state,
            to_state=RunState.PENDING,
            lease_epoch=run.lease_epoch,
            runner_id=run.runner_id,
        )
        tx.append(run.session_id, changed, run_id=run.run_id, at_ms=context.now_ms)
        tx.save_run(runs.wait_for_runner(tx, replace(run, lease_token="", lease_confirmed=False), context))
