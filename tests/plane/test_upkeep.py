"""What nobody asks for: leases that ran out, deadlines that passed, subscribers that did not return, restarts."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sessionplane.domain.errors import LeaseLost, StorageFull
from sessionplane.domain.runs import RunState
from sessionplane.domain.sessions import SessionState
from sessionplane.plane import upkeep
from sessionplane.plane.leases import RunRef
from tests.support.planes import KEY, LEASE_MS, NAMESPACE, START_MS, Bench, lose_the_commit, open_bench
from tests.support.stores import HeldWriter
from tests.support.story import ending


def end_of(bench: Bench, run_id: str) -> str:
    return ending(bench.check_end(run_id).run_terminal)


async def test_a_runner_that_was_heard_and_fell_silent_has_lost(bench: Bench) -> None:
    """A confirmed lease that runs out ends the run LOST with the text so far, within a sweep."""
    run = await bench.running()
    await bench.publish(run.run_id, "so far")
    await bench.pass_time(LEASE_MS - 1)
    assert bench.run(run.run_id).state is RunState.RUNNING
    await bench.pass_time(bench.limits.sweep_ms)
    assert end_of(bench, run.run_id) == "LOST/LEASE_EXPIRED"
    assert bench.check_end(run.run_id).run_terminal.output_text == "so far"
    assert not bench.plane._leases._terms


async def test_heartbeats_keep_a_run(bench: Bench) -> None:
    """A runner that is heard every third of its lease is never lost."""
    run = await bench.running()
    for _ in range(10):
        await bench.pass_time(LEASE_MS // 3)
        await bench.heartbeat(run.run_id)
    assert bench.run(run.run_id).state is RunState.RUNNING


async def test_a_late_heartbeat_before_the_reaper_counts(bench: Bench) -> None:
    """A sign of life that comes after the deadline and before the sweep keeps the run."""
    run = await bench.running()
    await bench.heartbeat(run.run_id)
    bench.clock.advance(LEASE_MS + 1)
    await bench.heartbeat(run.run_id)
    await bench.do(upkeep.lapse, RunRef(NAMESPACE, run.run_id))
    assert bench.run(run.run_id).state is RunState.RUNNING


async def test_a_claim_that_was_never_heard_is_offered_again(bench: Bench) -> None:
    """An unconfirmed lease that runs out puts the run back, since its answer may have been lost."""
    run = await bench.running()
    old = bench.tokens[run.run_id]
    await bench.pass_time(LEASE_MS)
    after = bench.run(run.run_id)
    assert (after.state, after.lease_token) == (RunState.PENDING, "")
    await bench.refused(LeaseLost, bench.publish(run.run_id, "x", token=old))
    assert await bench.claim(run.run_id)


async def test_a_run_that_is_to_stop_is_not_offered_again(bench: Bench) -> None:
    """An INTERRUPTING run whose claim was never heard ends INTERRUPTED/INTERRUPT."""
    run = await bench.running()
    await bench.interrupt(KEY, grace_ms=300_000)
    await bench.pass_time(LEASE_MS)
    assert end_of(bench, run.run_id) == "INTERRUPTED/INTERRUPT"


async def test_a_stopping_runner_that_was_heard_can_be_lost(bench: Bench) -> None:
    """An INTERRUPTING run whose confirmed lease runs out is LOST, and its interrupt COMPLETED."""
    run = await bench.running()
    await bench.heartbeat(run.run_id)
    await bench.interrupt(KEY, grace_ms=300_000)
    await bench.pass_time(LEASE_MS)
    assert end_of(bench, run.run_id) == "LOST/LEASE_EXPIRED"
    assert "interrupt COMPLETED" in bench.story()


async def test_a_first_run_that_nobody_was_heard_of_ends_its_session(bench: Bench) -> None:
    """A run LOST in STARTING was all there was: the session ends behind it."""
    run = await bench.running()
    await bench.heartbeat(run.run_id)
    await bench.pass_time(LEASE_MS)
    assert bench.story()[-2:] == ["terminal LOST/LEASE_EXPIRED", "session STARTING>ENDED"]


async def test_a_run_that_nobody_claims_is_rejected(bench: Bench) -> None:
    """At start_timeout a PENDING run ends REJECTED/DEADLINE, and the next one in line gets its own time."""
    one, two = await bench.start(), await bench.start()
    await bench.pass_time(START_MS - 1)
    assert bench.run(one.run.run_id).state is RunState.PENDING
    await bench.pass_time(1)
    assert end_of(bench, one.run.run_id) == "REJECTED/DEADLINE"
    assert bench.run(two.run.run_id).due_at_ms == bench.clock.wall_ms() + START_MS
    await bench.pass_time(START_MS)
    assert end_of(bench, two.run.run_id) == "REJECTED/DEADLINE"
    assert bench.session().state is SessionState.ENDED


async def test_waits_are_summed_over_stays(bench: Bench) -> None:
    """start_timeout is the sum of all time in PENDING, and time under a lease does not count."""
    run_id = (await bench.start()).run.run_id
    for _ in range(3):
        await bench.pass_time(START_MS // 4)
        await bench.claim(run_id)
        await bench.pass_time(5_000)
        await bench.release(run_id)
    await bench.pass_time(START_MS // 4 - 1)
    assert bench.run(run_id).state is RunState.PENDING
    await bench.pass_time(1)
    assert end_of(bench, run_id) == "REJECTED/DEADLINE"


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.INTERRUPTING, RunState.PENDING])
async def test_a_run_takes_no_longer_than_its_timeout(bench: Bench, state: RunState) -> None:
    """At run_timeout from the first claim the run ends TIMED_OUT/DEADLINE in whatever state it is."""
    run = await bench.running(run_timeout_ms=8_000)
    if state is RunState.INTERRUPTING:
        await bench.interrupt(KEY, grace_ms=300_000)
    if state is RunState.PENDING:
        await bench.release(run.run_id)
    await bench.pass_time(7_999)
    assert bench.run(run.run_id).state is state
    await bench.pass_time(1)
    assert end_of(bench, run.run_id) == "TIMED_OUT/DEADLINE"


async def test_a_second_claim_does_not_buy_time(bench: Bench) -> None:
    """run_timeout counts from the first claim."""
    run = await bench.running(run_timeout_ms=8_000)
    await bench.pass_time(5_000)
    await bench.release(run.run_id)
    await bench.claim(run.run_id)
    await bench.pass_time(3_000)
    assert end_of(bench, run.run_id) == "TIMED_OUT/DEADLINE"


async def test_a_queued_run_has_no_deadline(bench: Bench) -> None:
    """A run in line waits as long as the one before it takes."""
    active = await bench.running()
    queued = await bench.start(start_timeout_ms=1_000)
    for _ in range(5):
        await bench.heartbeat(active.run_id)
        await bench.pass_time(5_000)
    assert bench.run(queued.run.run_id).state is RunState.QUEUED


async def test_what_was_late_is_looked_at_again(bench: Bench) -> None:
    """A deadline that moved between the look and the deed does nothing, nor does a run that is gone."""
    run = await bench.running()
    before = bench.contents()
    await bench.do(upkeep.expire, RunRef(NAMESPACE, run.run_id))
    await bench.do(upkeep.expire, RunRef(NAMESPACE, "run_unknown"))
    await bench.do(upkeep.lapse, RunRef(NAMESPACE, run.run_id))
    assert bench.contents() == before


async def test_a_lease_without_a_run_is_forgotten(bench: Bench) -> None:
    """What holds no run any more is dropped from memory instead of coming up for ever."""
    bench.plane._leases.grant(RunRef(NAMESPACE, "run_unknown"), now_ms=bench.clock.monotonic_ms(), lease_ms=1)
    await bench.pass_time(1_000)
    assert len(bench.plane._leases) == 0


async def test_a_late_sweep_gives_everybody_time(bench: Bench) -> None:
    """After a pause of more than two periods every lease is granted again in full, then judged as ever."""
    run = await bench.running()
    await bench.heartbeat(run.run_id)
    bench.clock.advance(LEASE_MS * 10)
    await bench.plane.sweeper.sweep()
    assert bench.run(run.run_id).state is RunState.RUNNING
    await bench.pass_time(LEASE_MS - 1)
    assert bench.run(run.run_id).state is RunState.RUNNING
    await bench.pass_time(1)
    assert end_of(bench, run.run_id) == "LOST/LEASE_EXPIRED"


async def test_a_pause_between_a_look_and_its_judgement_counts(bench: Bench) -> None:
    """A sweep that was begun in time and went on after the pause loses nobody."""
    run = await bench.running()
    await bench.heartbeat(run.run_id)
    async with HeldWriter(bench.store):
        sweep = asyncio.create_task(bench.plane.sweeper.sweep())
        await asyncio.sleep(0)
        assert bench.store._waiting == 2, "the sweep has looked, and judges when the writer is free"
        bench.clock.advance(LEASE_MS * 10)
    await sweep
    assert bench.run(run.run_id).state is RunState.RUNNING


async def test_a_pause_right_after_a_pause_counts(bench: Bench) -> None:
    """Also if it comes before the loop has heard how the sweep after the first one went."""
    run = await bench.running()
    await bench.heartbeat(run.run_id)
    bench.clock.advance(LEASE_MS * 10)
    sweep = asyncio.create_task(bench.plane.sweeper.sweep())
    await asyncio.sleep(0)
    judged = threading.Event()
    behind = bench.store.submit(lambda _: judged.set())
    assert judged.wait(timeout=10)  # the loop stands still meanwhile
    bench.clock.advance(LEASE_MS * 10)
    await asyncio.gather(sweep, behind)
    await bench.plane.sweeper.sweep()
    assert bench.run(run.run_id).state is RunState.RUNNING


async def test_a_pause_during_a_start_counts(bench: Bench) -> None:
    """Leases that were granted again before it are granted once more: nobody could be heard yet."""
    run = await bench.running()
    await bench.heartbeat(run.run_id)
    starting = asyncio.create_task(bench.plane.sweeper.start())
    await asyncio.sleep(0)
    await bench.store.submit(lambda _: bench.clock.advance(LEASE_MS * 10))  # behind the first page of grants
    await starting
    await bench.plane.sweeper.sweep()
    assert bench.run(run.run_id).state is RunState.RUNNING


async def test_two_periods_are_not_late(bench: Bench) -> None:
    """A sweep within two periods of the one before judges at once."""
    run = await bench.running()
    await bench.heartbeat(run.run_id)
    await bench.pass_time(LEASE_MS - 1_000)
    bench.clock.advance(2 * bench.limits.sweep_ms)
    await bench.plane.sweeper.sweep()
    assert end_of(bench, run.run_id) == "LOST/LEASE_EXPIRED"


async def test_a_sweep_that_takes_long_is_no_pause(bench: Bench) -> None:
    """Sweeps that come late because the one before took long judge at once: the server heard whoever spoke."""
    run = await bench.running()
    await bench.heartbeat(run.run_id)
    for second in range(LEASE_MS // bench.limits.sweep_ms):
        bench.clock.advance(bench.limits.sweep_ms)
        await bench.plane.sweeper.look_for_pauses()
        if second % 5 == 4:
            await bench.plane.sweeper.sweep()
    assert end_of(bench, run.run_id) == "LOST/LEASE_EXPIRED"


async def test_a_wall_clock_that_jumps_loses_no_lease(bench: Bench) -> None:
    """Leases are judged on a clock that cannot be set."""
    run = await bench.running()
    await bench.heartbeat(run.run_id)
    bench.clock.wall += LEASE_MS * 10
    await bench.plane.sweeper.sweep()
    assert bench.run(run.run_id).state is RunState.RUNNING


async def test_many_late_ones_are_dealt_with_in_steps(tmp_path: Path) -> None:
    """One sweep deals with all that is late, however small its steps."""
    async with open_bench(tmp_path / "plane.db", upkeep_step_max=2) as bench:
        lost = [(await bench.running(f"k{number}")).run_id for number in range(5)]
        for run_id in lost:
            await bench.heartbeat(run_id)
        expired = [
            (await bench.start(f"p{number}", start_timeout_ms=LEASE_MS)).run.run_id for number in range(5)
        ]
        await bench.pass_time(LEASE_MS - 1)
        bench.clock.advance(1)
        await bench.plane.sweeper.sweep()
        assert {end_of(bench, run_id) for run_id in lost} == {"LOST/LEASE_EXPIRED"}
        assert {end_of(bench, run_id) for run_id in expired} == {"REJECTED/DEADLINE"}


async def test_rows_that_cannot_be_dealt_with_do_not_stop_the_sweep(tmp_path: Path) -> None:
    """A step full of broken rows is left to the next sweep, and the rest of the sweep is done."""
    async with open_bench(tmp_path / "plane.db", upkeep_step_max=2, request_id_ms=1_000) as bench:
        run_ids = [
            (await bench.start(f"k{number}", request_id=f"r{number}")).run.run_id for number in range(2)
        ]
        spoil = "CREATE TRIGGER spoil BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'spoiled'); END"
        await bench.write(lambda tx, _: tx._connection.execute(spoil))  # type: ignore[attr-defined]
        await bench.pass_time(START_MS)
        assert [bench.run(run_id).state for run_id in run_ids] == [RunState.PENDING] * 2
        assert bench.contents()["requests"] == []


async def test_request_ids_are_forgotten_as_fast_as_they_come(tmp_path: Path) -> None:
    """One sweep forgets more than one step of them, or they would grow for ever."""
    async with open_bench(tmp_path / "plane.db", upkeep_step_max=2, request_id_ms=1_000) as bench:
        for number in range(7):
            await bench.resolve(f"k{number}", request_id=f"r{number}")
        bench.clock.advance(1_001)
        await bench.plane.sweeper.sweep()
        assert bench.contents()["requests"] == []


async def test_interactions_that_could_not_be_written_are_written_later(bench: Bench) -> None:
    """A full disk delays the note that somebody was here; it does not lose it."""
    await bench.resolve()
    bench.clock.advance(500)
    await bench.resolve()
    async with HeldWriter(bench.store):
        written = asyncio.create_task(bench.plane.sweeper.write_visits())
        await asyncio.sleep(0)
        lost = bench.plane.execute(lose_the_commit)
    for each in (written, lost):
        with pytest.raises(StorageFull):
            await each
    await bench.plane.sweeper.sweep()
    assert bench.session().last_interaction_at_ms == bench.clock.wall_ms()


async def test_a_restart_kills_no_run(bench: Bench) -> None:
    """After a restart each lease is granted again in full, and the same token goes on."""
    run = await bench.running()
    await bench.publish(run.run_id, "before")
    await bench.reopen(after_ms=LEASE_MS * 10)
    await bench.plane.sweeper.sweep()
    await bench.publish(run.run_id, " after")
    await bench.pass_time(LEASE_MS - 1)
    assert bench.run(run.run_id).state is RunState.RUNNING
    await bench.pass_time(1)
    assert end_of(bench, run.run_id) == "LOST/LEASE_EXPIRED"
    assert bench.check_end(run.run_id).run_terminal.output_text == "before after"


async def test_a_restart_grants_page_by_page(tmp_path: Path) -> None:
    """However many runs are claimed, each has its lease when the server is ready."""
    async with open_bench(tmp_path / "plane.db", upkeep_step_max=2) as bench:
        for number in range(5):
            await bench.running(f"k{number}")
        await bench.start("unclaimed")
        await bench.reopen()
        assert len(bench.plane._leases) == 5


async def test_a_restart_keeps_deadlines_and_graces(bench: Bench) -> None:
    """What was due while the server was away happens with the first sweep."""
    interrupted, waiting = await bench.running("a"), await bench.start("b")
    await bench.interrupt("a")
    await bench.reopen(after_ms=START_MS)
    await bench.plane.sweeper.sweep()
    assert end_of(bench, interrupted.run_id) == "INTERRUPTED/FORCED"
    assert end_of(bench, waiting.run.run_id) == "REJECTED/DEADLINE"


async def test_nobody_is_attached_after_a_restart(tmp_path: Path) -> None:
    """ACTIVE sessions that nobody returns to within the linger become DETACHED, in steps, and no others."""
    async with open_bench(tmp_path / "plane.db", upkeep_step_max=2) as bench:
        gone = [await bench.active(f"k{number}") for number in range(5)]
        back = await bench.active("back")
        await bench.reopen()
        await bench.attach(back)
        await bench.pass_time(bench.limits.detach_linger_ms - 1)
        assert {bench.session(each).state for each in gone} == {SessionState.ACTIVE}
        for run_id in bench.tokens:
            await bench.heartbeat(run_id)
        await bench.pass_time(4_000)
        assert {bench.session(each).state for each in gone} == {SessionState.DETACHED}
        assert bench.session(back).state is SessionState.ACTIVE


async def test_ids_and_logs_go_on_after_a_restart(bench: Bench) -> None:
    """A restart changes no row and no event."""
    run = await bench.running()
    await bench.publish(run.run_id, "a")
    tables = {name: rows for name, rows in bench.contents().items() if name != "leases"}
    await bench.reopen()
    assert {name: rows for name, rows in bench.contents().items() if name != "leases"} == tables


async def test_a_due_row_is_found_by_its_index(bench: Bench) -> None:
    """Upkeep asks for what is due, never for all runs."""
    await bench.start("a", start_timeout_ms=5_000)
    await bench.start("b", start_timeout_ms=9_000)
    bench.clock.advance(5_000)
    late = await bench.do(upkeep.due)
    assert [ref.namespace for ref in late.runs] == [NAMESPACE]
    assert (late.leases, late.absent, late.sessions) == ([], [], [])
    assert not late.fills(bench.limits.upkeep_step_max)


def test_a_full_step_may_have_more_behind_it() -> None:
    """Any of the lists that fills a step is a reason to look again."""
    ref = RunRef(NAMESPACE, "run_1")
    nothing = upkeep.Due(leases=[], runs=[], absent=[], sessions=[])
    assert not nothing.fills(1)
    for full in (
        replace(nothing, leases=[ref]),
        replace(nothing, runs=[ref]),
        replace(nothing, absent=[ref]),
        replace(nothing, sessions=[ref]),
    ):
        assert full.fills(1)
