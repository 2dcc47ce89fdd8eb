"""Use cases of a session's due moment: what the server does with a session that nobody asks about.

A table by state says what a due moment brings; the row is looked at again before anything is done, since it may have
been touched or moved meanwhile. Whoever might still come back after a start is waited for, where that matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from sessionplane.domain.runs import Run
from sessionplane.domain.sessions import Session, SessionCause, SessionState, allows, due_at_ms
from sessionplane.plane import lane, pointers, sessions
from sessionplane.plane.context import Context
from sessionplane.store.contract import ReadTx, Tx

UseCase = Callable[[Tx, Session, Context], object]


class Case(NamedTuple):
    """What a due moment brings, and whether that depends on who is there."""

    use_case: UseCase
    attended: bool


def due_sessions(tx: ReadTx, context: Context, limit: int) -> Sequence[tuple[str, str]]:
    """Return up to `limit` sessions (namespace, id) that are due. They come again until they are dealt with."""
    complete = context.presence.complete(now_ms=context.monotonic_ms)
    found: list[Session] = []
    for state, case in CASES.items():
        if complete or not case.attended:
            found += tx.sessions_due(state, at_ms=context.judged_ms, limit=limit - len(found))
    return [(session.namespace, session.session_id) for session in found]


def expire(tx: Tx, name: tuple[str, str], context: Context) -> None:
    """Do what the due moment of a session (namespace, id) brings, if it is still due."""
    session = tx.session(*name)
    if session is None or session.due_at_ms is None or session.due_at_ms > context.judged_ms:
        return
    case = CASES[session.state]
    if case.attended and not context.presence.complete(now_ms=context.monotonic_ms):
        return
    due_ms = due_at_ms(session, judged_ms=context.judged_ms, limits=context.limits)
    if due_ms is None or due_ms > context.judged_ms:
        sessions.postpone(tx, session, context)
    else:
        case.use_case(tx, session, context)


def _wake(tx: Tx, session: Session, context: Context) -> None:
    """Bring a suspended session back to where its subscribers put it."""
    there = context.presence.attached(session.session_id) > 0
    cause = SessionCause.ATTACHED if there else SessionCause.SUSPEND_EXPIRED
    sessions.move(tx, session, cause, context)


def _cut(tx: Tx, session: Session, context: Context) -> None:
    """End a session whose run has not finished by the close deadline, unless the run's own time was over before."""
    run = tx.run(session.namespace, session.active_run_id) if session.active_run_id else None
    if run is None or is_cut(run, session):
        lane.end_all(tx, session, SessionCause.CLOSE_EXPIRED, context)


def is_cut(run: Run, session: Session) -> bool:
    """Say whether it is the close deadline that ends the run, and not a moment of its own: whichever comes first. The
    interrupt that came with the close ends at the deadline too; then the closing has ended it.
    """
    if not allows(session.state, SessionCause.CLOSE_EXPIRED) or session.deadline_at_ms is None:
        return False
    return run.due_at_ms is None or session.deadline_at_ms <= run.due_at_ms


def _give_up(tx: Tx, session: Session, context: Context) -> None:
    """End a session in which nothing happened for too long; whoever is there, or only just left, is a sign of life."""
    if context.presence.missed(session.session_id, now_ms=context.monotonic_ms):
        sessions.move(tx, session, SessionCause.EXPIRED, context)
    else:
        sessions.keep_quiet(tx, session, context)


CASES: Mapping[SessionState, Case] = MappingProxyType(
    {
        SessionState.CLOSING: Case(_cut, attended=False),
        SessionState.SUSPENDED: Case(_wake, attended=True),
        SessionState.DETACHED: Case(_give_up, attended=True),
        SessionState.CREATED: Case(_give_up, attended=True),
        SessionState.ENDED: Case(pointers.delete, attended=False),
    }
)
"""state -> what its due moment brings, the most urgent first."""
