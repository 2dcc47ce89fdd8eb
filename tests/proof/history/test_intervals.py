"""Two judges of one question: interval arithmetic and a search through all orders agree about every register."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionplane.proof.history.intervals import NEVER, NOBODY, Read, Value, conflicts, overtakings, zones
from sessionplane.proof.history.search import is_linearizable

A, B, C = Value("ses_a"), Value("ses_b"), Value("ses_c")
SLICE = 500
"""As many reads as the search is asked about at once."""


def is_free_of_conflicts(reads: list[Read], freed_at: float = NEVER) -> bool:
    """What interval arithmetic says."""
    return not list(conflicts(reads, freed_at=freed_at))


def of(*reads: tuple[float, float, Value]) -> list[Read]:
    """Reads in short."""
    return [Read(*read) for read in reads]


@pytest.mark.parametrize(
    ("reads", "good"),
    [
        pytest.param(of(), True, id="nothing was read"),
        pytest.param(of((0, 9, NOBODY), (1, 2, A)), True, id="nobody, then A, though it took long"),
        pytest.param(of((0, 1, A), (2, 3, NOBODY)), False, id="A, then nobody"),
        pytest.param(of((0, 1, A), (2, 3, B)), True, id="A, then B"),
        pytest.param(of((0, 1, A), (2, 3, B), (4, 5, A)), False, id="A, B, and A again"),
        pytest.param(of((0, 3, A), (2, 5, B), (4, 6, A)), True, id="B around what is known of A"),
        pytest.param(of((0, 4, A), (1, 5, B), (3, 6, A)), True, id="B first or last, A beside it"),
        pytest.param(of((0, 9, B), (1, 2, A), (3, 4, A)), True, id="B around A"),
        pytest.param(of((0, 1, A), (2, 3, B), (2, 3, C), (4, 5, B), (4, 5, C)), False, id="B and C by turns"),
        pytest.param(of((0, 1, A), (1, 2, B)), True, id="a moment is shared"),
        pytest.param(
            of((0, 1, A), (5, 6, A), (1, 1, B)), True, id="at the very moment that A was first seen"
        ),
    ],
)
def test_both_judges_know_what_can_be_put_into_an_order(reads: list[Read], *, good: bool) -> None:
    """By hand: which reads one register can have answered."""
    assert (is_free_of_conflicts(reads), is_linearizable(reads)) == (good, good)


@pytest.mark.parametrize(("freed_at", "good"), [(1.5, True), (2.5, True), (3.5, False)])
def test_nobody_may_come_back_once_somebody_deleted(freed_at: float, *, good: bool) -> None:
    """A register is free again only behind the first deletion."""
    reads = of((0, 1, A), (2, 3, NOBODY), (4, 5, B))
    assert (is_free_of_conflicts(reads, freed_at), is_linearizable(reads, freed_at=freed_at)) == (good, good)


def test_a_value_that_is_known_to_be_older_may_not_be_seen_later() -> None:
    """What the logs say of the order forbids what the reads alone would allow."""
    found = zones(of((0, 1, B), (2, 3, A)))
    assert is_free_of_conflicts(of((0, 1, B), (2, 3, A)))
    assert [(one.value, other.value) for one, other in overtakings([found[A], found[B]])] == [(A, B)]
    assert list(overtakings([found[B], found[A]])) == []


def register(chance: Random, count: int) -> tuple[list[Read], float]:
    """Reads of a register in order: it changes at whole moments, and each read overlaps the moment when it happened."""
    length = max(2, count // 2)
    freed_at = chance.choice([NEVER, chance.randrange(length)])
    history, holder, number = [], NOBODY, 0
    for moment in range(length):
        if chance.random() < 0.2:
            number += 1
            free = moment >= freed_at and chance.random() < 0.5
            holder = NOBODY if free else Value(f"ses_{number}")
        history.append(holder)
    reads = []
    for _ in range(count):
        moment = chance.randrange(length)
        since, until = moment - chance.choice((0, 1, 3)), moment + chance.choice((0, 0.5, 1, 3))
        reads.append(Read(since, until, history[moment]))
    return reads, freed_at


def spoiled(chance: Random, reads: list[Read]) -> list[Read]:
    """The same with one thing wrong, which may show or not: another value, another time."""
    at = chance.randrange(len(reads))
    read, other = reads[at], chance.choice(reads)
    late = chance.choice((-4, 4))
    wrong = chance.choice(
        [replace(read, value=other.value), replace(read, since=read.since + late, until=read.until + late)]
    )
    return [*reads[:at], wrong, *reads[at + 1 :]]


@given(seed=st.integers(min_value=0), count=st.integers(1, 40), faults=st.integers(0, 3))
def test_both_judges_agree(seed: int, count: int, faults: int) -> None:
    """Whatever is wrong with the reads of a register that was right, both see it or neither does."""
    chance = Random(seed)
    reads, freed_at = register(chance, count)
    if not faults:
        assert is_free_of_conflicts(reads, freed_at)
    for _ in range(faults):
        reads = spoiled(chance, reads)
    assert is_free_of_conflicts(reads, freed_at) == is_linearizable(reads, freed_at=freed_at)


@pytest.mark.parametrize("seed", range(6))
def test_both_judges_agree_about_a_whole_slice(seed: int) -> None:
    """So they do about 500 reads at once, good and spoiled."""
    chance = Random(seed)
    reads, freed_at = register(chance, SLICE)
    assert is_linearizable(reads, freed_at=freed_at)
    assert is_free_of_conflicts(reads, freed_at)
    wrong = spoiled(chance, reads)
    assert is_free_of_conflicts(wrong, freed_at) == is_linearizable(wrong, freed_at=freed_at)
