"""The plane itself: whoever waits is told after the commit, once, and nobody's leaving takes anything back."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from sessionplane.domain.errors import (
    Draining,
    Overloaded,
    RequestIdReused,
    RunNotFound,
)
from sessionplane.domain.runs import RunState
from sessionplane.domain.sessions import ConflictPolicy, SessionState
from sessionplane.domain.streams import Presence
from sessionplane.plane import lifecycle, sessions
from sessionplane.plane.claims import Claimed, ClaimRequest
from sessionplane.plane.streams import StreamRequest
from tests.support.planes import KEY, LEASE_MS, NAMESPACE, Bench, call, open_bench, ref
from tests.support.stores import HeldWriter
from tests.support.waits import LONG_S, waiting

T = TypeVar("T")


def claim(
    bench: Bench, run_id: str = "", *, pool: str = "", wait_s: float = LONG_S
) -> Coroutine[Any, Any, Claimed | None]:
    request = ClaimRequest(call=call("ClaimRun"), run_id=run_id, pool=pool, lease_ms=LEASE_MS)
    return bench.plane.claim(request, wait_s=wait_s)


def stream(name: str = KEY, **given: Any) -> StreamRequest:
    return StreamRequest(namespace=NAMESPACE, session=ref(name), **given)


async def test_a_refusal_whose_caller_has_left_is_not_logged(bench: Bench) -> None:
    """A resolve that is refused after its caller went away leaves no word in the log, which would bear the key."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with HeldWriter(bench.store):
        first = asyncio.ensure_future(bench.start())
        await asyncio.sleep(0)
        refused = asyncio.ensure_future(bench.resolve(conflict=ConflictPolicy.FAIL))
        await asyncio.sleep(0)
        refused.cancel()
        await asyncio.wait([refused])
    await first
    await bench.write(lambda *_: None)
    assert refused.cancelled()
    del refused
    gc.collect()
    assert complaints == []


async def test_a_finished_run_is_not_waited_for(bench: Bench) -> None:
    """WaitRun of a run that has ended answers at once."""
    run = await bench.running()
    await bench.finish(run.run_id)
    view = await bench.plane.wait_run(NAMESPACE, run.run_id, wait_s=LONG_S)
    assert view.run.state is RunState.FINISHED


async def test_waiting_ends_with_the_run(bench: Bench, tasks: list[asyncio.Task[Any]]) -> None:
    """Everybody who waits for a run is told of its end."""
    run = await bench.running()
    waits = [
        await waiting(tasks, bench, bench.plane.wait_run(NAMESPACE, run.run_id, wait_s=LONG_S))
        for _ in range(3)
    ]
    await bench.heartbeat(run.run_id)
    assert not any(wait.done() for wait in waits)
    await bench.finish(run.run_id)
    for wait in waits:
        assert (await wait).run.state is RunState.FINISHED


async def test_waiting_changes_no_run(bench: Bench) -> None:
    """When the time is over the answer is the run as it is."""
    run = await bench.running()
    before = bench.contents()
    view = await bench.plane.wait_run(NAMESPACE, run.run_id, wait_s=0)
    assert view.run == run
    assert bench.contents() == before
    assert len(bench.plane.bells) == 0


async def test_an_unknown_run_cannot_be_waited_for(bench: Bench) -> None:
    """Waiting for what does not exist is refused at once, and leaves no waiter behind."""
    with pytest.raises(RunNotFound):
        await bench.plane.wait_run(NAMESPACE, "run_unknown", wait_s=LONG_S)
    assert len(bench.plane.bells) == 0


async def test_waiters_are_bounded(tmp_path: Path, tasks: list[asyncio.Task[Any]]) -> None:
    """Over waiters_max a waiting call is refused."""
    async with open_bench(tmp_path / "plane.db", waiters_max=1) as bench:
        run = await bench.running()
        await waiting(tasks, bench, bench.plane.wait_run(NAMESPACE, run.run_id, wait_s=LONG_S))
        with pytest.raises(Overloaded):
            await bench.plane.wait_run(NAMESPACE, run.run_id, wait_s=LONG_S)


async def test_a_claim_waits_for_a_run_of_its_pool(bench: Bench, tasks: list[asyncio.Task[Any]]) -> None:
    """A runner that came first gets the run that comes later."""
    waiter = await waiting(tasks, bench, claim(bench, pool="gpu"))
    await bench.start("other", pool="cpu")
    assert not waiter.done()
    started = await bench.start(pool="gpu")
    claimed = await waiter
    assert claimed is not None
    assert claimed.run.run.run_id == started.run.run_id


async def test_runs_of_one_commit_reach_all_who_wait(bench: Bench, tasks: list[asyncio.Task[Any]]) -> None:
    """Two runs of a pool that begin in one commit are claimed by the two runners that wait."""
    waiters = [await waiting(tasks, bench, claim(bench, pool="gpu")) for _ in range(3)]
    async with HeldWriter(bench.store):
        starts = [asyncio.ensure_future(bench.start(name, pool="gpu")) for name in ("a", "b")]
        await asyncio.sleep(0)
    begun = {(await start).run.run_id for start in starts}
    async with asyncio.timeout(5):
        claimed = [await waiter for waiter in waiters[:2]]
    assert {each.run.run.run_id for each in claimed if each} == begun
    assert not waiters[2].done()


async def test_a_waiter_that_goes_away_loses_no_run(bench: Bench, tasks: list[asyncio.Task[Any]]) -> None:
    """When the first in turn is rung and gone, the next one gets the run."""
    first, second = [await waiting(tasks, bench, claim(bench, pool="gpu")) for _ in range(2)]
    async with HeldWriter(bench.store):
        started = asyncio.ensure_future(bench.start(pool="gpu"))
        await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(5):
        claimed = await second
    assert claimed is not None
    assert claimed.run.run.run_id == (await started).run.run_id


async def test_a_ring_that_came_to_nothing_goes_to_the_next(
    bench: Bench, tasks: list[asyncio.Task[Any]]
) -> None:
    """The first in turn is refused as it claims: the next one is woken instead of sleeping beside a run."""
    asked = ClaimRequest(call=call("ClaimRun", "mine", "gpu"), pool="gpu", lease_ms=LEASE_MS)
    first = await waiting(tasks, bench, bench.plane.claim(asked, wait_s=LONG_S))
    second = await waiting(tasks, bench, claim(bench, pool="gpu"))
    other = await bench.start("other")
    await bench.claim(other.run.run_id, request_id="mine")
    started = await bench.start(pool="gpu")
    async with asyncio.timeout(5):
        with pytest.raises(RequestIdReused):
            await first
        claimed = await second
    assert claimed is not None
    assert claimed.run.run.run_id == started.run.run_id


async def test_a_claim_by_id_waits_for_its_turn(bench: Bench, tasks: list[asyncio.Task[Any]]) -> None:
    """A runner of a queued run gets it when it is promoted."""
    active, queued = await bench.running(), await bench.start()
    waiter = await waiting(tasks, bench, claim(bench, queued.run.run_id))
    await bench.finish(active.run_id)
    claimed = await waiter
    assert claimed is not None
    assert claimed.lease is not None


async def test_a_claim_by_id_learns_that_the_run_is_taken(
    bench: Bench, tasks: list[asyncio.Task[Any]]
) -> None:
    """A runner that waits behind a lease is answered when its holder is heard."""
    run = await bench.running()
    waiter = await waiting(tasks, bench, claim(bench, run.run_id))
    await bench.heartbeat(run.run_id)
    claimed = await waiter
    assert claimed is not None
    assert claimed.lease is None


async def test_a_claim_by_id_gets_what_comes_back(bench: Bench, tasks: list[asyncio.Task[Any]]) -> None:
    """A runner that waits behind a lease gets the run when it is released."""
    run = await bench.running()
    waiter = await waiting(tasks, bench, claim(bench, run.run_id))
    await bench.release(run.run_id)
    claimed = await waiter
    assert claimed is not None
    assert claimed.lease is not None


async def test_a_claim_that_got_nothing_says_so(bench: Bench) -> None:
    """When the time is over there is no run, and no waiter is left."""
    assert await claim(bench, pool="gpu", wait_s=0.001) is None
    assert len(bench.plane.bells) == 0


async def test_stopping_ends_all_waits(bench: Bench, tasks: list[asyncio.Task[Any]]) -> None:
    """While draining, waiting calls end with DRAINING instead of holding the server up."""
    run = await bench.running()
    waits = [
        await waiting(tasks, bench, bench.plane.wait_run(NAMESPACE, run.run_id, wait_s=LONG_S)),
        await waiting(tasks, bench, claim(bench, pool="gpu")),
    ]
    bench.plane.drain()
    for wait in waits:
        with pytest.raises(Draining):
            await wait


async def test_an_answer_never_overtakes_its_events(bench: Bench) -> None:
    """When a use case's future is done, its events are in the tails and its waiters rung."""
    run = await bench.running()
    async with bench.plane.stream(stream(presence=Presence.OBSERVER)) as (_, feed):
        future = bench.plane.execute(
            lambda tx, use: lifecycle.attach(tx, sessions.require(tx, NAMESPACE, run.session_id), use)
        )
        await future
        await bench.publish(run.run_id, "a")
        assert feed._tail.head == bench.session().head_sequence
    assert bench.session().state is SessionState.ACTIVE
