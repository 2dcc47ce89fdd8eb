"""What a stream may be asked for: filters, and which ends can be gone on from."""

from __future__ import annotations

import pytest

from sessionplane.domain.events import EventKind, Place
from sessionplane.domain.streams import EVERYTHING, RESUMABLE, ClosingReason, Filter, Plan

DELTA, CUSTOM, TERMINAL = EventKind.OUTPUT_DELTA, EventKind.CUSTOM, EventKind.RUN_TERMINAL


@pytest.mark.parametrize(
    ("kinds", "run_id", "passing"),
    [
        (set(), "", {(kind, run) for kind in (DELTA, CUSTOM, TERMINAL) for run in ("", "one", "two")}),
        (
            {DELTA},
            "",
            {(DELTA, ""), (DELTA, "one"), (DELTA, "two")} | {(TERMINAL, r) for r in ("", "one", "two")},
        ),
        (set(), "one", {(DELTA, "one"), (CUSTOM, "one"), (TERMINAL, "one")}),
        ({CUSTOM}, "two", {(CUSTOM, "two"), (TERMINAL, "two")}),
    ],
)
def test_a_filter_passes_what_it_names(
    kinds: set[EventKind], run_id: str, passing: set[tuple[EventKind, str]]
) -> None:
    """An event passes by kind and run; a terminal passes every filter but another run's."""
    wanted = Filter(kinds=frozenset(kinds), run_id=run_id)
    events = {(kind, run) for kind in (DELTA, CUSTOM, TERMINAL) for run in ("", "one", "two")}
    assert {(kind, run) for kind, run in events if wanted.passes(kind, run)} == passing


def test_an_empty_filter_is_everything() -> None:
    """Filters are compared by what they say, so that equal ones share slices."""
    assert Filter() == EVERYTHING
    assert hash(Filter(run_id="one")) == hash(Filter(run_id="one"))


def test_only_ends_of_the_servers_making_are_resumable() -> None:
    """A stream that was cut short by the server, and whose session goes on, can be gone on with by its token."""
    assert {ClosingReason.DRAINING, ClosingReason.SLOW_CONSUMER, ClosingReason.MAX_AGE} == RESUMABLE


def test_a_plan_waits_for_nothing_unless_told() -> None:
    """A plan with only a beginning goes on for ever and delivers everything."""
    plan = Plan(begin=Place(3, b"x"))
    assert (plan.filter, plan.until, plan.until_run_id, plan.goal) == (EVERYTHING, None, "", None)
