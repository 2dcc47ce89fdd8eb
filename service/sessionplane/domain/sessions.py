"""What a session is and how its state may change.

Everything that changes a session's state asks `TRANSITIONS` first; a missing entry is the refusal. What a
verb does in which state is the other table, in `routing`. This module never looks at runs, subscribers
or clocks: whoever knows the cause names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from sessionplane.domain.errors import InvalidTransition, LimitExceeded
from sessionplane.domain.keys import SessionKey
from sessionplane.domain.limits import Limits


class SessionState(StrEnum):
    """Where in its life a session is."""

    CREATED = "CREATED"
    STARTING = "STARTING"
    ACTIVE = "ACTIVE"
    DETACHED = "DETACHED"
    SUSPENDED = "SUSPENDED"
    CLOSING = "CLOSING"
    ENDED = "ENDED"


class SessionCause(StrEnum):
    """Why a session changes its state."""

    CREATED = "CREATED"
    RUN_CLAIMED = "RUN_CLAIMED"
    RUN_STARTED = "RUN_STARTED"
    ATTACHED = "ATTACHED"
    DETACHED = "DETACHED"
    SUSPENDED = "SUSPENDED"
    SUSPEND_EXPIRED = "SUSPEND_EXPIRED"
    CLOSE_REQUESTED = "CLOSE_REQUESTED"
    CLOSED = "CLOSED"
    CLOSE_EXPIRED = "CLOSE_EXPIRED"
    RUN_ENDED = "RUN_ENDED"
    SUPERSEDED = "SUPERSEDED"
    DELETED = "DELETED"
    EXPIRED = "EXPIRED"
    RESUMED = "RESUMED"


class MoveReason(StrEnum):
    """Why a key moved to or from a session."""

    CREATED = "CREATED"
    BOUND = "BOUND"
    RESET = "RESET"
    ROLLED_OVER = "ROLLED_OVER"
    REPLACED = "REPLACED"
    CREATE_NEW = "CREATE_NEW"
    DELETED = "DELETED"
    MERGED = "MERGED"
    RENAMED = "RENAMED"


class Visibility(StrEnum):
    """Whether lists and watches show a session. A hidden one becomes visible by its first user, never hidden again."""

    VISIBLE = "VISIBLE"
    INTERNAL = "INTERNAL"


class MissingPolicy(StrEnum):
    """What a resolve does when no session holds the key."""

    CREATE = "CREATE"
    FAIL = "FAIL"


class ConflictPolicy(StrEnum):
    """What a resolve does when the key's session has not ended."""

    USE_EXISTING = "USE_EXISTING"
    FAIL = "FAIL"
    REPLACE = "REPLACE"


class EndedPolicy(StrEnum):
    """What a resolve does when the key's session has ended."""

    RESUME = "RESUME"
    CREATE_NEW = "CREATE_NEW"
    FAIL = "FAIL"


class Interaction(StrEnum):
    """Who caused a call: a person, or machinery that must never keep a session alive."""

    USER = "USER"
    SYSTEM = "SYSTEM"


class Resolution(StrEnum):
    """What a resolve did to find the session."""

    CREATED = "CREATED"
    EXISTING = "EXISTING"
    JOINED = "JOINED"
    REPLACED = "REPLACED"
    ROLLED_OVER = "ROLLED_OVER"
    BOUND = "BOUND"


_S, _C = SessionState, SessionCause

_GONE = {_C.SUPERSEDED: _S.ENDED, _C.DELETED: _S.ENDED}
"""Losing the key or being deleted ends a session from wherever it is."""

_CLOSABLE = {_C.CLOSE_REQUESTED: _S.CLOSING, _C.CLOSED: _S.ENDED}
"""A session whose runner was heard closes at once, or after the claimed run."""

TRANSITIONS: Mapping[SessionState, Mapping[SessionCause, SessionState]] = MappingProxyType(
    {
        _S.CREATED: {
            _C.RUN_CLAIMED: _S.STARTING,
            _C.RUN_ENDED: _S.ENDED,
            _C.CLOSED: _S.ENDED,
            _C.EXPIRED: _S.ENDED,
            **_GONE,
        },
        _S.STARTING: {
            _C.RUN_STARTED: _S.ACTIVE,
            _C.RUN_ENDED: _S.ENDED,
            _C.CLOSED: _S.ENDED,
            **_GONE,
        },
        _S.ACTIVE: {
            _C.DETACHED: _S.DETACHED,
            _C.SUSPENDED: _S.SUSPENDED,
            **_CLOSABLE,
            **_GONE,
        },
        _S.DETACHED: {
            _C.ATTACHED: _S.ACTIVE,
            _C.SUSPENDED: _S.SUSPENDED,
            _C.EXPIRED: _S.ENDED,
            **_CLOSABLE,
            **_GONE,
        },
        _S.SUSPENDED: {
            _C.ATTACHED: _S.ACTIVE,
            _C.SUSPEND_EXPIRED: _S.DETACHED,
            **_CLOSABLE,
            **_GONE,
        },
        _S.CLOSING: {
            _C.RUN_ENDED: _S.ENDED,
            _C.CLOSE_EXPIRED: _S.ENDED,
            _C.CLOSED: _S.ENDED,
            **_GONE,
        },
        _S.ENDED: {_C.RESUMED: _S.CREATED},
    }
)
"""state -> cause -> next state. What is not here is refused."""


def next_state(state: SessionState, cause: SessionCause) -> SessionState:
    """Return where `cause` leads from `state`.

    Raises InvalidTransition if it leads nowhere.
    """
    target = TRANSITIONS[state].get(cause)
    if target is None:
        raise InvalidTransition(subject="The session", **{"from": state, "to": cause})
    return target


def allows(state: SessionState, cause: SessionCause) -> bool:
    """Say whether `cause` leads anywhere from `state`."""
    return cause in TRANSITIONS[state]


def check_labels(labels: Mapping[str, str], limits: Limits, *, field: str) -> None:
    """Raise LimitExceeded, about this field of a request, for more labels than a session or run may have."""
    if len(labels) > limits.labels_max:
        raise LimitExceeded(field=field, actual=len(labels), limit=limits.labels_max)
    size = sum(len(name.encode()) + len(value.encode()) for name, value in labels.items())
    if size > limits.labels_bytes_max:
        raise LimitExceeded(field=field, actual=f"{size} bytes", limit=f"{limits.labels_bytes_max} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One conversation as its row says. Times are Unix milliseconds.

    The head (`head_sequence`, `head_hash`, and `log_bytes`, all that was ever appended) belongs to the log: only
    appending moves it. So does the floor, which only removing moves. `quiet_since_ms` is the latest of its birth, the
    last detach, the last run's end and its own end; `deadline_at_ms` when a suspension or a closing ends; `due_at_ms`
    the next moment at which the server acts by itself, as `due_at_ms()` says; `compact_at_ms` the next one at which
    retention looks at it, as `compact_at_ms()` says and whoever ends a run.
    """

    session_id: str
    namespace: str
    key: SessionKey | None
    state: SessionState
    final: bool = False
    generation: int = 1
    active_run_id: str = ""
    queued_run_count: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    display_name: str = ""
    visibility: Visibility = Visibility.VISIBLE
    created_at_ms: int
    started_at_ms: int
    last_interaction_at_ms: int | None = None
    updated_at_ms: int
    ended_at_ms: int | None = None
    end_reason: SessionCause | None = None
    quiet_since_ms: int = 0
    deadline_at_ms: int | None = None
    due_at_ms: int | None = None
    deleted_at_ms: int | None = None
    previous_session_id: str = ""
    superseded_by: str = ""
    change_number: int = 0
    head_sequence: int = 0
    head_hash: bytes = b""
    log_bytes: int = 0
    floor_sequence: int = 0
    floor_hash: bytes = b""
    floor_log_bytes: int = 0
    compact_at_ms: int | None = None

    @property
    def running(self) -> bool:
        """Whether a run is unfinished, queued ones included."""
        return bool(self.active_run_id) or self.queued_run_count > 0

    @property
    def etag(self) -> str:
        """What differs after every change that `updated_at_ms` shows."""
        return f"{self.change_number:x}"

    @property
    def log_events(self) -> int:
        """How many events its log holds."""
        return self.head_sequence - self.floor_sequence

    @property
    def log_size(self) -> int:
        """How many bytes its log holds."""
        return self.log_bytes - self.floor_log_bytes


def _expires_at_ms(session: Session, judged_ms: int, limits: Limits) -> int | None:
    """A session in which nothing happens is kept for a while after the last sign of life."""
    if session.running:
        return None
    touched_ms = session.last_interaction_at_ms or 0
    quiet_since_ms = max(session.quiet_since_ms, touched_ms if touched_ms <= judged_ms else 0)
    return quiet_since_ms + limits.detached_ttl_ms


def _deadline_at_ms(session: Session, _judged_ms: int, _limits: Limits) -> int | None:
    return session.deadline_at_ms


def _kept_until_ms(session: Session, _judged_ms: int, limits: Limits) -> int | None:
    return session.quiet_since_ms + limits.ended_ttl_ms


_DUE: Mapping[SessionState, Callable[[Session, int, Limits], int | None]] = MappingProxyType(
    {
        _S.CREATED: _expires_at_ms,
        _S.DETACHED: _expires_at_ms,
        _S.SUSPENDED: _deadline_at_ms,
        _S.CLOSING: _deadline_at_ms,
        _S.ENDED: _kept_until_ms,
    }
)
"""state -> when the server acts by itself. In the others it waits for somebody."""


def due_at_ms(session: Session, *, judged_ms: int, limits: Limits) -> int | None:
    """Return when the server acts on the session by itself; None if it only waits for others.

    An interaction that lies in the future is ignored: a clock was set back since. A deleted session has no life left
    to act on; its rows are retention's.
    """
    if session.deleted_at_ms is not None:
        return None
    rule = _DUE.get(session.state)
    return rule(session, judged_ms, limits) if rule else None


def compact_at_ms(session: Session, *, judged_ms: int, limits: Limits) -> int | None:
    """Return when retention looks at the session next: at its log, or once it is deleted at all its rows.

    At a log that is over its bounds it looks now. Else what was planned stays.
    """
    if session.deleted_at_ms is not None:
        return session.deleted_at_ms + limits.deleted_ttl_ms
    if session.log_events > limits.log_events_max or session.log_size > limits.log_bytes_max:
        return judged_ms
    return session.compact_at_ms
