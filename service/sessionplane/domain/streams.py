"""What a stream of events may be asked for, and how it may end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sessionplane.domain.events import Entry, EventKind, Place


class Start(StrEnum):
    """Where a stream without a token begins; unset means the run's first event where a run is meant, else LATEST."""

    OLDEST = "OLDEST"
    LATEST = "LATEST"
    SNAPSHOT = "SNAPSHOT"
    ACTIVE_RUN = "ACTIVE_RUN"


class Until(StrEnum):
    """What a stream waits for; unset means for ever."""

    RUN_END = "RUN_END"
    SESSION_END = "SESSION_END"
    CAUGHT_UP = "CAUGHT_UP"


class Presence(StrEnum):
    """Whether a stream counts as somebody being there."""

    ATTACHED = "ATTACHED"
    OBSERVER = "OBSERVER"


class ClosingReason(StrEnum):
    """Why a stream ends. Each has one status, see `rpc.status`."""

    RUN_END = "RUN_END"
    SESSION_END = "SESSION_END"
    CAUGHT_UP = "CAUGHT_UP"
    SESSION_FINAL = "SESSION_FINAL"
    SESSION_DELETED = "SESSION_DELETED"
    DRAINING = "DRAINING"
    SLOW_CONSUMER = "SLOW_CONSUMER"
    DISCONNECTED = "DISCONNECTED"
    REVOKED = "REVOKED"
    MAX_AGE = "MAX_AGE"


DELIVERED = frozenset({ClosingReason.RUN_END, ClosingReason.SESSION_END, ClosingReason.CAUGHT_UP})
"""The ends that were waited for: status OK."""

RESUMABLE = frozenset({ClosingReason.DRAINING, ClosingReason.SLOW_CONSUMER, ClosingReason.MAX_AGE})
"""The ends after which a new call with the token goes on."""


TypeOf = Callable[[Entry], str]
"""Says the type of a custom event. It lies inside the encoded event, so asking costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events are delivered; empty means all. A terminal passes every filter but another run's."""

    kinds: frozenset[EventKind] = frozenset()
    custom_types: frozenset[str] = frozenset()
    run_id: str = ""

    def passes(self, entry: Entry, type_of: TypeOf) -> bool:
        """Say whether an event is delivered. A custom event's type is asked for only where it decides."""
        if self.run_id and entry.run_id != self.run_id:
            return False
        if self.kinds and entry.kind not in self.kinds:
            return entry.kind is EventKind.RUN_TERMINAL
        if self.custom_types and entry.kind is EventKind.CUSTOM:
            return type_of(entry) in self.custom_types
        return True


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one stream delivers and waits for.

    It begins behind `begin`. RUN_END waits for `until_run_id`; while that is empty, for the first run whose input
    is recorded behind `discover_after`. SESSION_END waits for the end of `until_generation`, 0 meaning the first
    end that comes. At `goal` the stream is over for `goal_reason`, if nothing ended it before. `outside` is the
    terminal of the run that is meant, if retention removed it: it is handed out before everything else.
    """

    begin: Place
    outside: bytes = b""
    filter: Filter = EVERYTHING
    until: Until | None = None
    until_run_id: str = ""
    discover_after: int = 0
    until_generation: int = 0
    goal: int | None = None
    goal_reason: ClosingReason | None = None
