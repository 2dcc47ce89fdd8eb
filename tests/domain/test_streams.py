"""What a stream may be asked for: filters, and which ends can be gone on from."""

from __future__ import annotations

import pytest

from sessionplane.domain.events import Entry, EventKind, Place
from sessionplane.domain.streams import EVERYTHING, RESUMABLE, ClosingReason, Filter, Plan

DELTA, CUSTOM, TERMINAL = EventKind.OUTPUT_DELTA, EventKind.CUSTOM, EventKind.RUN_TERMINAL


def entry(kind: EventKind, run_id: str = "", name: str = "") -> Entry:
    """An event; of a custom one the bytes are its type."""
    return Entry(1, run_id, kind, name.encode(), b"")


def unread(_: Entry) -> str:
    """Nobody may ask for a type."""
    raise AssertionError


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
    assert {(kind, run) for kind, run in events if wanted.passes(entry(kind, run), unread)} == passing


@pytest.mark.parametrize(
    ("kinds", "passing"),
    [
        (set(), {(DELTA, ""), (TERMINAL, ""), (CUSTOM, "a"), (CUSTOM, "b")}),
        ({CUSTOM}, {(TERMINAL, ""), (CUSTOM, "a"), (CUSTOM, "b")}),
        ({DELTA}, {(DELTA, ""), (TERMINAL, "")}),
    ],
)
def test_types_choose_among_custom_events_only(
    kinds: set[EventKind], passing: set[tuple[EventKind, str]]
) -> None:
    """Of the custom events those of a wanted type pass, compared as a whole; other kinds are not touched."""
    wanted = Filter(kinds=frozenset(kinds), custom_types=frozenset({"a", "b"}))
    events = {(DELTA, ""), (TERMINAL, "")} | {(CUSTOM, name) for name in ("a", "b", "c", "ab", "A", "")}
    passed = {
        (kind, name)
        for kind, name in events
        if wanted.passes(entry(kind, name=name), lambda it: it.data.decode())
    }
    assert passed == passing


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
