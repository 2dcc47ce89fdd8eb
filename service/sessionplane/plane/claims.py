"""Use cases of leases: claim a run, show who holds it, give it back.

A lease is the token, the epoch and the span in the run's row; `Leases` says until when it is good. Every write of a
runner shows the token and is judged by `held_run`, in the transaction that it changes: a token that is not the run's
current one changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hmac import compare_digest

from sessionplane.domain import routing
from sessionplane.domain.errors import InvalidTransition, LeaseLost, RunFinished
from sessionplane.domain.events import RunChanged
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.runs import CLAIMED, Run, RunCause, RunOutcome, RunState, check_move
from sessionplane.domain.sessions import Session, SessionCause, allows
from sessionplane.plane import inputs, lane, logs, sessions
from sessionplane.plane.context import Call, Context, recall, remember, run_topic
from sessionplane.plane.leases import RunRef
from sessionplane.plane.runs import get_run, require_run
from sessionplane.plane.sessions import RunView
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
    lease_ms: int


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
    session = sessions.require_row(tx, namespace, run.session_id)
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
    waited_ms = context.judged_ms - (run.pending_since_ms or context.judged_ms)
    held = replace(
        run,
        state=RunState.RUNNING,
        runner_id=request.runner_id,
        lease_epoch=run.lease_epoch + 1,
        lease_token=context.new_secret(),
        lease_ms=request.lease_ms,
        lease_confirmed=False,
        claimed_at_ms=run.claimed_at_ms or context.judged_ms,
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
        lease_ms=run.lease_ms,
    )


def held_run(tx: ReadTx, holder: Holder) -> Run:
    """Return the run if the holder's token is its current or its last one.

    Raises RunNotFound, or LeaseLost with the current epoch.
    """
    run = require_run(tx, holder.namespace, holder.run_id)
    if not run.lease_token or not compare_digest(run.lease_token.encode(), holder.lease_token.encode()):
        raise LeaseLost(run_id=run.run_id, current_epoch=run.lease_epoch)
    return run


def working_run(tx: ReadTx, holder: Holder) -> Run:
    """Return the run that the holder works on. Raises RunFinished if it has ended, and what `held_run` raises."""
    run = held_run(tx, holder)
    if run.state is RunState.FINISHED:
        raise RunFinished(run_id=run.run_id, outcome=run.outcome, terminal_sequence=run.terminal_sequence)
    return run


def release(tx: Tx, call: Call, holder: Holder, context: Context) -> RunView:
    """Give a run back of which nothing was published, and for which no input was taken: the next runner could not know.

    Raises RunNotFound, LeaseLost, RunFinished, InvalidTransition, LogFull and RequestIdReused.
    """
    known = recall(tx, call)
    if known is not None:
        return get_run(tx, holder.namespace, known.run_id)
    run = working_run(tx, holder)
    before = sessions.require_row(tx, run.namespace, run.session_id)
    begun = run.last_run_sequence or inputs.any_taken(tx, run)
    if begun and run.state is RunState.RUNNING:
        raise InvalidTransition(subject="The run", **{"from": run.state, "to": RunState.PENDING})
    give_back(tx, run, context)
    remember(tx, call, context, session_id=run.session_id, run_id=run.run_id)
    released = get_run(tx, holder.namespace, run.run_id)
    if released.run.state is RunState.PENDING:
        logs.keep_bounds(tx, before, context, reserve=True)
    return released


def give_back(tx: Tx, run: Run, context: Context) -> None:
    """Offer a claimed run to others again; one that is to stop, or whose session closes, ends instead."""
    session = sessions.require(tx, run.namespace, run.session_id)
    if run.state is RunState.INTERRUPTING:
        lane.end(tx, run, outcome=RunOutcome.INTERRUPTED, cause=RunCause.INTERRUPT, context=context)
    elif routing.route(Verb.RELEASE, session) is Action.BY_LEASE_THEN_END:
        lane.end(tx, run, outcome=RunOutcome.REJECTED, cause=RunCause.SESSION_ENDED, context=context)
    else:
        check_move(run.state, RunState.PENDING)
        lane.drop_lease(tx, run, context)
        changed = RunChanged(
            from_state=run.state,
            to_state=RunState.PENDING,
            lease_epoch=run.lease_epoch,
            runner_id=run.runner_id,
        )
        tx.append(run.session_id, changed, run_id=run.run_id, at_ms=context.now_ms)
        tx.save_run(lane.wait_for_runner(tx, replace(run, lease_token="", lease_confirmed=False), context))
