"""Whatever ends, expires or is forgotten is judged by a clock that nobody can set."""

from __future__ import annotations

import pytest

from sessionplane.domain.runs import RunState
from sessionplane.plane import retention
from sessionplane.plane.retention import SessionName
from tests.support.planes import NAMESPACE, RUN_MS, START_MS, Bench

DAY_MS = 24 * 3_600_000


async def test_old_request_ids_are_forgotten(bench: Bench) -> None:
    """A request id is remembered for its time, and then free for another request."""
    await bench.start("a", request_id="r1")
    await bench.pass_time(1_000)
    bench.clock.wall += (
        10 * bench.limits.request_id_ms
    )  # somebody sets the machine's clock: no reason to forget
    bench.clock.monotonic += bench.limits.request_id_ms - 1_000
    await bench.plane.sweeper.sweep()
    assert len(bench.contents()["requests"]) == 1
    bench.clock.monotonic += 1
    await bench.plane.sweeper.sweep()
    assert bench.contents()["requests"] == []
    await bench.start("b", request_id="r1")


async def test_a_clock_that_is_set_ends_nothing_early(bench: Bench) -> None:
    """A wall clock that jumps a year ahead neither times a run out nor rejects one that waits."""
    await bench.start(run_id="a")
    await bench.claim("a", lease_ms=60_000)
    bench.clock.wall += 365 * 24 * 3_600_000
    await bench.plane.sweeper.sweep()
    assert bench.run("a").state is RunState.RUNNING


@pytest.mark.parametrize("set_by_ms", [-DAY_MS, DAY_MS])
async def test_a_clock_that_was_wrong_for_a_moment_moves_no_deadline(bench: Bench, set_by_ms: int) -> None:
    """A run that began to wait, and one that was claimed, while it was wrong: both end when their time has passed."""
    bench.clock.wall += set_by_ms
    await bench.start(run_id="waits")
    await bench.start("other", run_id="works")
    await bench.claim("works", lease_ms=2 * RUN_MS)
    bench.clock.wall -= set_by_ms
    for run_id, span_ms, state in (
        ("waits", START_MS, RunState.PENDING),
        ("works", RUN_MS, RunState.RUNNING),
    ):
        bench.clock.monotonic += span_ms - 1
        await bench.plane.sweeper.sweep()
        assert bench.run(run_id).state is state
        bench.clock.monotonic += 1
        await bench.plane.sweeper.sweep()
        assert bench.run(run_id).state is RunState.FINISHED
        bench.clock.monotonic -= span_ms


async def test_a_clock_that_is_set_back_keeps_no_interrupt_waiting(bench: Bench) -> None:
    """The grace of an interrupt passes by the time that has passed, whatever the wall clock says."""
    await bench.start(run_id="a")
    await bench.claim("a", lease_ms=60_000)
    await bench.interrupt(run_id="a", grace_ms=10_000)
    bench.clock.wall -= 3_600_000
    bench.clock.monotonic += 10_000
    await bench.plane.sweeper.sweep()
    assert bench.run("a").state is RunState.FINISHED


@pytest.mark.parametrize("set_by_ms", [-DAY_MS, DAY_MS])
async def test_a_clock_that_is_set_for_a_moment_does_not_move_the_end_of_what_is_deleted(
    bench: Bench, set_by_ms: int
) -> None:
    """What was deleted while the wall clock was wrong goes when its time has passed, neither sooner nor later."""
    session = (await bench.start()).view.session
    bench.clock.wall += set_by_ms
    await bench.delete()
    bench.clock.wall -= set_by_ms
    name = SessionName(NAMESPACE, session.session_id)
    for past_ms, left in ((bench.limits.deleted_ttl_ms - 1, True), (1, False)):
        bench.clock.advance(past_ms)
        while (await bench.do(retention.look, name)).more:
            pass
        assert (bench.plane.read(lambda tx: tx.session(*name)) is not None) is left
