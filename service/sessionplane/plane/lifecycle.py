"""Use cases of a session's life beside its runs: who attends it, and that its client goes to the background."""

from __future__ import annotations

from dataclasses import dataclass

from sessionplane.domain import routing
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.sessions import Session, SessionCause, allows
from sessionplane.plane import logs, sessions
from sessionplane.plane.context import Call, Context, recall, remember
from sessionplane.plane.sessions import SessionRef, View
from sessionplane.store.contract import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendRequest:
    """Says that nobody will follow the session for a while, and for how long at most."""

    call: Call
    session: SessionRef
    grace_ms: int


def attach(tx: Tx, session: Session, context: Context) -> Session:
    """Count one more attached stream, and wake the session if it waits for one."""
    tx.on_undo(context.presence.arrive(session.session_id))
    if routing.route(Verb.ATTACH, session) is Action.ACTIVATE:
        return sessions.move(tx, session, SessionCause.ATTACHED, context)
    return session


def detach(tx: Tx, namespace: str, session_id: str, context: Context) -> None:
    """Count one less; the session lingers after the last one, since people reload pages."""
    until_ms = context.monotonic_ms + context.limits.detach_linger_ms
    tx.on_undo(context.presence.leave(namespace, session_id, linger_until_ms=until_ms))


def settle_presence(tx: Tx, name: tuple[str, str], context: Context) -> None:
    """Move a session (namespace, id) that nobody came back to, or note that it is quiet from now on. Does nothing if
    somebody did come back, or it is elsewhere.
    """
    namespace, session_id = name
    if not context.presence.missed(session_id, now_ms=context.monotonic_ms):
        return
    tx.on_undo(context.presence.give_up(session_id))
    session = tx.session(namespace, session_id)
    if session is None:
        return
    if allows(session.state, SessionCause.DETACHED):
        sessions.move(tx, session, SessionCause.DETACHED, context)
    elif allows(session.state, SessionCause.EXPIRED):
        sessions.keep_quiet(tx, session, context)


def suspend(tx: Tx, request: SuspendRequest, context: Context) -> View:
    """Suspend a session; one that is suspended stays as it is, with the time that it has.

    Raises RequestIdReused, SessionNotFound, KeyNotBound, LogFull, and InvalidTransition from where it cannot be
    suspended.
    """
    namespace = request.call.namespace
    known = recall(tx, request.call)
    if known is not None:
        return sessions.view(tx, sessions.require(tx, namespace, known.session_id))
    session = sessions.require_named(tx, namespace, request.session)
    if routing.route(Verb.SUSPEND, session) is Action.NO_OP:
        return sessions.view(tx, session)
    until_ms = context.judged_ms + request.grace_ms
    suspended = sessions.move(tx, session, SessionCause.SUSPENDED, context, deadline_at_ms=until_ms)
    logs.keep_bounds(tx, session, context, reserve=True)
    remember(tx, request.call, context, session_id=session.session_id)
    return sessions.view_after(tx, suspended)
