"""Who is there: counts and lingers that a lost commit leaves as they were."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sessionplane.plane.presence import Attendance, Undo

LINGER_MS = 100


def state(attendance: Attendance) -> Any:
    return deepcopy((attendance._counts, list(attendance._lingers.items())))


def leave(attendance: Attendance, session_id: str, *, now_ms: int = 0) -> Undo:
    return attendance.leave("default", session_id, linger_until_ms=now_ms + LINGER_MS)


def test_streams_are_counted_by_session() -> None:
    """Each session has a count of its own, which follows those who arrive and leave."""
    attendance = Attendance()
    attendance.arrive("a")
    attendance.arrive("a")
    attendance.arrive("b")
    leave(attendance, "a")
    assert (attendance.attached("a"), attendance.attached("b"), attendance.attached("c")) == (1, 1, 0)


def test_a_session_lingers_behind_its_last_subscriber() -> None:
    """Nobody is missed while somebody is there or the linger lasts, and whoever returns ends it."""
    attendance = Attendance()
    attendance.arrive("a")
    attendance.arrive("a")
    leave(attendance, "a")
    assert not attendance.missed("a", now_ms=10_000)
    leave(attendance, "a")
    assert not attendance.missed("a", now_ms=LINGER_MS - 1)
    assert attendance.missed("a", now_ms=LINGER_MS)
    attendance.arrive("a")
    assert not attendance.missed("a", now_ms=10_000)
    assert attendance.overdue(now_ms=10_000, limit=9) == []


def test_a_session_that_nobody_came_to_is_missed() -> None:
    """After a restart there is no linger, and nobody is there."""
    assert Attendance().missed("a", now_ms=0)


def test_the_longest_gone_comes_first() -> None:
    """What is overdue is listed by the end of its linger, up to a limit, until it is given up."""
    attendance = Attendance()
    for now_ms, session_id in enumerate("abc"):
        leave(attendance, session_id, now_ms=now_ms)
    assert attendance.overdue(now_ms=LINGER_MS + 1, limit=9) == [("default", "a"), ("default", "b")]
    assert attendance.overdue(now_ms=LINGER_MS + 9, limit=2) == [("default", "a"), ("default", "b")]
    attendance.give_up("a")
    assert attendance.overdue(now_ms=LINGER_MS + 9, limit=2) == [("default", "b"), ("default", "c")]


def test_who_left_is_not_counted_after_a_lost_commit() -> None:
    """One arrives, another leaves, and the commit of both is lost: both are as before, and can leave again."""
    attendance = Attendance()
    attendance.arrive("a")
    before = state(attendance)
    undos = [attendance.arrive("a"), leave(attendance, "a")]
    for undo in reversed(undos):
        undo()
    assert state(attendance) == before
    leave(attendance, "a")
    assert attendance.missed("a", now_ms=LINGER_MS)


STEPS = st.lists(
    st.tuples(st.sampled_from(["arrive", "leave", "give_up"]), st.sampled_from("abc"), st.integers(0, 50)),
    max_size=12,
)


def apply(attendance: Attendance, steps: list[tuple[str, str, int]], now_ms: int) -> tuple[list[Undo], int]:
    undos = []
    for verb, session_id, passed_ms in steps:
        now_ms += passed_ms
        if verb == "leave" and attendance.attached(session_id):
            undos.append(leave(attendance, session_id, now_ms=now_ms))
        elif verb == "arrive":
            undos.append(attendance.arrive(session_id))
        elif verb == "give_up":
            undos.append(attendance.give_up(session_id))
    return undos, now_ms


@given(STEPS, STEPS)
def test_undoing_restores(kept: list[tuple[str, str, int]], lost: list[tuple[str, str, int]]) -> None:
    """Whatever was done and undone, latest first, counts and lingers are as before, in the order of their ends."""
    attendance = Attendance()
    _, now_ms = apply(attendance, kept, 0)
    counts, lingers = state(attendance)
    undos, _ = apply(attendance, lost, now_ms)
    for undo in reversed(undos):
        undo()
    after_counts, after_lingers = state(attendance)
    assert after_counts == counts
    assert dict(after_lingers) == dict(lingers)
    ends = [linger.until_ms for _, linger in after_lingers]
    assert ends == sorted(ends)
