"""What a verb does in which state: one cell of one table, and nowhere else.

Durable state is the only input. The columns are the seven states, NONE for a session that does not exist, and
FINAL for an ended session that lost its key for good. The table is total (a test asks for every cell) and the
one in docs/lifecycle.md is printed from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from sessionplane.domain.sessions import Session, SessionState


class Verb(StrEnum):
    """What is wanted of a session or of a run in it."""

    RESOLVE = "resolve"
    START_RUN = "start_run"
    CLAIM = "claim"
    RELEASE = "release"
    PUBLISH = "publish"
    FINISH = "finish"
    HEARTBEAT = "heartbeat"
    INTERRUPT = "interrupt"
    ATTACH = "attach"
    SUSPEND = "suspend"
    CLOSE = "close"
    RESET = "reset"
    DELETE = "delete"


class Column(StrEnum):
    """The states as routing sees them."""

    NONE = "none"
    CREATED = "CREATED"
    STARTING = "STARTING"
    ACTIVE = "ACTIVE"
    DETACHED = "DETACHED"
    SUSPENDED = "SUSPENDED"
    CLOSING = "CLOSING"
    ENDED = "ENDED"
    FINAL = "ENDED, final"


class Action(StrEnum):
    """What is done: one word for each kind of cell."""

    BY_MISSING = "by missing policy"
    BY_CONFLICT = "by conflict policy"
    BY_ENDED = "by ended policy"
    FOUND = "found, by its id only"
    CREATE = "create"
    ADMIT = "by run policy"
    END_THEN_RESUME = "end the rest, then resume"
    RESUME = "resume"
    REFUSE_FINAL = "refused, SESSION_ENDED with successor"
    NOT_FOUND = "not found"
    GRANT = "grant"
    DECLINE = "claimed false, with the run"
    NO_LEASE = "refused (no lease)"
    BY_LEASE = "by lease"
    BY_LEASE_THEN_END = "by lease, ends the run"
    BY_LEASE_FINISHED = "by lease (a finished run)"
    SIGNAL = "signal"
    NO_OP = "no-op"
    ATTACH = "attach"
    ACTIVATE = "attach, -> ACTIVE"
    ATTACH_AND_FOLLOW = "attach, state stays, follows into the next generation"
    REPLAY = "replay, closing with the successor"
    REFUSE = "refused"
    SUSPEND = "-> SUSPENDED"
    END = "end"
    CLOSE = "end if no claimed run, else closing"
    SUPERSEDE = "supersede"
    DELETE = "delete"


_A = Action
_LIVE = (Column.CREATED, Column.STARTING, Column.ACTIVE, Column.DETACHED, Column.SUSPENDED)


def _row(
    *, none: Action, live: Action, closing: Action, ended: Action, final: Action, **changed: Action
) -> Mapping[Column, Action]:
    """Build a row from what the live states share and the cells that differ."""
    cells = {Column.NONE: none, **dict.fromkeys(_LIVE, live)}
    cells |= {Column.CLOSING: closing, Column.ENDED: ended, Column.FINAL: final}
    return MappingProxyType(cells | {Column[name.upper()]: action for name, action in changed.items()})


_BY_LEASE = _row(
    none=_A.NOT_FOUND,
    live=_A.BY_LEASE,
    closing=_A.BY_LEASE,
    ended=_A.BY_LEASE_FINISHED,
    final=_A.BY_LEASE_FINISHED,
)

ROUTES: Mapping[Verb, Mapping[Column, Action]] = MappingProxyType(
    {
        Verb.RESOLVE: _row(
            none=_A.BY_MISSING,
            live=_A.BY_CONFLICT,
            closing=_A.BY_CONFLICT,
            ended=_A.BY_ENDED,
            final=_A.FOUND,
        ),
        Verb.START_RUN: _row(
            none=_A.CREATE, live=_A.ADMIT, closing=_A.END_THEN_RESUME, ended=_A.RESUME, final=_A.REFUSE_FINAL
        ),
        Verb.CLAIM: _row(
            none=_A.NOT_FOUND, live=_A.GRANT, closing=_A.DECLINE, ended=_A.DECLINE, final=_A.DECLINE
        ),
        Verb.RELEASE: _row(
            none=_A.NOT_FOUND,
            created=_A.NO_LEASE,
            live=_A.BY_LEASE,
            closing=_A.BY_LEASE_THEN_END,
            ended=_A.BY_LEASE_FINISHED,
            final=_A.BY_LEASE_FINISHED,
        ),
        Verb.PUBLISH: _BY_LEASE,
        Verb.FINISH: _BY_LEASE,
        Verb.HEARTBEAT: _BY_LEASE,
        Verb.INTERRUPT: _row(
            none=_A.NOT_FOUND, live=_A.SIGNAL, closing=_A.SIGNAL, ended=_A.NO_OP, final=_A.NO_OP
        ),
        Verb.ATTACH: _row(
            none=_A.NOT_FOUND,
            live=_A.ATTACH,
            detached=_A.ACTIVATE,
            suspended=_A.ACTIVATE,
            closing=_A.ATTACH_AND_FOLLOW,
            ended=_A.ATTACH_AND_FOLLOW,
            final=_A.REPLAY,
        ),
        Verb.SUSPEND: _row(
            none=_A.NOT_FOUND,
            created=_A.REFUSE,
            starting=_A.REFUSE,
            live=_A.SUSPEND,
            suspended=_A.NO_OP,
            closing=_A.REFUSE,
            ended=_A.REFUSE,
            final=_A.REFUSE,
        ),
        Verb.CLOSE: _row(
            none=_A.NOT_FOUND,
            created=_A.END,
            starting=_A.END,
            live=_A.CLOSE,
            closing=_A.NO_OP,
            ended=_A.NO_OP,
            final=_A.NO_OP,
        ),
        Verb.RESET: _row(
            none=_A.CREATE, live=_A.SUPERSEDE, closing=_A.SUPERSEDE, ended=_A.SUPERSEDE, final=_A.REFUSE
        ),
        Verb.DELETE: _row(none=_A.NO_OP, live=_A.DELETE, closing=_A.DELETE, ended=_A.DELETE, final=_A.DELETE),
    }
)
"""verb -> column -> action."""


def column(session: Session | None) -> Column:
    """Return the column that a session stands in."""
    if session is None:
        return Column.NONE
    if session.final and session.state is SessionState.ENDED:
        return Column.FINAL
    return Column(session.state.value)


def route(verb: Verb, session: Session | None) -> Action:
    """Say what `verb` does with `session` now."""
    return ROUTES[verb][column(session)]
