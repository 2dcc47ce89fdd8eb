"""An interrupt that does more than stop: it drops what waits, and starts something else instead, in one transaction."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionplane.domain.errors import (
    KeyNotBound,
    RequestIdReused,
    RunIdReused,
    RunNotFound,
    RunQueueFull,
    SessionEnded,
    SessionNotFound,
)
from sessionplane.domain.interrupts import InterruptMode, InterruptStage
from sessionplane.domain.runs import RunPolicy, RunState
from sessionplane.domain.sessions import SessionState, Visibility
from tests.support.planes import KEY, Bench, open_bench, spec
from tests.support.story import ending

FORCE = InterruptMode.FORCE
UNKNOWN = "ses_" + "f" * 32


def ended(bench: Bench, run_id: str) -> str:
    return ending(bench.check_end(run_id).run_terminal)


async def test_what_waits_is_dropped(bench: Bench) -> None:
    """drop_queued ends runs in line and waiting inputs INTERRUPTED/INTERRUPT, each by its own terminal; the run that is
    stopped goes on to its own end.
    """
    active = await bench.running()
    await bench.start(run_id="waits")
    await bench.inject("more", "mine")
    await bench.start(run_id="now", policy=RunPolicy.INTERRUPT)
    made = await bench.interrupt(KEY, drop_queued=True)
    assert (made.dropped, made.interrupt.run_id) == (3, active.run_id)
    for run_id in ("waits", "mine", "now"):
        assert ended(bench, run_id) == "INTERRUPTED/INTERRUPT"
    assert bench.run(active.run_id).state is RunState.INTERRUPTING
    session = bench.session()
    assert (session.queued_run_count, session.active_run_id) == (0, active.run_id)
    assert bench.story(run_id="mine") == [
        "returned more",
        "run none>QUEUED",
        "run QUEUED>FINISHED",
        "terminal INTERRUPTED/INTERRUPT",
    ]


async def test_what_waits_is_dropped_also_when_nothing_is_stopped(bench: Bench) -> None:
    """A stop that is a NO_OP, since the run that was named has ended, drops what waits all the same."""
    over = await bench.running()
    await bench.start(run_id="active")
    await bench.start(run_id="waits")
    await bench.finish(over.run_id)
    made = await bench.interrupt(run_id=over.run_id, drop_queued=True)
    assert (made.dropped, made.interrupt.stage) == (1, InterruptStage.NO_OP)
    assert ended(bench, "waits") == "INTERRUPTED/INTERRUPT"
    assert bench.run("active").state is RunState.PENDING


@pytest.mark.parametrize("named", [True, False])
async def test_a_late_wish_drops_nothing_behind_another_run(bench: Bench, named: bool) -> None:
    """Whoever expected a run that is over meant what waited behind that one, and none of it is in line any more; the
    follow-up is started all the same.
    """
    over = await bench.running()
    await bench.start(run_id="active")
    await bench.start(run_id="waits")
    await bench.finish(over.run_id)
    where = {"run_id": over.run_id} if named else {"name": KEY}
    made = await bench.interrupt(**where, expected_run_id=over.run_id, drop_queued=True, then="instead")
    assert (made.dropped, made.interrupt.stage) == (0, InterruptStage.NO_OP)
    assert bench.run("waits").state is RunState.QUEUED
    assert made.follow_up is not None
    made = await bench.interrupt(KEY, expected_run_id="active", drop_queued=True)
    assert (made.dropped, made.interrupt.run_id) == (2, "active")


async def test_dropping_nothing_is_counted_as_nothing(bench: Bench) -> None:
    """Without anything in line drop_queued changes nothing but the stop."""
    await bench.running()
    assert (await bench.interrupt(KEY, drop_queued=True)).dropped == 0


async def test_the_run_that_is_stopped_is_not_dropped(bench: Bench) -> None:
    """A queued run that is named ends by its own interrupt, and is not counted."""
    await bench.running()
    await bench.start(run_id="waits")
    await bench.start(run_id="named")
    made = await bench.interrupt(run_id="named", drop_queued=True)
    assert (made.dropped, made.interrupt.stage) == (1, InterruptStage.COMPLETED)
    assert bench.run("named").interrupt_id == made.interrupt.interrupt_id
    assert bench.run("waits").interrupt_id == ""


async def test_dropping_ends_a_session_that_nobody_worked_in(bench: Bench) -> None:
    """With the pending run stopped and the others dropped, a session that no runner was heard in has ended."""
    await bench.start()
    await bench.start()
    await bench.interrupt(KEY, drop_queued=True)
    assert bench.session().state is SessionState.ENDED


async def test_a_follow_up_is_the_next_run(bench: Bench) -> None:
    """The follow-up goes first in line, before whatever waits, in the transaction of the stop."""
    active = await bench.running()
    await bench.start(run_id="waits")
    await bench.start(run_id="now", policy=RunPolicy.INTERRUPT)
    made = await bench.interrupt(KEY, then="instead", then_id="instead")
    assert made.follow_up is not None
    assert (made.follow_up.run.run_id, made.follow_up.queue_position) == ("instead", 1)
    assert made.interrupt.run_id == active.run_id
    await bench.finish(active.run_id)
    assert bench.session().active_run_id == "instead"


async def test_a_pending_run_gives_way_to_the_follow_up(bench: Bench) -> None:
    """A run without a runner ends at once; the follow-up may be claimed then, and the session goes on."""
    pending = await bench.start()
    made = await bench.interrupt(KEY, then="instead")
    assert ended(bench, pending.run.run_id) == "INTERRUPTED/INTERRUPT"
    assert made.follow_up is not None
    assert made.follow_up.run.state is RunState.PENDING
    assert (bench.session().state, bench.session().generation) == (SessionState.CREATED, 1)


async def test_a_follow_up_stays_when_what_waits_is_dropped(bench: Bench) -> None:
    """Drop everything and do this instead; there is room in a line that was full."""
    active = await bench.running()
    await bench.start(run_id="waits")
    made = await bench.interrupt(KEY, drop_queued=True, then="instead", mode=FORCE)
    assert made.dropped == 1
    assert made.follow_up is not None
    assert bench.session().active_run_id == made.follow_up.run.run_id
    assert ended(bench, active.run_id) == "INTERRUPTED/FORCED"


async def test_a_follow_up_is_started_also_when_nothing_is_stopped(bench: Bench) -> None:
    """With a free lane the stop is a NO_OP and the follow-up an ordinary run; a new key gets its session."""
    for name in ("new", "new", "idle"):
        if name == "idle":
            await bench.resolve(name)
        made = await bench.interrupt(name, expected_run_id="another", then="instead")
        assert (made.interrupt.stage, made.run) == (InterruptStage.NO_OP, None)
        assert made.follow_up is not None
    assert bench.story("new", behind=2) == [
        "input instead",
        "run none>PENDING",
        "interrupt NO_OP",
        "input instead",
        "run none>QUEUED",
        "interrupt NO_OP",
    ]


async def test_without_a_follow_up_nothing_is_created(bench: Bench) -> None:
    """Only a follow-up needs a session: else an unknown key is KEY_NOT_BOUND; an unknown id never gets one."""
    await bench.refused(KeyNotBound, bench.interrupt("nobody", drop_queued=True))
    await bench.refused(SessionNotFound, bench.interrupt(UNKNOWN, then="instead"))
    await bench.refused(RunNotFound, bench.interrupt(run_id="run_unknown", then="instead"))


async def test_a_follow_up_brings_an_ended_session_back(bench: Bench) -> None:
    """In an ENDED session the NO_OP stands before the next generation, whose first run is the follow-up."""
    run = await bench.start()
    await bench.interrupt(KEY)
    head = bench.session().head_sequence
    made = await bench.interrupt(run_id=run.run.run_id, then="instead")
    assert bench.story(behind=head) == [
        "interrupt NO_OP",
        "session ENDED>CREATED",
        "input instead",
        "run none>PENDING",
    ]
    assert made.follow_up is not None
    assert (made.follow_up.run.generation, bench.session().generation) == (2, 2)


@pytest.mark.parametrize("mode", InterruptMode)
async def test_a_follow_up_ends_the_rest_of_a_closing_session(bench: Bench, mode: InterruptMode) -> None:
    """In CLOSING the run ends at once, as by StartRun; its interrupt is COMPLETED, and the session begins anew."""
    active = await bench.running()
    await bench.publish(active.run_id, "so far")
    await bench.close(KEY)
    assert bench.session().state is SessionState.CLOSING
    made = await bench.interrupt(KEY, mode=mode, then="instead")
    assert (made.interrupt.run_id, made.interrupt.stage) == (active.run_id, InterruptStage.COMPLETED)
    cause = "FORCED" if mode is FORCE else "SESSION_ENDED"
    assert ended(bench, active.run_id) == f"INTERRUPTED/{cause}"
    session = bench.session()
    assert made.follow_up is not None
    assert (session.state, session.active_run_id) == (SessionState.CREATED, made.follow_up.run.run_id)


async def test_a_final_session_refuses_a_follow_up(bench: Bench) -> None:
    """Nothing is written then, not even the NO_OP."""
    old = (await bench.resolve()).view.session
    new = await bench.reset()
    error = await bench.refused(SessionEnded, bench.interrupt(old.session_id, then="instead"))
    assert error.details == {"session_id": old.session_id, "successor": new.session_id}


async def test_a_follow_up_is_an_interaction(bench: Bench) -> None:
    """Whoever sends one was there: the session is kept and shown; a stop alone is none."""
    await bench.resolve(visibility=Visibility.INTERNAL)
    await bench.interrupt(KEY)
    assert bench.session().last_interaction_at_ms is None
    await bench.interrupt(KEY, then="instead")
    session = bench.session()
    assert (session.last_interaction_at_ms, session.visibility) == (bench.clock.wall_ms(), Visibility.VISIBLE)


async def test_a_full_line_refuses_the_whole_call(tmp_path: Path) -> None:
    """Over the bound nothing is stopped and nothing dropped; with room made by dropping it is accepted."""
    async with open_bench(tmp_path / "plane.db", run_first_max=1) as bench:
        await bench.running()
        await bench.start(policy=RunPolicy.INTERRUPT)
        await bench.refused(RunQueueFull, bench.interrupt(KEY, mode=FORCE, then="instead"))
        assert (await bench.interrupt(KEY, drop_queued=True, then="instead")).dropped == 1


async def test_a_follow_up_goes_first_whatever_its_policy(bench: Bench) -> None:
    """Policies are about a lane that is taken; a follow-up knows what to do with it."""
    await bench.running()
    for policy in RunPolicy:
        made = await bench.interrupt(KEY, follow_up=spec(text="instead", policy=policy))
        assert made.follow_up is not None
        assert made.follow_up.queue_position == 1


async def test_a_repeated_call_starts_and_drops_nothing_more(bench: Bench) -> None:
    """A repeat by request id gives the same ids and count, as they are now."""
    active = await bench.running()
    await bench.start()
    first = await bench.interrupt(KEY, request_id="r1", drop_queued=True, then="instead")
    await bench.finish(active.run_id)
    await bench.start()
    before = bench.contents()
    again = await bench.interrupt(KEY, request_id="r1", drop_queued=True, then="instead")
    assert first.follow_up is not None
    assert again.follow_up is not None
    assert again.interrupt.interrupt_id == first.interrupt.interrupt_id
    assert (again.interrupt.stage, again.dropped) == (InterruptStage.COMPLETED, 1)
    assert again.follow_up.run.run_id == first.follow_up.run.run_id
    assert again.follow_up.run.state is RunState.PENDING
    assert bench.contents() == before
    await bench.refused(RequestIdReused, bench.interrupt(KEY, request_id="r1", then="something else"))


async def test_a_known_follow_up_is_neither_started_nor_stopped_again(bench: Bench) -> None:
    """Without a request id the follow-up's own id makes a repeat safe: whatever became of it, it is left alone, and a
    run that is still to be stopped is.
    """
    active = await bench.running()
    for _ in range(2):
        made = await bench.interrupt(KEY, drop_queued=True, then="instead", then_id="mine")
        assert (made.interrupt.run_id, made.dropped) == (active.run_id, 0)
    await bench.finish(active.run_id)
    assert bench.session().active_run_id == "mine"
    made = await bench.interrupt(KEY, drop_queued=True, then="instead", then_id="mine")
    assert made.interrupt.stage is InterruptStage.NO_OP
    assert made.follow_up is not None
    assert (made.follow_up.run.run_id, made.follow_up.run.state) == ("mine", RunState.PENDING)
    await bench.refused(RunIdReused, bench.interrupt(KEY, then="other", then_id="mine"))


async def test_a_known_follow_up_may_be_an_input_that_waits(bench: Bench) -> None:
    """It keeps waiting when all else is dropped, and is the next run when nobody takes it."""
    active = await bench.running()
    await bench.inject("instead", "mine")
    await bench.inject("more", "other")
    known = spec(text="instead", run_id="mine", policy=RunPolicy.INJECT)
    made = await bench.interrupt(KEY, drop_queued=True, follow_up=known)
    assert (made.dropped, made.interrupt.run_id) == (1, active.run_id)
    assert bench.view(active.run_id).waiting_input_ids == ["mine"]
    assert ended(bench, "other") == "INTERRUPTED/INTERRUPT"
    await bench.finish(active.run_id)
    assert bench.session().active_run_id == "mine"


async def test_a_known_follow_up_creates_no_session(bench: Bench) -> None:
    """Where the key's session is gone, a repeat does not make another one for nothing."""
    await bench.interrupt("chat", then="instead", then_id="mine")
    await bench.delete("chat")
    await bench.refused(KeyNotBound, bench.interrupt("chat", then="instead", then_id="mine"))


async def test_a_follow_up_never_rolls_a_session_over(bench: Bench) -> None:
    """Stopping something and going on with it is the same conversation, however old it is."""
    before = (await bench.resolve()).view.session
    bench.clock.advance(10 * 24 * 3_600_000)
    await bench.interrupt(KEY, then="instead")
    assert bench.session().session_id == before.session_id
