"""What a session's due moment brings: nothing is kept for ever, and nothing ends while somebody wants it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionplane.domain.errors import SessionNotFound
from sessionplane.domain.routing import Action
from sessionplane.domain.sessions import Interaction, SessionCause, SessionState
from sessionplane.plane import expiry
from sessionplane.store.contract import Tx
from tests.support.planes import CLOSE_MS, KEY, NAMESPACE, Bench, open_bench

LINGER_MS, QUIET_MS, ENDED_MS = 2_000, 8_000, 30_000


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A plane that keeps nothing for long."""
    bounds = {"detach_linger_ms": LINGER_MS, "detached_ttl_ms": QUIET_MS, "ended_ttl_ms": ENDED_MS}
    async with open_bench(tmp_path / "plane.db", **bounds) as made:
        yield made


async def detached(bench: Bench, name: str = KEY) -> str:
    """A session whose first run was served and whom nobody follows; returns its id."""
    run = await bench.running(name)
    await bench.finish(run.run_id)
    return run.session_id


async def expires_after(bench: Bench, ms: int, name: str = KEY) -> None:
    """Make sure that the session expires then, and not before."""
    await bench.pass_time(ms - 1)
    assert bench.session(name).state is not SessionState.ENDED
    await bench.pass_time(1)
    session = bench.session(name)
    assert (session.state, session.end_reason) == (SessionState.ENDED, SessionCause.EXPIRED)


async def test_a_session_that_nobody_used_expires(bench: Bench) -> None:
    """It ends when nothing happened since its birth; the key stays, and StartRun brings the session back."""
    await bench.resolve(interaction=Interaction.SYSTEM)
    await expires_after(bench, QUIET_MS)
    assert bench.story()[-1] == "session CREATED>ENDED"
    view = (await bench.resolve()).view
    assert view.route is Action.RESUME
    assert (await bench.start()).view.session.generation == 2


async def test_a_served_session_expires_after_its_last_run(bench: Bench) -> None:
    """The time counts from the end of the run, however long that took."""
    await bench.running()
    for _ in range(3):
        await bench.pass_time(QUIET_MS)
        await bench.heartbeat(bench.session().active_run_id)
    await bench.finish(bench.session().active_run_id)
    assert bench.session().state is SessionState.DETACHED
    await expires_after(bench, QUIET_MS)


async def test_a_followed_session_expires_after_its_last_subscriber(bench: Bench) -> None:
    """The time counts from when the last one was missed."""
    session_id = await bench.active()
    await bench.finish(bench.session().active_run_id)
    await bench.pass_time(3 * QUIET_MS)
    assert bench.session().state is SessionState.ACTIVE
    await bench.detach(session_id)
    await bench.pass_time(LINGER_MS)
    await expires_after(bench, QUIET_MS)


async def test_a_suspended_session_expires_after_its_suspension(bench: Bench) -> None:
    """A suspension is no quiet time, however long; what comes after it is."""
    session_id = await bench.active()
    await bench.finish(bench.session().active_run_id)
    await bench.suspend(grace_ms=3 * QUIET_MS)
    await bench.detach(session_id)
    await bench.pass_time(3 * QUIET_MS)
    assert bench.session().state is SessionState.DETACHED
    await expires_after(bench, QUIET_MS)


async def test_a_run_keeps_its_session_however_long_it_waits(bench: Bench) -> None:
    """A session with an unfinished run never expires; with the run's end its time begins anew."""
    await bench.start(start_timeout_ms=3 * QUIET_MS)
    assert bench.session().due_at_ms is None
    await bench.pass_time(3 * QUIET_MS - 1)
    assert bench.session().running
    session_id = await detached(bench, "other")
    await bench.start(session_id, start_timeout_ms=2 * QUIET_MS)
    await bench.pass_time(2 * QUIET_MS)
    assert bench.session("other").state is SessionState.DETACHED
    await expires_after(bench, QUIET_MS, "other")


async def test_a_user_s_interaction_keeps_a_session(bench: Bench) -> None:
    """Whoever resolves the key puts the end off; machinery does not."""
    await detached(bench)
    await bench.pass_time(QUIET_MS - 1_000)
    await bench.resolve()
    await bench.pass_time(QUIET_MS - 1_000)
    await bench.resolve(interaction=Interaction.SYSTEM)
    await expires_after(bench, 1_000)


async def test_putting_the_end_off_is_no_change_of_the_session(bench: Bench) -> None:
    """Nobody who lists or watches sessions sees one move because it was looked at."""
    await detached(bench)
    await bench.pass_time(QUIET_MS - 1_000)
    await bench.resolve()
    before = bench.session()
    await bench.pass_time(1_000)
    after = bench.session()
    assert after.due_at_ms == bench.clock.wall_ms() - 1_000 + QUIET_MS
    assert (after.change_number, after.updated_at_ms) == (before.change_number, before.updated_at_ms)


async def test_a_new_session_that_somebody_follows_is_kept(bench: Bench) -> None:
    """Whoever waits for a first message keeps the session, without its row changing for anybody, and when they have
    left it is kept for as long as any other.
    """
    session_id = (await bench.resolve()).view.session.session_id
    await bench.attach(session_id)
    number = bench.session().change_number
    await bench.pass_time(4 * QUIET_MS + 500)
    await bench.detach(session_id)
    await bench.pass_time(LINGER_MS)
    assert bench.session().change_number == number
    await expires_after(bench, QUIET_MS)


async def test_each_look_at_a_followed_session_is_one_write(bench: Bench) -> None:
    """It is looked at again after the whole time, not with every sweep."""
    session_id = (await bench.resolve()).view.session.session_id
    await bench.attach(session_id)
    looks = set()
    for _ in range(4 * QUIET_MS // bench.limits.sweep_ms):
        await bench.pass_time(bench.limits.sweep_ms)
        looks.add(bench.session().due_at_ms)
    assert len(looks) == 5


async def test_who_just_left_may_come_back(bench: Bench) -> None:
    """A session is not ended under a page that is being reloaded."""
    session_id = (await bench.resolve()).view.session.session_id
    await bench.attach(session_id)
    await bench.pass_time(QUIET_MS - 1_000)
    await bench.detach(session_id)
    await bench.pass_time(1_500)
    await bench.attach(session_id)
    await bench.pass_time(QUIET_MS)
    assert bench.session().state is SessionState.CREATED


@pytest.mark.parametrize("away_ms", [0, 10 * QUIET_MS])
async def test_nobody_is_judged_absent_right_after_a_restart(bench: Bench, *, away_ms: int) -> None:
    """What ran out while the server was away ends when everybody had the time to come back, and not before."""
    await bench.resolve("created")
    await detached(bench, "detached")
    await bench.pass_time(QUIET_MS - 500)
    await bench.reopen(after_ms=away_ms)
    await bench.pass_time(LINGER_MS - 1)
    assert bench.session("created").state is SessionState.CREATED
    assert bench.session("detached").state is SessionState.DETACHED
    await bench.pass_time(1)
    assert bench.session("created").end_reason is SessionCause.EXPIRED
    assert bench.session("detached").end_reason is SessionCause.EXPIRED


async def test_who_comes_back_after_a_restart_keeps_the_session(bench: Bench) -> None:
    """A subscriber that returns within the linger finds the session as it was."""
    session_id = (await bench.resolve()).view.session.session_id
    await bench.reopen(after_ms=10 * QUIET_MS)
    await bench.attach(session_id)
    await bench.pass_time(QUIET_MS)
    assert bench.session().state is SessionState.CREATED


async def test_an_ended_session_is_deleted_after_its_time(bench: Bench) -> None:
    """Nobody wanted it back: its key is free, its id tells when it went, and its log says why."""
    session_id = await detached(bench)
    await bench.close()
    await bench.pass_time(ENDED_MS - 1)
    assert bench.session().state is SessionState.ENDED
    await bench.pass_time(1)
    with pytest.raises(SessionNotFound) as refused:
        bench.session(session_id)
    assert "deleted_at" in refused.value.details
    assert (await bench.resolve()).view.session.session_id != session_id
    moved = bench.log_of(session_id)[-1].session_moved
    assert (moved.key, moved.holds) == (KEY, False)


async def test_an_ended_session_waits_for_nobody_after_a_restart(bench: Bench) -> None:
    """What has ended long ago is deleted with the first sweep, whoever may still come back."""
    session_id = await detached(bench)
    await bench.close()
    await bench.reopen(after_ms=ENDED_MS)
    await bench.plane.sweeper.sweep()
    with pytest.raises(SessionNotFound):
        bench.session(session_id)


async def test_a_resumed_session_is_not_deleted(bench: Bench) -> None:
    """The end that counts is the last one."""
    await detached(bench)
    await bench.close()
    await bench.pass_time(ENDED_MS - 1_000)
    await bench.start(start_timeout_ms=60_000)
    await bench.pass_time(2_000)
    assert bench.session().state is SessionState.CREATED
    await bench.close()
    await bench.pass_time(ENDED_MS - 1)
    assert bench.session().state is SessionState.ENDED


async def test_many_due_sessions_are_dealt_with_in_steps(tmp_path: Path) -> None:
    """One sweep deals with all that is due, however small its steps."""
    bounds = {"upkeep_step_max": 2, "detached_ttl_ms": QUIET_MS, "detach_linger_ms": LINGER_MS}
    async with open_bench(tmp_path / "plane.db", **bounds) as bench:
        for number in range(5):
            await bench.resolve(f"created{number}")
            await detached(bench, f"detached{number}")
        await bench.pass_time(QUIET_MS - 1)
        bench.clock.advance(1)
        await bench.plane.sweeper.sweep()
        for number in range(5):
            assert bench.session(f"created{number}").end_reason is SessionCause.EXPIRED
            assert bench.session(f"detached{number}").end_reason is SessionCause.EXPIRED


async def test_what_waits_for_subscribers_does_not_hold_up_a_deadline(tmp_path: Path) -> None:
    """After a restart a step full of sessions that may not be judged yet hides no close deadline."""
    bounds = {"upkeep_step_max": 2, "detached_ttl_ms": QUIET_MS, "lease_ms_max": 600_000}
    async with open_bench(tmp_path / "plane.db", **bounds) as bench:
        for number in range(5):
            await bench.resolve(f"created{number}")
            await bench.active(f"suspended{number}")
            await bench.suspend(f"suspended{number}", grace_ms=1_000)
        await bench.active()
        await bench.close()
        await bench.reopen(after_ms=10 * QUIET_MS)
        await bench.plane.sweeper.sweep()
        assert bench.session().end_reason is SessionCause.CLOSE_EXPIRED
        assert bench.session("created0").state is SessionState.CREATED
        assert bench.session("suspended0").state is SessionState.SUSPENDED


async def test_what_was_due_is_looked_at_again(bench: Bench) -> None:
    """A due moment that moved between the look and the deed does nothing, nor does a session that is gone."""
    session_id = await detached(bench)
    await bench.active("busy")
    before = bench.contents()
    for each in (session_id, bench.session("busy").session_id, "ses_unknown"):
        await bench.do(expiry.expire, (NAMESPACE, each))
    assert bench.contents() == before


async def test_a_session_that_may_not_be_judged_yet_is_left_alone(bench: Bench) -> None:
    """Also by a look that came before the restart was over."""
    session_id = await detached(bench)
    await bench.reopen(after_ms=10 * QUIET_MS)
    before = bench.contents()
    await bench.do(expiry.expire, (NAMESPACE, session_id))
    assert bench.contents() == before


async def test_a_row_that_cannot_be_dealt_with_hurts_no_other(bench: Bench) -> None:
    """One broken session is left to the next sweep, the others end."""
    broken = await detached(bench, "broken")
    await detached(bench)

    def spoil(tx: Tx, _: object) -> None:
        tx._connection.execute(  # type: ignore[attr-defined]
            f"CREATE TRIGGER spoil BEFORE UPDATE ON sessions WHEN OLD.session_id = '{broken}'"
            " BEGIN SELECT RAISE(ABORT, 'spoiled'); END"
        )

    await bench.write(spoil)
    await bench.pass_time(QUIET_MS)
    assert bench.session().state is SessionState.ENDED
    assert bench.session("broken").state is SessionState.DETACHED


async def test_a_clock_that_is_set_expires_nothing(bench: Bench) -> None:
    """A session ends after the time that really passed, whatever the wall clock says meanwhile."""
    await detached(bench)
    bench.clock.wall += 100 * QUIET_MS
    await bench.plane.sweeper.sweep()
    assert bench.session().state is SessionState.DETACHED
    bench.clock.wall -= 1_000 * QUIET_MS
    bench.clock.monotonic += QUIET_MS
    await bench.plane.sweeper.sweep()
    assert bench.session().end_reason is SessionCause.EXPIRED


async def test_an_interaction_of_the_future_keeps_no_session(bench: Bench) -> None:
    """A user who came while the clock was ahead is no reason to keep the session until that time."""
    await detached(bench)
    bench.clock.wall += 100 * QUIET_MS
    await bench.resolve()
    await bench.plane.sweeper.sweep()
    bench.clock.wall -= 100 * QUIET_MS
    await expires_after(bench, QUIET_MS)


@pytest.mark.parametrize("step_ms", [-365 * 24 * 3_600_000, 365 * 24 * 3_600_000])
async def test_a_clock_that_was_set_between_two_starts_loses_no_state(bench: Bench, step_ms: int) -> None:
    """Ahead, what has a deadline is over; back, it takes as long again; neither breaks a session."""
    run = await bench.running("closing")
    await bench.publish(run.run_id, "a")
    await bench.close("closing")
    await bench.active("suspended")
    await bench.suspend("suspended", grace_ms=CLOSE_MS)
    bench.clock.wall += step_ms
    await bench.reopen()
    await bench.pass_time(LINGER_MS)
    over = step_ms > 0
    assert (bench.session("closing").state is SessionState.ENDED) is over
    assert (bench.session("suspended").state is SessionState.DETACHED) is over
    await bench.attach(bench.session("suspended").session_id)
    assert bench.session("suspended").state is SessionState.ACTIVE
    assert (await bench.start("closing")).view.session.generation == 2
