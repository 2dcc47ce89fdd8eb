"""What retention removes and when, step by step, and what it never touches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from sessionplane.domain.errors import Checksum, KeyNotBound, SessionNotFound
from sessionplane.plane import retention
from sessionplane.plane.context import Context
from sessionplane.plane.retention import SessionName
from sessionplane.store.contract import Extent, Tx
from tests.support.compacted import check_compacted
from tests.support.planes import KEY, LEASE_MS, NAMESPACE, Bench, open_bench, ref
from tests.support.retained import BOUNDS, STEP, WINDOW_MS, finished, retain
from tests.support.story import tell


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A plane whose retention is quick and takes small steps."""
    async with open_bench(tmp_path / "plane.db", **BOUNDS) as made:
        yield made


def rest(bench: Bench, name: str = KEY) -> list[str]:
    """Tell what is left of a log, after checking that it holds together."""
    session = bench.session(name)
    return [tell(event) for event in bench.plane.read(lambda tx: check_compacted(tx, session))]


async def test_an_old_run_goes_with_what_lies_before_it(bench: Bench) -> None:
    """A window behind its end everything up to the terminal is removed; what follows that stays."""
    session = await finished(bench)
    assert session.compact_at_ms == bench.clock.wall_ms() + WINDOW_MS
    await retain(bench, WINDOW_MS - 1)
    assert bench.session() == session
    await retain(bench, 1)
    left = bench.session()
    assert (left.floor_sequence, left.head_sequence) == (session.head_sequence, session.head_sequence)
    assert left.compact_at_ms is None
    assert rest(bench) == []


async def test_what_follows_the_last_terminal_stays(bench: Bench) -> None:
    """Events of the session have no window of their own: they go with the runs behind them, or stay."""
    run_id = (await bench.start()).run.run_id
    await bench.interrupt(run_id=run_id)
    await bench.interrupt(KEY)
    await retain(bench, WINDOW_MS)
    assert rest(bench) == ["session CREATED>ENDED", "interrupt NO_OP"]


async def test_a_young_run_keeps_its_events_and_what_follows(bench: Bench) -> None:
    """Only what lies before the first run within the window goes, and retention comes back when that one is old."""
    first = await finished(bench)
    bench.clock.advance(WINDOW_MS // 2)
    second = await finished(bench)
    ended_ms = bench.clock.wall_ms()
    await retain(bench, WINDOW_MS // 2)
    left = bench.session()
    assert left.floor_sequence == first.head_sequence
    assert left.compact_at_ms == ended_ms + WINDOW_MS
    assert rest(bench)[0] == "input "
    await retain(bench, WINDOW_MS // 2)
    assert bench.session().floor_sequence == second.head_sequence


async def test_an_unfinished_run_keeps_its_events_however_old(bench: Bench) -> None:
    """Nothing goes from the first event of a run under way on; retention comes back a window behind its end."""
    old = await finished(bench)
    run = await bench.running()
    for _ in range(20):
        await bench.heartbeat(run.run_id)
        await bench.pass_time(LEASE_MS // 2)
    left = bench.session()
    assert (left.floor_sequence, left.compact_at_ms) == (old.head_sequence, None)
    await bench.finish(run.run_id)
    assert bench.session().compact_at_ms == bench.clock.wall_ms() + WINDOW_MS
    await retain(bench, WINDOW_MS)
    assert bench.session().log_events == 0


async def test_what_lies_between_old_runs_and_a_kept_one_goes_in_steps_too(bench: Bench) -> None:
    """However many events of the session alone that are."""
    await finished(bench)
    for _ in range(2 * STEP):
        await bench.interrupt(KEY)
    run = await bench.running(run_timeout_ms=10 * WINDOW_MS)
    await bench.heartbeat(run.run_id)
    await retain(bench, WINDOW_MS)
    assert bench.session().floor_sequence == run.first_sequence - 1


async def test_runs_that_end_with_their_session_are_aged_too(bench: Bench) -> None:
    """A close ends several at once; retention looks a window behind."""
    await bench.start()
    await bench.start()
    await bench.close(KEY)
    assert bench.session().compact_at_ms == bench.clock.wall_ms() + WINDOW_MS
    await retain(bench, WINDOW_MS)
    assert rest(bench) == ["session CREATED>ENDED"]


async def test_an_old_run_behind_a_young_one_is_partly_removed(bench: Bench) -> None:
    """A prefix may end in the middle of an old run: at the first event of one that is kept."""
    first = await bench.running()
    waiting = (await bench.start()).run
    await bench.publish(first.run_id, *"abc")
    await bench.finish(first.run_id)
    await bench.claim(waiting.run_id)
    await bench.heartbeat(waiting.run_id)
    await retain(bench, WINDOW_MS)
    left = bench.session()
    assert left.floor_sequence == waiting.first_sequence - 1
    assert first.first_sequence <= left.floor_sequence < bench.run(first.run_id).terminal_sequence
    assert "terminal SUCCEEDED/RUNNER" in rest(bench)


async def test_runs_that_never_ran_count_as_well(bench: Bench) -> None:
    """A run that ended in line is kept for the window, and no longer."""
    run = await bench.running()
    waiting = (await bench.start()).run
    await bench.finish(run.run_id)
    bench.clock.advance(WINDOW_MS // 2)
    await bench.interrupt(run_id=waiting.run_id)
    await retain(bench, WINDOW_MS // 2)
    assert bench.session().floor_sequence == waiting.first_sequence - 1
    await retain(bench, WINDOW_MS // 2)
    assert bench.session().floor_sequence == bench.run(waiting.run_id).terminal_sequence


async def test_a_long_prefix_goes_in_steps(bench: Bench) -> None:
    """Each step leaves a valid log; the moment stays until there is nothing more to remove."""
    session = await finished(bench, KEY, *"abcdefghijklmnopqrstuvwxyz")
    name = SessionName(NAMESPACE, session.session_id)
    bench.clock.advance(WINDOW_MS)
    floors = []
    while (await bench.do(retention.look, name)).more:
        left = bench.session()
        assert left.compact_at_ms == session.compact_at_ms
        floors.append(left.floor_sequence)
        rest(bench)
    assert floors == [10, 20, 30]
    assert (bench.session().floor_sequence, bench.session().compact_at_ms) == (session.head_sequence, None)


async def test_steps_that_a_crash_cuts_short_are_taken_up_again(bench: Bench) -> None:
    """After a restart in the middle the rest goes, and what is left adds up."""
    session = await finished(bench, KEY, *"abcdefghijklmnopqrstuvwxyz")
    bench.clock.advance(WINDOW_MS)
    step = await bench.do(retention.look, SessionName(NAMESPACE, session.session_id))
    assert (step.removed.events, step.more) == (STEP, True)
    await bench.reopen()
    rest(bench)
    await retain(bench)
    assert bench.session().log_events == 0
    rest(bench)


async def test_a_session_lives_on_behind_its_floor(bench: Bench) -> None:
    """Its next events follow the removed ones, and its row is what both add up to."""
    session = await finished(bench)
    await retain(bench, WINDOW_MS)
    await finished(bench)
    told = rest(bench)
    assert told[0] == "input "
    assert bench.session().floor_sequence == session.head_sequence
    assert bench.log()[0].sequence == session.head_sequence + 1


async def test_retention_is_no_change_of_a_session(bench: Bench) -> None:
    """Lists keep their order and watchers hear nothing: no change number, no time of update."""
    session = await finished(bench)
    await retain(bench, WINDOW_MS)
    left = bench.session()
    assert (left.change_number, left.updated_at_ms) == (session.change_number, session.updated_at_ms)


async def test_a_run_outlives_its_events(bench: Bench) -> None:
    """Its row keeps the terminal."""
    run = await bench.running()
    await bench.publish(run.run_id, "text")
    await bench.finish(run.run_id)
    before = bench.view(run.run_id).run
    await retain(bench, WINDOW_MS)
    assert bench.view(run.run_id).run == before
    assert before.terminal


async def test_a_clock_that_was_set_removes_nothing_early(bench: Bench) -> None:
    """Ends are aged by a clock that cannot be set, whatever the wall clock says at the end or later."""
    session = await finished(bench)
    bench.clock.wall += 100 * WINDOW_MS
    await retain(bench)
    assert bench.session() == session
    later = await finished(bench)
    bench.clock.wall -= 100 * WINDOW_MS
    await retain(bench, WINDOW_MS - 1)
    assert bench.session() == later
    await retain(bench, 1)
    assert bench.session().log_events == 0


async def test_a_sweep_takes_a_bounded_number_of_steps(tmp_path: Path) -> None:
    """What is left goes with the next sweeps, a bit of it each time."""
    bounds = {"log_window_ms": WINDOW_MS, "compact_step_events_max": STEP, "compact_steps_max": 4}
    async with open_bench(tmp_path / "plane.db", **bounds) as bench:
        for name in ("a", "b"):
            assert (await finished(bench, name, *"abcdefghijklmno")).head_sequence == 25
        bench.clock.advance(WINDOW_MS)
        floors = []
        for _ in range(3):
            await retain(bench)
            floors.append((bench.session("a").floor_sequence, bench.session("b").floor_sequence))
        assert floors == [(25, 10), (25, 25), (25, 25)]


async def test_a_damaged_log_is_left_as_it_is(bench: Bench) -> None:
    """Damage is said in the server's log once, not made the beginning of a log; other sessions are seen to."""
    damaged = await finished(bench, "damaged")
    await finished(bench, "whole")
    spoil = "UPDATE events SET data = CAST(data || 'x' AS BLOB) WHERE session_id = ? AND sequence = 4"
    await bench.write(lambda tx, _: tx._connection.execute(spoil, (damaged.session_id,)))  # type: ignore[attr-defined]
    with structlog.testing.capture_logs() as lines:
        await retain(bench, WINDOW_MS)
        await retain(bench, WINDOW_MS // 2)
    assert [(line["event"], line["session_id"]) for line in lines] == [("log.damaged", damaged.session_id)]
    assert bench.session("damaged").floor_sequence == 0
    assert bench.session("whole").log_events == 0
    with pytest.raises(Checksum):
        await bench.plane.compactor.compact(NAMESPACE, ref("damaged"), 0)


async def test_a_session_that_cannot_be_compacted_hurts_no_other(bench: Bench) -> None:
    """A row that fails in a way of its own is said aloud and put off."""
    await finished(bench, "bad")
    await finished(bench, "good")
    spoil = (
        "CREATE TRIGGER spoil BEFORE UPDATE OF floor_sequence ON sessions WHEN new.key GLOB '*bad'"
        " BEGIN SELECT RAISE(ABORT, 'spoiled'); END"
    )
    await bench.write(lambda tx, _: tx._connection.execute(spoil))  # type: ignore[attr-defined]
    with structlog.testing.capture_logs() as lines:
        await retain(bench, WINDOW_MS)
        await retain(bench, WINDOW_MS // 2)
    assert [(line["event"], line["what"]) for line in lines] == [("loop.piece_failed", "retention")]
    assert (bench.session("bad").floor_sequence, bench.session("good").log_events) == (0, 0)


class TestCompactNow:
    """What an operator asks for."""

    async def test_every_finished_run_can_go_now(self, bench: Bench) -> None:
        """Older than nothing: all that no run under way needs, in as many steps as it takes."""
        session = await finished(bench, KEY, *"abcdefghijklmnopqrstuvwxyz")
        done = await bench.plane.compactor.compact(NAMESPACE, ref(KEY), 0)
        assert (done.previous_floor_sequence, done.floor_sequence) == (0, session.head_sequence)
        assert done.removed == Extent(session.head_sequence, session.log_bytes)
        assert bench.session().floor_sequence == session.head_sequence
        rest(bench)
        again = await bench.plane.compactor.compact(NAMESPACE, ref(KEY), 0)
        assert (again.floor_sequence, again.removed) == (session.head_sequence, Extent(0, 0))

    async def test_what_is_younger_stays(self, bench: Bench) -> None:
        """Without an age it is the window of the server. What lies before the first run stays with it."""
        first = await finished(bench)
        bench.clock.advance(1_000)
        await finished(bench)
        for age_ms, floor in ((None, 0), (1_001, 0), (1_000, first.head_sequence)):
            done = await bench.plane.compactor.compact(NAMESPACE, ref(KEY), age_ms)
            assert done.floor_sequence == floor == bench.session().floor_sequence
        rest(bench)

    async def test_a_run_under_way_stays(self, bench: Bench) -> None:
        """However old it is."""
        old = await finished(bench)
        await bench.running()
        done = await bench.plane.compactor.compact(NAMESPACE, ref(KEY), 0)
        assert done.floor_sequence == old.head_sequence

    async def test_there_must_be_a_session(self, bench: Bench) -> None:
        """What does not exist is refused like reading it."""
        with pytest.raises(KeyNotBound):
            await bench.plane.compactor.compact(NAMESPACE, ref("nobody"), 0)
        with pytest.raises(SessionNotFound):
            await bench.plane.compactor.compact(NAMESPACE, ref("ses_" + "f" * 32), 0)


async def test_a_caller_waits_for_one_step_at_most(tmp_path: Path) -> None:
    """While a prefix of 10,000 events goes, what is submitted as a step is queued runs before the next step."""
    async with open_bench(tmp_path / "plane.db", log_window_ms=WINDOW_MS) as bench:
        run = await bench.running("long")
        for _ in range(40):
            await bench.publish(run.run_id, *("x" * 250))
        await bench.finish(run.run_id)
        bench.clock.advance(WINDOW_MS)
        order: list[str] = []
        execute = bench.plane.compactor._execute

        def noting(use_case: Callable[[Tx, Context], Any], *, size: int = 0) -> asyncio.Future[Any]:
            def noted(tx: Tx, context: Context) -> Any:
                order.append("step")
                return use_case(tx, context)

            step = execute(noted, size=size)
            bench.plane.execute(lambda *_: order.append("caller"))
            return step

        bench.plane.compactor._execute = noting  # type: ignore[assignment]
        await retain(bench)
        await bench.settled()
        assert bench.session("long").log_events == 0
        assert order == ["step", "caller"] * (len(order) // 2)
        assert len(order) // 2 >= 10_000 // bench.limits.compact_step_events_max
