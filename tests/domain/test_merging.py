"""Who keeps a key: the order of claims."""

from __future__ import annotations

import pytest

from sessionplane.domain.merging import Rank, rank


def claim(updated: int = 5, *, canonical: bool = False, since: int = 5) -> Rank:
    return rank(updated_at_ms=updated, was_canonical=canonical, since_ms=since)


@pytest.mark.parametrize(
    ("keeper", "loser"),
    [
        (claim(6), claim(5, canonical=True, since=1)),
        (claim(canonical=True), claim(since=1)),
        (claim(since=4), claim(since=5)),
        (claim(canonical=True, since=4), claim(canonical=True, since=5)),
    ],
)
def test_the_least_rank_keeps_the_key(keeper: Rank, loser: Rank) -> None:
    """Who changed last, then whose spelling was canonical, then the older one."""
    assert keeper < loser


def test_equal_claims_have_equal_ranks() -> None:
    """Then the order in which they are named decides, and no sorting changes it."""
    assert claim() == claim()
