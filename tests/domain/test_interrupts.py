"""The stages of an interrupt: every one that the specification names, and no other."""

from __future__ import annotations

from itertools import product

import pytest

from sessionplane.domain.errors import InvalidTransition
from sessionplane.domain.interrupts import FIRST_STAGES, STAGES, InterruptStage, check_stage

EDGES = {
    ("ACCEPTED", "DELIVERED"),
    ("ACCEPTED", "ACKNOWLEDGED"),
    ("ACCEPTED", "COMPLETED"),
    ("DELIVERED", "ACKNOWLEDGED"),
    ("DELIVERED", "COMPLETED"),
    ("ACKNOWLEDGED", "COMPLETED"),
}
"""A stage may be passed over: a run may end before its runner heard anything."""


@pytest.mark.parametrize(("stage", "target"), list(product(InterruptStage, InterruptStage)))
def test_an_interrupt_only_comes_further(stage: InterruptStage, target: InterruptStage) -> None:
    """Each pair of stages leads on, or is refused with both names."""
    if (stage, target) in EDGES:
        check_stage(stage, target)
        return
    with pytest.raises(InvalidTransition) as refused:
        check_stage(stage, target)
    assert refused.value.details == {"subject": "The interrupt", "from": stage, "to": target}


def test_the_table_is_total() -> None:
    """Each stage has a row, so that asking never fails by a missing one."""
    assert set(STAGES) == set(InterruptStage)


def test_an_interrupt_has_exactly_one_outcome() -> None:
    """COMPLETED and NO_OP lead nowhere, and NO_OP is only ever a beginning."""
    last = {stage for stage, following in STAGES.items() if not following}
    assert last == {InterruptStage.COMPLETED, InterruptStage.NO_OP}
    assert {InterruptStage.ACCEPTED, InterruptStage.NO_OP} == FIRST_STAGES
    assert all(InterruptStage.NO_OP not in following for following in STAGES.values())
