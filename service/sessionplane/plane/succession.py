"""Use cases by which a key leaves its session since somebody says so: reset, with a successor, and delete, without."""

from __future__ import annotations

from dataclasses import dataclass

from sessionplane.domain import routing
from sessionplane.domain.errors import KeyNeverBound, SessionEnded
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.sessions import Interaction, MoveReason, Session
from sessionplane.plane import pointers, sessions
from sessionplane.plane.context import Call, Context, recall, remember
from sessionplane.plane.sessions import SessionRef, View, find, require, view_after
from sessionplane.store.contract import ReadTx, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetRequest:
    """Asks for a new session in the place of the one that is named, which must be the expected one if one is."""

    call: Call
    session: SessionRef
    expected_session_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRequest:
    """Asks that a session be gone."""

    call: Call
    session: SessionRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """Whether this call deleted a session, which one is gone, and since when; "" and None for none that is known."""

    deleted: bool
    session_id: str = ""
    deleted_at_ms: int | None = None


def reset(tx: Tx, request: ResetRequest, context: Context) -> View:
    """Move the key of a session to a new one, or create the first one of a key. Returns the new session.

    Nobody knows whether a person or a timer asks, so it is no interaction, and a hidden session stays so. Raises
    RequestIdReused, SessionNotFound, SessionReplaced, SessionEnded for a final session, and KeyNeverBound.
    """
    known = recall(tx, request.call)
    if known is not None:
        return view_after(tx, require(tx, request.call.namespace, known.session_id))
    old = find(tx, request.call.namespace, request.session)
    pointers.expect(old, request.expected_session_id)
    new = _renewed(tx, old, request, context)
    remember(tx, request.call, context, session_id=new.session_id)
    return view_after(tx, new)


def _renewed(tx: Tx, old: Session | None, request: ResetRequest, context: Context) -> Session:
    if old is None:
        key, namespace = request.session.key, request.call.namespace
        return sessions.create(tx, context, namespace=namespace, key=key, interaction=Interaction.SYSTEM)
    if routing.route(Verb.RESET, old) is Action.REFUSE:
        raise SessionEnded(session_id=old.session_id, successor=old.superseded_by)
    if old.key is None:
        raise KeyNeverBound(session_id=old.session_id)
    return pointers.hand_over(
        tx,
        old,
        MoveReason.RESET,
        context,
        interaction=Interaction.SYSTEM,
        visibility=old.visibility,
    )


def delete(tx: Tx, request: DeleteRequest, context: Context) -> Deleted:
    """Delete a session; what is not there is as it should be. Raises RequestIdReused."""
    namespace = request.call.namespace
    known = recall(tx, request.call)
    if known is not None:
        row = tx.session(namespace, known.session_id)
        gone_at_ms = row.deleted_at_ms if row is not None else None
        return Deleted(deleted=True, session_id=known.session_id, deleted_at_ms=gone_at_ms)
    session = _there(tx, request)
    if session is not None and session.deleted_at_ms is not None:
        return Deleted(deleted=False, session_id=session.session_id, deleted_at_ms=session.deleted_at_ms)
    if session is None or routing.route(Verb.DELETE, session) is Action.NO_OP:
        return Deleted(deleted=False)
    session = pointers.delete(tx, session, context)
    remember(tx, request.call, context, session_id=session.session_id)
    return Deleted(deleted=True, session_id=session.session_id, deleted_at_ms=session.deleted_at_ms)


def _there(tx: ReadTx, request: DeleteRequest) -> Session | None:
    """Return the session that is named, also if it is deleted; None for a key that nobody holds or an unknown id."""
    ref, namespace = request.session, request.call.namespace
    return tx.session(namespace, ref.session_id) if ref.key is None else tx.session_by_key(namespace, ref.key)
