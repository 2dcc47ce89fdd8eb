"""Use cases of a session's life beside its runs: who attends it."""

from __future__ import annotations

from sessionplane.domain import routing
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.sessions import Session, SessionCause, allows
from sessionplane.plane.context import Context
from sessionplane.plane.sessions import move
from sessionplane.store.contract import Tx


def attach(tx: Tx, session: Session, context: Context) -> Session:
    """Count one more attached stream, and wake the session if it waits for one."""
    tx.on_undo(context.presence.arrive(session.session_id))
    if routing.route(Verb.ATTACH, session) is Action.ACTIVATE:
        return move(tx, session, SessionCause.ATTACHED, context)
    return session


def detach(tx: Tx, namespace: str, session_id: str, context: Context) -> None:
    """Count one less; the session lingers after the last one, since people reload pages."""
    until_ms = context.monotonic_ms + context.limits.detach_linger_ms
    tx.on_undo(context.presence.leave(namespace, session_id, linger_until_ms=until_ms))


def settle_presence(tx: Tx, name: tuple[str, str], context: Context) -> None:
    """Move a session (namespace, id) that nobody came back to. Does nothing if somebody did, or it is elsewhere."""
    namespace, session_id = name
    if not context.presence.missed(session_id, now_ms=context.monotonic_ms):
        return
    tx.on_undo(context.presence.give_up(session_id))
    session = tx.session(namespace, session_id)
    if session is not None and allows(session.state, SessionCause.DETACHED):
        move(tx, session, SessionCause.DETACHED, context)
