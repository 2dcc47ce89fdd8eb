"""Use cases that find the one session of a key: resolve and bind. The only place where a key gets its first session.

`look` answers on a reader whatever needs no write, refusals included; all else is settled by `resolve` in a transaction
of the writer, which judges anew. Both ask `_move_wanted`, so they cannot differ on what the same rows mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from sessionplane.domain import routing
from sessionplane.domain.errors import (
    EndedPolicyFails,
    FieldInvalid,
    KeyBound,
    KeyMismatch,
    KeyNotBound,
    SessionEnded,
    SessionExists,
)
from sessionplane.domain.routing import Action, Verb
from sessionplane.domain.runs import RunDisposition
from sessionplane.domain.sessions import (
    ConflictPolicy,
    EndedPolicy,
    Interaction,
    MissingPolicy,
    MoveReason,
    Resolution,
    Session,
    Visibility,
)
from sessionplane.plane import pointers, runs, sessions
from sessionplane.plane.admission import RunSpec
from sessionplane.plane.context import Call, Context, recall, remember
from sessionplane.plane.runs import Started
from sessionplane.plane.sessions import SessionRef, View, find, require, view, view_after
from sessionplane.store.contract import ReadTx, Request, Tx

Stale = Callable[[Session], bool]
"""Says whether a session is too old for a user's interaction with its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveRequest:
    """Asks for the session of a key, or for one by id, and for a run in it if `run` is given.

    The policies are about keys. `expected_session_id` is who must hold the key, "" for whoever does. `visibility`,
    `labels` and `display_name` are for a new session.
    """

    call: Call
    session: SessionRef
    missing: MissingPolicy = MissingPolicy.CREATE
    conflict: ConflictPolicy = ConflictPolicy.USE_EXISTING
    ended: EndedPolicy = EndedPolicy.RESUME
    expected_session_id: str = ""
    bind_session_id: str = ""
    visibility: Visibility = Visibility.VISIBLE
    interaction: Interaction = Interaction.USER
    labels: Mapping[str, str] = field(default_factory=dict)
    display_name: str = ""
    run: RunSpec | None = None

    @property
    def asker(self) -> Interaction:
        """Who asks: what is INTERNAL is never a user's."""
        return self.interaction if self.visibility is Visibility.VISIBLE else Interaction.SYSTEM

    @property
    def size(self) -> int:
        """How many bytes it keeps while it waits for the writer, about."""
        return len(self.run.input) if self.run is not None else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The one session, what was done to find it, and what became of the run. `untouched` says that it was found as it
    is, so that the interaction is still to be noted.
    """

    view: View
    resolution: Resolution
    started: Started | None = None
    untouched: bool = False

    @property
    def previous_session_id(self) -> str:
        """The session from which this call took the key, or in whose place it created one; "" if there was none."""
        return self.view.session.previous_session_id if self.resolution in MINTED else ""


MINTED = frozenset({Resolution.CREATED, Resolution.REPLACED, Resolution.ROLLED_OVER})
"""The resolutions whose session is a new one."""

_RESOLUTIONS: Mapping[MoveReason, Resolution] = MappingProxyType(
    {
        MoveReason.CREATED: Resolution.CREATED,
        MoveReason.CREATE_NEW: Resolution.CREATED,
        MoveReason.REPLACED: Resolution.REPLACED,
        MoveReason.ROLLED_OVER: Resolution.ROLLED_OVER,
        MoveReason.BOUND: Resolution.BOUND,
    }
)
"""Why a key moved -> what the caller is told."""


def look(
    tx: ReadTx, request: ResolveRequest, *, stale: Stale | None = None, seen: str | None = None
) -> Resolved | str:
    """Answer a resolve that needs no write: a repeat, or a session that is there. If it needs one, return the id of
    the session that holds the key, "" for nobody. `seen` is what an earlier look returned; without `stale` no session
    is.

    Raises what `resolve` raises, but KeyMismatch, KeyBound and what admitting a run raises.
    """
    answered = _answered(tx, request)
    if answered is not None:
        return answered
    if request.bind_session_id:
        return ""
    session = find(tx, request.call.namespace, request.session)
    wanted = _move_wanted(request, session, stale)
    if session is None:
        return ""
    if wanted is not None or request.run is not None or _shows(request, session):
        return session.session_id
    return Resolved(view=view(tx, session), resolution=_found(request, session, seen), untouched=True)


def look_who_stays(tx: ReadTx, request: ResolveRequest, *, stale: Stale | None) -> Session | None:
    """Return the session that a resolve would find there and stay with; None if it would create, bind or move to one.

    Raises what `look` raises.
    """
    answered = _answered(tx, request)
    if answered is not None:
        return answered.view.session
    if request.bind_session_id:
        return None
    session = find(tx, request.call.namespace, request.session)
    return None if _move_wanted(request, session, stale) is not None else session


def resolve(tx: Tx, request: ResolveRequest, context: Context, *, seen: str | None = None) -> Resolved:
    """Find the session, or create, bind or replace it as the policies say, and start the run in it.

    Raises RequestIdReused; SessionNotFound for an unknown id; by policy KeyNotBound, SessionExists, SessionEnded and
    SessionReplaced; KeyMismatch and KeyBound; with a run RunIdReused and what admitting it raises.
    """
    answered = _answered(tx, request)
    if answered is not None:
        return answered
    session, reason = _settle(tx, request, context)
    untouched = reason is None and request.run is None
    if _shows(request, session):
        shown = replace(session, visibility=Visibility.VISIBLE)
        session = sessions.save(tx, sessions.touched(shown, request.asker, context), context)
        untouched = False
    started = None
    if request.run is not None:
        started = runs.begin(tx, session, request.run, request.asker, context)
    resolution = _RESOLUTIONS[reason] if reason else _found(request, session, seen)
    if not untouched:
        _remember(tx, request, context, session, resolution, started)
    shown_now = view_after(tx, session) if started is None else started.view
    return Resolved(view=shown_now, resolution=resolution, started=started, untouched=untouched)


def _answered(tx: ReadTx, request: ResolveRequest) -> Resolved | None:
    """Answer what was done before: a repeat of the call, or a run that is known; None for a new one."""
    namespace = request.call.namespace
    known = recall(tx, request.call)
    if known is not None:
        return _repeated(tx, namespace, known)
    started = None if request.run is None else runs.find_known(tx, namespace, request.run)
    if started is None:
        return None
    return Resolved(view=started.view, resolution=Resolution.EXISTING, started=started)


def _repeated(tx: ReadTx, namespace: str, known: Request) -> Resolved:
    """Show what a repeated call led to, as it is now. A run is shown as long as its id is known."""
    resolution, _, disposition = known.detail.partition(" ")
    if not disposition:
        session = require(tx, namespace, known.session_id)
        return Resolved(view=view(tx, session), resolution=Resolution(resolution))
    started = runs.show_started(
        tx, namespace, known.run_id, RunDisposition(disposition), interrupt_id=known.interrupt_id
    )
    return Resolved(view=started.view, resolution=Resolution(resolution), started=started)


def _remember(
    tx: Tx,
    request: ResolveRequest,
    context: Context,
    session: Session,
    resolution: Resolution,
    started: Started | None,
) -> None:
    if started is None:
        remember(tx, request.call, context, session_id=session.session_id, detail=resolution)
        return
    remember(
        tx,
        request.call,
        context,
        session_id=session.session_id,
        run_id=started.input_id,
        interrupt_id=started.interrupt_id,
        detail=f"{resolution} {started.disposition}",
    )


def _found(request: ResolveRequest, session: Session, seen: str | None) -> Resolution:
    """Say how a session was found that this call neither created nor bound: whoever saw another one hold the key, or
    nobody, has waited for a rival.
    """
    if seen is None or request.session.key is None or request.bind_session_id:
        return Resolution.EXISTING
    return Resolution.EXISTING if seen == session.session_id else Resolution.JOINED


def _shows(request: ResolveRequest, session: Session) -> bool:
    """Say whether the request makes a hidden session visible."""
    return request.visibility is Visibility.VISIBLE and session.visibility is Visibility.INTERNAL


def _move_wanted(request: ResolveRequest, holder: Session | None, stale: Stale | None) -> MoveReason | None:
    """Say how the key has to move before there is a session to answer with; None if it may stay. An id names its
    session, whatever the policies say. To a user a stale session is no longer there for them to speak about.

    Raises KeyNotBound, SessionExists, EndedPolicyFails and SessionReplaced.
    """
    if request.session.key is None:
        return None
    pointers.expect(holder, request.expected_session_id)
    if holder is not None and stale is not None and request.asker is Interaction.USER and stale(holder):
        return MoveReason.ROLLED_OVER
    return _POLICIES[routing.route(Verb.RESOLVE, holder)](request, holder)


def _by_missing(request: ResolveRequest, _: Session | None) -> MoveReason | None:
    if request.missing is MissingPolicy.FAIL:
        raise KeyNotBound(canonical_key=request.session.key)
    return MoveReason.CREATED


def _by_conflict(request: ResolveRequest, holder: Session | None) -> MoveReason | None:
    if holder is not None and request.conflict is ConflictPolicy.FAIL:
        raise SessionExists(session_id=holder.session_id)
    return MoveReason.REPLACED if request.conflict is ConflictPolicy.REPLACE else None


def _by_ended(request: ResolveRequest, holder: Session | None) -> MoveReason | None:
    if holder is not None and request.ended is EndedPolicy.FAIL:
        raise EndedPolicyFails(session_id=holder.session_id)
    return MoveReason.CREATE_NEW if request.ended is EndedPolicy.CREATE_NEW else None


_POLICIES: Mapping[Action, Callable[[ResolveRequest, Session | None], MoveReason | None]] = MappingProxyType(
    {Action.BY_MISSING: _by_missing, Action.BY_CONFLICT: _by_conflict, Action.BY_ENDED: _by_ended}
)
"""Which policy speaks, by the row `resolve` of the routing table."""


def _settle(tx: Tx, request: ResolveRequest, context: Context) -> tuple[Session, MoveReason | None]:
    """Return the session, and why the key came to it just now; None if it was there."""
    if request.bind_session_id:
        return _bind(tx, request, context)
    holder = find(tx, request.call.namespace, request.session)
    reason = _move_wanted(
        request, holder, lambda session: context.judge.is_stale(session, now_ms=context.now_ms)
    )
    if holder is None:
        return _create(tx, request, context), reason
    if reason is None:
        return holder, None
    return pointers.hand_over(
        tx,
        holder,
        reason,
        context,
        interaction=request.asker,
        visibility=request.visibility,
        labels=request.labels,
        display_name=request.display_name,
    ), reason


def _create(tx: Tx, request: ResolveRequest, context: Context) -> Session:
    """Create the first session of a key."""
    return sessions.create(
        tx,
        context,
        namespace=request.call.namespace,
        key=request.session.key,
        interaction=request.asker,
        labels=request.labels,
        display_name=request.display_name,
        visibility=request.visibility,
    )


def _bind(tx: Tx, request: ResolveRequest, context: Context) -> tuple[Session, MoveReason | None]:
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
    if session.final:
        raise SessionEnded(session_id=session.session_id, successor=session.superseded_by)
    if holder is not None:
        return session, None
    bound = sessions.touched(replace(session, key=key), request.asker, context)
    session = sessions.save(tx, bound, context)
    sessions.take_key(tx, context, session, key, MoveReason.BOUND)
    return session, MoveReason.BOUND
