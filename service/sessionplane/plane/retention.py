"""Use cases of retention: what is old goes, in steps so small that nobody waits for them.

A session whose `compact_at_ms` has come is looked at; each look removes at most one step and says whether there is
more. The moment stays until there is no more, so what a crash interrupts is taken up again. Of a session that lives
or has ended the beginning of its log goes: what lies before the first run that is unfinished, or ended within the
window. Of a deleted one everything goes, once its time is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sessionplane.domain.errors import Checksum, Damaged
from sessionplane.domain.sessions import Session
from sessionplane.plane import logs, sessions
from sessionplane.plane.context import Context
from sessionplane.plane.sessions import SessionRef
from sessionplane.store.contract import Extent, ReadTx, Tx

NOTHING = Extent(0, 0)


class SessionName(NamedTuple):
    """One session, wherever it is."""

    namespace: str
    session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one look removed, and whether the next one may find more. A `damaged` log is left as it is."""

    removed: Extent = NOTHING
    more: bool = False
    damaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """Which log is to lose the runs that ended by a moment."""

    name: SessionName
    ended_by_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A session as it was when somebody asked to compact it, and how far back its runs may go."""

    session: Session
    compaction: Compaction


def due(tx: ReadTx, context: Context) -> list[SessionName]:
    """Collect as many sessions to look at as a sweep has steps. They come again until there is nothing more to do."""
    found = tx.sessions_to_compact(at_ms=context.judged_ms, limit=context.limits.compact_steps_max)
    return [SessionName(each.namespace, each.session_id) for each in found]


def look(tx: Tx, name: SessionName, context: Context) -> Step:
    """Do one step of what is due for a session, and plan the next look when nothing more can go."""
    session = tx.session(*name)
    if session is None or session.compact_at_ms is None or session.compact_at_ms > context.judged_ms:
        return Step()
    if session.deleted_at_ms is not None:
        return _forget(tx, session, context)
    try:
        return _compact(tx, session, context)
    except (Checksum, Damaged):
        put_off(tx, name, context)
        return Step(damaged=True)


def put_off(tx: Tx, name: SessionName, context: Context) -> None:
    """Look at a session again in a while: what keeps it from being compacted does not pass by itself."""
    tx.plan_compaction(name.session_id, context.judged_ms + context.limits.log_window_ms)


def find(tx: ReadTx, name: SessionName, _context: Context) -> Session | None:
    """Return a session that was named before, if it is still there."""
    return tx.session(*name)


def _compact(tx: Tx, session: Session, context: Context) -> Step:
    """Remove a step of what is old, or of what is too much, then plan the next look if that was all."""
    left, removed = logs.remove(tx, session, _next_cut(tx, session, context).through, context)
    cut = _next_cut(tx, left, context)
    if cut.through > left.floor_sequence:
        return Step(removed=removed, more=True)
    since_ms = cut.kept.kept_from_ms if cut.kept else None
    next_ms = None if since_ms is None else since_ms + context.limits.log_window_ms
    tx.plan_compaction(session.session_id, next_ms)
    return Step(removed=removed)


def _next_cut(tx: Tx, session: Session, context: Context) -> logs.Cut:
    if logs.is_over(logs.extent_of(session), context.limits):
        early = logs.next_cut(tx, session, context, ended_by_ms=None)
        if early.through > session.floor_sequence:
            return early
    ended_by_ms = context.judged_ms - context.limits.log_window_ms
    return logs.next_cut(tx, session, context, ended_by_ms=ended_by_ms)


def _forget(tx: Tx, session: Session, context: Context) -> Step:
    """Remove a step of a deleted session: what hangs on it, and its row in the end."""
    limits = context.limits
    rows_max = limits.compact_step_events_max
    if tx.remove_rows(session.session_id, limit=rows_max, bytes_max=limits.compact_step_bytes_max):
        return Step(more=True)
    tx.remove_session(session)
    return Step()


def begin(tx: ReadTx, namespace: str, ref: SessionRef, older_than_ms: int | None, context: Context) -> Begun:
    """Find the session to compact now; None stands for the window that the server keeps by itself.

    Raises SessionNotFound and KeyNotBound.
    """
    session = sessions.get_session(tx, namespace, ref).session
    window_ms = context.limits.log_window_ms if older_than_ms is None else older_than_ms
    name = SessionName(namespace, session.session_id)
    return Begun(session=session, compaction=Compaction(name=name, ended_by_ms=context.judged_ms - window_ms))


def compact(tx: Tx, compaction: Compaction, context: Context) -> Step:
    """Remove a step of the runs that ended by the moment. What was planned for the session stays. Raises Checksum."""
    session = tx.session(*compaction.name)
    if session is None or session.deleted_at_ms is not None:
        return Step()
    cut = logs.next_cut(tx, session, context, ended_by_ms=compaction.ended_by_ms)
    _, removed = logs.remove(tx, session, cut.through, context)
    return Step(removed=removed, more=removed.events > 0)
