"""The bounds of time: what goes on for too long is seen, and what was given time is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessionplane.proof.history.facts import Facts
from sessionplane.proof.history.records import Happening
from sessionplane.proof.sim.plan import plan
from sessionplane.proof.sim.timing import overdue
from tests.support.tale import Tale

PLAN = replace(plan(0), jumps=(), commit_s=0.0)
LONG_S = 200.0


def under_way() -> Tale:
    tale = Tale()
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")
    tale.publish("run-1", "a ")
    return tale


@pytest.mark.parametrize(("silent_s", "found"), [(1.0, 0), (LONG_S, 1)])
def test_a_lease_that_was_silent_is_not_heard_any_more(silent_s: float, found: int) -> None:
    """A lease lasts two seconds, and a sweep comes within one more; a second is left to it."""
    tale = under_way()
    tale.now += silent_s
    tale.publish("run-1", "b ")
    assert len(list(overdue(PLAN, Facts(tale.told)))) == found


def test_whoever_was_away_gives_every_lease_again() -> None:
    """A machine that slept heard nobody."""
    tale = under_way()
    tale.now += LONG_S
    tale.happened(Happening.AWAKE)
    tale.publish("run-1", "b ")
    assert list(overdue(PLAN, Facts(tale.told))) == []


@pytest.mark.parametrize(("later_s", "found"), [(0.5, False), (LONG_S, True)])
def test_a_run_does_not_outlast_its_grace(later_s: float, found: bool) -> None:
    """It was asked to stop; its runner lives on and does not."""
    tale = under_way()
    tale.interrupt("run-1", "enough")
    tale.now += later_s
    tale.look("run-1")
    assert any("grace" in problem for problem in overdue(PLAN, Facts(tale.told))) == found


def test_a_run_has_all_of_its_time() -> None:
    """One that is rejected for want of a runner was there for as long as it may wait."""
    tale = Tale()
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.end(tale.runs["run-1"], "REJECTED", "DEADLINE")
    tale.look("run-1")
    assert len(list(overdue(PLAN, Facts(tale.told)))) == 1
