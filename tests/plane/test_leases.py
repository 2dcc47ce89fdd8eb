"""When leases run out: a heap that extensions overtake, checked against a plain dictionary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sessionplane.plane.leases import Leases, RunRef, Term

A, B, C = (RunRef("default", f"run_{name}") for name in "abc")


def due(leases: Leases, now_ms: int, limit: int = 100) -> list[RunRef]:
    return leases.due(now_ms=now_ms, limit=limit)


def test_a_lease_runs_out_when_its_time_is_over() -> None:
    """A lease is due from its deadline on, not a millisecond before."""
    leases = Leases()
    assert leases.grant(A, now_ms=100, lease_ms=50) == Term(150, 50)
    assert due(leases, 149) == []
    assert due(leases, 150) == [A]


def test_what_is_due_comes_again_until_it_is_dropped() -> None:
    """A lapse that could not be dealt with is found by the next sweep too."""
    leases = Leases()
    leases.grant(A, now_ms=0, lease_ms=10)
    assert due(leases, 10) == due(leases, 10) == [A]
    leases.drop(A)
    assert due(leases, 10) == []
    assert len(leases) == 0


def test_an_extension_counts() -> None:
    """A lease that was extended is due at its new deadline only."""
    leases = Leases()
    leases.grant(A, now_ms=0, lease_ms=10)
    leases.grant(A, now_ms=9, lease_ms=10)
    assert due(leases, 18) == []
    assert due(leases, 19) == [A]


def test_a_shorter_lease_counts() -> None:
    """A lease that was granted anew for less is due at the earlier deadline."""
    leases = Leases()
    leases.grant(A, now_ms=0, lease_ms=100)
    leases.grant(A, now_ms=0, lease_ms=10)
    assert due(leases, 10) == [A]


def test_the_earliest_come_first_up_to_a_limit() -> None:
    """A step takes the longest overdue leases, each once."""
    leases = Leases()
    for ref, lease_ms in ((C, 30), (A, 10), (B, 20)):
        leases.grant(ref, now_ms=0, lease_ms=lease_ms)
    assert due(leases, 99, limit=2) == [A, B]
    leases.drop(A)
    leases.drop(B)
    assert due(leases, 99, limit=2) == [C]


def test_all_can_be_granted_again() -> None:
    """After a pause every lease begins anew, each for its own span."""
    leases = Leases()
    leases.grant(A, now_ms=0, lease_ms=10)
    leases.grant(B, now_ms=0, lease_ms=20)
    leases.grant_all(now_ms=1_000)
    assert (leases.term(A), leases.term(B)) == (Term(1_010, 10), Term(1_020, 20))
    assert due(leases, 1_009) == []
    assert due(leases, 1_010) == [A]


def test_restoring_undoes_a_grant_and_a_drop() -> None:
    """What `term` returned before can be put back: no lease, or the old deadline."""
    leases = Leases()
    leases.grant(A, now_ms=0, lease_ms=10)
    leases.restore(A, None)
    assert leases.term(A) is None
    before = leases.grant(A, now_ms=0, lease_ms=10)
    leases.grant(A, now_ms=5, lease_ms=10)
    leases.restore(A, before)
    assert due(leases, 10) == [A]
    leases.drop(A)
    leases.restore(A, before)
    assert due(leases, 10) == [A]


@dataclass
class Model:
    """What leases are, without a heap."""

    terms: dict[RunRef, Term] = field(default_factory=dict)

    def due(self, now_ms: int) -> set[RunRef]:
        return {ref for ref, term in self.terms.items() if term.deadline_ms <= now_ms}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), st.sampled_from([A, B, C]), st.integers(1, 60)),
        st.tuples(
            st.sampled_from(["drop", "lose grant", "lose drop"]), st.sampled_from([A, B, C]), st.just(30)
        ),
        st.tuples(st.sampled_from(["pass", "look"]), st.just(A), st.integers(0, 50)),
        st.tuples(st.just("grant all"), st.just(A), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
def test_the_heap_agrees_with_a_plain_dictionary(steps: list[tuple[str, RunRef, int]]) -> None:
    """Whatever is granted, extended, dropped, undone and looked at, what is due is what a dictionary says."""
    leases, model, now_ms = Leases(), Model(), 0
    for verb, ref, ms in steps:
        now_ms = _step(leases, model, verb, ref, ms=ms, now_ms=now_ms)
        assert set(due(leases, now_ms)) == model.due(now_ms)
        assert {each: leases.term(each) for each in model.terms} == model.terms
        assert len(leases) == len(model.terms)


def test_refused_publications_leave_nothing_in_the_heap() -> None:
    """A runner that is refused again and again, each time with its lease put back, costs no memory."""
    leases = Leases()
    for now_ms in range(1_000):
        before = leases.grant(A, now_ms=now_ms, lease_ms=30)
        leases.grant(A, now_ms=now_ms + 1, lease_ms=30)
        leases.restore(A, before)
        due(leases, now_ms)
    assert len(leases._heap) <= 2


def _step(leases: Leases, model: Model, verb: str, ref: RunRef, **at: Any) -> int:
    now_ms: int = at["now_ms"]
    before = leases.term(ref)
    match verb:
        case "grant":
            model.terms[ref] = leases.grant(ref, now_ms=now_ms, lease_ms=at["ms"])
        case "drop":
            leases.drop(ref)
            model.terms.pop(ref, None)
        case "lose grant":
            leases.grant(ref, now_ms=now_ms, lease_ms=at["ms"])
            leases.restore(ref, before)
        case "lose drop":
            leases.drop(ref)
            leases.restore(ref, before)
        case "grant all":
            leases.grant_all(now_ms=now_ms)
            model.terms = {
                each: Term(now_ms + term.lease_ms, term.lease_ms) for each, term in model.terms.items()
            }
        case "pass" | "look":
            now_ms += at["ms"]
    return now_ms
