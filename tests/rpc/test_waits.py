"""How long a waiting call waits: long enough to be useful, short enough for its answer to arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionplane.domain.limits import DEFAULT
from sessionplane.rpc.waits import wait_s
from tests.support.calls import FakeContext


@pytest.mark.parametrize(
    ("left_s", "waits_s"),
    [
        (None, 60.0),
        (1_000.0, 60.0),
        (60.0, 57.0),
        (20.0, 19.0),
        (2.0, 1.9),
        (1.0, 0.9),
        (0.1, 0.0),
        (0.0, 0.0),
        (-5.0, 0.0),
    ],
)
def test_the_answer_comes_before_the_deadline(left_s: float | None, waits_s: float) -> None:
    """A call waits min(60 s, deadline - max(100 ms, 5 %)), or not at all if less is left."""
    assert wait_s(FakeContext(remaining_s=left_s), DEFAULT) == pytest.approx(waits_s)


@given(st.floats(min_value=-10, max_value=10_000))
def test_a_wait_always_leaves_time_for_the_answer(left_s: float) -> None:
    """No wait is negative, over the bound, or within 100 ms of the deadline."""
    waited_s = wait_s(FakeContext(remaining_s=left_s), DEFAULT)
    assert 0 <= waited_s <= 60
    assert waited_s == 0 or left_s - waited_s >= 0.1 - 1e-9
