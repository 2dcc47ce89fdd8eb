"""Use cases of a session's life beside its runs: who attends it, and what that changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessionplane.domain.errors import KeyNotBound, RequestIdReused, SessionNotFound, StorageFull
from sessionplane.domain.sessions import SessionState
from sessionplane.plane import lifecycle, sessions
from sessionplane.plane.context import Context
from sessionplane.store.contract import Tx
from tests.support.planes import NAMESPACE, Bench, lose_the_commit
from tests.support.stores import HeldWriter


async def in_state(bench: Bench, state: SessionState) -> str:
    """A session whose row was put into a state."""
    session = (await bench.resolve()).view.session
    await bench.write(lambda tx, _: tx.save_session(replace(session, state=state)))
    return session.session_id


@pytest.mark.parametrize("state", SessionState)
async def test_attaching_wakes_who_waits_for_it(bench: Bench, state: SessionState) -> None:
    """A subscriber brings a DETACHED or SUSPENDED session to ACTIVE, and is only counted everywhere else."""
    session_id = await in_state(bench, state)
    head = bench.session().head_sequence
    await bench.attach(session_id)
    woken = state in {SessionState.DETACHED, SessionState.SUSPENDED}
    assert bench.session().state is (SessionState.ACTIVE if woken else state)
    assert bench.story(behind=head) == ([f"session {state}>ACTIVE"] if woken else [])
    assert bench.plane.attached_count(session_id) == 1


async def test_a_second_subscriber_wakes_a_suspended_session(bench: Bench) -> None:
    """What wakes a session is its durable state, not whether somebody else was attached already."""
    session_id = (await bench.resolve()).view.session.session_id
    await bench.attach(session_id)
    session = bench.session()
    await bench.write(lambda tx, _: tx.save_session(replace(session, state=SessionState.SUSPENDED)))
    assert (await bench.attach(session_id)).state is SessionState.ACTIVE


async def test_a_failed_attach_counts_nobody(bench: Bench) -> None:
    """When the use case that attached fails further on, the subscriber was never there."""
    session_id = await in_state(bench, SessionState.DETACHED)

    def fails(tx: Tx, context: Context) -> None:
        lifecycle.attach(tx, sessions.require(tx, NAMESPACE, session_id), context)
        raise SessionNotFound(session_id="later")

    await bench.refused(SessionNotFound, bench.write(fails))
    assert bench.plane.attached_count(session_id) == 0


async def test_the_last_subscriber_is_waited_for(bench: Bench) -> None:
    """ACTIVE lasts through the linger behind the last subscriber, and becomes DETACHED with its end."""
    session_id = await bench.active()
    await bench.detach(session_id)
    await bench.pass_time(bench.limits.detach_linger_ms - 1)
    assert bench.session().state is SessionState.ACTIVE
    await bench.pass_time(1)
    assert bench.session().state is SessionState.DETACHED
    assert bench.story()[-1] == "session ACTIVE>DETACHED"


async def test_who_comes_back_in_time_was_never_away(bench: Bench) -> None:
    """A reload of the page is no change of state, and the next departure lingers in full."""
    session_id = await bench.active()
    await bench.detach(session_id)
    await bench.pass_time(bench.limits.detach_linger_ms - 1)
    await bench.attach(session_id)
    await bench.pass_time(bench.limits.detach_linger_ms)
    assert bench.session().state is SessionState.ACTIVE
    await bench.detach(session_id)
    await bench.pass_time(bench.limits.detach_linger_ms - 1)
    assert bench.session().state is SessionState.ACTIVE


async def test_one_of_two_subscribers_is_not_the_last(bench: Bench) -> None:
    """While somebody is there nothing lingers."""
    session_id = await bench.active()
    await bench.attach(session_id)
    await bench.detach(session_id)
    await bench.pass_time(bench.limits.detach_linger_ms * 2)
    assert bench.session().state is SessionState.ACTIVE


async def test_a_session_elsewhere_is_left_alone(bench: Bench) -> None:
    """A linger that ends while the session is not ACTIVE changes nothing but the linger."""
    run = await bench.running()
    await bench.attach(run.session_id)
    await bench.detach(run.session_id)
    head = bench.session().head_sequence
    await bench.heartbeat(run.run_id)
    await bench.pass_time(bench.limits.detach_linger_ms)
    assert bench.session().head_sequence == head
    assert bench.contents()["lingers"] == {}


async def test_a_settlement_that_was_lost_comes_again(bench: Bench) -> None:
    """When the commit that detaches a session is lost, the next sweep finds it again."""
    session_id = await bench.active()
    await bench.detach(session_id)
    bench.clock.advance(bench.limits.detach_linger_ms)
    async with HeldWriter(bench.store):
        name = (NAMESPACE, session_id)
        settled = bench.plane.execute(lambda tx, use: lifecycle.settle_presence(tx, name, use))
        lost = bench.plane.execute(lose_the_commit)
    for each in (settled, lost):
        with pytest.raises(StorageFull):
            await each
    assert bench.session().state is SessionState.ACTIVE
    await bench.plane.sweeper.sweep()
    assert bench.session().state is SessionState.DETACHED


async def test_a_suspended_session_goes_on_with_its_run(bench: Bench) -> None:
    """The client is in the background; the runner publishes and finishes, and the next run is claimed, as ever."""
    await bench.active()
    run_id = bench.session().active_run_id
    await bench.suspend()
    await bench.publish(run_id, "b")
    await bench.finish(run_id)
    await bench.publish((await bench.running()).run_id, "c")
    assert bench.session().state is SessionState.SUSPENDED
    assert bench.session().running


async def test_suspending_is_one_event_and_has_an_end(bench: Bench) -> None:
    """The answer shows the session SUSPENDED, its log says so once, and its row says until when."""
    await bench.active()
    head = bench.session().head_sequence
    view = await bench.suspend(grace_ms=7_000)
    assert view.session.state is SessionState.SUSPENDED
    assert view.head.sequence == view.session.head_sequence == head + 1
    assert bench.story(behind=head) == ["session ACTIVE>SUSPENDED"]
    assert view.session.deadline_at_ms == view.session.due_at_ms == bench.clock.wall_ms() + 7_000


async def test_suspending_again_keeps_the_time_that_it_has(bench: Bench) -> None:
    """A second SuspendSession is silent: it neither extends nor shortens, and takes no request id."""
    await bench.active()
    await bench.suspend()
    before = bench.contents()
    for grace_ms in (1, 60_000):
        await bench.suspend(grace_ms=grace_ms, request_id="r1", content=str(grace_ms))
    assert bench.contents() == before


async def test_a_repeated_suspension_is_the_first_one(bench: Bench) -> None:
    """A repeat by request id shows the session as it is now, and does not suspend it anew."""
    session_id = await bench.active()
    await bench.suspend(request_id="r1")
    await bench.attach(session_id)
    before = bench.contents()
    assert (await bench.suspend(request_id="r1")).session.state is SessionState.ACTIVE
    assert bench.contents() == before
    await bench.refused(RequestIdReused, bench.suspend(request_id="r1", content="another"))


async def test_what_does_not_exist_is_not_suspended(bench: Bench) -> None:
    """An unbound key and an unknown id are refused by name, and nothing is created."""
    await bench.refused(KeyNotBound, bench.suspend("nobody"))
    await bench.refused(SessionNotFound, bench.suspend("ses_unknown"))


@pytest.mark.parametrize("there", [True, False])
async def test_a_suspension_ends_by_itself(bench: Bench, *, there: bool) -> None:
    """When its grace is over the session is ACTIVE if somebody is attached then, else DETACHED."""
    session_id = await bench.active()
    await bench.suspend(grace_ms=5_000)
    if not there:
        await bench.detach(session_id)
    head = bench.session().head_sequence
    await bench.pass_time(4_999)
    assert bench.session().state is SessionState.SUSPENDED
    await bench.pass_time(1)
    state = "ACTIVE" if there else "DETACHED"
    assert bench.story(behind=head) == [f"session SUSPENDED>{state}"]
    assert bench.session().deadline_at_ms is None


async def test_a_linger_does_not_end_a_suspension(bench: Bench) -> None:
    """Subscribers may leave a suspended session: that is what it is for."""
    session_id = await bench.active()
    await bench.suspend(grace_ms=3 * bench.limits.detach_linger_ms)
    await bench.detach(session_id)
    await bench.pass_time(2 * bench.limits.detach_linger_ms)
    assert bench.session().state is SessionState.SUSPENDED
    assert bench.contents()["lingers"] == {}


async def test_a_woken_session_is_not_suspended_again_by_its_old_deadline(bench: Bench) -> None:
    """Who comes back in time ends the suspension, deadline and all."""
    session_id = await bench.active()
    await bench.suspend(grace_ms=5_000)
    await bench.attach(session_id)
    head = bench.session().head_sequence
    assert (bench.session().deadline_at_ms, bench.session().due_at_ms) == (None, None)
    await bench.pass_time(6_000)
    assert bench.story(behind=head) == []


async def test_a_suspension_outlives_a_restart(bench: Bench) -> None:
    """One that ran out while the server was away ends when everybody had the time to come back, not before."""
    await bench.active()
    await bench.suspend(grace_ms=1_000)
    await bench.reopen(after_ms=60_000)
    await bench.pass_time(bench.limits.detach_linger_ms - 1)
    assert bench.session().state is SessionState.SUSPENDED
    await bench.pass_time(1)
    assert bench.session().state is SessionState.DETACHED


async def test_who_comes_back_after_a_restart_finds_the_session_suspended(bench: Bench) -> None:
    """An overdue suspension is ended by its subscriber, and by nobody before."""
    session_id = await bench.active()
    await bench.suspend(grace_ms=1_000)
    head = bench.session().head_sequence
    await bench.reopen(after_ms=60_000)
    await bench.pass_time(2_000)
    await bench.attach(session_id)
    await bench.pass_time(2 * bench.limits.detach_linger_ms)
    assert bench.story(behind=head)[0] == "session SUSPENDED>ACTIVE"
    assert "session ACTIVE>DETACHED" not in bench.story(behind=head)
