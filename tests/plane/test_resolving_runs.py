"""Resolving and starting a run in one call: both happen, or neither."""

from __future__ import annotations

from typing import Any

import pytest

from sessionplane.domain.errors import RequestIdReused, RunIdReused, RunInProgress, RunQueueFull, SessionEnded
from sessionplane.domain.runs import RunDisposition, RunPolicy, RunState
from sessionplane.domain.sessions import (
    ConflictPolicy,
    EndedPolicy,
    Interaction,
    Resolution,
    SessionState,
    Visibility,
)
from sessionplane.plane.resolving import Resolved
from tests.support.planes import KEY, Bench, spec
from tests.support.resolving import at_once, ended

REPLACE = ConflictPolicy.REPLACE


async def resolve_run(
    bench: Bench, name: str = KEY, text: str = "hi", *, run: dict[str, Any] | None = None, **given: Any
) -> Resolved:
    """Resolve a key and start a run in its session."""
    return await bench.resolve(name, run=spec(name, text, **(run or {})), **given)


async def test_a_run_starts_with_the_session_that_it_is_for(bench: Bench) -> None:
    """A new key: session, pointer, input and run are one commit, and one answer."""
    resolved = await resolve_run(bench, run={"run_id": "mine"})
    assert resolved.resolution is Resolution.CREATED
    assert resolved.started is not None
    assert (resolved.started.run.run_id, resolved.started.input_id) == ("mine", "mine")
    assert resolved.started.disposition is RunDisposition.PENDING
    assert resolved.view.session.active_run_id == "mine"
    assert bench.story() == ["session none>CREATED", "key CREATED", "input hi", "run none>PENDING"]


async def test_a_run_in_an_established_session_is_as_start_run_makes_it(bench: Bench) -> None:
    """It queues behind the active one, and brings an ended session back."""
    await bench.start()
    queued = await resolve_run(bench)
    assert queued.resolution is Resolution.EXISTING
    assert queued.started is not None
    assert (queued.started.disposition, queued.started.shown.queue_position) == (RunDisposition.QUEUED, 1)
    await ended(bench, "other")
    resumed = await resolve_run(bench, "other")
    assert (resumed.view.session.generation, resumed.view.session.state) == (2, SessionState.CREATED)


async def test_a_replacement_runs_what_it_replaced_the_session_for(bench: Bench) -> None:
    """The run is the new session's, and the old one's has ended."""
    old = await bench.running()
    replaced = await resolve_run(bench, conflict=REPLACE)
    assert replaced.started is not None
    assert replaced.started.run.session_id == bench.session().session_id != old.session_id
    assert bench.run(old.run_id).state is RunState.FINISHED


async def test_a_run_that_is_refused_refuses_the_whole_call(bench: Bench) -> None:
    """A lane that is taken leaves no label, no session and no pointer behind."""
    await bench.start()
    reject = {"policy": RunPolicy.REJECT}
    await bench.refused(RunInProgress, resolve_run(bench, run=reject))


async def test_a_full_line_refuses_the_whole_call(bench: Bench) -> None:
    """As it does in StartRun."""
    await bench.start()
    for _ in range(bench.limits.run_queue_max):
        await bench.start()
    await bench.refused(RunQueueFull, resolve_run(bench))


async def test_a_final_session_takes_no_run(bench: Bench) -> None:
    """By its id a final session is found, but not with a run."""
    old = (await bench.resolve()).view.session.session_id
    await bench.resolve(conflict=REPLACE)
    await bench.refused(SessionEnded, resolve_run(bench, old))


async def test_a_known_run_is_looked_up_first(bench: Bench) -> None:
    """It is a DUPLICATE in its own session, whatever the policies say and whoever holds the key by now."""
    first = await resolve_run(bench, run={"run_id": "mine"})
    await bench.resolve(conflict=REPLACE)
    before = bench.contents()
    for given in ({}, {"conflict": REPLACE}, {"conflict": ConflictPolicy.FAIL}, {"ended": EndedPolicy.FAIL}):
        again = await resolve_run(bench, run={"run_id": "mine"}, **given)
        assert again.started is not None
        assert again.started.disposition is RunDisposition.DUPLICATE
        assert again.resolution is Resolution.EXISTING
        assert again.view.session.session_id == first.view.session.session_id
    assert bench.contents() == before


@pytest.mark.parametrize("name", [KEY, "new"])
async def test_a_known_run_with_other_content_is_refused(bench: Bench, name: str) -> None:
    """Before anything is created for it."""
    await resolve_run(bench, run={"run_id": "mine"})
    await bench.refused(RunIdReused, resolve_run(bench, name, "other", run={"run_id": "mine"}))


async def test_a_repeated_call_shows_its_run_again(bench: Bench) -> None:
    """The same session and the same run, as they are now."""
    first = await resolve_run(bench, request_id="r1")
    assert first.started is not None
    await bench.claim(first.started.run.run_id)
    before = bench.contents()
    again = await resolve_run(bench, request_id="r1")
    assert again.started is not None
    assert (again.resolution, again.started.disposition) == (Resolution.CREATED, RunDisposition.PENDING)
    assert (again.started.run.run_id, again.started.input_id) == (
        first.started.run.run_id,
        first.started.input_id,
    )
    assert again.started.run.state is RunState.RUNNING
    assert bench.contents() == before
    await bench.refused(RequestIdReused, resolve_run(bench, request_id="r1", content="else"))


async def test_a_run_that_is_an_input_says_whose(bench: Bench) -> None:
    """With INJECT the answer has the active run and the input's own id, and a repeat has both again."""
    active = await bench.running()
    for _ in range(2):
        sent = await resolve_run(bench, run={"policy": RunPolicy.INJECT}, request_id="r1")
        assert sent.started is not None
        assert sent.started.disposition is RunDisposition.INJECTED
        assert sent.started.run.run_id == active.run_id != sent.started.input_id
        assert list(bench.view(active.run_id).waiting_input_ids) == [sent.started.input_id]


async def test_a_run_that_goes_first_stops_the_active_one(bench: Bench) -> None:
    """With INTERRUPT it is next in line, and the answer says whose stop it waits for."""
    active = await bench.running()
    first = await resolve_run(bench, run={"policy": RunPolicy.INTERRUPT})
    assert first.started is not None
    assert first.started.disposition is RunDisposition.INTERRUPTING
    assert first.started.interrupt_id == bench.run(active.run_id).interrupt_id != ""


async def test_two_runs_for_a_new_key_at_once_are_in_one_session(bench: Bench) -> None:
    """One creates the session, the other joined it; both run there."""
    first, second = await at_once(bench, resolve_run(bench), resolve_run(bench))
    assert isinstance(first, Resolved)
    assert isinstance(second, Resolved)
    assert (first.resolution, second.resolution) == (Resolution.CREATED, Resolution.JOINED)
    assert first.started is not None
    assert second.started is not None
    assert second.started.disposition is RunDisposition.QUEUED
    assert first.started.run.session_id == second.started.run.session_id


async def test_a_bound_key_brings_its_run_along(bench: Bench) -> None:
    """Work that began before its key was known goes on under it."""
    nameless = (await bench.start(None)).view.session.session_id
    bound = await resolve_run(bench, bind=nameless)
    assert bound.resolution is Resolution.BOUND
    assert bound.started is not None
    assert bound.started.run.session_id == nameless == bench.session().session_id


@pytest.mark.parametrize("interaction", Interaction)
async def test_a_run_tells_of_its_user(bench: Bench, interaction: Interaction) -> None:
    """Only a user's moves the last interaction."""
    await bench.resolve(interaction=Interaction.SYSTEM)
    bench.clock.advance(10)
    await resolve_run(bench, interaction=interaction)
    expected = bench.clock.wall_ms() if interaction is Interaction.USER else None
    assert bench.session().last_interaction_at_ms == expected


async def test_machinery_runs_in_a_hidden_session_without_showing_it(bench: Bench) -> None:
    """A run in an INTERNAL resolve is not a user's, whatever the call says."""
    hidden = await resolve_run(bench, visibility=Visibility.INTERNAL, interaction=Interaction.USER)
    assert hidden.view.session.visibility is Visibility.INTERNAL
    assert bench.session().last_interaction_at_ms is None
