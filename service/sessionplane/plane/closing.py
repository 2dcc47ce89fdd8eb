"""Use case of closing: a session ends at once, or as soon as its claimed run has had its time."""

from __future__ import annotations

from dataclasses import dataclass

from sessionplane.domain import routing
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.runs import CLAIMED
from sessionplane.domain.sessions import SessionCause
from sessionplane.plane import lane, sessions, stopping
from sessionplane.plane.context import Call, Context, recall, remember
from sessionplane.plane.sessions import SessionRef, View
from sessionplane.store.contract import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRequest:
    """Asks that a session end. A claimed run may go on for `timeout_ms`; `reason` is for its runner."""

    call: Call
    session: SessionRef
    timeout_ms: int
    reason: str = ""


def close(tx: Tx, request: CloseRequest, context: Context) -> View:
    """Close a session: runs without a runner end now, a claimed one may finish by the deadline, as the routing table
    says. One that closes or has ended stays as it is, with the time that it has.

    Raises RequestIdReused, SessionNotFound and KeyNotBound.
    """
    namespace = request.call.namespace
    known = recall(tx, request.call)
    if known is not None:
        return sessions.view(tx, sessions.require(tx, namespace, known.session_id))
    session = sessions.require_named(tx, namespace, request.session)
    action = routing.route(Verb.CLOSE, session)
    if action is Action.NO_OP:
        return sessions.view(tx, session)
    run = tx.run(namespace, session.active_run_id) if session.active_run_id else None
    if action is Action.CLOSE and run is not None and run.state in CLAIMED:
        by_ms = context.judged_ms + request.timeout_ms
        session = lane.reject_waiting(tx, session, context)
        session = sessions.move(tx, session, SessionCause.CLOSE_REQUESTED, context, deadline_at_ms=by_ms)
        stopping.ask_by(tx, run, by_ms, request.reason, context)
    else:
        session = lane.end_all(tx, session, SessionCause.CLOSED, context)
    remember(tx, request.call, context, session_id=session.session_id)
    return sessions.view_after(tx, session)
