"""What a session is and how its state may change.

Everything that changes a session's state asks `TRANSITIONS` first; a missing entry is the refusal. What a
verb does in which state is the other table, in `routing`. This module never looks at runs, subscribers
or clocks: whoever knows the cause names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from sessionplane.domain.errors import InvalidTransition
from sessionplane.domain.keys import SessionKey


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One conversation as its row says. Times are Unix milliseconds.

    The head (`head_sequence`, `head_hash`, `log_bytes`) belongs to the log: only appending moves it.
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
    created_at_ms: int
    started_at_ms: int
    last_interaction_at_ms: int | None = None
    updated_at_ms: int
    ended_at_ms: int | None = None
    end_reason: SessionCause | None = None
    previous_session_id: str = ""
    superseded_by: str = ""
    change_number: int = 0
    head_sequence: int = 0
    head_hash: bytes = b""
    log_bytes: int = 0
    floor_sequence: int = 0
    floor_hash: bytes = b""

    @property
    def running(self) -> bool:
        """Whether a run is unfinished, queued ones included."""
        return bool(self.active_run_id) or self.queued_run_count > 0
