"""Makes a failing seed small: takes one part of its plan away after the other, as long as it still fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sessionplane.proof.sim.plan import PARTS, Plan


def shrink(plan: Plan, fails: Callable[[Plan], bool]) -> Sequence[str]:
    """Return the parts without which the plan still fails, in the order in which they are taken away; the same part
    several times if it can be made less several times. `fails` plays a plan, and it fails with the whole one.
    """
    gone: list[str] = []
    before = -1
    while before != len(gone):
        before = len(gone)
        for part in PARTS:
            while (less := plan.without(part)) != plan and fails(less):
                plan = less
                gone.append(part)
    return gone
