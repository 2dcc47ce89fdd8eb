"""The judge of histories."""

from __future__ import annotations

from pathlib import Path

from sessionplane.proof.history.judge import PROMISES, judge
from sessionplane.proof.history.records import Recorder

DOCS = Path(__file__).resolve().parents[3] / "docs" / "promises.md"


def test_an_empty_history_breaks_nothing() -> None:
    """Nobody was told anything."""
    assert judge(Recorder(lambda: 0.0).history) == []


LAST = "In time"
"""The heading behind those of the validators: how long something takes is shown by a stopwatch, not by a recording."""


def test_every_promise_has_its_validator() -> None:
    """The judge knows the promises by their headings in the documentation, all of them, in that order."""
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    headings = [line[3:] for line in lines if line.startswith("## ")]
    assert headings[: headings.index(LAST)] == list(PROMISES)
