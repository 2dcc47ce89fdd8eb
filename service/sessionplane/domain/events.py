"""What can stand in a session's log.

A body says what happened; the log adds sequence, time and hash when it commits it. Session and run states,
the key and the outcomes are the fold of these bodies.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, NamedTuple

from sessionplane.domain.inputs import InputStage
from sessionplane.domain.interrupts import InterruptMode, InterruptStage
from sessionplane.domain.keys import SessionKey
from sessionplane.domain.runs import RunReport, RunState
from sessionplane.domain.runs import RunTerminal as Terminal
from sessionplane.domain.sessions import MoveReason, SessionCause, SessionState


class EventKind(StrEnum):
    """Which body an event has."""

    SESSION_CHANGED = "SESSION_CHANGED"
    SESSION_MOVED = "SESSION_MOVED"
    RUN_CHANGED = "RUN_CHANGED"
    INPUT_RECORDED = "INPUT_RECORDED"
    OUTPUT_DELTA = "OUTPUT_DELTA"
    INTERRUPT_CHANGED = "INTERRUPT_CHANGED"
    CUSTOM = "CUSTOM"
    LATE_RESULT = "LATE_RESULT"
    RUN_TERMINAL = "RUN_TERMINAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChanged:
    """The session changed its state; `from_state` is None in its first event."""

    kind: ClassVar = EventKind.SESSION_CHANGED
    from_state: SessionState | None
    to_state: SessionState
    cause: SessionCause
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMoved:
    """The session gained (`holds`) or lost its key; None if one was deleted that held none. `previous_key` is the one
    that it held until now, if this one takes its place.
    """

    kind: ClassVar = EventKind.SESSION_MOVED
    key: SessionKey | None
    reason: MoveReason
    other_session_id: str = ""
    holds: bool
    previous_key: SessionKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChanged:
    """A run changed its state; `from_state` is None when it is new."""

    kind: ClassVar = EventKind.RUN_CHANGED
    from_state: RunState | None
    to_state: RunState
    lease_epoch: int = 0
    runner_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRecorded:
    """An input was recorded; `input` is an encoded payload."""

    kind: ClassVar = EventKind.INPUT_RECORDED
    input_id: str
    stage: InputStage
    input: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDelta:
    """A piece of a run's text, which begins `offset` bytes of UTF-8 into it."""

    kind: ClassVar = EventKind.OUTPUT_DELTA
    text: str
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptChanged:
    """An interrupt reached a stage."""

    kind: ClassVar = EventKind.INTERRUPT_CHANGED
    interrupt_id: str
    stage: InterruptStage
    mode: InterruptMode
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Custom:
    """Something of the runner's own; `data` is an encoded payload."""

    kind: ClassVar = EventKind.CUSTOM
    type: str
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateResult:
    """What a runner reported after its run had ended otherwise."""

    kind: ClassVar = EventKind.LATE_RESULT
    run_id: str
    report: RunReport


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTerminal:
    """The run ended: the last event that bears its id."""

    kind: ClassVar = EventKind.RUN_TERMINAL
    terminal: Terminal


Body = (
    SessionChanged
    | SessionMoved
    | RunChanged
    | InputRecorded
    | OutputDelta
    | InterruptChanged
    | Custom
    | LateResult
    | RunTerminal
)
"""Everything that can be appended to a log."""

Published = OutputDelta | Custom
"""What a runner may publish."""


class Entry(NamedTuple):
    """One committed event. `data` is an encoded `EventBatch` of this one event, so that joined entries are a
    batch; `chain` is the hash over all events up to this one.
    """

    sequence: int
    run_id: str
    kind: EventKind
    data: bytes
    chain: bytes


class Fold(NamedTuple):
    """What a log adds up to, from its first event on: a session's state and generation, and the key that it holds.
    Before the first event there is no state.
    """

    state: str = ""
    generation: int = 0
    key: str = ""


class Place(NamedTuple):
    """A place in a log: behind this sequence, with the chain hash there. (0, b"") is before the first event."""

    sequence: int
    chain: bytes
