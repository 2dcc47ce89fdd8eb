"""What use cases know of sessions: how one is named, found, shown, born, written, and moved along the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sessionplane.domain import routing
from sessionplane.domain.errors import KeyBound, KeyNotBound, SessionNotFound
from sessionplane.domain.events import Place, SessionChanged, SessionMoved
from sessionplane.domain.inputs import SHOWN_MAX, InputStage
from sessionplane.domain.keys import SessionKey
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.runs import Run, RunState
from sessionplane.domain.sessions import (
    Interaction,
    MoveReason,
    Session,
    SessionCause,
    SessionState,
    Visibility,
    compact_at_ms,
    due_at_ms,
    next_state,
)
from sessionplane.plane.context import Context
from sessionplane.store.contract import ReadTx, Tx

SESSION_ID = "ses_"

QUIETING = frozenset({SessionCause.DETACHED, SessionCause.SUSPEND_EXPIRED, SessionCause.RESUMED})
"""The causes that begin a time in which nothing may happen, as an end does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRef:
    """One session, by id or by key."""

    session_id: str = ""
    key: SessionKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run as an answer shows it: with its session, its place in line (0 unless it is queued), and the ids of the
    inputs that wait for it and of the newest that it has taken.
    """

    run: Run
    session: Session
    queue_position: int = 0
    waiting_input_ids: Sequence[str] = ()
    taken_input_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A session as an answer shows it: the row, its active run, the log's head, and what StartRun would do."""

    session: Session
    active_run: RunView | None
    head: Place
    route: Action


def view_run(tx: ReadTx, run: Run, session: Session) -> RunView:
    """Show a run of the session, both as they were read in this very transaction."""
    if run.state is RunState.QUEUED:
        return RunView(run=run, session=session, queue_position=tx.queue_position(run))
    if not run.injected:
        return RunView(run=run, session=session)
    return RunView(
        run=run,
        session=session,
        waiting_input_ids=tx.input_ids(run, InputStage.RECORDED, limit=SHOWN_MAX),
        taken_input_ids=tx.input_ids(run, InputStage.TAKEN, limit=SHOWN_MAX),
    )


def view(tx: ReadTx, session: Session) -> View:
    """Show a session that was read in this very transaction, and not written since."""
    run = tx.run(session.namespace, session.active_run_id) if session.active_run_id else None
    return View(
        session=session,
        active_run=view_run(tx, run, session) if run is not None else None,
        head=Place(session.head_sequence, session.head_hash),
        route=routing.route(Verb.START_RUN, session),
    )


def view_after(tx: ReadTx, session: Session) -> View:
    """Show a session that was written in this transaction, as its row is now."""
    return view(tx, require_row(tx, session.namespace, session.session_id))


def find(tx: ReadTx, namespace: str, ref: SessionRef) -> Session | None:
    """Return the session that the reference names; None if its key is not bound.

    Raises SessionNotFound for an unknown id, and for a deleted one with the time.
    """
    if ref.key is not None:
        return tx.session_by_key(namespace, ref.key)
    return require(tx, namespace, ref.session_id)


def require(tx: ReadTx, namespace: str, session_id: str) -> Session:
    """Return the session of that id. Raises SessionNotFound, also if it was deleted, with the time."""
    session = require_row(tx, namespace, session_id)
    if session.deleted_at_ms is not None:
        raise gone(session)
    return session


def gone(session: Session) -> SessionNotFound:
    """Return what whoever names a deleted session is told: since when it is gone."""
    if session.deleted_at_ms is None:
        return SessionNotFound(session_id=session.session_id)
    deleted_at = datetime.fromtimestamp(session.deleted_at_ms / 1000, UTC)
    return SessionNotFound(session_id=session.session_id, deleted_at=deleted_at.isoformat(timespec="seconds"))


def require_row(tx: ReadTx, namespace: str, session_id: str) -> Session:
    """Return the session of that id, also while it is deleted: what is known by a run's id outlives it for a while.

    Raises SessionNotFound.
    """
    session = tx.session(namespace, session_id)
    if session is None:
        raise SessionNotFound(session_id=session_id)
    return session


def require_named(tx: ReadTx, namespace: str, ref: SessionRef) -> Session:
    """Return the session that the reference names. Raises SessionNotFound or KeyNotBound."""
    session = find(tx, namespace, ref)
    if session is None:
        raise KeyNotBound(canonical_key=ref.key)
    return session


def get_session(tx: ReadTx, namespace: str, ref: SessionRef) -> View:
    """Read a session. Raises SessionNotFound or KeyNotBound."""
    return view(tx, require_named(tx, namespace, ref))


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """When a session that comes from elsewhere began, changed last and was last used by a person. None is later than
    now.
    """

    started_at_ms: int
    updated_at_ms: int
    last_interaction_at_ms: int | None


def create(
    tx: Tx,
    context: Context,
    *,
    namespace: str,
    key: SessionKey | None,
    interaction: Interaction,
    past: Past | None = None,
    labels: Mapping[str, str] | None = None,
    display_name: str = "",
    visibility: Visibility = Visibility.VISIBLE,
    reason: MoveReason = MoveReason.CREATED,
    previous_session_id: str = "",
) -> Session:
    """Mint a session: the one place where a session id comes from. Its key has no pointer yet; `previous_session_id`
    had it before. One with a `past` keeps its times.
    """
    now_ms = context.now_ms
    past = past or Past(
        started_at_ms=now_ms,
        updated_at_ms=now_ms,
        last_interaction_at_ms=now_ms if interaction is Interaction.USER else None,
    )
    session = Session(
        session_id=context.new_id(SESSION_ID),
        namespace=namespace,
        key=key,
        state=SessionState.CREATED,
        labels=labels or {},
        display_name=display_name,
        visibility=visibility,
        created_at_ms=now_ms,
        started_at_ms=past.started_at_ms,
        last_interaction_at_ms=past.last_interaction_at_ms,
        updated_at_ms=past.updated_at_ms,
        quiet_since_ms=context.judged_ms,
        previous_session_id=previous_session_id,
    )
    session = _with_due(session, context)
    tx.add_session(session)
    born = SessionChanged(
        from_state=None, to_state=session.state, cause=SessionCause.CREATED, generation=session.generation
    )
    tx.append(session.session_id, born, at_ms=context.now_ms)
    if key is not None:
        take_key(tx, context, session, key, reason, other_session_id=previous_session_id)
    return session


def take_key(
    tx: Tx,
    context: Context,
    session: Session,
    key: SessionKey,
    reason: MoveReason,
    *,
    other_session_id: str = "",
) -> None:
    """Point the key, which nobody holds, at the session, and say so in its log with whoever held it before."""
    holder = tx.bind_key(session.namespace, key, session.session_id)
    if holder != session.session_id:
        raise KeyBound(session_id=holder)
    moved = SessionMoved(key=key, reason=reason, other_session_id=other_session_id, holds=True)
    tx.append(session.session_id, moved, at_ms=context.now_ms)


def save(tx: Tx, session: Session, context: Context) -> Session:
    """Write a session with the next moments at which the server acts on it and at which retention looks at it: nobody
    writes one otherwise. Returns it as written.
    """
    session = _with_due(replace(session, updated_at_ms=context.now_ms), context)
    tx.save_session(session)
    return session


def touched(session: Session, interaction: Interaction, context: Context) -> Session:
    """Return the session as an interaction leaves it, not yet written: a person keeps it alive and makes a hidden one
    visible, machinery does neither.
    """
    if interaction is not Interaction.USER:
        return session
    return replace(session, last_interaction_at_ms=context.now_ms, visibility=Visibility.VISIBLE)


def keep_quiet(tx: Tx, session: Session, context: Context) -> None:
    """Note that somebody was here until now: nothing that anybody is shown, but the session comes due later."""
    postpone(tx, replace(session, quiet_since_ms=context.judged_ms), context)


def postpone(tx: Tx, session: Session, context: Context) -> None:
    """Write when the session is due by what its row says now: an interaction that was noted lazily moves it."""
    tx.postpone_session(_with_due(session, context))


def _with_due(session: Session, context: Context) -> Session:
    due_ms = due_at_ms(session, judged_ms=context.judged_ms, limits=context.limits)
    compact_ms = compact_at_ms(session, judged_ms=context.judged_ms, limits=context.limits)
    if (due_ms, compact_ms) == (session.due_at_ms, session.compact_at_ms):
        return session
    return replace(session, due_at_ms=due_ms, compact_at_ms=compact_ms)


def move(
    tx: Tx, session: Session, cause: SessionCause, context: Context, *, deadline_at_ms: int | None = None
) -> Session:
    """Move the session's state along the table, write it and say so in its log. A state that ends by itself is given
    its deadline.

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
        quiet_since_ms=context.judged_ms if cause in QUIETING or ended else session.quiet_since_ms,
        deadline_at_ms=deadline_at_ms,
    )
    moved = save(tx, moved, context)
    change = SessionChanged(
        from_state=session.state, to_state=target, cause=cause, generation=moved.generation
    )
    tx.append(session.session_id, change, at_ms=context.now_ms)
    return moved
