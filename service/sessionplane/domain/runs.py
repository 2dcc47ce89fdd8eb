"""What a run is, how its state may change, and which ends are possible.

At most one run of a session is past QUEUED; it is the session's `active_run_id`. A run's input, result and
terminal are encoded payloads here: the service carries them and never looks into them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from sessionplane.domain.errors import InvalidTransition


class RunState(StrEnum):
    """Where in its life a run is."""

    QUEUED = "QUEUED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    INTERRUPTING = "INTERRUPTING"
    FINISHED = "FINISHED"


class RunOutcome(StrEnum):
    """What became of a run."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"
    LOST = "LOST"
    TIMED_OUT = "TIMED_OUT"
    REJECTED = "REJECTED"


class RunCause(StrEnum):
    """Who or what ended a run."""

    RUNNER = "RUNNER"
    LEASE_EXPIRED = "LEASE_EXPIRED"
    DEADLINE = "DEADLINE"
    INTERRUPT = "INTERRUPT"
    FORCED = "FORCED"
    SESSION_ENDED = "SESSION_ENDED"
    POLICY = "POLICY"


class RunPolicy(StrEnum):
    """What StartRun does when the lane is taken."""

    ENQUEUE = "ENQUEUE"
    REJECT = "REJECT"
    INTERRUPT = "INTERRUPT"
    INJECT = "INJECT"


class RunDisposition(StrEnum):
    """What StartRun did."""

    PENDING = "PENDING"
    QUEUED = "QUEUED"
    INTERRUPTING = "INTERRUPTING"
    INJECTED = "INJECTED"
    DUPLICATE = "DUPLICATE"


class FinishResult(StrEnum):
    """What FinishRun did."""

    RECORDED = "RECORDED"
    DUPLICATE = "DUPLICATE"
    SUPERSEDED = "SUPERSEDED"


_S, _O, _C = RunState, RunOutcome, RunCause

TRANSITIONS: Mapping[RunState, frozenset[RunState]] = MappingProxyType(
    {
        _S.QUEUED: frozenset({_S.PENDING, _S.FINISHED}),
        _S.PENDING: frozenset({_S.RUNNING, _S.FINISHED}),
        _S.RUNNING: frozenset({_S.PENDING, _S.INTERRUPTING, _S.FINISHED}),
        _S.INTERRUPTING: frozenset({_S.FINISHED}),
        _S.FINISHED: frozenset(),
    }
)
"""state -> states that may follow. What is not here is refused."""

FIRST_STATES = frozenset({_S.QUEUED, _S.PENDING})
"""Where a run may begin."""

CLAIMED = frozenset({_S.RUNNING, _S.INTERRUPTING})
"""The states in which a runner holds the run."""

ENDS: Mapping[RunOutcome, frozenset[RunCause]] = MappingProxyType(
    {
        _O.SUCCEEDED: frozenset({_C.RUNNER}),
        _O.FAILED: frozenset({_C.RUNNER}),
        _O.INTERRUPTED: frozenset({_C.RUNNER, _C.INTERRUPT, _C.FORCED, _C.SESSION_ENDED}),
        _O.LOST: frozenset({_C.LEASE_EXPIRED}),
        _O.TIMED_OUT: frozenset({_C.DEADLINE}),
        _O.REJECTED: frozenset({_C.DEADLINE, _C.SESSION_ENDED, _C.POLICY}),
    }
)
"""outcome -> the causes it may have."""

REPORTABLE = frozenset({_O.SUCCEEDED, _O.FAILED, _O.INTERRUPTED})
"""What a runner may report; the other outcomes are the server's own findings."""


_PART = 1 << 48
"""More than a log has events, so that the parts of a line never overlap."""

PLACE_AT_END = 0
"""Where the last part of a line begins: what stands before it was put there to go first."""


def place_first(sequence: int) -> int:
    """Return the place in line of a run that goes before all others: of an interrupt's, newest first.

    Smaller places go first. `sequence` is where the log recorded the input: each run and input has its own.
    """
    return -_PART - sequence


def place_returned(sequence: int) -> int:
    """Return the place of an injected input that nobody took: behind those that interrupt, oldest first."""
    return sequence - _PART


def place_at_end(sequence: int) -> int:
    """Return the place of a run that was enqueued: behind everything else, first in, first out."""
    return PLACE_AT_END + sequence


def check_move(state: RunState, target: RunState) -> None:
    """Raise InvalidTransition unless a run may go from `state` to `target`."""
    if target not in TRANSITIONS[state]:
        raise InvalidTransition(subject="The run", **{"from": state, "to": target})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailure:
    """What went wrong: a stable word, a sentence, and whether trying again may help."""

    reason: str
    message: str = ""
    retryable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """How a runner says that its run ended. `output_text` None means: join the published deltas."""

    outcome: RunOutcome
    output_text: str | None = None
    result: bytes = b""
    failure: RunFailure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTerminal:
    """How a run ended. The pair of outcome and cause is one that `ENDS` allows."""

    outcome: RunOutcome
    cause: RunCause
    output_text: str = ""
    output_complete: bool = False
    result: bytes = b""
    failure: RunFailure | None = None
    interrupt_id: str = ""
    finished_at_ms: int

    def __post_init__(self) -> None:
        """Refuse an end that cannot be: that is a bug of ours, never of a caller."""
        if self.cause not in ENDS[self.outcome]:
            msg = f"a run cannot end {self.outcome} by {self.cause}"
            raise AssertionError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One turn of work as its row says. Times are Unix milliseconds, spans milliseconds.

    `due_at_ms` is the next moment at which the server acts by itself (a deadline, or the end of an
    interrupt's grace); `pending_ms` sums the time in PENDING before the present stay, which began at
    `pending_since_ms`. `kept_from_ms` is the judged time of its end, from which retention counts; `finished_at_ms` is
    that time as people read it. A lease is `lease_confirmed` once its holder was heard under this epoch. Places in the
    log: `first_sequence` recorded the input; at `lane_sequence` the run left the line; `first_output_sequence` is what
    its runner published first. `injected` counts the inputs that it was ever given beside its own.
    """

    run_id: str
    namespace: str
    session_id: str
    generation: int
    state: RunState
    pool: str = ""
    place: int = 0
    input: bytes = b""
    fingerprint: bytes = b""
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at_ms: int
    start_timeout_ms: int
    run_timeout_ms: int
    pending_ms: int = 0
    pending_since_ms: int | None = None
    claimed_at_ms: int | None = None
    finished_at_ms: int | None = None
    kept_from_ms: int | None = None
    due_at_ms: int | None = None
    runner_id: str = ""
    lease_epoch: int = 0
    lease_token: str = ""
    lease_ms: int = 0
    lease_confirmed: bool = False
    last_run_sequence: int = 0
    output_bytes: int = 0
    first_sequence: int = 0
    lane_sequence: int = 0
    first_output_sequence: int = 0
    injected: int = 0
    interrupt_id: str = ""
    outcome: RunOutcome | None = None
    terminal: bytes = b""
    terminal_sequence: int = 0
    report_fingerprint: bytes = b""
    late_fingerprint: bytes = b""

    @property
    def start_deadline_ms(self) -> int | None:
        """When a run that waits for a runner ends by itself; None unless it is PENDING."""
        if self.pending_since_ms is None:
            return None
        return self.pending_since_ms + self.start_timeout_ms - self.pending_ms

    @property
    def run_deadline_ms(self) -> int | None:
        """When a run that was once claimed ends by itself, in whatever state; None before."""
        return None if self.claimed_at_ms is None else self.claimed_at_ms + self.run_timeout_ms

    @property
    def deadline_ms(self) -> int | None:
        """The nearer of the two deadlines; None while QUEUED and when finished."""
        if self.state is RunState.FINISHED:
            return None
        return min(
            (at for at in (self.start_deadline_ms, self.run_deadline_ms) if at is not None), default=None
        )
