"""What an injected input is, and what may become of it.

An input that is injected into a run under way waits for that run's runner under the id of the run that it would have
started. It is taken by that runner, or it becomes that run: never both, and never neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from sessionplane.domain.errors import InvalidTransition

SHOWN_MAX = 1_000
"""How many of its inputs a run shows in an answer, the newest ones."""


class InputStage(StrEnum):
    """What became of an input."""

    RECORDED = "RECORDED"
    TAKEN = "TAKEN"
    QUEUED = "QUEUED"


_S = InputStage

STAGES: Mapping[InputStage, frozenset[InputStage]] = MappingProxyType(
    {
        _S.RECORDED: frozenset({_S.TAKEN, _S.QUEUED}),
        _S.TAKEN: frozenset(),
        _S.QUEUED: frozenset(),
    }
)
"""stage -> stages that may follow."""

FIRST_STAGES = frozenset({_S.RECORDED})
"""Where an input begins."""


def check_stage(stage: InputStage, target: InputStage) -> None:
    """Raise InvalidTransition unless an input may go from `stage` to `target`."""
    if target not in STAGES[stage]:
        raise InvalidTransition(subject="The input", **{"from": stage, "to": target})


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """An injected input as its row says, with what the run needs that it may become.

    `run_id` is the run that it waits for or that took it, or its own once it is QUEUED. `place` is its place in line,
    should it come to stand there; once it is TAKEN, the sequence of the event that says so.
    """

    input_id: str
    namespace: str
    session_id: str
    run_id: str
    stage: InputStage = InputStage.RECORDED
    place: int
    created_at_ms: int
    fingerprint: bytes = b""
    input: bytes = b""
    pool: str = ""
    start_timeout_ms: int
    run_timeout_ms: int
    labels: Mapping[str, str] = field(default_factory=dict)
