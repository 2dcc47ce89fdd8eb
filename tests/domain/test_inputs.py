"""What may become of an injected input."""

from __future__ import annotations

from itertools import product

import pytest

from sessionplane.domain.errors import InvalidTransition
from sessionplane.domain.inputs import InputStage, check_stage

EDGES = {("RECORDED", "TAKEN"), ("RECORDED", "QUEUED")}


@pytest.mark.parametrize(("stage", "target"), list(product(InputStage, InputStage)))
def test_an_input_moves_along_the_specified_edges_only(stage: InputStage, target: InputStage) -> None:
    """An input that waits is taken or becomes a run; whatever it became it stays."""
    if (stage, target) in EDGES:
        check_stage(stage, target)
        return
    with pytest.raises(InvalidTransition) as refused:
        check_stage(stage, target)
    assert refused.value.details == {"subject": "The input", "from": stage, "to": target}
