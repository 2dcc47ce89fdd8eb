"""When nobody could have been heard: looks of the loop and questions of the writer, in every order."""

from __future__ import annotations

from sessionplane.plane.pauses import Pauses


def pauses() -> Pauses:
    """Looked at just now, every 100 ms."""
    return Pauses(now_ms=1_000, period_ms=100)


def test_looks_within_two_periods_are_no_pause() -> None:
    """Not a millisecond more."""
    seen = pauses()
    for now_ms in (1_200, 1_400):
        assert not seen.asked(now_ms)
        seen.look(now_ms)
        assert not seen.asked(now_ms)
    assert seen.asked(1_601)


def test_a_pause_counts_whoever_comes_first_after_it() -> None:
    """The writer sees it by itself, or hears of it from the look; once that it has, it is over."""
    for first in ("loop", "writer"):
        seen = pauses()
        if first == "loop":
            seen.look(5_000)
        assert seen.asked(5_000)
        seen.look(5_000)
        assert not seen.asked(5_000)
        assert not seen.asked(5_100)


def test_a_judgement_that_was_held_up_by_a_pause_does_not_use_it_up() -> None:
    """It judges by the time before the pause, so the next one has to know of it as well."""
    seen = pauses()
    seen.look(5_000)
    assert seen.asked(1_050)
    assert seen.asked(5_050)
    assert not seen.asked(5_100)
