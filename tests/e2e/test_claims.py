"""Claims and waits: runners get runs in turn, a wait never runs into its deadline, and nothing is taken twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionplane.v1 import run_pb2
from sessionplane.v1 import session_service_pb2 as service
from sessionplane.v1.admin_service_pb2 import GetServerInfoRequest
from sessionplane.v1.runner_service_pb2 import ClaimRunRequest, ClaimRunResponse
from tests.support.refusals import refused
from tests.support.serving import Served, serving
from tests.support.stores import HeldWriter
from tests.support.wire import DEADLINE_S, Held, Wire


@pytest.fixture
async def brisk(tmp_path: Path) -> AsyncIterator[Served]:
    """A server whose waiting calls wait for a fifth of a second."""
    async with serving(tmp_path / "brisk.db", limits={"wait_ms_max": 200}) as served:
        yield served


async def _waiting(server: Served, count: int) -> None:
    """Ask the server something until so many calls wait in it."""
    async with asyncio.timeout(DEADLINE_S):
        while len(server.running.plane.bells) < count:
            await server.wire.admin.GetServerInfo(GetServerInfoRequest())


async def _claims(server: Served, count: int) -> list[asyncio.Task[ClaimRunResponse]]:
    """Have runners wait on one pool, one after the other."""
    claims = []
    for n in range(count):
        claims.append(asyncio.create_task(server.wire.claim(pool="p", wait_s=DEADLINE_S)))
        await _waiting(server, n + 1)
    return claims


async def test_runners_that_wait_on_a_pool_are_woken_in_turn(server: Served) -> None:
    """Each new run goes to the runner that has waited longest, and wakes no other."""
    claims = await _claims(server, 4)
    for n, claim in enumerate(claims):
        started = await server.wire.start(f"chat-{n}", pool="p")
        answer = await claim
        assert (answer.claimed, answer.run.run_id) == (True, started.run.run_id)
        assert not any(later.done() for later in claims[n + 1 :])


async def test_a_runner_that_went_away_takes_no_run_along(server: Served) -> None:
    """A run that comes when its turn has hung up goes to the next one."""
    first, second = await _claims(server, 2)
    first.cancel()
    started = await server.wire.start("chat", pool="p")
    assert (await second).run.run_id == started.run.run_id
    held = Held(started.run.run_id, (await second).lease.token)
    await server.wire.work(held, "done")


async def test_runs_that_are_offered_in_one_commit_wake_a_runner_each(tmp_path: Path) -> None:
    """While the writer is busy eight runs gather; the commit that brings them all reaches all who wait."""
    # No sweep gathers with them.
    async with serving(tmp_path / "other.db", limits={"sweep_ms": 60_000}) as server:
        claims = await _claims(server, 8)
        async with HeldWriter(server.running.store):
            starts = [asyncio.create_task(server.wire.start(f"chat-{n}", pool="p")) for n in range(8)]
            while server.running.store._waiting < 9:
                await server.wire.admin.GetServerInfo(GetServerInfoRequest())
        started = {(await start).run.run_id for start in starts}
        assert {(await claim).run.run_id for claim in claims} == started


async def test_many_runners_and_many_runs_meet_one_to_one(server: Served) -> None:
    """Of thirty runners and thirty runs of one pool, no run is handed out twice and none is left."""
    claims = [server.wire.claim(pool="p", wait_s=DEADLINE_S) for _ in range(30)]
    starts = [server.wire.start(f"chat-{n}", pool="p") for n in range(30)]
    claimed, started = await asyncio.gather(asyncio.gather(*claims), asyncio.gather(*starts))
    assert {answer.run.run_id for answer in claimed} == {answer.run.run_id for answer in started}
    assert len({answer.lease.token for answer in claimed}) == 30


async def test_a_pool_serves_its_oldest_run_first_and_no_run_of_another(server: Served) -> None:
    """Runs of a pool come in the order in which they could first be claimed; those without a pool never come."""
    wire = server.wire
    await wire.start("nobody's")
    await wire.start("other", pool="q")
    started = [(await wire.start(f"chat-{n}", pool="p")).run.run_id for n in range(3)]
    assert [(await wire.claim(pool="p", wait_s=1)).run.run_id for _ in range(3)] == started


async def test_a_queued_run_is_claimed_by_its_id_once_it_is_its_turn(server: Served) -> None:
    """Who asks for a run that waits in line waits with it."""
    wire = server.wire
    first, second = await wire.start("chat"), await wire.start("chat")
    waiting = asyncio.create_task(wire.claim(second.run.run_id, wait_s=DEADLINE_S))
    await _waiting(server, 1)
    await wire.run_through(first.run.run_id)
    answer = await waiting
    assert (answer.claimed, answer.run.run_id) == (True, second.run.run_id)


async def test_a_run_under_a_lease_that_was_never_heard_is_waited_for(server: Served) -> None:
    """As long as the first claim's answer may be lost the second one waits; once its runner is heard it is told no."""
    wire = server.wire
    started = await wire.start("chat")
    holder = await wire.hold(started.run.run_id)
    waiting = asyncio.create_task(wire.claim(started.run.run_id, wait_s=DEADLINE_S))
    await _waiting(server, 1)
    assert not waiting.done()
    await wire.heartbeat(holder)
    answer = await waiting
    assert not answer.claimed
    assert answer.run.state == run_pb2.RUN_STATE_RUNNING


async def test_a_run_that_is_driven_is_not_to_be_had(server: Served) -> None:
    """Under a confirmed lease ClaimRun answers with the run at once, and does not wait for its end."""
    wire = server.wire
    started = await wire.start("chat")
    await wire.heartbeat(await wire.hold(started.run.run_id))
    answer = await wire.claim(started.run.run_id, wait_s=DEADLINE_S)
    assert not answer.claimed
    assert not answer.HasField("lease")
    assert answer.run.run_id == started.run.run_id


async def test_a_run_that_was_given_back_goes_to_whoever_waits(server: Served) -> None:
    """ReleaseRun before the first event offers the run again, under a newer epoch."""
    wire = server.wire
    started = await wire.start("chat", pool="p")
    holder = await wire.hold(started.run.run_id)
    (waiting,) = await _claims(server, 1)
    released = await wire.release(holder)
    assert released.run.state == run_pb2.RUN_STATE_PENDING
    answer = await waiting
    assert answer.run.run_id == started.run.run_id
    assert answer.lease.epoch == 2


@pytest.mark.parametrize("timeout_s", [0.4, None])
async def test_a_claim_of_an_empty_pool_is_answered_before_its_deadline(
    brisk: Served, timeout_s: float | None
) -> None:
    """Nothing to do is an answer, no error, with a deadline and without one."""
    answer = await brisk.wire.runs.ClaimRun(ClaimRunRequest(pool="p"), timeout=timeout_s)
    assert not answer.claimed
    assert not answer.HasField("run")


@pytest.mark.parametrize("timeout_s", [0.4, None])
async def test_a_wait_for_a_run_is_answered_before_its_deadline(
    brisk: Served, timeout_s: float | None
) -> None:
    """A run that goes on is shown as it is, with `finished` false."""
    started = await brisk.wire.start("chat")
    request = service.WaitRunRequest(run_id=started.run.run_id)
    answer = await brisk.wire.sessions.WaitRun(request, timeout=timeout_s)
    assert not answer.finished
    assert answer.run.state == run_pb2.RUN_STATE_PENDING
    assert answer.resume_token


async def test_waits_of_many_are_answered_by_one_end(server: Served) -> None:
    """Everybody who waits for a run is told its terminal, whole, when it comes."""
    wire = server.wire
    started = await wire.start("chat")
    waits = [asyncio.create_task(wire.wait(started.run.run_id)) for _ in range(50)]
    await _waiting(server, 50)
    terminal = await wire.run_through(started.run.run_id, "done")
    assert all(run.terminal == terminal for run in await asyncio.gather(*waits))


async def test_too_many_waits_are_refused_and_the_others_served(tmp_path: Path) -> None:
    """The bound of waiting calls is said aloud, with the time to come back."""
    async with serving(tmp_path / "small.db", limits={"waiters_max": 2}) as server:
        wire: Wire = server.wire
        started = await wire.start("chat")
        waits = [asyncio.create_task(wire.wait(started.run.run_id)) for _ in range(2)]
        await _waiting(server, 2)
        refusal = await refused(wire.wait(started.run.run_id))
        assert refusal.reason == "OVERLOADED"
        assert refusal.retry_after_s
        await wire.interrupt("chat")
        assert len(await asyncio.gather(*waits)) == 2


async def test_a_crowded_pool_refuses_who_comes_too_much(tmp_path: Path) -> None:
    """One pool's runners cannot take the places of all who wait; another pool's are served."""
    async with serving(tmp_path / "small.db", limits={"pool_waiters_max": 2}) as server:
        wire: Wire = server.wire
        waits = [asyncio.create_task(wire.claim(pool="gpu", wait_s=5)) for _ in range(2)]
        await _waiting(server, 2)
        assert (await refused(wire.claim(pool="gpu", wait_s=5))).reason == "OVERLOADED"
        assert not (await wire.claim(pool="cpu")).claimed
        for _ in waits:
            await wire.start(pool="gpu")
        assert all(claim.claimed for claim in await asyncio.gather(*waits))
