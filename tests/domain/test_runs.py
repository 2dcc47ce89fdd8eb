"""The states and ends of a run: every one that the specification names, and no other."""

from __future__ import annotations

from itertools import product

import pytest

from sessionplane.domain.errors import InvalidTransition
from sessionplane.domain.runs import (
    CLAIMED,
    ENDS,
    FIRST_STATES,
    PLACE_AT_END,
    REPORTABLE,
    TRANSITIONS,
    RunCause,
    RunOutcome,
    RunState,
    check_move,
    place_at_end,
    place_first,
    place_returned,
)
from tests.support.values import run, terminal

EDGES = {
    ("QUEUED", "PENDING"),
    ("QUEUED", "FINISHED"),
    ("PENDING", "RUNNING"),
    ("PENDING", "FINISHED"),
    ("RUNNING", "PENDING"),
    ("RUNNING", "INTERRUPTING"),
    ("RUNNING", "FINISHED"),
    ("INTERRUPTING", "FINISHED"),
}
ENDINGS = {
    ("SUCCEEDED", "RUNNER"),
    ("FAILED", "RUNNER"),
    ("INTERRUPTED", "RUNNER"),
    ("INTERRUPTED", "INTERRUPT"),
    ("INTERRUPTED", "FORCED"),
    ("INTERRUPTED", "SESSION_ENDED"),
    ("LOST", "LEASE_EXPIRED"),
    ("TIMED_OUT", "DEADLINE"),
    ("REJECTED", "DEADLINE"),
    ("REJECTED", "SESSION_ENDED"),
    ("REJECTED", "POLICY"),
}


@pytest.mark.parametrize(("state", "target"), list(product(RunState, RunState)))
def test_a_run_moves_along_the_specified_edges_only(state: RunState, target: RunState) -> None:
    """Each pair of states is an edge of the specification or refused with both names."""
    if (state, target) in EDGES:
        check_move(state, target)
        return
    with pytest.raises(InvalidTransition) as refused:
        check_move(state, target)
    assert refused.value.details == {"subject": "The run", "from": state, "to": target}


def test_the_three_parts_of_a_line_never_overlap() -> None:
    """Those put first come newest first, then what came back oldest first, then the others as they came."""
    sequences = (1, 2, 50_000, 1 << 40)
    line = [place_first(each) for each in reversed(sequences)]
    line += [place_returned(each) for each in sequences]
    assert all(place < PLACE_AT_END for place in line)
    line += [place_at_end(each) for each in sequences]
    assert line == sorted(set(line))


@pytest.mark.parametrize(("outcome", "cause"), list(product(RunOutcome, RunCause)))
def test_a_run_ends_in_the_specified_ways_only(outcome: RunOutcome, cause: RunCause) -> None:
    """A terminal with an outcome and a cause that do not belong together cannot be built."""
    if (outcome, cause) in ENDINGS:
        assert terminal(outcome=outcome, cause=cause).cause is cause
        return
    with pytest.raises(AssertionError, match=f"a run cannot end {outcome} by {cause}"):
        terminal(outcome=outcome, cause=cause)


def test_the_tables_are_total() -> None:
    """Each state has a row of successors and each outcome a row of causes, so asking never fails."""
    assert set(TRANSITIONS) == set(RunState)
    assert set(ENDS) == set(RunOutcome)
    assert all(ENDS.values())


def test_every_unfinished_run_can_end() -> None:
    """FINISHED can be reached at once from every other state, and left from none."""
    for state in set(RunState) - {RunState.FINISHED}:
        check_move(state, RunState.FINISHED)
    assert not TRANSITIONS[RunState.FINISHED]


def test_a_runner_may_report_what_it_alone_can_know() -> None:
    """Runners report SUCCEEDED, FAILED and INTERRUPTED, which are the outcomes with the cause RUNNER."""
    assert {outcome for outcome, causes in ENDS.items() if RunCause.RUNNER in causes} == REPORTABLE


def test_runs_begin_unclaimed() -> None:
    """A run begins in line or in the lane, and a runner holds it in the two states behind those."""
    assert {RunState.QUEUED, RunState.PENDING} == FIRST_STATES
    assert {RunState.RUNNING, RunState.INTERRUPTING} == CLAIMED


def test_the_start_deadline_counts_all_time_in_pending() -> None:
    """What a run waited in earlier stays is taken off its start_timeout."""
    waiting = run(pending_since_ms=1_000, pending_ms=300, start_timeout_ms=500)
    assert waiting.start_deadline_ms == 1_200
    assert run(state=RunState.RUNNING, pending_since_ms=None).start_deadline_ms is None


def test_the_run_deadline_counts_from_the_first_claim() -> None:
    """A run that was never claimed has no run deadline; afterwards it has one in whatever state it is."""
    assert run().run_deadline_ms is None
    assert run(claimed_at_ms=1_000, run_timeout_ms=70).run_deadline_ms == 1_070


@pytest.mark.parametrize(
    ("claimed_at_ms", "pending_since_ms", "deadline_ms"),
    [(None, None, None), (None, 100, 150), (10, None, 90), (10, 100, 90), (90, 100, 150)],
)
def test_the_deadline_is_the_nearer_one(
    claimed_at_ms: int | None, pending_since_ms: int | None, deadline_ms: int | None
) -> None:
    """Of the two deadlines the nearer one is shown, and none while neither clock runs."""
    asked = run(
        claimed_at_ms=claimed_at_ms,
        pending_since_ms=pending_since_ms,
        start_timeout_ms=50,
        run_timeout_ms=80,
    )
    assert asked.deadline_ms == deadline_ms


def test_a_finished_run_has_no_deadline() -> None:
    """The end of a run takes its deadline away."""
    assert run(state=RunState.FINISHED, claimed_at_ms=10, pending_since_ms=None).deadline_ms is None
