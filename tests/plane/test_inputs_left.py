"""Injected inputs that nobody took: each becomes a run that ends, however the run that it was sent to ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessionplane.domain.errors import InvalidTransition, RunFinished
from sessionplane.domain.events import Place
from sessionplane.domain.inputs import InputStage
from sessionplane.domain.interrupts import InterruptMode
from sessionplane.domain.runs import RunPolicy, RunState
from sessionplane.domain.sessions import SessionState
from sessionplane.plane import lane, sessions
from sessionplane.plane.context import Context
from sessionplane.store import codec
from sessionplane.store.contract import Tx
from tests.support.planes import KEY, LEASE_MS, NAMESPACE, RUN_MS, START_MS, Bench
from tests.support.story import check_log, ending

INTERRUPT = RunPolicy.INTERRUPT


async def test_what_nobody_took_becomes_a_run_before_the_terminal(bench: Bench) -> None:
    """At the terminal what waits comes to stand in line, oldest first, in that transaction and before that event; the
    first of it is promoted.
    """
    active = await bench.running()
    for name in ("one", "two", "three"):
        await bench.inject(name, name)
    await bench.heartbeat(active.run_id, taken=["two"])
    head = bench.session().head_sequence
    await bench.finish(active.run_id)
    assert bench.story(behind=head)[2:] == [
        "returned one",
        "run none>QUEUED",
        "returned three",
        "run none>QUEUED",
        "run RUNNING>FINISHED",
        "terminal SUCCEEDED/RUNNER",
        "run QUEUED>PENDING",
    ]
    assert bench.story(run_id="one") == ["returned one", "run none>QUEUED", "run QUEUED>PENDING"]
    assert (bench.session().active_run_id, bench.session().queued_run_count) == ("one", 1)
    assert (bench.stage("one"), bench.stage("two")) == (InputStage.QUEUED, InputStage.TAKEN)
    assert bench.view("three").queue_position == 1


async def test_an_input_that_comes_back_is_the_run_that_it_would_have_been(bench: Bench) -> None:
    """Input, pool, labels, timeouts and the time of the call are those of the StartRun; its own part of the log begins
    where it came back.
    """
    active = await bench.running()
    bench.clock.advance(1_000)
    sent_at_ms = bench.clock.wall_ms()
    sent = await bench.inject(
        "more", "mine", pool="gpu", labels={"a": "b"}, start_timeout_ms=5_000, run_timeout_ms=6_000
    )
    bench.clock.advance(1_000)
    before = bench.session()
    await bench.finish(active.run_id)
    run = bench.run("mine")
    assert (run.pool, run.labels, run.start_timeout_ms, run.run_timeout_ms) == (
        "gpu",
        {"a": "b"},
        5_000,
        6_000,
    )
    assert (run.created_at_ms, run.pending_since_ms) == (sent_at_ms, bench.clock.wall_ms())
    assert b"more" in run.input
    assert sent.run.input != run.input
    assert run.first_sequence > before.head_sequence
    claimed = await bench.claim(pool="gpu")
    assert claimed is not None
    assert claimed.run.run.run_id == "mine"


async def test_what_comes_back_stands_between_the_others(bench: Bench) -> None:
    """The line is: runs that interrupt, newest first; inputs that came back, oldest first; the enqueued."""
    active = await bench.running()
    await bench.start(run_id="waits")
    await bench.inject("", "first")
    await bench.start(run_id="now", policy=INTERRUPT)
    await bench.inject("", "second")
    await bench.finish(active.run_id)
    assert bench.session().active_run_id == "now"
    line = sorted(("waits", "first", "second"), key=lambda name: bench.view(name).queue_position)
    assert line == ["first", "second", "waits"]
    await bench.interrupt(KEY)
    assert bench.session().active_run_id == "first"


@pytest.mark.parametrize("ends", ["finish", "force", "lost", "late", "release", "unclaimed"])
async def test_inputs_come_back_however_the_run_ends(bench: Bench, ends: str) -> None:
    """Whoever ends a run, what nobody took is in line then."""
    active = (await bench.start()).run
    await bench.inject("more", "mine")
    if ends != "unclaimed":
        await bench.claim(active.run_id)
    if ends == "finish":
        await bench.finish(active.run_id)
    elif ends == "force":
        await bench.interrupt(KEY, mode=InterruptMode.FORCE)
    elif ends == "lost":
        await bench.heartbeat(active.run_id)
        await bench.pass_time(LEASE_MS + 1_000)
    elif ends == "late":
        while bench.run(active.run_id).state is not RunState.FINISHED:
            await bench.heartbeat(active.run_id)
            bench.clock.advance(min(5_000, RUN_MS))
            await bench.plane.sweeper.sweep()
    elif ends == "release":
        await bench.interrupt(KEY)
        await bench.release(active.run_id)
    else:
        await bench.pass_time(START_MS)
    bench.check_end(active.run_id)
    assert bench.run("mine").state is RunState.PENDING
    assert bench.session().state is not SessionState.ENDED


async def test_the_inputs_of_a_run_that_goes_back_keep_waiting(bench: Bench) -> None:
    """A release, and a lease that nobody confirmed, leave the inputs with the run, for its next runner."""
    active = await bench.running()
    await bench.inject("more", "mine")
    await bench.release(active.run_id)
    assert bench.stage("mine") is InputStage.RECORDED
    await bench.claim(active.run_id)
    await bench.pass_time(LEASE_MS + 1_000)
    assert bench.run(active.run_id).state is RunState.PENDING
    await bench.claim(active.run_id)
    assert [each.input_id for each in (await bench.heartbeat(active.run_id)).inputs] == ["mine"]


async def test_whoever_took_an_input_keeps_its_run(bench: Bench) -> None:
    """A run whose runner took an input cannot be given back: the next runner would never see it."""
    active = await bench.running()
    await bench.inject("more", "mine")
    await bench.heartbeat(active.run_id, taken=["mine"])
    await bench.refused(InvalidTransition, bench.release(active.run_id))


async def test_a_finished_run_takes_nothing(bench: Bench) -> None:
    """An acknowledgement behind the end is RUN_FINISHED, and the input stays the run that it became."""
    active = await bench.running()
    await bench.inject("more", "mine")
    await bench.finish(active.run_id)
    await bench.refused(RunFinished, bench.heartbeat(active.run_id, taken=["mine"]))
    assert bench.stage("mine") is InputStage.QUEUED


async def test_a_session_that_ends_ends_its_inputs(bench: Bench) -> None:
    """Where a session's end ends what waits in it, an input becomes a run and ends like one that was in line."""
    active = await bench.running()
    await bench.publish(active.run_id, "so far")
    await bench.inject("more", "mine")
    await bench.start(run_id="waits")
    session = bench.session()
    await bench.write(lambda tx, _: tx.save_session(replace(session, state=SessionState.CLOSING)))
    head = session.head_sequence
    await bench.start(run_id="next")
    assert bench.story(behind=head)[:8] == [
        "returned more",
        "run none>QUEUED",
        "run QUEUED>FINISHED",
        "terminal REJECTED/SESSION_ENDED",
        "run QUEUED>FINISHED",
        "terminal REJECTED/SESSION_ENDED",
        "run RUNNING>FINISHED",
        "terminal INTERRUPTED/SESSION_ENDED",
    ]
    for run_id in ("mine", "waits", active.run_id):
        bench.check_end(run_id)


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize("ends", ["close", "reset", "delete"])
async def test_whatever_ends_a_session_ends_its_inputs(bench: Bench, ends: str, heard: bool) -> None:
    """Closed, reset or deleted: each id that was handed out has its terminal in that very transaction."""
    active = await bench.running()
    if heard:
        await bench.publish(active.run_id, "so far")
    await bench.inject("more", "mine")
    await bench.start(run_id="waits")
    session_id = active.session_id
    await {"close": bench.close, "reset": bench.reset, "delete": bench.delete}[ends](KEY)
    entries = bench.plane.read(
        lambda tx: tx.entries(session_id, after=Place(0, b""), limit=10_000, bytes_max=1 << 30)
    )
    log = [codec.decode(entry.data) for entry in entries]
    check_log(log)
    for run_id in ("mine", "waits"):
        assert ending(bench.check_end(run_id, log).run_terminal) == "REJECTED/SESSION_ENDED"
    if ends == "close" and heard:
        assert bench.session().state is SessionState.CLOSING
        await bench.finish(active.run_id)
        assert bench.session().state is SessionState.ENDED
    assert bench.run(active.run_id).state is RunState.FINISHED
    assert bench.view(active.run_id).waiting_input_ids == []


async def test_an_input_that_was_given_back_may_still_be_acknowledged(bench: Bench) -> None:
    """A runner that was handed an input cannot know that the session's end took it back: nothing happens then."""
    active = await bench.running()
    await bench.inject("more", "mine")

    def close(tx: Tx, context: Context) -> None:
        session = sessions.require(tx, NAMESPACE, active.session_id)
        sessions.save(tx, lane.reject_waiting(tx, session, context), context)

    await bench.plane.execute(close)
    before = bench.story()
    await bench.publish(active.run_id, taken=["mine"])
    assert bench.story() == before
    assert ending(bench.check_end("mine").run_terminal) == "REJECTED/SESSION_ENDED"
