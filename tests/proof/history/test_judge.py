"""The judge of histories."""

from __future__ import annotations

from sessionplane.proof.history.judge import PROMISES, judge
from sessionplane.proof.history.records import Happening, Recorder


def test_an_empty_history_breaks_nothing() -> None:
    """Nobody was told anything."""
    assert judge(Recorder(lambda: 0.0).history) == []


def test_what_the_server_complains_of_breaks_one_promise() -> None:
    """A complaint is loud, and nothing else."""
    recorder = Recorder(lambda: 0.0)
    recorder.happened(Happening.COMPLAINT, "a loop was restarted")
    assert {broken.promise for broken in judge(recorder.history)} == {"Loud"}
    assert "Loud" in PROMISES
