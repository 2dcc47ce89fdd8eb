"""Use cases of sessions: find, resolve, bind, attach, detach; and the one place where a session's state moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sessionplane.domain import routing
from sessionplane.domain.errors import (
    FieldInvalid,
    KeyBound,
    KeyMismatch,
    KeyNotBound,
    SessionNotFound,
)
from sessionplane.domain.events import Place, SessionChanged, SessionMoved
from sessionplane.domain.keys import SessionKey
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.runs import Run
from sessionplane.domain.sessions import (
    Interaction,
    MoveReason,
    Resolution,
    Session,
    SessionCause,
    SessionState,
    allows,
    next_state,
)
from sessionplane.plane.context import Call, Context, recall, remember
from sessionplane.store.contract import ReadTx, Tx

SESSION_ID = "ses_"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRef:
    """One session, by id or by key."""

    session_id: str = ""
    key: SessionKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A session as an answer shows it: the row, its active run, the log's head, and what StartRun would do."""

    session: Session
    active_run: Run | None
    head: Place
    route: Action


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


def view(tx: ReadTx, session: Session) -> View:
    """Show a session that was read in this very transaction, and not written since."""
    run = tx.run(session.namespace, session.active_run_id) if session.active_run_id else None
    head = Place(session.head_sequence, session.head_hash)
    return View(session=session, active_run=run, head=head, route=routing.route(Verb.START_RUN, session))


def view_after(tx: ReadTx, session: Session) -> View:
    """Show a session that was written in this transaction, as its row is now."""
    return view(tx, require(tx, session.namespace, session.session_id))


def find(tx: ReadTx, namespace: str, ref: SessionRef) -> Session | None:
    """Return the session that the reference names; None if its key is not bound.

    Raises SessionNotFound for an unknown id.
    """
    if ref.key is not None:
        return tx.session_by_key(namespace, ref.key)
    return require(tx, namespace, ref.session_id)


def require(tx: ReadTx, namespace: str, session_id: str) -> Session:
    """Return the session of that id. Raises SessionNotFound."""
    session = tx.session(namespace, session_id)
    if session is None:
        raise SessionNotFound(session_id=session_id)
    return session


def get_session(tx: ReadTx, namespace: str, ref: SessionRef) -> View:
    """Read a session. Raises SessionNotFound or KeyNotBound."""
    session = find(tx, namespace, ref)
    if session is None:
        raise KeyNotBound(canonical_key=ref.key)
    return view(tx, session)


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
        session = create(
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


def create(
    tx: Tx,
    context: Context,
    *,
    namespace: str,
    key: SessionKey | None,
    interaction: Interaction,
    labels: Mapping[str, str] | None = None,
    display_name: str = "",
) -> Session:
    """Mint a session: the one place where a session id comes from."""
    session = Session(
        session_id=context.new_id(SESSION_ID),
        namespace=namespace,
        key=key,
        state=SessionState.CREATED,
        labels=labels or {},
        display_name=display_name,
        created_at_ms=context.now_ms,
        started_at_ms=context.now_ms,
        last_interaction_at_ms=context.now_ms if interaction is Interaction.USER else None,
        updated_at_ms=context.now_ms,
    )
    tx.add_session(session)
    born = SessionChanged(
        from_state=None, to_state=session.state, cause=SessionCause.CREATED, generation=session.generation
    )
    tx.append(session.session_id, born, at_ms=context.now_ms)
    if key is not None:
        _take_key(tx, context, session, key, MoveReason.CREATED)
    return session


def _take_key(tx: Tx, context: Context, session: Session, key: SessionKey, reason: MoveReason) -> None:
    """Point the key at the session, for the first time, and say so in its log."""
    holder = tx.bind_key(session.namespace, key, session.session_id)
    if holder != session.session_id:
        raise KeyBound(session_id=holder)
    tx.append(session.session_id, SessionMoved(key=key, reason=reason, holds=True), at_ms=context.now_ms)


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
    session = replace(session, key=key, updated_at_ms=context.now_ms)
    tx.save_session(session)
    _take_key(tx, context, session, key, MoveReason.BOUND)
    return session, Resolution.BOUND


def move(tx: Tx, session: Session, cause: SessionCause, context: Context) -> Session:
    """Move the session's state along the table, write it and say so in its log.

    Raises InvalidTransition if the cause leads nowhere from here; nothing was changed then.
    """
    target = next_state(session.state, cause)
    ended = target is SessionState.ENDED
    resumed = cause is SessionCause.RESUMED
    moved = replace(
        session,
        state=target,
        generation=session.generation + resumed,
        started_at_ms=context.now_ms if resumed else session.started_at_ms,
        ended_at_ms=context.now_ms if ended else None,
        end_reason=cause if ended else None,
        updated_at_ms=context.now_ms,
    )
    tx.save_session(moved)
    change = SessionChanged(
        from_state=session.state, to_state=target, cause=cause, generation=moved.generation
    )
    tx.append(session.session_id, change, at_ms=context.now_ms)
    return moved


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
