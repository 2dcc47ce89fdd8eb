"""What a part of the self-test hands back."""

from __future__ import annotations

import pytest

from sessionplane.proof.parts import Outcome


@pytest.mark.parametrize(
    ("failures", "skipped", "ok"),
    [((), "", True), (("seed 7",), "", False), ((), "there is no strace here", False)],
)
def test_only_a_part_that_ran_and_found_nothing_is_ok(
    failures: tuple[str, ...], skipped: str, ok: bool
) -> None:
    """A failure is not OK, and neither is what did not run."""
    outcome = Outcome(
        name="cuts",
        claim="Nothing is lost.",
        checked=0 if skipped else 3,
        unit="cuts",
        failures=failures,
        seconds=0.1,
        skipped=skipped,
    )
    assert outcome.ok is ok
