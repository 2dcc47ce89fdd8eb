"""What a history must hold before its verdict is worth anything."""

from __future__ import annotations

from sessionplane.proof.history.judge import Verdict, judgement
from sessionplane.proof.history.records import Happening
from sessionplane.proof.history.traffic import MINIMUMS, lacking, lives
from tests.support.tale import Tale


def a_busy_life(tale: Tale, name: str) -> None:
    """Enough of everything."""
    stream = None
    for number in range(MINIMUMS["resolves"]):
        tale.resolve(f"{name}-{number}")
    for number in range(MINIMUMS["publications"]):
        run_id, key = f"{name}-run-{number}", f"{name}-{number}"
        stream = tale.follow(tale.held(key).session_id)
        tale.begin(key, run_id)
        tale.claim(run_id)
        tale.publish(run_id, f"{run_id} ")
        tale.interrupt(run_id, run_id)
        tale.finish(run_id)
        tale.deliver(stream)
    tale.happened(Happening.CRASHED)
    tale.happened(Happening.READY)


def test_enough_before_each_crash_is_a_verdict() -> None:
    """Two busy lives and no promise broken: kept."""
    tale = Tale()
    a_busy_life(tale, "first")
    a_busy_life(tale, "second")
    assert judgement(tale.told).verdict is Verdict.KEPT
    assert len(lives(tale.told)) == 2


def test_too_little_before_one_crash_is_invalid() -> None:
    """The second crash met an idle server: not a promise is broken, and nothing is shown."""
    tale = Tale()
    a_busy_life(tale, "first")
    tale.happened(Happening.CRASHED)
    found = judgement(tale.told)
    assert found.verdict is Verdict.INVALID
    assert found.lacking == [
        f"before crash 2 there were 0 {kind}, at least {least} are needed" for kind, least in MINIMUMS.items()
    ]


def test_a_history_without_a_crash_is_invalid() -> None:
    """However much there was, nothing was at risk."""
    assert lacking(Tale().told) == ["the server was never killed"]


def test_what_is_broken_is_broken_however_little_there_was() -> None:
    """A finding needs no traffic."""
    tale = Tale()
    tale.happened(Happening.COMPLAINT, "a bug")
    assert judgement(tale.told).verdict is Verdict.BROKEN


def test_a_retry_is_no_traffic() -> None:
    """An answer that only tells of what was done before does not count as a run that was accepted."""
    tale = Tale()
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.begin("chat", "run-1").answer.disposition = 5
    tale.happened(Happening.CRASHED)
    assert lives(tale.told)[0]["runs accepted"] == 1
