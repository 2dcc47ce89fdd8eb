"""Closing: what runs may finish by a deadline, what waits ends now, and nothing in it is routed as live."""

from __future__ import annotations

import asyncio

import pytest

from sessionplane.domain.errors import KeyNotBound, RequestIdReused, RunFinished, SessionNotFound
from sessionplane.domain.interrupts import InterruptMode, InterruptStage
from sessionplane.domain.routing import Action
from sessionplane.domain.runs import Run, RunState
from sessionplane.domain.sessions import SessionCause, SessionState
from sessionplane.plane.claims import ClaimRequest
from sessionplane.plane.context import Call
from tests.support.planes import CLOSE_MS, KEY, LEASE_MS, NAMESPACE, START_MS, Bench
from tests.support.story import ending


def end_of(bench: Bench, run_id: str) -> str:
    return ending(bench.check_end(run_id).run_terminal)


async def closing(bench: Bench, **given: int | str) -> Run:
    """A session that closes while its run goes on; returns the run as it was before."""
    await bench.active()
    run = bench.run(bench.session().active_run_id)
    await bench.close(**given)  # type: ignore[arg-type]
    return run


async def test_a_session_in_which_nothing_runs_ends_at_once(bench: Bench) -> None:
    """Closing is the end of the generation; the key stays, and StartRun brings the session back."""
    await bench.resolve()
    view = await bench.close()
    assert (view.session.state, view.session.end_reason) == (SessionState.ENDED, SessionCause.CLOSED)
    assert view.route is Action.RESUME
    assert bench.story()[-1] == "session CREATED>ENDED"
    assert (await bench.start()).view.session.generation == 2


async def test_runs_without_a_runner_end_with_the_session(bench: Bench) -> None:
    """Whoever waits, at the head of the line or in it, is told REJECTED, before the session's own end."""
    first, second = await bench.start(), await bench.start()
    await bench.close()
    for started in (first, second):
        assert end_of(bench, started.run.run_id) == "REJECTED/SESSION_ENDED"
    assert bench.story()[-1] == "session CREATED>ENDED"
    assert not bench.session().running


async def test_a_starting_session_ends_at_once(bench: Bench) -> None:
    """A runner that was never heard is not waited for: it is cut, and its report comes too late."""
    run, queued = await bench.running(), await bench.start()
    view = await bench.close()
    assert (view.session.state, view.active_run) == (SessionState.ENDED, None)
    assert end_of(bench, run.run_id) == "INTERRUPTED/SESSION_ENDED"
    assert end_of(bench, queued.run.run_id) == "REJECTED/SESSION_ENDED"
    await bench.refused(RunFinished, bench.publish(run.run_id, "too late"))
    assert (await bench.finish(run.run_id)).result == "SUPERSEDED"


async def test_a_claimed_run_is_asked_to_finish_by_the_deadline(bench: Bench) -> None:
    """The session is CLOSING, its line is cleared, and the runner gets a graceful interrupt that ends with it."""
    await bench.active()
    run_id = bench.session().active_run_id
    queued = await bench.start()
    head = bench.session().head_sequence
    view = await bench.close(timeout_ms=12_000, reason="The user left.")
    assert view.session.state is SessionState.CLOSING
    assert view.active_run is not None
    assert view.active_run.run.state is RunState.INTERRUPTING
    assert view.route is Action.END_THEN_RESUME
    assert bench.story(behind=head) == [
        "run QUEUED>FINISHED",
        "terminal REJECTED/SESSION_ENDED",
        "session ACTIVE>CLOSING",
        "interrupt ACCEPTED",
        "run RUNNING>INTERRUPTING",
    ]
    assert end_of(bench, queued.run.run_id) == "REJECTED/SESSION_ENDED"
    command = (await bench.heartbeat(run_id)).interrupt
    assert command is not None
    assert (command.mode, command.reason) == (InterruptMode.GRACEFUL, "The user left.")
    assert command.escalate_at_ms == view.session.deadline_at_ms == bench.clock.wall_ms() + 12_000


async def test_inputs_that_nobody_took_end_with_the_line(bench: Bench) -> None:
    """What was injected into the run that may finish is given back to its sender now; what it took stays with it."""
    await bench.active()
    run_id = bench.session().active_run_id
    for name in ("taken", "waiting"):
        await bench.inject(name, name)
    await bench.heartbeat(run_id, taken=["taken"])
    await bench.start(run_id="queued")
    await bench.close()
    for name in ("waiting", "queued"):
        assert end_of(bench, name) == "REJECTED/SESSION_ENDED"
    assert bench.session().queued_run_count == 0
    assert bench.run(run_id).state is RunState.INTERRUPTING
    await bench.finish(run_id)
    assert bench.session().end_reason is SessionCause.RUN_ENDED


async def test_the_run_that_is_waited_for_may_finish(bench: Bench) -> None:
    """Whatever it reports stands, and with it the session ends."""
    run = await closing(bench)
    await bench.publish(run.run_id, " and b")
    finished = await bench.finish(run.run_id)
    assert ending(bench.check_end(finished.run.run_id).run_terminal) == "SUCCEEDED/RUNNER"
    session = bench.session()
    assert (session.state, session.end_reason) == (SessionState.ENDED, SessionCause.RUN_ENDED)
    assert (session.deadline_at_ms, session.quiet_since_ms) == (None, bench.clock.wall_ms())


async def test_what_is_not_finished_by_the_deadline_is_cut(bench: Bench) -> None:
    """The run ends INTERRUPTED/SESSION_ENDED with the text so far, its interrupt COMPLETED, the session ENDED."""
    run = await closing(bench)
    await bench.pass_time(CLOSE_MS - 1)
    assert bench.session().state is SessionState.CLOSING
    await bench.pass_time(1)
    assert end_of(bench, run.run_id) == "INTERRUPTED/SESSION_ENDED"
    assert bench.check_end(run.run_id).run_terminal.output_text == "a"
    assert bench.session().end_reason is SessionCause.CLOSE_EXPIRED
    assert bench.story()[-4:] == [
        "interrupt COMPLETED",
        "run INTERRUPTING>FINISHED",
        "terminal INTERRUPTED/SESSION_ENDED",
        "session CLOSING>ENDED",
    ]
    await bench.refused(RunFinished, bench.heartbeat(run.run_id))


async def test_no_time_at_all_is_over_with_the_next_sweep(bench: Bench) -> None:
    """A close timeout of 0 is a deadline like any other."""
    run = await closing(bench, timeout_ms=0)
    assert bench.session().state is SessionState.CLOSING
    await bench.plane.sweeper.sweep()
    assert end_of(bench, run.run_id) == "INTERRUPTED/SESSION_ENDED"


@pytest.mark.parametrize(
    ("grace_ms", "escalates_ms", "end", "reason"),
    [
        (5_000, 5_000, "INTERRUPTED/FORCED", SessionCause.RUN_ENDED),
        (CLOSE_MS, CLOSE_MS, "INTERRUPTED/SESSION_ENDED", SessionCause.CLOSE_EXPIRED),
        (300_000, CLOSE_MS, "INTERRUPTED/SESSION_ENDED", SessionCause.CLOSE_EXPIRED),
    ],
)
async def test_a_close_joins_the_interrupt_that_its_run_has(
    bench: Bench, grace_ms: int, escalates_ms: int, end: str, reason: SessionCause
) -> None:
    """An earlier grace stays and forces; a later one is drawn to the close deadline, and the session cuts the run."""
    await bench.active()
    run_id = bench.session().active_run_id
    made = (await bench.interrupt(KEY, grace_ms=grace_ms, reason="first")).interrupt
    await bench.close(reason="second")
    command = (await bench.heartbeat(run_id)).interrupt
    assert command is not None
    assert (command.interrupt_id, command.reason) == (made.interrupt_id, "first")
    assert command.escalate_at_ms == bench.clock.wall_ms() + escalates_ms
    await bench.pass_time(escalates_ms - 1)
    assert bench.run(run_id).state is RunState.INTERRUPTING
    await bench.pass_time(1)
    assert end_of(bench, run_id) == end
    assert bench.session().end_reason is reason


async def test_a_runner_that_knows_hears_no_second_time(bench: Bench) -> None:
    """An acknowledged interrupt stays acknowledged; only its deadline comes nearer."""
    await bench.active()
    run_id = bench.session().active_run_id
    made = (await bench.interrupt(KEY, grace_ms=300_000)).interrupt
    await bench.heartbeat(run_id, acknowledged=made.interrupt_id)
    await bench.close()
    assert (await bench.heartbeat(run_id)).interrupt is None
    stage = bench.plane.read(lambda tx: tx.interrupt("default", made.interrupt_id))
    assert stage is not None
    assert stage.stage is InterruptStage.ACKNOWLEDGED
    await bench.pass_time(CLOSE_MS)
    assert end_of(bench, run_id) == "INTERRUPTED/SESSION_ENDED"


@pytest.mark.parametrize(("away_ms", "end"), [(60_000, "INTERRUPTED/FORCED"), (0, "INTERRUPTED/FORCED")])
async def test_the_earlier_of_two_deadlines_ends_the_run_however_late_the_server_looks(
    bench: Bench, away_ms: int, end: str
) -> None:
    """A grace that was over before the close deadline counts, also if both passed while the server was away."""
    await bench.active()
    run_id = bench.session().active_run_id
    await bench.interrupt(KEY, grace_ms=2_000)
    await bench.close()
    await bench.reopen(after_ms=away_ms)
    await bench.pass_time(2_000)
    assert end_of(bench, run_id) == end
    assert bench.session().end_reason is SessionCause.RUN_ENDED


async def test_a_close_deadline_before_the_run_s_own_ends_it(bench: Bench) -> None:
    """Both passed while the server was away: the close came first, so the run did not time out."""
    run = await bench.running(run_timeout_ms=30_000)
    await bench.publish(run.run_id, "a")
    await bench.close()
    await bench.reopen(after_ms=60_000)
    await bench.plane.sweeper.sweep()
    assert end_of(bench, run.run_id) == "INTERRUPTED/SESSION_ENDED"


async def test_a_run_that_times_out_before_the_close_deadline_has_timed_out(bench: Bench) -> None:
    """Closing buys no run more time than it had."""
    run = await bench.running(run_timeout_ms=5_000)
    await bench.publish(run.run_id, "a")
    await bench.close()
    await bench.pass_time(5_000)
    assert end_of(bench, run.run_id) == "TIMED_OUT/DEADLINE"
    assert bench.session().end_reason is SessionCause.RUN_ENDED


async def test_a_close_deadline_does_not_wait_for_subscribers_after_a_restart(bench: Bench) -> None:
    """Who might come back is no matter: what was due while the server was away ends with the first sweep."""
    run = await closing(bench)
    await bench.reopen(after_ms=CLOSE_MS)
    await bench.plane.sweeper.sweep()
    assert end_of(bench, run.run_id) == "INTERRUPTED/SESSION_ENDED"


async def test_force_ends_a_closing_session(bench: Bench) -> None:
    """The interrupt that came with the close is joined like any other."""
    run = await closing(bench)
    await bench.interrupt(KEY, mode=InterruptMode.FORCE)
    assert end_of(bench, run.run_id) == "INTERRUPTED/FORCED"
    assert bench.session().end_reason is SessionCause.RUN_ENDED


async def test_a_lost_runner_ends_a_closing_session(bench: Bench) -> None:
    """A runner that falls silent is not waited for longer than its lease."""
    run = await closing(bench, timeout_ms=300_000)
    await bench.pass_time(LEASE_MS)
    assert end_of(bench, run.run_id) == "LOST/LEASE_EXPIRED"
    assert bench.session().state is SessionState.ENDED


@pytest.mark.parametrize("gives_back", [True, False])
async def test_a_run_that_comes_back_to_a_closing_session_ends(bench: Bench, *, gives_back: bool) -> None:
    """Given back, or claimed by somebody who was never heard: it is not offered again, and the session ends."""
    await bench.finish((await bench.running()).run_id)
    run = await bench.running()
    await bench.close(timeout_ms=300_000)
    if gives_back:
        await bench.release(run.run_id)
    else:
        await bench.pass_time(LEASE_MS)
    assert end_of(bench, run.run_id) == "INTERRUPTED/INTERRUPT"
    assert bench.session().state is SessionState.ENDED


async def test_a_closing_session_gives_no_run_away(bench: Bench) -> None:
    """A claim by id answers with the run and without a lease, and changes nothing."""
    run = await closing(bench)
    before = bench.contents()
    answer = await bench.claim(run.run_id)
    assert answer is not None
    assert (answer.lease, answer.run.run.run_id) == (None, run.run_id)
    assert bench.contents() == before


async def test_whoever_waits_for_a_run_of_a_closing_session_is_answered(bench: Bench) -> None:
    """A claim by id that waited, since the run's runner was not heard, learns that it waits in vain."""
    await bench.finish((await bench.running()).run_id)
    run = await bench.running()
    await bench.interrupt(KEY, grace_ms=1_000)
    request = ClaimRequest(call=Call(namespace=NAMESPACE), run_id=run.run_id, lease_ms=LEASE_MS)
    waiting = asyncio.create_task(bench.plane.claim(request, wait_s=30))
    await bench.settled()
    await bench.close()
    async with asyncio.timeout(10):
        answer = await waiting
    assert answer is not None
    assert (answer.lease, answer.run.run.state) == (None, RunState.INTERRUPTING)


async def test_a_message_to_a_closing_session_ends_the_rest_and_runs(bench: Bench) -> None:
    """The claimed run is cut, the session ends and comes back, and the new run is the first of its generation."""
    run = await closing(bench)
    head = bench.session().head_sequence
    started = await bench.start(text="next")
    assert end_of(bench, run.run_id) == "INTERRUPTED/SESSION_ENDED"
    assert (started.run.state, started.run.generation) == (RunState.PENDING, 2)
    told = bench.story(behind=head)
    assert told[-5:] == [
        "terminal INTERRUPTED/SESSION_ENDED",
        "session CLOSING>ENDED",
        "session ENDED>CREATED",
        "input next",
        "run none>PENDING",
    ]
    await bench.refused(RunFinished, bench.publish(run.run_id, "too late"))
    await bench.pass_time(CLOSE_MS)
    assert bench.run(started.run.run_id).state is RunState.PENDING


async def test_attaching_to_a_closing_session_keeps_it_closing(bench: Bench) -> None:
    """Somebody who comes is counted, and keeps nothing alive."""
    run = await closing(bench)
    session_id = bench.session().session_id
    await bench.attach(session_id)
    assert bench.session().state is SessionState.CLOSING
    assert bench.plane.attached_count(session_id) == 2
    await bench.pass_time(CLOSE_MS)
    assert end_of(bench, run.run_id) == "INTERRUPTED/SESSION_ENDED"


async def test_a_session_without_a_claimed_run_closes_at_once_from_everywhere(bench: Bench) -> None:
    """ACTIVE, DETACHED and SUSPENDED sessions end now if nobody works in them, a run that waits included."""
    for name, suspended in (("a", False), ("b", True)):
        session_id = await bench.active(name)
        await bench.finish(bench.session(name).active_run_id)
        waiting = await bench.start(name)
        if suspended:
            await bench.suspend(name)
        else:
            await bench.detach(session_id)
            await bench.pass_time(bench.limits.detach_linger_ms)
        view = await bench.close(name)
        assert view.session.end_reason is SessionCause.CLOSED
        assert end_of(bench, waiting.run.run_id) == "REJECTED/SESSION_ENDED"


async def test_closing_again_changes_nothing(bench: Bench) -> None:
    """A session that closes keeps the time it has, one that has ended stays as it is, and no request id is taken."""
    run = await closing(bench)
    for _ in range(2):
        before = bench.contents()
        for timeout_ms in (1, 60_000):
            await bench.close(timeout_ms=timeout_ms, request_id="r1", content=str(timeout_ms))
        assert bench.contents() == before
        if run.run_id == bench.session().active_run_id:
            await bench.finish(run.run_id)


async def test_a_repeated_close_is_the_first_one(bench: Bench) -> None:
    """A repeat by request id shows the session as it is now, and does not close its next generation."""
    await bench.resolve()
    await bench.close(request_id="r1")
    await bench.start()
    before = bench.contents()
    assert (await bench.close(request_id="r1")).session.state is SessionState.CREATED
    assert bench.contents() == before
    await bench.refused(RequestIdReused, bench.close(request_id="r1", content="another"))


async def test_what_does_not_exist_is_not_closed(bench: Bench) -> None:
    """An unbound key and an unknown id are refused by name, and nothing is created."""
    await bench.refused(KeyNotBound, bench.close("nobody"))
    await bench.refused(SessionNotFound, bench.close("ses_unknown"))


async def test_a_close_deadline_does_not_follow_a_clock_that_is_set(bench: Bench) -> None:
    """It comes after the time that really passed, whatever the wall clock says meanwhile."""
    run = await closing(bench)
    bench.clock.wall += 10 * START_MS
    await bench.plane.sweeper.sweep()
    assert bench.session().state is SessionState.CLOSING
    bench.clock.wall -= 100 * START_MS
    bench.clock.monotonic += CLOSE_MS
    await bench.plane.sweeper.sweep()
    assert end_of(bench, run.run_id) == "INTERRUPTED/SESSION_ENDED"
