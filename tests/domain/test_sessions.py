"""The states of a session: every edge that the specification names, and no other."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from sessionplane.domain.errors import InvalidTransition
from sessionplane.domain.limits import DEFAULT, Limits
from sessionplane.domain.sessions import (
    TRANSITIONS,
    SessionCause,
    SessionState,
    allows,
    compact_at_ms,
    due_at_ms,
    next_state,
)
from tests.support.values import session

EDGES = """
    CREATED    RUN_CLAIMED      STARTING
    CREATED    CLOSED           ENDED
    CREATED    SUPERSEDED       ENDED
    CREATED    DELETED          ENDED
    CREATED    EXPIRED          ENDED
    CREATED    RUN_ENDED        ENDED
    STARTING   RUN_STARTED      ACTIVE
    STARTING   CLOSED           ENDED
    STARTING   SUPERSEDED       ENDED
    STARTING   DELETED          ENDED
    STARTING   RUN_ENDED        ENDED
    ACTIVE     DETACHED         DETACHED
    ACTIVE     SUSPENDED        SUSPENDED
    ACTIVE     CLOSE_REQUESTED  CLOSING
    ACTIVE     CLOSED           ENDED
    ACTIVE     SUPERSEDED       ENDED
    ACTIVE     DELETED          ENDED
    DETACHED   ATTACHED         ACTIVE
    DETACHED   SUSPENDED        SUSPENDED
    DETACHED   CLOSE_REQUESTED  CLOSING
    DETACHED   CLOSED           ENDED
    DETACHED   SUPERSEDED       ENDED
    DETACHED   DELETED          ENDED
    DETACHED   EXPIRED          ENDED
    SUSPENDED  ATTACHED         ACTIVE
    SUSPENDED  SUSPEND_EXPIRED  DETACHED
    SUSPENDED  CLOSE_REQUESTED  CLOSING
    SUSPENDED  CLOSED           ENDED
    SUSPENDED  SUPERSEDED       ENDED
    SUSPENDED  DELETED          ENDED
    CLOSING    RUN_ENDED        ENDED
    CLOSING    CLOSE_EXPIRED    ENDED
    CLOSING    CLOSED           ENDED
    CLOSING    SUPERSEDED       ENDED
    CLOSING    DELETED          ENDED
    ENDED      RESUMED          CREATED
"""
"""from, cause, to: what docs/lifecycle.md promises. A session suspended with somebody attached wakes by ATTACHED."""

ALLOWED = {
    (SessionState(state), SessionCause(cause)): SessionState(target)
    for state, cause, target in (line.split() for line in EDGES.strip().splitlines())
}
PAIRS = list(product(SessionState, SessionCause))


@pytest.mark.parametrize(("state", "cause"), PAIRS)
def test_a_cause_leads_where_the_specification_says(state: SessionState, cause: SessionCause) -> None:
    """Each pair of state and cause is an edge of the specification or refused with both names."""
    target = ALLOWED.get((state, cause))
    assert allows(state, cause) is (target is not None)
    if target is not None:
        assert next_state(state, cause) is target
        return
    with pytest.raises(InvalidTransition) as refused:
        next_state(state, cause)
    assert refused.value.details == {"subject": "The session", "from": state, "to": cause}


def test_every_state_has_a_row() -> None:
    """The table is total, so that asking it never fails by a missing state."""
    assert set(TRANSITIONS) == set(SessionState)


def test_every_state_can_be_reached_and_left() -> None:
    """No state is a dead end or an island: ENDED is left by resuming."""
    targets = {target for row in TRANSITIONS.values() for target in row.values()}
    assert targets == set(SessionState)
    assert all(TRANSITIONS.values())


def test_the_table_cannot_be_changed() -> None:
    """What may happen is fixed once the module is loaded."""
    with pytest.raises(TypeError):
        TRANSITIONS[SessionState.ENDED] = {}  # type: ignore[index]


def test_every_live_state_can_lose_its_key() -> None:
    """Losing the key or being deleted ends a session from wherever it is."""
    for state in set(SessionState) - {SessionState.ENDED}:
        assert next_state(state, SessionCause.SUPERSEDED) is SessionState.ENDED
        assert next_state(state, SessionCause.DELETED) is SessionState.ENDED


@pytest.mark.parametrize(
    ("active_run_id", "queued_run_count", "running"),
    [("", 0, False), ("run_1", 0, True), ("", 1, True), ("run_1", 2, True)],
)
def test_queued_runs_count_as_running(active_run_id: str, queued_run_count: int, running: bool) -> None:
    """A session runs while any run of it is unfinished."""
    asked = session(active_run_id=active_run_id, queued_run_count=queued_run_count)
    assert asked.running is running


QUIET_MS = 1_000_000
DUE_MS = {
    "CREATED": QUIET_MS + DEFAULT.detached_ttl_ms,
    "STARTING": None,
    "ACTIVE": None,
    "DETACHED": QUIET_MS + DEFAULT.detached_ttl_ms,
    "SUSPENDED": 77,
    "CLOSING": 77,
    "ENDED": QUIET_MS + DEFAULT.ended_ttl_ms,
}


@pytest.mark.parametrize("state", SessionState)
def test_each_state_has_its_own_moment_to_end(state: SessionState) -> None:
    """What is quiet expires, what has a deadline ends then, and what is in use waits for others."""
    one = session(state=state, quiet_since_ms=QUIET_MS, deadline_at_ms=77)
    assert due_at_ms(one, judged_ms=QUIET_MS, limits=DEFAULT) == DUE_MS[state]


def test_a_running_session_never_expires() -> None:
    """A queued run is a run."""
    one = session(state=SessionState.DETACHED, quiet_since_ms=1, queued_run_count=1)
    assert due_at_ms(one, judged_ms=QUIET_MS, limits=DEFAULT) is None


@pytest.mark.parametrize(("touched_ms", "since_ms"), [(500, QUIET_MS), (QUIET_MS + 5, QUIET_MS + 5)])
def test_the_latest_sign_of_life_counts(touched_ms: int, since_ms: int) -> None:
    """A user's interaction counts like a detach or a run's end."""
    one = session(state=SessionState.DETACHED, quiet_since_ms=QUIET_MS, last_interaction_at_ms=touched_ms)
    due_ms = due_at_ms(one, judged_ms=QUIET_MS + 10, limits=DEFAULT)
    assert due_ms == since_ms + DEFAULT.detached_ttl_ms


def test_an_interaction_in_the_future_keeps_no_session_alive() -> None:
    """It was written by a clock that was set back since."""
    one = session(state=SessionState.DETACHED, quiet_since_ms=QUIET_MS, last_interaction_at_ms=QUIET_MS + 11)
    due_ms = due_at_ms(one, judged_ms=QUIET_MS + 10, limits=DEFAULT)
    assert due_ms == QUIET_MS + DEFAULT.detached_ttl_ms


def test_the_rows_of_a_deleted_session_are_kept_for_a_while() -> None:
    """Nothing of its life is due any more; what is left of it is retention's."""
    one = session(state=SessionState.ENDED, quiet_since_ms=QUIET_MS, deleted_at_ms=QUIET_MS + 9)
    assert due_at_ms(one, judged_ms=QUIET_MS, limits=DEFAULT) is None
    for planned in (None, QUIET_MS):
        kept = replace(one, compact_at_ms=planned)
        compact_ms = compact_at_ms(kept, judged_ms=QUIET_MS, limits=DEFAULT)
        assert compact_ms == QUIET_MS + 9 + DEFAULT.deleted_ttl_ms


@pytest.mark.parametrize("planned", [None, QUIET_MS + 5])
def test_retention_looks_at_a_log_that_is_too_long_now(planned: int | None) -> None:
    """What was removed does not count; at its bounds a log is looked at when that was planned, if it was."""
    limits = Limits(log_events_max=10, log_bytes_max=1_000)
    full = session(
        head_sequence=17, floor_sequence=7, log_bytes=1_700, floor_log_bytes=700, compact_at_ms=planned
    )
    assert (full.log_events, full.log_size) == (10, 1_000)
    assert compact_at_ms(full, judged_ms=QUIET_MS, limits=limits) == planned
    for over in (replace(full, head_sequence=18), replace(full, log_bytes=1_701)):
        assert compact_at_ms(over, judged_ms=QUIET_MS, limits=limits) == QUIET_MS
