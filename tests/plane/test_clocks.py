"""Whatever ends, expires or is forgotten is judged by a clock that nobody can set."""

from __future__ import annotations

from sessionplane.domain.runs import RunState
from tests.support.planes import Bench


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


async def test_a_clock_that_is_set_back_keeps_no_interrupt_waiting(bench: Bench) -> None:
    """The grace of an interrupt passes by the time that has passed, whatever the wall clock says."""
    await bench.start(run_id="a")
    await bench.claim("a", lease_ms=60_000)
    await bench.interrupt(run_id="a", grace_ms=10_000)
    bench.clock.wall -= 3_600_000
    bench.clock.monotonic += 10_000
    await bench.plane.sweeper.sweep()
    assert bench.run("a").state is RunState.FINISHED
