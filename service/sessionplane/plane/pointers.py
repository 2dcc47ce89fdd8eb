"""How a key leaves a session: the pointer moves here and nowhere else, always with an event that says why and to whom.

A session that lost its key is final: it stays readable by its id and never runs again. Its log ends with its runs'
terminals, its change to ENDED, and `session_moved`, in this order and in the transaction of whatever moved the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sessionplane.domain.errors import SessionGone, SessionReplaced
from sessionplane.domain.events import SessionMoved
from sessionplane.domain.keys import SessionKey
from sessionplane.domain.merging import Rank, rank
from sessionplane.domain.sessions import (
    Interaction,
    MoveReason,
    Session,
    SessionCause,
    Visibility,
    allows,
    check_labels,
)
from sessionplane.plane import lane, sessions
from sessionplane.plane.context import Context
from sessionplane.plane.sessions import Past
from sessionplane.store.contract import Tx


def expect(holder: Session | None, session_id: str) -> None:
    """Raise SessionReplaced, with who it is, unless the expected session holds the key; "" expects nobody."""
    if session_id and holder is None:
        raise SessionGone(current="")
    if session_id and holder is not None and holder.session_id != session_id:
        raise SessionReplaced(current=holder.session_id)


def hand_over(
    tx: Tx,
    old: Session,
    reason: MoveReason,
    context: Context,
    *,
    interaction: Interaction = Interaction.USER,
    visibility: Visibility = Visibility.VISIBLE,
    labels: Mapping[str, str] | None = None,
    display_name: str = "",
) -> Session:
    """Move the key from the session that holds it to a new one, which is returned as its row is now. The labels and
    the name of the old one are carried over; those that are given win.

    Raises LimitExceeded if together they are too many: each move of a key might add some.
    """
    together = {**old.labels, **(labels or {})}
    if labels:
        check_labels(together, context.limits, field="labels")
    new = sessions.create(
        tx,
        context,
        namespace=old.namespace,
        key=_release(tx, old) or old.key,
        interaction=interaction,
        labels=together,
        display_name=display_name or old.display_name,
        visibility=visibility,
        reason=reason,
        previous_session_id=old.session_id,
    )
    retire(tx, old, reason, context, successor_id=new.session_id)
    return sessions.require(tx, new.namespace, new.session_id)


def give_way(
    tx: Tx,
    old: Session,
    key: SessionKey,
    context: Context,
    *,
    past: Past,
    labels: Mapping[str, str],
    display_name: str,
) -> Session:
    """Move the key from the session that holds it to one that comes from elsewhere, which is returned. Nothing of the
    old one is carried over: the other was always there, and the two have met.
    """
    _release(tx, old)
    new = sessions.create(
        tx,
        context,
        namespace=old.namespace,
        key=key,
        interaction=Interaction.SYSTEM,
        past=past,
        labels=labels,
        display_name=display_name,
        reason=MoveReason.MERGED,
        previous_session_id=old.session_id,
    )
    retire(tx, old, MoveReason.MERGED, context, successor_id=new.session_id)
    return new


def delete(tx: Tx, session: Session, context: Context) -> Session:
    """Hide a session and free its key. Its rows stay for a while, for whoever knows a run's id."""
    held = _release(tx, session)
    session = _end(tx, session, SessionCause.DELETED, context)
    session = replace(session, final=True, deleted_at_ms=context.judged_ms)
    session = sessions.save(tx, session, context)
    lost = SessionMoved(key=held, reason=MoveReason.DELETED, holds=False)
    tx.append(session.session_id, lost, at_ms=context.now_ms)
    return session


def retire(tx: Tx, session: Session, reason: MoveReason, context: Context, *, successor_id: str) -> Session:
    """Make a session final whose key the successor has taken."""
    session = _end(tx, session, SessionCause.SUPERSEDED, context)
    session = sessions.save(tx, replace(session, final=True, superseded_by=successor_id), context)
    lost = SessionMoved(key=session.key, reason=reason, other_session_id=successor_id, holds=False)
    tx.append(session.session_id, lost, at_ms=context.now_ms)
    return session


def rename(
    tx: Tx,
    session: Session,
    key: SessionKey,
    context: Context,
    *,
    reason: MoveReason = MoveReason.RENAMED,
    other_session_id: str = "",
) -> None:
    """Give a session that was released from its key another one, which nobody holds. That is no doing of the
    session's: its times stay as they are, so that it is no more recent than before where it meets another one.
    """
    tx.bind_key(session.namespace, key, session.session_id)
    tx.save_session(replace(session, key=key))
    gained = SessionMoved(
        key=key, reason=reason, other_session_id=other_session_id, holds=True, previous_key=session.key
    )
    tx.append(session.session_id, gained, at_ms=context.now_ms)


def rank_of(session: Session, spelling: str, key: SessionKey) -> Rank:
    """Rank a session's claim to the key that this spelling of its own now means."""
    return rank(
        updated_at_ms=session.updated_at_ms,
        was_canonical=spelling == key.text,
        since_ms=min(session.created_at_ms, session.started_at_ms),
    )


def _release(tx: Tx, session: Session) -> SessionKey | None:
    """Take the pointer from the session; return the key with the pointer's spelling, None if it had none."""
    if session.key is None:
        return None
    return tx.release_key(session.namespace, session.key, session.session_id)


def _end(tx: Tx, session: Session, cause: SessionCause, context: Context) -> Session:
    """End the session with everything in it, unless it has ended before."""
    return lane.end_all(tx, session, cause, context) if allows(session.state, cause) else session
