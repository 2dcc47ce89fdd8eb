"""The room in a session's log: which events may go, and who is refused when none may.

A log loses its beginning and never anything else. Runs that are under way keep all of their events, and so what lies
behind the first of them. Retention (`retention`) lets the rest go by its age; here it goes early, to keep a log within
its bounds.

Whoever makes a log longer of his own accord (publishes, starts a run, asks to stop what does not run) passes
`keep_bounds` in the transaction in which the events were appended: as much as was added goes from the beginning, or
all of it is refused. Whatever ends something is never asked: what was accepted before must be able to end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from sessionplane.domain.errors import LogFull
from sessionplane.domain.limits import Limits
from sessionplane.domain.sessions import Session
from sessionplane.plane.context import Context
from sessionplane.store.contract import Extent, Kept, ReadTx, Topic, Tx

LARGE_LOG = "large_log"
"""The topic of a log that has grown so large that operators are told."""


class Cut(NamedTuple):
    """Up to where one step may remove the beginning of a log, and the run that stops it there, if one does."""

    through: int
    kept: Kept | None


def next_cut(tx: ReadTx, session: Session, context: Context, *, ended_by_ms: int | None) -> Cut:
    """Look how far the next step may go.

    Runs that ended by the moment may go, with what lies before them and between; without a moment every finished run,
    and all that lies before the first one under way.
    """
    floor = session.floor_sequence
    reach = min(floor + context.limits.compact_step_events_max, session.head_sequence)
    kept = tx.first_kept(session.session_id, after=floor, through=reach, ended_after_ms=ended_by_ms)
    if kept is not None:
        alone = ended_by_ms is not None and not floor and _is_first(tx, session, kept)
        return Cut(floor if alone else kept.first_sequence - 1, kept)
    if ended_by_ms is None or tx.has_run_behind(session.session_id, reach):
        return Cut(reach, None)
    return Cut(max(floor, min(reach, tx.last_terminal(session.session_id))), None)


def _is_first(tx: ReadTx, session: Session, kept: Kept) -> bool:
    """Say whether no run began before it: then what lies before it is the session's own, and stays as long."""
    before = kept.first_sequence - 1
    return tx.first_kept(session.session_id, after=0, through=before, ended_after_ms=-1) is None


def remove(tx: Tx, session: Session, through: int, context: Context) -> tuple[Session, Extent]:
    """Remove the beginning of a log, as much as a step may; returns the session as it is then. Raises Checksum."""
    bytes_max = context.limits.compact_step_bytes_max
    gone = tx.remove_events(session.session_id, through=through, bytes_max=bytes_max)
    left = replace(
        session,
        floor_sequence=session.floor_sequence + gone.events,
        floor_log_bytes=session.floor_log_bytes + gone.bytes,
    )
    return left, gone


def extent_of(session: Session) -> Extent:
    """Return how much a session's log holds, by its row."""
    return Extent(session.log_events, session.log_size)


def is_over(log: Extent, limits: Limits) -> bool:
    """Say whether a log is longer than it may be."""
    return log.events > limits.log_events_max or log.bytes > limits.log_bytes_max


def keep_bounds(tx: Tx, before: Session, context: Context, *, reserve: bool = False) -> None:
    """Make room for what was appended since the session was read, or refuse it. With `reserve` it may go a little
    beyond the bounds when nothing can make room: that is for what is small and rare.

    Raises LogFull.
    """
    limits, was = context.limits, extent_of(before)
    now = Extent(
        was.events + tx.head(before.session_id).sequence - before.head_sequence,
        was.bytes + tx.log_bytes(before.session_id) - before.log_bytes,
    )
    if _is_large(now, limits) and not _is_large(was, limits):
        tx.wake(Topic(LARGE_LOG, before.namespace, before.session_id))
    if not is_over(now, limits):
        return
    now = _make_room(tx, before, now, context)
    if not is_over(now, limits) or _no_longer(now, was):
        return
    if not reserve or _is_beyond_reserve(now, limits):
        full = now.events > limits.log_events_max
        bound = f"{limits.log_events_max} events" if full else f"{limits.log_bytes_max} bytes"
        raise LogFull(session_id=before.session_id, limit=bound)


def _make_room(tx: Tx, before: Session, now: Extent, context: Context) -> Extent:
    """Remove from the beginning until the log is within its bounds, or at least no longer than it was: that much is
    bounded by what was added, however small a bound was made since. Returns how much is left.
    """
    was = extent_of(before)
    while is_over(now, context.limits) and not _no_longer(now, was):
        # What this very transaction appended is not looked at: some of it has no row of its run yet.
        through = next_cut(tx, before, context, ended_by_ms=None).through
        before, gone = remove(tx, before, through, context)
        if not gone.events:
            break
        now = Extent(now.events - gone.events, now.bytes - gone.bytes)
    return now


def _no_longer(now: Extent, was: Extent) -> bool:
    return now.events <= was.events and now.bytes <= was.bytes


def _is_large(log: Extent, limits: Limits) -> bool:
    """Say whether a log is one of which operators are told."""
    return log.events >= limits.log_large_events_min or log.bytes >= limits.log_large_bytes_min


def _is_beyond_reserve(log: Extent, limits: Limits) -> bool:
    return (
        log.events > limits.log_events_max + limits.log_reserve_events_max
        or log.bytes > limits.log_bytes_max + limits.log_reserve_bytes_max
    )
