"""Use cases of a session's life beside its runs: who attends it, and what that changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessionplane.domain.errors import SessionNotFound, StorageFull
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
