"""The judge of histories."""

from __future__ import annotations

from pathlib import Path

from sessionplane.proof.history.judge import PROMISES, judge
from sessionplane.proof.history.records import Recorder

DOCS = Path(__file__).resolve().parents[3] / "docs" / "promises.md"


def test_an_empty_history_breaks_nothing() -> None:
    """Nobody was told anything."""
    assert judge(Recorder(lambda: 0.0).history) == []


MEASURED = {"In time"}
"""Promises about how long something takes: a stopwatch shows them, not a recording."""


def test_every_promise_has_its_validator() -> None:
    """The judge knows the promises by their headings in the documentation, all of them, in that order."""
    page = DOCS.read_text(encoding="utf-8").partition("\n## Track record")[0]
    headings = [line[3:] for line in page.splitlines() if line.startswith("## ")]
    assert [heading for heading in headings if heading not in MEASURED] == list(PROMISES)
