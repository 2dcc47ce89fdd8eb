"""Kill -9 under load: what every client called and saw is held against the file, and every promise was kept."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sessionplane.proof.history.facts import Facts
from sessionplane.proof.history.intervals import NEVER
from sessionplane.proof.history.promises.one_key_one_session import deletions, reads_by_key
from sessionplane.proof.history.records import Happening, History, Incident
from sessionplane.proof.history.search import is_linearizable
from sessionplane.proof.history.traffic import MINIMUMS
from sessionplane.proof.kill.part import outcome, run
from sessionplane.proof.kill.play import Played, play

OPERATIONS = 20_000
KILLS = 20
SLICE = 500


def reads(history: History) -> int:
    """How many reads of keys were judged."""
    return sum(map(len, reads_by_key(Facts(history)).values()))


@pytest.mark.timeout(180)
def test_a_kill_under_load_breaks_nothing(tmp_path: Path) -> None:
    """Callers, runners and subscribers are at work, the server is killed: nothing is broken, and enough was at risk."""
    seen: list[tuple[int, int]] = []
    found = run(1, folder=tmp_path, progress=lambda *done: seen.append(done))
    assert not found.failures
    assert (found.checked, seen) == (1, [(1, 1)])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_forty_kills_under_load_break_nothing(tmp_path: Path) -> None:
    """The same, forty times on the same file."""
    found = run(40, folder=tmp_path, progress=lambda *_: None, seed=40)
    assert not found.failures


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_resolve_is_linearizable_over_twenty_thousand_operations_and_twenty_kills(
    tmp_path: Path,
) -> None:
    """Every read of every key can be put into one order, and a search through all orders agrees."""
    began_s = time.monotonic()
    minimums = {**MINIMUMS, "resolves": OPERATIONS // KILLS}
    played = await play(
        KILLS, seed=3, database=tmp_path / "kill.db", progress=lambda *_: None, minimums=minimums, racers=8
    )
    found = outcome(played, count=KILLS, seed=3, began_s=began_s)
    assert not found.failures
    assert reads(played.history) >= OPERATIONS
    facts = Facts(played.history)
    freed_at = deletions(facts)
    for key, slices in reads_by_key(facts).items():
        assert is_linearizable(slices[:SLICE], freed_at=freed_at.get(key, NEVER)), key


def test_a_play_in_which_nothing_was_at_risk_has_failed() -> None:
    """A server that was killed while nobody called it proves nothing, and says so."""
    idle = History(incidents=[Incident(1.0, Happening.CRASHED)])
    found = outcome(Played(history=idle, damage=()), count=1, seed=1, began_s=0.0)
    assert len(found.failures) == len(MINIMUMS)


def test_a_play_that_does_not_end_has_failed() -> None:
    """What was due and did not come is a finding, whatever else was good."""
    found = outcome(
        Played(history=History(), damage=(), cut_short="TimeoutError"), count=1, seed=1, began_s=0.0
    )
    assert any(each.startswith("it did not come to its end") for each in found.failures)


def test_damage_in_the_file_is_a_finding() -> None:
    """What the file says of itself counts, whatever clients saw."""
    found = outcome(Played(history=History(), damage=["a row is missing"]), count=1, seed=1, began_s=0.0)
    assert "the file: a row is missing; again: python -m sessionplane.proof.kill 1 1" in found.failures
