"""A key whose session is too old gets a new one: when, for whom, and what is known of visits that are not on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sessionplane.domain.errors import SessionReplaced
from sessionplane.domain.freshness import Freshness, FreshnessSettings, Idle
from sessionplane.domain.runs import RunDisposition, RunState
from sessionplane.domain.sessions import (
    ConflictPolicy,
    EndedPolicy,
    Interaction,
    MissingPolicy,
    Resolution,
    SessionState,
    Visibility,
)
from sessionplane.domain.tokens import ResumeToken, stamp
from sessionplane.plane import streams
from sessionplane.plane.resolving import Resolved, ResolveRequest
from sessionplane.plane.streams import StreamRequest
from tests.support.planes import KEY, NAMESPACE, Bench, call, open_bench, ref, spec
from tests.support.stores import HeldWriter
from tests.support.story import check_log

MINUTE_MS = 60_000
IDLE_MS = 10 * MINUTE_MS
IDLE = FreshnessSettings(policies={"main": Freshness(idle=Idle(minutes=10))})


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path / "plane.db", freshness=IDLE) as made:
        yield made


async def left_alone(bench: Bench, *, for_ms: int = IDLE_MS + 1, **given: Any) -> str:
    """A session that was resolved, and then nobody came."""
    session_id = (await bench.resolve(**given)).view.session.session_id
    bench.clock.advance(for_ms)
    return session_id


async def test_a_stale_session_gives_its_key_to_a_new_one(bench: Bench) -> None:
    """The old one is final and readable, and both logs tell of each other."""
    old = await left_alone(bench, labels={"team": "a"})
    rolled = await bench.resolve()
    new = rolled.view.session
    assert (rolled.resolution, rolled.previous_session_id) == (Resolution.ROLLED_OVER, old)
    assert (new.previous_session_id, dict(new.labels)) == (old, {"team": "a"})
    assert new.started_at_ms == new.last_interaction_at_ms == bench.clock.wall_ms()
    gone = bench.session(old)
    assert (gone.final, gone.superseded_by) == (True, new.session_id)
    assert bench.story(old)[-2:] == ["session CREATED>ENDED", "key ROLLED_OVER"]
    assert bench.story(new.session_id) == ["session none>CREATED", "key ROLLED_OVER"]
    check_log(bench.log(old))
    assert (await bench.resolve()).resolution is Resolution.EXISTING


async def test_a_session_is_fresh_until_its_time_has_passed(bench: Bench) -> None:
    """To the millisecond: what is exactly as old as the policy says may go on."""
    await left_alone(bench, for_ms=IDLE_MS)
    assert (await bench.resolve()).resolution is Resolution.EXISTING


async def test_a_kind_without_a_policy_never_goes_stale(bench: Bench) -> None:
    """The policy is that of the key's kind; without one a session goes on for ever."""
    await bench.resolve("cron:nightly")
    bench.clock.advance(10 * 365 * 24 * 60 * MINUTE_MS)
    assert (await bench.resolve("cron:nightly")).resolution is Resolution.EXISTING


async def test_a_user_s_run_goes_to_a_new_session_as_well(bench: Bench) -> None:
    """StartRun by key judges like a resolve; its run is the first of the new session."""
    old = await left_alone(bench)
    started = await bench.start(text="hi")
    assert started.view.session.previous_session_id == old
    assert started.disposition is RunDisposition.PENDING
    assert bench.story()[1:3] == ["key ROLLED_OVER", "input hi"]


async def test_a_run_in_a_resolve_is_the_new_session_s(bench: Bench) -> None:
    """The key moves and the run starts in one commit, and a repeat shows both again."""
    old = await left_alone(bench)
    for _ in range(2):
        rolled = await bench.resolve(run=spec(text="hi"), request_id="r1")
        assert (rolled.resolution, rolled.previous_session_id) == (Resolution.ROLLED_OVER, old)
        assert rolled.started is not None
        assert rolled.started.run.session_id == bench.session().session_id


@pytest.mark.parametrize("resume", [EndedPolicy.RESUME, EndedPolicy.FAIL, EndedPolicy.CREATE_NEW])
async def test_what_has_ended_goes_stale_too(bench: Bench, resume: EndedPolicy) -> None:
    """A message after a long time does not wake an old conversation."""
    started = await bench.start()
    await bench.interrupt(run_id=started.run.run_id)
    assert bench.session().state is SessionState.ENDED
    bench.clock.advance(IDLE_MS + 1)
    rolled = await bench.resolve(ended=resume)
    assert rolled.resolution is Resolution.ROLLED_OVER
    assert rolled.previous_session_id == started.view.session.session_id


@pytest.mark.parametrize("conflict", ConflictPolicy)
async def test_a_stale_session_is_no_conflict(bench: Bench, conflict: ConflictPolicy) -> None:
    """It is no live conversation any more, whatever the caller wants to do about those."""
    await left_alone(bench)
    rolled = await bench.resolve(conflict=conflict, missing=MissingPolicy.FAIL)
    assert rolled.resolution is Resolution.ROLLED_OVER


async def test_the_expected_session_is_looked_at_first(bench: Bench) -> None:
    """Whoever expects another session than the stale one moves nothing."""
    old = await left_alone(bench)
    replace = {"conflict": ConflictPolicy.REPLACE}
    await bench.refused(SessionReplaced, bench.resolve(**replace, expected_session_id="ses_other"))
    assert bench.session().session_id == old
    rolled = await bench.resolve(**replace, expected_session_id=old)
    assert rolled.resolution is Resolution.ROLLED_OVER


async def test_a_session_with_work_to_do_is_never_stale(bench: Bench) -> None:
    """Neither while a run is under way, nor while one waits in line."""
    run = await bench.running(run_timeout_ms=24 * 60 * MINUTE_MS)
    await bench.publish(run.run_id, "first")
    await bench.start()
    bench.clock.advance(IDLE_MS + 1)
    assert (await bench.resolve()).resolution is Resolution.EXISTING
    bench.clock.advance(IDLE_MS + 1)
    await bench.finish(run.run_id)
    assert bench.session().active_run_id
    assert (await bench.start()).view.session.session_id == run.session_id


async def test_an_id_is_never_stale(bench: Bench) -> None:
    """Whoever names a session means that one; a resolve, a run, a stream and an interrupt find it."""
    old = await left_alone(bench)
    assert (await bench.resolve(old)).resolution is Resolution.EXISTING
    bench.clock.advance(IDLE_MS + 1)
    assert (await bench.start(old)).view.session.session_id == old


async def test_an_interrupt_by_key_moves_nothing(bench: Bench) -> None:
    """Stopping is about what is there."""
    old = await left_alone(bench)
    stopped = await bench.interrupt(KEY)
    assert stopped.session.session_id == old == bench.session().session_id


@pytest.mark.parametrize(
    "given",
    [{"interaction": Interaction.SYSTEM}, {"visibility": Visibility.INTERNAL}],
    ids=["system", "internal"],
)
async def test_machinery_neither_sees_nor_prevents_that_a_session_is_stale(
    bench: Bench, given: dict[str, Any]
) -> None:
    """A timer that looks in every minute finds the session, and the next user gets a new one all the same."""
    old = (await bench.resolve()).view.session.session_id
    for _ in range(11):
        bench.clock.advance(MINUTE_MS)
        found = await bench.resolve(**given)
        assert (found.resolution, found.view.session.session_id) == (Resolution.EXISTING, old)
    assert (await bench.resolve()).resolution is Resolution.ROLLED_OVER


async def test_machinery_s_run_stays_in_a_stale_session(bench: Bench) -> None:
    """A SYSTEM StartRun goes where the key points."""
    old = await left_alone(bench)
    started = await bench.start(interaction=Interaction.SYSTEM)
    assert started.view.session.session_id == old


async def test_a_stale_hidden_session_stays_hidden(bench: Bench) -> None:
    """Its time is counted from its start, since no user was there; the new session is the user's, and visible."""
    old = await left_alone(bench, visibility=Visibility.INTERNAL)
    rolled = await bench.resolve()
    assert rolled.resolution is Resolution.ROLLED_OVER
    assert rolled.view.session.visibility is Visibility.VISIBLE
    assert bench.session(old).visibility is Visibility.INTERNAL


async def test_a_stream_that_resolves_for_a_user_rolls_over(bench: Bench) -> None:
    """And one with a token only goes on with what it saw, however old."""
    old = await left_alone(bench)
    session = bench.session(old)
    request = ResolveRequest(call=call("ResolveSession"), session=ref(KEY))
    token = ResumeToken(
        store_id=bench.store.store_id,
        session_id=old,
        sequence=session.head_sequence,
        chain=stamp(session.head_hash),
    )
    resumed = StreamRequest(namespace=NAMESPACE, resolve=request, token=token)
    assert (await bench.do(streams.open_stream, resumed)).view.session.session_id == old
    opened = await bench.do(streams.open_stream, StreamRequest(namespace=NAMESPACE, resolve=request))
    assert opened.resolution is Resolution.ROLLED_OVER
    assert opened.view.session.previous_session_id == old


# Visits that are not on disk


async def test_a_visit_counts_before_it_is_on_disk(bench: Bench) -> None:
    """For whoever reads and for the writer: a session that a user touched a second ago is not left alone."""
    old = await left_alone(bench, for_ms=IDLE_MS)
    assert (await bench.resolve()).resolution is Resolution.EXISTING
    assert bench.session(old).last_interaction_at_ms == bench.clock.wall_ms() - IDLE_MS
    bench.clock.advance(IDLE_MS)
    assert (await bench.resolve()).resolution is Resolution.EXISTING
    bench.clock.advance(IDLE_MS)
    assert (await bench.start()).view.session.session_id == old


async def test_a_visit_counts_while_it_is_being_written(bench: Bench) -> None:
    """Between the sweep that takes it and the commit there is no moment at which nobody was there."""
    old = await left_alone(bench, for_ms=IDLE_MS)
    await bench.resolve()
    bench.clock.advance(IDLE_MS)
    async with HeldWriter(bench.store):
        written = asyncio.ensure_future(bench.plane.sweeper.write_visits())
        await asyncio.sleep(0)
        assert (await bench.resolve()).view.session.session_id == old
    await written
    assert bench.plane.sweeper._visits.pending() == {(NAMESPACE, old): bench.clock.wall_ms()}
    await bench.plane.sweeper.write_visits()
    assert len(bench.plane.sweeper._visits) == 0
    assert bench.session().last_interaction_at_ms == bench.clock.wall_ms()


async def test_a_visit_that_comes_before_the_writer_s_turn_counts(bench: Bench) -> None:
    """What looked stale to the reader is judged again by the writer, which knows who came meanwhile."""
    old = await left_alone(bench)
    async with HeldWriter(bench.store):
        by_key = asyncio.ensure_future(bench.resolve())
        await asyncio.sleep(0)
        await bench.resolve(old)
    found = await by_key
    assert (found.resolution, found.view.session.session_id) == (Resolution.EXISTING, old)


async def test_a_crash_forgets_the_visits_of_one_sweep_and_no_more(bench: Bench) -> None:
    """What no sweep wrote is lost; what one wrote counts after the restart."""
    await left_alone(bench, for_ms=IDLE_MS)
    await bench.resolve()
    await bench.plane.sweeper.sweep()
    bench.clock.advance(IDLE_MS)
    await bench.reopen()
    assert (await bench.resolve()).resolution is Resolution.EXISTING
    bench.clock.advance(MINUTE_MS)
    await bench.reopen()
    assert (await bench.resolve()).resolution is Resolution.ROLLED_OVER


async def test_a_visit_for_which_there_is_no_room_is_written_at_once(tmp_path: Path) -> None:
    """More sessions than a sweep remembers are visited, and none of them is taken for left alone."""
    async with open_bench(tmp_path / "plane.db", freshness=IDLE, touched_sessions_max=1) as bench:
        await bench.resolve("other")
        old = await left_alone(bench, for_ms=IDLE_MS)
        await bench.resolve("other")
        await bench.resolve()
        bench.clock.advance(IDLE_MS)
        assert (await bench.resolve()).view.session.session_id == old
        assert len(bench.plane.sweeper._visits) == 1


# Races


async def test_many_users_of_a_stale_session_meet_in_one_new_one(bench: Bench) -> None:
    """One of them rolls it over, the others join, and it costs one command."""
    old = await left_alone(bench)
    async with HeldWriter(bench.store):
        calls = [asyncio.ensure_future(bench.resolve()) for _ in range(20)]
        await asyncio.sleep(0)
    found = await asyncio.gather(*calls)
    assert [each.resolution for each in found] == [Resolution.ROLLED_OVER] + [Resolution.JOINED] * 19
    assert len({each.view.session.session_id for each in found} | {old}) == 2
    assert bench.ids.counts["ses_"] == 2


async def test_runs_and_resolves_of_a_stale_session_meet_in_one_new_one(bench: Bench) -> None:
    """Whoever is first makes it; the messages of both are in one log."""
    old = await left_alone(bench)
    async with HeldWriter(bench.store):
        asked = [bench.start(), bench.resolve(), bench.start(), bench.resolve(run=spec())]
        calls = [asyncio.ensure_future(each) for each in asked]
        await asyncio.sleep(0)
    answers = await asyncio.gather(*calls)
    ids = {each.view.session.session_id for each in answers}
    assert ids == {bench.session().session_id}
    assert old not in ids
    joined = [each.resolution for each in answers if isinstance(each, Resolved)]
    assert joined == [Resolution.JOINED, Resolution.JOINED]
    assert bench.session().queued_run_count == 2
    assert bench.run(bench.session().active_run_id).state is RunState.PENDING


async def test_without_a_policy_nobody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without policies judges nothing: an established key costs what it cost."""
    monkeypatch.setattr("sessionplane.plane.freshness.Judge.is_stale", None)
    async with open_bench(tmp_path / "plane.db") as bench:
        await bench.resolve("a")
        bench.clock.advance(IDLE_MS * 100)
        assert (await bench.resolve("a")).resolution is Resolution.EXISTING
