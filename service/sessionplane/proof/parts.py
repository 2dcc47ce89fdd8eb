"""What a part of the self-test is: what it claims, how it reports while it runs, and what it hands back.

It must never run anything itself; `proof.selftest` puts the parts together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much. Called often, from the part's own thread or event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one part found.

    `claim` is one sentence that needs no knowledge of the inside. `checked` counts what was judged, in `unit`s
    ("operations", "seeds", "cuts"). Each failure can be reproduced: it names a command or a seed. `measured`
    holds further figures, with their units in their names. `skipped` says why a part could not run here; then
    nothing was checked. A part that saw too little traffic to prove anything has failed.
    """

    name: str
    claim: str
    checked: int
    unit: str
    failures: Sequence[str] = ()
    measured: Mapping[str, float | str] = field(default_factory=dict)
    seconds: float
    skipped: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ran and found nothing."""
        return not self.failures and not self.skipped


class Part(Protocol):
    """How the self-test runs a part: the `run` of its module."""

    def __call__(self, count: int, *, folder: Path, progress: Progress, **seeds: int) -> Outcome:
        """Do it `count` times. `folder` is empty and the part's own; what a failure needs as evidence stays there.
        A part that throws dice takes one more argument, a seed, under whatever name.
        """
        ...
