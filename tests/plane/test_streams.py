"""What a subscriber is shown first, where its stream begins, and what it waits for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sessionplane.domain.errors import (
    FieldInvalid,
    KeyNotBound,
    RunNotFound,
    SessionNotFound,
)
from sessionplane.domain.events import Place
from sessionplane.domain.runs import RunState
from sessionplane.domain.sessions import Resolution, SessionState
from sessionplane.domain.streams import ClosingReason, Filter, Presence, Start, Until
from sessionplane.domain.tokens import ResumeToken, stamp
from sessionplane.plane import streams
from sessionplane.plane.admission import RunSpec
from sessionplane.plane.resolving import ResolveRequest
from sessionplane.plane.streams import Opening, StreamRequest
from tests.support.planes import KEY, NAMESPACE, Bench, call, ref, spec


def asked(name: str = KEY, **given: Any) -> StreamRequest:
    """A stream of a session."""
    return StreamRequest(namespace=NAMESPACE, session=ref(name), **given)


def of_run(run_id: str, **given: Any) -> StreamRequest:
    """A stream of a run."""
    return StreamRequest(namespace=NAMESPACE, run_id=run_id, **given)


def resolving(name: str = KEY, run: RunSpec | None = None, **given: Any) -> StreamRequest:
    """A stream of whatever a resolve finds."""
    resolve = ResolveRequest(call=call("ResolveSession"), session=ref(name), run=run)
    return StreamRequest(namespace=NAMESPACE, resolve=resolve, **given)


async def opened(bench: Bench, request: StreamRequest) -> Opening:
    """Open it as an attached subscriber does."""
    return await bench.do(streams.open_stream, request)


async def test_a_stream_begins_now(bench: Bench) -> None:
    """Without a token, a start or a run a stream begins at the head, and goes on for ever."""
    await bench.start()
    opening = await opened(bench, asked())
    assert opening.plan.begin == opening.view.head == Place(4, bench.session().head_hash)
    assert (opening.run, opening.resumed, opening.resolution) == (None, False, None)
    assert (opening.plan.until, opening.plan.goal) == (None, None)


async def test_a_stream_can_begin_with_the_oldest(bench: Bench) -> None:
    """OLDEST is before the first event that is kept."""
    await bench.start()
    assert (await opened(bench, asked(start=Start.OLDEST))).plan.begin == Place(0, b"")


@pytest.mark.parametrize("start", [Start.LATEST, Start.SNAPSHOT])
async def test_a_stream_can_begin_with_what_comes_next(bench: Bench, start: Start) -> None:
    """LATEST and SNAPSHOT begin at the head, also where a run is meant."""
    run_id = (await bench.start()).run.run_id
    opening = await opened(bench, of_run(run_id, start=start))
    assert opening.plan.begin == opening.view.head


async def test_a_stream_can_begin_with_the_active_run(bench: Bench) -> None:
    """ACTIVE_RUN begins with that run's first event, and at the head without one."""
    await bench.resolve()
    assert (await opened(bench, asked(start=Start.ACTIVE_RUN))).plan.begin.sequence == 2
    run = await bench.running()
    opening = await opened(bench, asked(start=Start.ACTIVE_RUN))
    assert opening.plan.begin.sequence == run.first_sequence - 1 == 2


async def test_a_stream_of_a_run_is_that_run(bench: Bench) -> None:
    """A run as target begins with its first event, delivers its events, and ends with it."""
    await bench.start()
    queued = (await bench.start()).run
    opening = await opened(bench, of_run(queued.run_id))
    assert opening.run == bench.view(queued.run_id)
    assert opening.run.queue_position == 1
    plan = opening.plan
    assert (plan.begin.sequence, plan.filter) == (queued.first_sequence - 1, Filter(run_id=queued.run_id))
    assert (plan.until, plan.until_run_id) == (Until.RUN_END, queued.run_id)


async def test_a_stream_of_a_run_may_wait_for_something_else(bench: Bench) -> None:
    """What the request waits for wins over the run's end."""
    run_id = (await bench.start()).run.run_id
    opening = await opened(bench, of_run(run_id, until=Until.CAUGHT_UP))
    assert (opening.plan.until, opening.plan.goal_reason) == (Until.CAUGHT_UP, ClosingReason.CAUGHT_UP)


async def test_run_end_is_the_run_in_the_lane(bench: Bench) -> None:
    """Without a name RUN_END means the active run, and the opening shows it."""
    active = await bench.running()
    await bench.start()
    opening = await opened(bench, asked(until=Until.RUN_END))
    assert (opening.plan.until_run_id, opening.run) == (active.run_id, bench.view(active.run_id))


async def test_run_end_is_the_next_run_in_an_idle_session(bench: Bench) -> None:
    """Without a run in the lane it is the first that is recorded behind the opening."""
    await bench.resolve()
    opening = await opened(bench, asked(until=Until.RUN_END, start=Start.OLDEST))
    assert (opening.plan.until_run_id, opening.plan.discover_after) == ("", 2)


async def test_run_end_can_name_its_run(bench: Bench) -> None:
    """until_run_id and filter.run_id name the run that is meant."""
    await bench.start()
    queued = (await bench.start()).run
    for request in (
        asked(until=Until.RUN_END, until_run_id=queued.run_id),
        asked(until=Until.RUN_END, filter=Filter(run_id=queued.run_id)),
    ):
        opening = await opened(bench, request)
        assert (opening.run, opening.plan.until_run_id) == (bench.view(queued.run_id), queued.run_id)
        assert opening.plan.begin.sequence == queued.first_sequence - 1


async def test_a_finished_run_is_shown_from_its_first_event(bench: Bench) -> None:
    """A late reader of a run begins before it and has its terminal ahead; one at the head is over at once."""
    run = await bench.running()
    await bench.finish(run.run_id)
    late = (await opened(bench, of_run(run.run_id))).plan
    assert (late.begin.sequence, late.goal) == (run.first_sequence - 1, None)
    over = (await opened(bench, of_run(run.run_id, start=Start.LATEST))).plan
    assert (over.goal, over.goal_reason) == (over.begin.sequence, ClosingReason.RUN_END)


async def test_a_stream_of_an_input_is_the_run_that_it_means(bench: Bench) -> None:
    """By an input's id a stream shows, delivers and waits for the run that it waits for, and later its own."""
    active = await bench.running()
    await bench.inject("more", "mine")
    for request in (
        of_run("mine"),
        asked(until=Until.RUN_END, until_run_id="mine"),
        asked(until=Until.RUN_END, filter=Filter(run_id="mine")),
    ):
        opening = await opened(bench, request)
        assert (opening.run, opening.plan.until_run_id) == (bench.view(active.run_id), active.run_id)
        assert opening.plan.filter.run_id in {"", active.run_id}
    await bench.finish(active.run_id)
    opening = await opened(bench, of_run("mine"))
    assert (opening.plan.until_run_id, opening.plan.filter.run_id) == ("mine", "mine")
    assert opening.plan.begin.sequence == bench.run("mine").first_sequence - 1


async def test_a_stream_of_an_input_goes_on_with_the_run_that_it_named(bench: Bench) -> None:
    """A reconnect sends the run that was named to it, also when the input has become a run of its own."""
    active = await bench.running()
    await bench.inject("more", "mine")
    await bench.finish(active.run_id)
    named = (await opened(bench, of_run("mine", until=Until.RUN_END, until_run_id=active.run_id))).plan
    assert (named.until_run_id, named.filter.run_id) == (active.run_id, active.run_id)
    other = await bench.start("other")
    await bench.refused(RunNotFound, opened(bench, of_run("mine", until_run_id=other.run.run_id)))


async def test_a_target_and_another_run_to_wait_for_contradict_each_other(bench: Bench) -> None:
    """A stream of a run that waits for another one is refused."""
    active, queued = await bench.start(), await bench.start()
    request = of_run(active.run.run_id, until=Until.RUN_END, until_run_id=queued.run.run_id)
    error = await bench.refused(FieldInvalid, opened(bench, request))
    assert error.details["field"] == "until_run_id"


async def test_a_run_of_another_session_is_none(bench: Bench) -> None:
    """A run that is named beside a session must be that session's."""
    other = await bench.start("other")
    await bench.resolve()
    request = asked(until=Until.RUN_END, until_run_id=other.run.run_id)
    error = await bench.refused(RunNotFound, opened(bench, request))
    assert error.details == {"run_id": other.run.run_id}


async def test_session_end_is_the_end_of_this_generation(bench: Bench) -> None:
    """A fresh stream waits for the generation that is current; an ended one gives its log to the head."""
    first = await bench.start()
    plan = (await opened(bench, asked(until=Until.SESSION_END))).plan
    assert (plan.until_generation, plan.goal) == (1, None)
    await bench.interrupt(run_id=first.run.run_id)
    head = bench.session().head_sequence
    plan = (await opened(bench, asked(until=Until.SESSION_END, start=Start.OLDEST))).plan
    assert (plan.goal, plan.goal_reason) == (head, ClosingReason.SESSION_END)
    await bench.start()
    plan = (await opened(bench, asked(until=Until.SESSION_END))).plan
    assert (plan.until_generation, plan.goal) == (2, None)


async def test_caught_up_is_the_head_at_opening(bench: Bench) -> None:
    """CAUGHT_UP ends where the log ended as the stream opened."""
    await bench.start()
    plan = (await opened(bench, asked(until=Until.CAUGHT_UP, start=Start.OLDEST))).plan
    assert (plan.begin.sequence, plan.goal) == (0, 4)


async def test_a_final_session_is_replayed(bench: Bench) -> None:
    """A session that lost its key for good counts no subscriber, and its streams end at its head."""
    session = (await bench.resolve()).view.session
    final = replace(session, state=SessionState.ENDED, final=True)
    await bench.write(lambda tx, _: tx.save_session(final))
    opening = await opened(bench, asked(session.session_id))
    assert (opening.attached, opening.plan.goal_reason) == (False, ClosingReason.SESSION_FINAL)
    assert bench.plane.attached_count(session.session_id) == 0


async def test_opening_attaches_before_the_snapshot(bench: Bench) -> None:
    """The snapshot shows the session as the subscriber made it, and the stream begins behind that."""
    run = await bench.running()
    await bench.publish(run.run_id, "a")
    opening = await opened(bench, asked())
    assert opening.attached
    assert opening.view.session.state is SessionState.ACTIVE
    assert opening.plan.begin.sequence == bench.session().head_sequence
    assert bench.story()[-1] == "session DETACHED>ACTIVE"


async def test_observing_changes_nothing(bench: Bench) -> None:
    """An observer reads the same snapshot and is not counted."""
    run = await bench.running()
    await bench.publish(run.run_id, "a")
    before = bench.contents()
    request = asked(presence=Presence.OBSERVER)
    opening = bench.plane.read(lambda tx: streams.observe_stream(tx, request))
    assert (opening.attached, opening.view.session.state) == (False, SessionState.DETACHED)
    assert bench.contents() == before


@pytest.mark.parametrize("until", [None, Until.RUN_END])
async def test_a_stream_that_starts_a_run_is_about_that_run(bench: Bench, until: Until | None) -> None:
    """It begins with the run's first event, names it, and RUN_END waits for its end, whatever is in the lane."""
    await bench.start()
    opening = await opened(bench, resolving(run=spec(text="hi"), until=until))
    assert opening.run is not None
    run = opening.run.run
    assert run.state is RunState.QUEUED
    assert opening.plan.begin.sequence == run.first_sequence - 1
    assert opening.plan.until_run_id == (run.run_id if until else "")
    assert opening.plan.filter.run_id == ""


async def test_a_reconnect_of_such_a_stream_starts_nothing(bench: Bench) -> None:
    """With a token a resolve only names; a run of the caller's own id is still the one that is meant."""
    asked = resolving(run=spec(text="hi", run_id="mine"), until=Until.RUN_END)
    opening = await opened(bench, asked)
    token = ResumeToken(
        store_id=bench.store.store_id,
        session_id=opening.view.session.session_id,
        sequence=opening.view.head.sequence,
        chain=stamp(opening.view.head.chain),
    )
    before = bench.contents()
    resumed = await bench.do(streams.open_stream, replace(asked, token=token, presence=Presence.OBSERVER))
    assert resumed.plan.until_run_id == "mine"
    unknown = replace(
        asked, token=token, presence=Presence.OBSERVER, resolve=resolving(run=spec(run_id="x")).resolve
    )
    assert (await bench.do(streams.open_stream, unknown)).plan.until_run_id == "mine"
    assert bench.contents() == before


async def test_a_stream_that_resolves_for_a_person_is_an_interaction(bench: Bench) -> None:
    """It is noted for the sweep like any other resolve of a session that is there."""
    session = (await bench.resolve()).view.session
    async with bench.plane.stream(resolving()):
        assert list(bench.plane.sweeper._visits.pending()) == [(NAMESPACE, session.session_id)]


async def test_a_stream_may_resolve(bench: Bench) -> None:
    """Resolve, attach and snapshot are one transaction, and the answer says what the resolve did."""
    opening = await opened(bench, resolving())
    assert opening.resolution is Resolution.CREATED
    assert opening.plan.begin.sequence == 2
    assert (await opened(bench, resolving())).resolution is Resolution.EXISTING
    assert bench.plane.attached_count(opening.view.session.session_id) == 2


async def test_what_cannot_be_opened_changes_nothing(bench: Bench) -> None:
    """A stream of what does not exist is refused, and what it resolved or attached on its way is undone."""
    await bench.resolve()
    await bench.refused(SessionNotFound, opened(bench, asked("ses_" + "f" * 32)))
    await bench.refused(KeyNotBound, opened(bench, asked("nobody")))
    await bench.refused(RunNotFound, opened(bench, of_run("run_unknown")))
    await bench.refused(RunNotFound, opened(bench, asked(until=Until.RUN_END, until_run_id="run_unknown")))
    request = resolving("new", until=Until.RUN_END, until_run_id="run_unknown")
    await bench.refused(RunNotFound, opened(bench, request))
