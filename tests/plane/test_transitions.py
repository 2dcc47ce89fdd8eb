"""Every edge of the session's table is walked by a use case, and nothing leads where the table has no edge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from itertools import product
from pathlib import Path

import pytest

from sessionplane.domain.errors import InvalidTransition
from sessionplane.domain.interrupts import InterruptMode
from sessionplane.domain.sessions import TRANSITIONS, SessionCause, SessionState
from sessionplane.plane import sessions
from sessionplane.v1 import session_pb2
from sessionplane.v1.event_pb2 import Event
from tests.support.planes import CLOSE_MS, GRACE_MS, KEY, Bench, open_bench
from tests.support.rows import rows
from tests.support.story import check_log

LINGER_MS, QUIET_MS = 2_000, 5_000
S, C = SessionState, SessionCause
EDGES = [(state, cause) for state, row in TRANSITIONS.items() for cause in row]
NO_EDGES = [pair for pair in product(SessionState, SessionCause) if pair not in EDGES]

Step = Callable[[Bench], Awaitable[object]]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A plane on which nobody waits for long."""
    bounds = {"detach_linger_ms": LINGER_MS, "detached_ttl_ms": QUIET_MS}
    async with open_bench(tmp_path / "plane.db", **bounds) as made:
        yield made


def active_run(bench: Bench) -> str:
    return bench.session().active_run_id


async def _detached(bench: Bench) -> None:
    await bench.publish((await bench.running()).run_id, "a")


async def _suspended(bench: Bench) -> None:
    await bench.active()
    await bench.suspend()


async def _closing(bench: Bench) -> None:
    await bench.active()
    await bench.close()


async def _ended(bench: Bench) -> None:
    await bench.interrupt(run_id=(await bench.start()).run.run_id)


REACH: Mapping[SessionState, Step] = {
    S.CREATED: lambda bench: bench.resolve(),
    S.STARTING: lambda bench: bench.running(),
    S.ACTIVE: lambda bench: bench.active(),
    S.DETACHED: _detached,
    S.SUSPENDED: _suspended,
    S.CLOSING: _closing,
    S.ENDED: _ended,
}
"""How a session comes to be in a state. In all but CREATED and ENDED a run is claimed."""


async def _claim(bench: Bench) -> None:
    await bench.claim((await bench.start()).run.run_id)


async def _finish_and_close(bench: Bench) -> None:
    if active_run(bench):
        await bench.finish(active_run(bench))
    await bench.close()


async def _leave(bench: Bench) -> None:
    """The last subscriber goes and stays away."""
    session_id = bench.session().session_id
    if bench.plane.attached_count(session_id):
        await bench.detach(session_id)
    await bench.pass_time(max(LINGER_MS, GRACE_MS))


async def _stay_quiet(bench: Bench) -> None:
    if active_run(bench):
        await bench.finish(active_run(bench))
    await bench.pass_time(QUIET_MS)


WAYS: Mapping[SessionCause, Step] = {
    C.RUN_CLAIMED: _claim,
    C.RUN_STARTED: lambda bench: bench.publish(active_run(bench), "a"),
    C.RUN_ENDED: lambda bench: bench.interrupt(run_id=active_run(bench), mode=InterruptMode.FORCE),
    C.ATTACHED: lambda bench: bench.attach(bench.session().session_id),
    C.DETACHED: _leave,
    C.SUSPENDED: lambda bench: bench.suspend(),
    C.SUSPEND_EXPIRED: _leave,
    C.CLOSE_REQUESTED: lambda bench: bench.close(),
    C.CLOSED: _finish_and_close,
    C.CLOSE_EXPIRED: lambda bench: bench.pass_time(CLOSE_MS),
    C.EXPIRED: _stay_quiet,
    C.SUPERSEDED: lambda bench: bench.reset(),
    C.DELETED: lambda bench: bench.delete(),
    C.RESUMED: lambda bench: bench.start(),
}
"""What brings a cause about, from most states."""


async def _start_and_interrupt(bench: Bench) -> None:
    await bench.interrupt(run_id=(await bench.start()).run.run_id)


OTHER_WAYS: Mapping[tuple[SessionState, SessionCause], Step] = {
    (S.CREATED, C.RUN_ENDED): _start_and_interrupt,
    (S.STARTING, C.CLOSED): lambda bench: bench.close(),
    (S.CLOSING, C.CLOSED): lambda bench: bench.start(),
}


def changes(log: list[Event]) -> list[tuple[str, str, str]]:
    """The changes of state among events: from, to, cause."""
    changed = [event.session_changed for event in log if event.HasField("session_changed")]
    state, cause = session_pb2.SessionState.Name, session_pb2.SessionCause.Name
    return [
        (
            state(each.from_state).removeprefix("SESSION_STATE_"),
            state(each.to_state).removeprefix("SESSION_STATE_"),
            cause(each.cause).removeprefix("SESSION_CAUSE_"),
        )
        for each in changed
    ]


@pytest.mark.parametrize(("state", "cause"), EDGES)
async def test_every_edge_is_walked_by_a_use_case(
    bench: Bench, state: SessionState, cause: SessionCause
) -> None:
    """Whoever brings the cause about moves the session along the edge, and the log says so."""
    await REACH[state](bench)
    session = bench.session()
    assert session.state is state
    await OTHER_WAYS.get((state, cause), WAYS[cause])(bench)
    log = bench.log_of(session.session_id)
    check_log(log)
    step = changes(log[session.head_sequence :])[0]
    assert step == (state, TRANSITIONS[state][cause], cause)


@pytest.mark.parametrize(("state", "cause"), NO_EDGES)
async def test_a_cause_without_an_edge_is_refused_and_changes_nothing(
    bench: Bench, state: SessionState, cause: SessionCause
) -> None:
    """The refusal names where the session is and what was wanted, and leaves every table and memory as it was."""
    await REACH[state](bench)
    session = bench.session()
    error = await bench.refused(
        InvalidTransition, bench.write(lambda tx, use: sessions.move(tx, session, cause, use))
    )
    assert (error.details["from"], error.details["to"]) == (state, cause)


@pytest.mark.parametrize("state", SessionState)
async def test_a_restart_is_no_edge(bench: Bench, state: SessionState) -> None:
    """Stopping and starting changes no row, however long it took; only what came due meanwhile is done by and by."""
    await REACH[state](bench)
    before = rows(bench.database)
    await bench.reopen(after_ms=10_000_000)
    assert rows(bench.database) == before


async def test_somebody_who_is_there_still_ends_a_suspension(bench: Bench) -> None:
    """The other way from SUSPENDED to ACTIVE: the grace passes while a subscriber that never left is attached."""
    await _suspended(bench)
    head = bench.session().head_sequence
    await bench.pass_time(GRACE_MS)
    assert changes(bench.log(KEY)[head:]) == [("SUSPENDED", "ACTIVE", "ATTACHED")]
