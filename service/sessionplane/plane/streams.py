"""Use cases of streams: what a subscriber is shown first, where it begins, and what it waits for.

Opening a stream resolves, attaches and takes the snapshot in one transaction, so that nothing can happen between
them. What follows is reading the log from the place found here: that is `live`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sessionplane.domain import routing
from sessionplane.domain.errors import (
    Checksum,
    FieldInvalid,
    KeyNotBound,
    LogBehindToken,
    PageTokenInvalid,
    RunNotFound,
    StoreReplaced,
    TokenCompacted,
    TokenInvalid,
)
from sessionplane.domain.events import Entry, Place
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.runs import Run
from sessionplane.domain.sessions import Resolution, Session, SessionState
from sessionplane.domain.streams import EVERYTHING, ClosingReason, Filter, Plan, Presence, Start, Until
from sessionplane.domain.tokens import ResumeToken, compacted, stamp
from sessionplane.plane import inputs, lifecycle, resolving, sessions
from sessionplane.plane.context import Context
from sessionplane.plane.resolving import ResolveRequest
from sessionplane.plane.sessions import RunView, SessionRef, View
from sessionplane.store import codec
from sessionplane.store.contract import ReadTx, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """Follows a session, a run, or whatever a resolve finds: exactly one of the three."""

    namespace: str
    session: SessionRef | None = None
    run_id: str = ""
    resolve: ResolveRequest | None = None
    token: ResumeToken | None = None
    start: Start | None = None
    until: Until | None = None
    until_run_id: str = ""
    filter: Filter = EVERYTHING
    presence: Presence = Presence.ATTACHED
    subscriber_name: str = ""

    @property
    def size(self) -> int:
        """How many bytes it keeps while it waits for the writer, about."""
        return self.resolve.size if self.resolve is not None else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a stream shows first, and the plan by which it goes on. `run` is the run that is meant, if any;
    `attached` says whether the stream counts as somebody being there.
    """

    view: View
    run: RunView | None
    resumed: bool
    resolution: Resolution | None
    attached: bool
    plan: Plan


def open_stream(tx: Tx, request: StreamRequest, context: Context) -> Opening:
    """Find, attach and take the snapshot.

    Raises SessionNotFound, KeyNotBound, RunNotFound, what `resolve` raises, and what the token raises:
    TokenInvalid, StoreReplaced, TokenCompacted, LogBehindToken, Checksum.
    """
    session, resolution, meant = _find(tx, request, context)
    begin = None if request.token is None else place_of(tx, session, request.token)
    lane = _lane(tx, session, request)
    action = routing.route(Verb.ATTACH, session)
    attached = request.presence is Presence.ATTACHED and action is not Action.REPLAY
    if attached:
        session = lifecycle.attach(tx, session, context)
    opening = _opening(tx, request, sessions.view_after(tx, session), begin, lane, meant)
    return replace(opening, resolution=resolution, attached=attached)


def find_target(tx: ReadTx, request: StreamRequest, *, stale: Callable[[Session], bool]) -> Session | None:
    """Return the session that a stream would follow now; None if it would get a new one. Raises what opening it raises
    for a target that is not there.
    """
    if request.resolve is None or request.token is not None:
        return _named(tx, request)
    return resolving.look_who_stays(tx, request.resolve, stale=stale)


def observe_stream(tx: ReadTx, request: StreamRequest) -> Opening:
    """Take the snapshot for a stream that only looks on and resolves nothing. Raises what `open_stream` raises."""
    session = _named(tx, request)
    begin = None if request.token is None else place_of(tx, session, request.token)
    return _opening(tx, request, sessions.view(tx, session), begin, _lane(tx, session, request))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """A page of a log: what passed the filter, the place up to which it was read, and whether more follows."""

    session_id: str
    entries: list[Entry]
    through: Place
    more: bool


def list_events(
    tx: ReadTx,
    namespace: str,
    ref: SessionRef,
    *,
    resumed: ResumeToken | None,
    after: tuple[int, str] | None,
    wanted: Filter,
    limit: int,
    bytes_max: int,
) -> LogPage:
    """Read a page of a log: behind the page before, a sequence and its session's id; behind a resume token; or from
    the oldest event.

    Raises SessionNotFound, KeyNotBound, PageTokenInvalid, also if the key has moved to another session since, and what
    a resume token raises.
    """
    request = StreamRequest(namespace=namespace, session=ref, token=resumed)
    session = _named(tx, request)
    begin = place_of(tx, session, resumed) if resumed else _floor(session)
    if after is not None:
        begin = _page_end(tx, session, *after)
    entries = tx.entries(session.session_id, after=begin, limit=limit, bytes_max=bytes_max)
    through = Place(entries[-1].sequence, entries[-1].chain) if entries else begin
    return LogPage(
        session_id=session.session_id,
        entries=[entry for entry in entries if wanted.passes(entry, codec.custom_type)],
        through=through,
        more=through.sequence < session.head_sequence,
    )


def _page_end(tx: ReadTx, session: Session, sequence: int, session_id: str) -> Place:
    """Return the place at which a page of the session's log ended."""
    if session_id != session.session_id:
        raise PageTokenInvalid
    if sequence < session.floor_sequence:
        raise _below_the_floor(tx, session)
    place = tx.place(session.session_id, sequence)
    if place is None:
        raise PageTokenInvalid
    return place


def place_of(tx: ReadTx, session: Session, token: ResumeToken) -> Place:
    """Return the place that a token of this session names, after making sure that the log still is the one it saw.

    Raises TokenCompacted, LogBehindToken and Checksum.
    """
    if token.sequence > session.head_sequence:
        raise LogBehindToken(session_id=session.session_id, head=session.head_sequence, token=token.sequence)
    if token.sequence < session.floor_sequence:
        raise _below_the_floor(tx, session)
    place = tx.place(session.session_id, token.sequence)
    if place is None or stamp(place.chain) != token.chain:
        raise Checksum(session_id=session.session_id, sequence=token.sequence)
    return place


def _floor(session: Session) -> Place:
    return Place(session.floor_sequence, session.floor_hash)


def _below_the_floor(tx: ReadTx, session: Session) -> TokenCompacted:
    return compacted(tx.store_id, session.session_id, _floor(session))


def _find(tx: Tx, request: StreamRequest, context: Context) -> tuple[Session, Resolution | None, Run | None]:
    """Return the session that is meant, what was done to find it, and the run of a resolve. With a token, key and
    resolve only name: nothing is created, started or moved.
    """
    asked = request.resolve
    if asked is None or request.token is not None:
        session = _named(tx, request)
        run_id = asked.run.run_id if asked is not None and asked.run is not None else ""
        run = inputs.run_named(tx, request.namespace, run_id) if run_id else None
        return session, None, run if run is not None and run.session_id == session.session_id else None
    resolved = resolving.resolve(tx, asked, context)
    return resolved.view.session, resolved.resolution, resolved.started.run if resolved.started else None


def _named(tx: ReadTx, request: StreamRequest) -> Session:
    """Return the session that the target names, or the token's if that is the one or held the key."""
    if request.token is None:
        return _target(tx, request)
    if request.token.store_id != tx.store_id:
        raise StoreReplaced(store_epoch=tx.store_id)
    # A run outlives its session for a while, and so does a stream of it.
    require = sessions.require_row if request.run_id else sessions.require
    session = require(tx, request.namespace, request.token.session_id)
    ref = request.resolve.session if request.resolve else request.session
    if ref is not None:
        fits = session.key == ref.key if ref.key is not None else session.session_id == ref.session_id
    else:
        fits = _target(tx, request).session_id == session.session_id
    if not fits:
        raise TokenInvalid(problem="it is of another session")
    return session


def _target(tx: ReadTx, request: StreamRequest) -> Session:
    """Return the session of a target without a token."""
    ref = request.session or (request.resolve.session if request.resolve else None)
    if ref is None:
        run = inputs.run_named(tx, request.namespace, request.run_id)
        if run is None:
            raise RunNotFound(run_id=request.run_id)
        return sessions.require_row(tx, request.namespace, run.session_id)
    session = sessions.find(tx, request.namespace, ref)
    if session is None:
        raise KeyNotBound(canonical_key=ref.key)
    return session


def _lane(tx: ReadTx, session: Session, request: StreamRequest) -> Run | None:
    """Return the run that was in the lane where the stream begins: at its token, or now."""
    if request.token is not None:
        return tx.lane_at(session.session_id, request.token.sequence)
    return tx.run(session.namespace, session.active_run_id) if session.active_run_id else None


def _opening(
    tx: ReadTx,
    request: StreamRequest,
    view: View,
    resumed_at: Place | None,
    lane: Run | None,
    meant: Run | None = None,
) -> Opening:
    """Work out where the stream begins and what it waits for; `meant` is the run of its resolve."""
    _check_target(tx, request)
    if view.session.deleted_at_ms is not None:
        # What happened in it is hidden; how its runs ended is not, wherever a stream of one would begin.
        request = replace(request, start=None)
    named = request.until_run_id or request.run_id or request.filter.run_id
    run = inputs.run_named(tx, request.namespace, named) if named else meant
    if named and (run is None or run.session_id != view.session.session_id):
        raise RunNotFound(run_id=named)
    # Nothing follows a run's terminal: a stream of one run waits for it unless it says otherwise.
    until = request.until or (Until.RUN_END if request.run_id else None)
    until_run = (run or lane) if until is Until.RUN_END else None
    meant = run or until_run
    begin = resumed_at or _begin(tx, request, view, meant)
    goal, reason = _goal(view, until, until_run, begin)
    return Opening(
        view=view,
        run=sessions.view_run(tx, meant, view.session) if meant is not None else None,
        resumed=resumed_at is not None,
        resolution=None,
        attached=False,
        plan=Plan(
            begin=begin,
            outside=_outside(tx, request, view.session, meant, begin),
            filter=replace(request.filter, run_id=_only(tx, request, run)),
            until=until,
            until_run_id=until_run.run_id if until_run else "",
            discover_after=(resumed_at or view.head).sequence,
            until_generation=0 if resumed_at else _generation(view.session),
            goal=goal,
            goal_reason=reason,
        ),
    )


def _check_target(tx: ReadTx, request: StreamRequest) -> None:
    """Raise FieldInvalid if a target run and the run to wait for differ, unless the target is an input's id: what that
    means may have changed since the stream was first opened.
    """
    differs = request.run_id and request.until_run_id not in {"", request.run_id}
    if differs and tx.input(request.namespace, request.run_id) is None:
        raise FieldInvalid(field="until_run_id", problem="it is not the run of the target")


def _only(tx: ReadTx, request: StreamRequest, run: Run | None) -> str:
    """Return the id of the run whose events alone are delivered; empty for all. `run` is the one that is meant."""
    if request.run_id and run is not None:
        return run.run_id
    named = request.filter.run_id
    only = inputs.run_named(tx, request.namespace, named) if named else None
    return only.run_id if only is not None else named


def _generation(session: Session) -> int:
    """Return the generation whose end a fresh stream waits for; of an ended session the whole log comes first."""
    return session.generation + (session.state is SessionState.ENDED)


def _outside(tx: ReadTx, request: StreamRequest, session: Session, run: Run | None, begin: Place) -> bytes:
    """Return the terminal of the run that is meant if retention removed it from where the stream would have found it:
    from what lies before the floor at which it begins.
    """
    if run is None or not 0 < run.terminal_sequence <= session.floor_sequence == begin.sequence:
        return b""
    if request.token is None and request.start in _FROM_NOW:
        return b""
    other = request.filter.run_id and _only(tx, request, run) != run.run_id
    return b"" if other else tx.terminal_data(run)


_FROM_NOW = frozenset({Start.LATEST, Start.SNAPSHOT, Start.ACTIVE_RUN})
"""The beginnings that show nothing of what was."""


def _goal(
    view: View, until: Until | None, until_run: Run | None, begin: Place
) -> tuple[int | None, ClosingReason | None]:
    """Return where a stream is over by what is known as it opens; None if that is still open."""
    if until_run is not None and 0 < until_run.terminal_sequence <= begin.sequence:
        return begin.sequence, ClosingReason.RUN_END
    if until is Until.CAUGHT_UP:
        return view.head.sequence, ClosingReason.CAUGHT_UP
    if until is Until.SESSION_END and view.session.state is SessionState.ENDED:
        return view.head.sequence, ClosingReason.SESSION_END
    if view.session.final:
        return view.head.sequence, ClosingReason.SESSION_FINAL
    return None, None


def _begin(tx: ReadTx, request: StreamRequest, view: View, run: Run | None) -> Place:
    """Return the place at which a stream without a token begins."""
    session = view.session
    if session.deleted_at_ms is not None and run is not None:
        return tx.place(session.session_id, run.terminal_sequence - 1) or _floor(session)
    if request.start is Start.OLDEST:
        return _floor(session)
    active = view.active_run.run if view.active_run is not None else None
    first = run if request.start is None else active if request.start is Start.ACTIVE_RUN else None
    if first is None:
        return view.head
    return tx.place(session.session_id, first.first_sequence - 1) or _floor(session)
