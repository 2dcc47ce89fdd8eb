"""Use cases that nobody asks for: leases that ran out, deadlines that passed, subscribers that did not return.

`due` collects what is late, in bounded steps and from indexes; each find is then a use case of its own, which
looks again before it acts, since the late one may have been heard meanwhile. So one bad row hurts no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sessionplane.domain.runs import CLAIMED, Run, RunCause, RunOutcome, RunState
from sessionplane.domain.sessions import SessionState
from sessionplane.plane import claims, expiry, lane, sessions, stopping
from sessionplane.plane.context import Context
from sessionplane.plane.leases import RunRef
from sessionplane.store.contract import ReadTx, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is late at one moment."""

    leases: Sequence[RunRef]
    runs: Sequence[RunRef]
    absent: Sequence[tuple[str, str]]
    sessions: Sequence[tuple[str, str]]

    def fills(self, step: int) -> bool:
        """Say whether a step was too short for it, so that there may be more."""
        return max(map(len, (self.leases, self.runs, self.absent, self.sessions))) >= step


def due(tx: ReadTx, context: Context) -> Due:
    """Collect what is late. It comes again until it is dealt with."""
    step = context.limits.upkeep_step_max
    return Due(
        leases=context.leases.due(now_ms=context.monotonic_ms, limit=step),
        runs=[RunRef(run.namespace, run.run_id) for run in tx.runs_due(at_ms=context.judged_ms, limit=step)],
        absent=context.presence.overdue(now_ms=context.monotonic_ms, limit=step),
        sessions=expiry.due_sessions(tx, context, step),
    )


def lapse(tx: Tx, ref: RunRef, context: Context) -> None:
    """Deal with a lease that ran out: a runner that was heard is lost; one that never was may not know that it
    holds the run, so the run is offered again.
    """
    run = tx.run(ref.namespace, ref.run_id)
    term = context.leases.term(ref)
    if run is None or run.state not in CLAIMED:
        context.leases.drop(ref)
        return
    if term is None or term.deadline_ms > context.monotonic_ms:
        return
    if run.lease_confirmed:
        lane.end(tx, run, outcome=RunOutcome.LOST, cause=RunCause.LEASE_EXPIRED, context=context)
    else:
        claims.give_back(tx, run, context)


def expire(tx: Tx, ref: RunRef, context: Context) -> None:
    """Deal with a run whose time is over: its grace, its time to run, or its time to wait. If that of its closing
    session was over before, the session takes the run along.
    """
    run = tx.run(ref.namespace, ref.run_id)
    if run is None or run.due_at_ms is None or run.due_at_ms > context.judged_ms:
        return
    if expiry.is_cut(run, sessions.require_row(tx, run.namespace, run.session_id)):
        return
    if _passed(run.run_deadline_ms, context):
        lane.end(tx, run, outcome=RunOutcome.TIMED_OUT, cause=RunCause.DEADLINE, context=context)
    elif _passed(run.start_deadline_ms, context):
        lane.end(tx, run, outcome=RunOutcome.REJECTED, cause=RunCause.DEADLINE, context=context)
    elif run.state is RunState.INTERRUPTING:
        stopping.force(tx, run, context)


def _passed(at_ms: int | None, context: Context) -> bool:
    return at_ms is not None and at_ms <= context.judged_ms


def recover_leases(tx: ReadTx, after: RunRef, context: Context) -> RunRef | None:
    """Grant a page of claimed runs their leases in full after a start; returns where the next page begins."""
    page: Sequence[Run] = tx.leased_runs(after=after, limit=context.limits.upkeep_step_max)
    for run in page:
        ref = RunRef(run.namespace, run.run_id)
        context.leases.grant(ref, now_ms=context.monotonic_ms, lease_ms=run.lease_ms)
    return RunRef(page[-1].namespace, page[-1].run_id) if page else None


def expect_subscribers(tx: ReadTx, context: Context) -> None:
    """Give whoever was attached before a start the time to come back; to a new database nobody was."""
    if tx.has_sessions():
        from_ms = context.monotonic_ms + context.limits.detach_linger_ms
        context.presence.begin(complete_from_ms=from_ms)


def active_sessions(tx: ReadTx, after: str, limit: int) -> list[tuple[str, str]]:
    """Return a page of ACTIVE sessions (namespace, id): after a start each may have lost its subscribers."""
    page = tx.sessions_in_state(SessionState.ACTIVE, after=after, limit=limit)
    return [(session.namespace, session.session_id) for session in page]


def touch(tx: Tx, visits: Mapping[tuple[str, str], int], _context: Context) -> None:
    """Write when users were last in sessions (namespace, id)."""
    for (namespace, session_id), at_ms in visits.items():
        tx.touch_session(namespace, session_id, interaction_at_ms=at_ms)


def forget(tx: Tx, context: Context) -> int:
    """Forget old request ids, in one step; returns how many."""
    before_ms = context.judged_ms - context.limits.request_id_ms
    return tx.forget_requests(before_ms=before_ms, limit=context.limits.upkeep_step_max)
