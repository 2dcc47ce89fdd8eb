"""Which runs may be offered again: those of runners that were never heard, and no others."""

from __future__ import annotations

from sessionplane.proof.history.facts import Facts
from sessionplane.proof.sim.offers import wrongly_offered
from tests.support.tale import Tale


def claimed() -> Tale:
    tale = Tale()
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")
    return tale


def test_a_claim_that_was_never_heard_of_is_offered_again() -> None:
    """Its answer may have been lost."""
    tale = claimed()
    tale.lapse("run-1")
    assert list(wrongly_offered(Facts(tale.told))) == []


def test_a_run_whose_runner_was_heard_is_not_offered_again() -> None:
    """What it did may be done twice."""
    tale = claimed()
    tale.publish("run-1", "a ")
    tale.lapse("run-1")
    assert len(list(wrongly_offered(Facts(tale.told)))) == 1


def test_a_run_is_lost_only_if_its_runner_was_heard() -> None:
    """One that nobody was ever heard of would have been offered again."""
    tale = claimed()
    tale.end(tale.runs["run-1"], "LOST", "LEASE_EXPIRED")
    assert len(list(wrongly_offered(Facts(tale.told)))) == 1
    tale = claimed()
    tale.publish("run-1", "a ")
    tale.end(tale.runs["run-1"], "LOST", "LEASE_EXPIRED")
    assert list(wrongly_offered(Facts(tale.told))) == []
