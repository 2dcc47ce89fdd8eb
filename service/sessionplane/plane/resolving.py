"""Use cases that find the one session of a key: resolve and bind. The only place where a key gets its first session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sessionplane.domain.errors import FieldInvalid, KeyBound, KeyMismatch
from sessionplane.domain.sessions import Interaction, MoveReason, Resolution, Session
from sessionplane.plane import sessions
from sessionplane.plane.context import Call, Context, recall, remember
from sessionplane.plane.sessions import SessionRef, View, find, require, view, view_after
from sessionplane.store.contract import ReadTx, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveRequest:
    """Asks for the session of a key, or for one by id. `labels` and `display_name` are for a new one."""

    call: Call
    session: SessionRef
    bind_session_id: str = ""
    interaction: Interaction = Interaction.USER
    labels: Mapping[str, str] = field(default_factory=dict)
    display_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The one session, and what was done to find it."""

    view: View
    resolution: Resolution


def find_resolved(tx: ReadTx, request: ResolveRequest) -> Resolved | None:
    """Answer a resolve that needs no write: a repeat, or a session that is there. None if it needs one.

    Raises RequestIdReused, or SessionNotFound for an unknown id.
    """
    known = recall(tx, request.call)
    if known is not None:
        session = require(tx, request.call.namespace, known.session_id)
        return Resolved(view=view(tx, session), resolution=Resolution(known.detail))
    if request.bind_session_id:
        return None
    session_there = find(tx, request.call.namespace, request.session)
    if session_there is None:
        return None
    return Resolved(view=view(tx, session_there), resolution=Resolution.EXISTING)


def find_joined(tx: ReadTx, request: ResolveRequest) -> Resolved | None:
    """Answer a resolve that looked before, saw nothing and waited: if the session is there now, somebody else was
    first, or this very request was. Raises what `find_resolved` raises.
    """
    found = find_resolved(tx, request)
    if found is None or found.resolution is not Resolution.EXISTING or request.session.key is None:
        return found
    return replace(found, resolution=Resolution.JOINED)


def resolve(tx: Tx, request: ResolveRequest, context: Context) -> Resolved:
    """Find the session, or create or bind it: the only place where a key gets its session.

    Raises what `find_resolved` raises, KeyMismatch and KeyBound.
    """
    found = find_joined(tx, request)
    if found is not None:
        return found
    if request.bind_session_id:
        session, resolution = _bind(tx, request, context)
    else:
        session = sessions.create(
            tx,
            context,
            namespace=request.call.namespace,
            key=request.session.key,
            interaction=request.interaction,
            labels=request.labels,
            display_name=request.display_name,
        )
        resolution = Resolution.CREATED
    if resolution is not Resolution.EXISTING:
        remember(tx, request.call, context, session_id=session.session_id, detail=resolution)
    return Resolved(view=view_after(tx, session), resolution=resolution)


def _bind(tx: Tx, request: ResolveRequest, context: Context) -> tuple[Session, Resolution]:
    """Give the key to a session that has none."""
    key = request.session.key
    if key is None:
        raise FieldInvalid(field="bind_session_id", problem="it needs session.key, the key to bind")
    session = require(tx, request.call.namespace, request.bind_session_id)
    holder = tx.session_by_key(session.namespace, key)
    if holder is not None and holder.session_id != session.session_id:
        raise KeyBound(session_id=holder.session_id)
    if session.key is not None and session.key != key:
        raise KeyMismatch(session_id=session.session_id)
    if holder is not None:
        return session, Resolution.EXISTING
    session = sessions.save(tx, replace(session, key=key), context)
    sessions.take_key(tx, context, session, key, MoveReason.BOUND)
    return session, Resolution.BOUND
