"""The bounds of a log: what makes room for what, and who is refused when nothing can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from sessionplane.domain.errors import LogFull
from sessionplane.domain.interrupts import InterruptMode, InterruptStage
from sessionplane.domain.runs import RunState
from tests.support.compacted import check_compacted
from tests.support.planes import KEY, Bench, open_bench, spec
from tests.support.story import tell

STEP = {"compact_step_events_max": 10}
BEFORE = 2
"""The events of a session before its first run: its creation and its key."""


def rest(bench: Bench, name: str = KEY) -> list[str]:
    """Tell what is left of a log, after checking that it holds together."""
    session = bench.session(name)
    return [tell(event) for event in bench.plane.read(lambda tx: check_compacted(tx, session))]


async def fill(bench: Bench, run_id: str) -> int:
    """Publish one text after the other until the log is full; returns how many were accepted."""
    count = 0
    while True:
        try:
            await bench.publish(run_id, "a")
        except LogFull:
            return count
        count += 1


async def test_a_run_that_fills_its_log_is_refused(tmp_path: Path) -> None:
    """When only the live run is left a publication is refused whole, and the terminal is still accepted."""
    async with open_bench(tmp_path / "plane.db", log_events_max=11 - BEFORE) as bench:
        run = await bench.running()
        await bench.publish(run.run_id, "a")
        error = await bench.refused(LogFull, bench.publish(run.run_id, *"bcd"))
        assert error.details == {"session_id": run.session_id, "limit": "9 events"}
        await bench.publish(run.run_id, *"bc")
        assert (bench.session().log_events, bench.session().floor_sequence) == (9, BEFORE)
        await bench.refused(LogFull, bench.publish(run.run_id, "d"))
        await bench.finish(run.run_id)
        assert bench.check_end(run.run_id).run_terminal.output_text == "abc"


async def test_a_log_is_bounded_by_bytes_as_well(tmp_path: Path) -> None:
    """A publication that would lead beyond log_bytes_max is refused, however few events it has."""
    async with open_bench(tmp_path / "plane.db", log_bytes_max=2_000) as bench:
        run = await bench.running()
        error = await bench.refused(LogFull, bench.publish(run.run_id, "x" * 2_000))
        assert error.details["limit"] == "2000 bytes"
        await bench.publish(run.run_id, "y")
        assert bench.session().log_size <= 2_000


async def test_finished_runs_make_room(tmp_path: Path) -> None:
    """At the bound the oldest events go, as many as are needed, in the transaction that adds others."""
    async with open_bench(tmp_path / "plane.db", log_events_max=20, **STEP) as bench:
        for _ in range(10):
            run = await bench.running()
            await bench.publish(run.run_id, *"abc")
            assert bench.session().log_events <= 20
            # Nobody is asked about an end: the change to FINISHED and the terminal.
            await bench.finish(run.run_id)
            assert bench.session().log_events <= 20 + 2
            rest(bench)
        assert bench.session().head_sequence > 80
        assert rest(bench)[-3:] == ["text c", "run RUNNING>FINISHED", "terminal SUCCEEDED/RUNNER"]


async def test_bytes_make_room_as_well(tmp_path: Path) -> None:
    """Large events go for large events, in as many steps as that takes."""
    async with open_bench(tmp_path / "plane.db", log_bytes_max=20_000, compact_step_bytes_max=1_000) as bench:
        for _ in range(8):
            run = await bench.running()
            await bench.publish(run.run_id, "x" * 4_000, "y" * 4_000)
            await bench.finish(run.run_id, "short")
            assert bench.session().log_size < 21_000
        rest(bench)
        assert bench.session().log_size > 10_000


async def test_what_a_live_run_needs_never_goes(tmp_path: Path) -> None:
    """Room is made up to the first event of the oldest run that is unfinished, be it queued, and no further."""
    async with open_bench(tmp_path / "plane.db", log_events_max=22, **STEP) as bench:
        done = await bench.running()
        await bench.finish(done.run_id)
        active = await bench.running()
        queued = (await bench.start()).run
        texts = await fill(bench, active.run_id)
        assert bench.session().floor_sequence == active.first_sequence - 1
        assert bench.session().log_events == 22
        await bench.finish(active.run_id)
        assert bench.run(queued.run_id).state is RunState.PENDING
        assert bench.check_end(active.run_id, bench.log()).run_terminal.output_text == "a" * texts
        rest(bench)


async def test_a_queued_run_keeps_what_lies_behind_its_input(tmp_path: Path) -> None:
    """A run that waits since before the active one began holds the log from its own input on."""
    async with open_bench(tmp_path / "plane.db", log_events_max=14, **STEP) as bench:
        first = await bench.running()
        waiting = (await bench.start()).run
        assert waiting.first_sequence == first.first_sequence + 4
        await bench.finish(first.run_id)
        await bench.claim(waiting.run_id)
        await fill(bench, waiting.run_id)
        assert bench.session().floor_sequence == waiting.first_sequence - 1


async def test_a_bound_that_was_made_smaller_stops_growth(tmp_path: Path) -> None:
    """A log that is far over a new bound loses as much as is added, and retention brings it within the bound."""
    async with open_bench(tmp_path / "plane.db") as bench:
        for _ in range(10):
            run = await bench.running()
            await bench.publish(run.run_id, *"abcd")
            await bench.finish(run.run_id)
        before = bench.session()
    async with open_bench(tmp_path / "plane.db", log_events_max=30, **STEP) as again:
        run = await again.running(run_id="run_later")
        await again.publish(run.run_id, *"abcd")
        grown = again.session()
        assert grown.log_events <= before.log_events
        await again.plane.compactor.retain()
        assert again.session().log_events <= 30
        rest(again)


Call = Callable[[Bench], Awaitable[Any]]

RESERVED: dict[str, Call] = {
    "a queued run": lambda bench: bench.start(),
    "a run in a resolve": lambda bench: bench.resolve(run=spec()),
    "an injected input": lambda bench: bench.inject(),
    "an interrupt of nothing": lambda bench: bench.interrupt(expected_run_id="other", name=KEY),
}
"""What is accepted somewhat beyond the bounds, and refused beyond that."""


@pytest.mark.parametrize("what", RESERVED)
async def test_what_is_small_has_a_reserve(tmp_path: Path, what: str) -> None:
    """Behind a live run that has filled the log inputs and interrupts still fit, up to the reserve and no further."""
    bounds = {"log_events_max": 10, "log_reserve_events_max": 5, "run_queue_max": 100}
    async with open_bench(tmp_path / "plane.db", **bounds) as bench:
        await fill(bench, (await bench.running()).run_id)
        assert bench.session().log_events == 10
        with pytest.raises(LogFull):
            for _ in range(10):
                await RESERVED[what](bench)
        assert 10 < bench.session().log_events <= 15
        await bench.refused(LogFull, RESERVED[what](bench))


async def test_a_run_cannot_be_passed_around_for_ever(tmp_path: Path) -> None:
    """Claiming and releasing a run in turn is refused beyond the reserve; whoever has it then can still end it."""
    async with open_bench(tmp_path / "plane.db", log_events_max=10, log_reserve_events_max=5) as bench:
        run_id = (await bench.start()).run.run_id
        with pytest.raises(LogFull):
            for _ in range(10):
                await bench.claim(run_id)
                await bench.release(run_id)
        await bench.refused(LogFull, bench.release(run_id))
        assert 10 < bench.session().log_events <= 15 + 1
        await bench.interrupt(run_id=run_id)
        assert (await bench.release(run_id)).run.state is RunState.FINISHED


async def test_a_session_cannot_be_put_to_sleep_for_ever(tmp_path: Path) -> None:
    """Suspending and coming back in turn is refused beyond the reserve, while a run holds the log."""
    async with open_bench(tmp_path / "plane.db", log_events_max=10, log_reserve_events_max=5) as bench:
        run = await bench.running()
        await bench.attach(run.session_id)
        await fill(bench, run.run_id)
        with pytest.raises(LogFull):
            for _ in range(10):
                await bench.suspend()
                await bench.attach(run.session_id)
        await bench.refused(LogFull, bench.suspend())
        assert 10 < bench.session().log_events <= 16
        await bench.finish(run.run_id)


async def test_a_reserve_of_bytes_is_one_too(tmp_path: Path) -> None:
    """A large input does not fit where small ones do."""
    bounds = {"log_bytes_max": 3_000, "log_reserve_bytes_max": 1_500}
    async with open_bench(tmp_path / "plane.db", **bounds) as bench:
        run = await bench.running()
        await bench.publish(run.run_id, "x" * 1_500)
        await bench.start(text="small")
        await bench.refused(LogFull, bench.start(text="l" * 2_000))


async def test_ends_are_never_refused(tmp_path: Path) -> None:
    """In a full log a run is stopped by force, the next one takes the lane, is interrupted and reports too late."""
    bounds = {"log_events_max": 10, "log_reserve_events_max": 6}
    async with open_bench(tmp_path / "plane.db", **bounds) as bench:
        run = await bench.running()
        await fill(bench, run.run_id)
        second, third = (await bench.start()).run, (await bench.start()).run
        await bench.start()
        await bench.refused(LogFull, bench.start())
        await bench.interrupt(run_id=third.run_id)
        await bench.interrupt(run_id=run.run_id, mode=InterruptMode.FORCE)
        await bench.finish(run.run_id)
        assert bench.story()[-1].startswith("late")
        await bench.claim(second.run_id)
        stopped = await bench.interrupt(run_id=second.run_id)
        assert stopped.interrupt.stage is InterruptStage.ACCEPTED
        await bench.finish(second.run_id)
        for each in (run, second, third):
            bench.check_end(each.run_id)


async def test_a_full_session_at_rest_takes_the_next_run(tmp_path: Path) -> None:
    """Where no run is under way everything before the new one may go, session events too."""
    async with open_bench(tmp_path / "plane.db", log_events_max=6, log_reserve_events_max=1, **STEP) as bench:
        for _ in range(6):
            run_id = (await bench.start()).run.run_id
            assert bench.session().log_events <= 6
            await bench.interrupt(run_id=run_id)
            rest(bench)
        assert bench.session().head_sequence > 30


async def test_events_of_the_session_alone_do_not_grow_a_log_for_ever(tmp_path: Path) -> None:
    """Comings and goings are never refused; retention removes what they leave beyond the bound."""
    async with open_bench(tmp_path / "plane.db", log_events_max=12) as bench:
        run = await bench.running()
        await bench.attach(run.session_id)
        await bench.finish(run.run_id)
        for _ in range(20):
            await bench.detach(run.session_id)
            await bench.pass_time(bench.limits.detach_linger_ms)
            await bench.attach(run.session_id)
            rest(bench)
        assert bench.session().log_events <= 13
        assert bench.session().head_sequence > 40


async def test_operators_are_told_once_of_a_large_log(tmp_path: Path) -> None:
    """The first look behind the growth says so, with the size and the bounds, and no other one does."""
    async with open_bench(tmp_path / "plane.db", log_large_events_min=11) as bench:
        run = await bench.running()
        with structlog.testing.capture_logs() as lines:
            await bench.publish(run.run_id, "a")
            await bench.pass_time(1_000)
            assert lines == []
            await bench.publish(run.run_id, *"bc")
            await bench.pass_time(1_000)
            await bench.publish(run.run_id, "d")
            await bench.pass_time(1_000)
        (line,) = lines
        assert (line["event"], line["log_level"], line["session_id"]) == (
            "log.large",
            "warning",
            run.session_id,
        )
        assert (line["events"], line["events_max"]) == (11, 50_000)
        assert 0 < line["bytes"] < bench.session().log_size


async def test_a_large_log_of_bytes_is_told_of_as_well(tmp_path: Path) -> None:
    """A few large events make a large log."""
    async with open_bench(tmp_path / "plane.db", log_large_bytes_min=5_000) as bench:
        run = await bench.running()
        with structlog.testing.capture_logs() as lines:
            await bench.publish(run.run_id, "x" * 5_000)
            await bench.pass_time(1_000)
        assert [line["event"] for line in lines] == ["log.large"]
