"""What an interrupt is and how far it may come.

An interrupt is durable intent: it is on disk before anybody is told, and it has exactly one outcome,
COMPLETED or NO_OP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from sessionplane.domain.errors import InvalidTransition


class InterruptMode(StrEnum):
    """How a run is stopped."""

    GRACEFUL = "GRACEFUL"
    FORCE = "FORCE"


class InterruptStage(StrEnum):
    """How far an interrupt has come."""

    ACCEPTED = "ACCEPTED"
    DELIVERED = "DELIVERED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    COMPLETED = "COMPLETED"
    NO_OP = "NO_OP"


_G = InterruptStage

STAGES: Mapping[InterruptStage, frozenset[InterruptStage]] = MappingProxyType(
    {
        _G.ACCEPTED: frozenset({_G.DELIVERED, _G.ACKNOWLEDGED, _G.COMPLETED}),
        _G.DELIVERED: frozenset({_G.ACKNOWLEDGED, _G.COMPLETED}),
        _G.ACKNOWLEDGED: frozenset({_G.COMPLETED}),
        _G.COMPLETED: frozenset(),
        _G.NO_OP: frozenset(),
    }
)
"""stage -> stages that may follow."""

FIRST_STAGES = frozenset({_G.ACCEPTED, _G.NO_OP})
"""Where an interrupt may begin. One that ends its run at once is ACCEPTED and COMPLETED in one commit."""


def check_stage(stage: InterruptStage, target: InterruptStage) -> None:
    """Raise InvalidTransition unless an interrupt may go from `stage` to `target`."""
    if target not in STAGES[stage]:
        raise InvalidTransition(subject="The interrupt", **{"from": stage, "to": target})


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt:
    """A wish that a run stop, as its row says. `run_id` is empty if there was nothing to stop."""

    interrupt_id: str
    namespace: str
    session_id: str
    run_id: str = ""
    stage: InterruptStage
    mode: InterruptMode
    reason: str = ""
    created_at_ms: int
    escalate_at_ms: int | None = None
