"""Use cases that find a session: one key is one session, whoever asks and however often."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from sessionplane.domain.errors import FieldInvalid, KeyBound, KeyMismatch, RequestIdReused, SessionNotFound
from sessionplane.domain.runs import RunState
from sessionplane.domain.sessions import Interaction, Resolution, SessionState
from sessionplane.plane import resolving
from tests.support.planes import KEY, NAMESPACE, Bench, open_bench, ref
from tests.support.stores import HeldWriter

UNKNOWN = "ses_" + "f" * 32


async def keyless(bench: Bench) -> str:
    """A session that began without a key."""
    return (await bench.start(None)).view.session.session_id


async def test_an_unknown_key_gets_a_session(bench: Bench) -> None:
    """A new key is CREATED: a session with an id of our own, a pointer, and two events that say so."""
    resolved = await bench.resolve("Settings2", labels={"team": "a"}, display_name="Settings")
    session = resolved.view.session
    assert resolved.resolution is Resolution.CREATED
    assert (str(session.key), session.state) == ("agent:main:settings2", SessionState.CREATED)
    assert (session.labels, session.display_name) == ({"team": "a"}, "Settings")
    assert session.created_at_ms == session.last_interaction_at_ms == bench.clock.wall_ms()
    assert bench.story("settings2") == ["session none>CREATED", "key CREATED"]


async def test_a_system_interaction_is_none(bench: Bench) -> None:
    """A session that machinery created was never interacted with."""
    await bench.resolve(interaction=Interaction.SYSTEM)
    assert bench.session().last_interaction_at_ms is None


@pytest.mark.parametrize("spelling", [KEY, "main", " MAIN ", "Agent:MAIN:main"])
async def test_every_spelling_finds_the_session(bench: Bench, spelling: str) -> None:
    """A known key is EXISTING, however it is spelled, and nothing is written."""
    created = await bench.resolve()
    before = bench.contents()
    found = await bench.resolve(spelling)
    assert found.resolution is Resolution.EXISTING
    assert found.view.session.session_id == created.view.session.session_id
    assert bench.contents() == before


async def test_what_a_resolve_gives_is_for_a_new_session_only(bench: Bench) -> None:
    """Labels and names of a later resolve do not change the session."""
    await bench.resolve(labels={"team": "a"}, display_name="First")
    again = await bench.resolve(labels={"team": "b"}, display_name="Second")
    assert (again.view.session.labels, again.view.session.display_name) == ({"team": "a"}, "First")


async def test_resolves_of_one_new_key_at_once_get_one_session(bench: Bench) -> None:
    """Of many resolves of a new key one is CREATED, the others JOINED, and all have the same id."""
    async with HeldWriter(bench.store):
        asked = [asyncio.ensure_future(bench.resolve()) for _ in range(20)]
        await asyncio.sleep(0)
    found = await asyncio.gather(*asked)
    assert [each.resolution for each in found] == [Resolution.CREATED] + [Resolution.JOINED] * 19
    assert len({each.view.session.session_id for each in found}) == 1
    assert bench.ids.counts["ses_"] == 1


async def test_a_rival_that_was_first_is_adopted(bench: Bench) -> None:
    """A resolve that finds the key taken when its turn comes has JOINED, and mints no id."""
    request = resolving.ResolveRequest(call=resolving.Call(namespace=NAMESPACE), session=ref(KEY))
    async with HeldWriter(bench.store):
        first = bench.plane.execute(lambda tx, use: resolving.resolve(tx, request, use, seen=""))
        second = bench.plane.execute(lambda tx, use: resolving.resolve(tx, request, use, seen=""))
    assert ((await first).resolution, (await second).resolution) == (Resolution.CREATED, Resolution.JOINED)
    assert (await first).view.session == (await second).view.session
    assert bench.ids.counts["ses_"] == 1


async def test_a_failed_creation_does_not_hurt_who_joined(bench: Bench) -> None:
    """When the first resolve of a key is refused for a reason of its own, the one that joined it creates."""
    await bench.resolve("other", request_id="r1", content="one thing")
    async with HeldWriter(bench.store):
        request = resolving.ResolveRequest(
            call=resolving.Call(namespace=NAMESPACE, rpc="ResolveSession", request_id="r2", fingerprint=b"x"),
            session=ref(KEY),
        )
        rival = replace(request, call=replace(request.call, fingerprint=b"y"), session=ref("third"))
        bench.plane.execute(lambda tx, use: resolving.resolve(tx, rival, use))
        first = asyncio.ensure_future(bench.plane.resolve(request))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(bench.resolve())
        await asyncio.sleep(0)
    with pytest.raises(RequestIdReused):
        await first
    assert (await second).resolution is Resolution.CREATED


async def test_a_caller_that_goes_away_takes_nothing_back(bench: Bench) -> None:
    """A cancelled resolve still creates the session, and whoever joined it gets the answer."""
    async with HeldWriter(bench.store):
        first = asyncio.ensure_future(bench.resolve())
        await asyncio.sleep(0)
        second = asyncio.ensure_future(bench.resolve())
        await asyncio.sleep(0)
        first.cancel()
    assert (await second).resolution is Resolution.JOINED
    assert bench.session().session_id == (await second).view.session.session_id


async def test_a_session_is_found_by_its_id(bench: Bench) -> None:
    """An explicit id is EXISTING, and reads the same session as its key."""
    created = await bench.resolve()
    found = await bench.resolve(created.view.session.session_id)
    assert (found.resolution, found.view.session) == (Resolution.EXISTING, created.view.session)


async def test_an_unknown_id_is_refused(bench: Bench) -> None:
    """No session is made for an id that nobody was given."""
    error = await bench.refused(SessionNotFound, bench.resolve(UNKNOWN))
    assert error.details == {"session_id": UNKNOWN}


async def test_a_key_is_bound_to_a_session_without_one(bench: Bench) -> None:
    """Binding is BOUND, keeps the id and the log, and is an event of it."""
    session_id = await keyless(bench)
    before = bench.story(session_id)
    bound = await bench.resolve(bind=session_id)
    assert (bound.resolution, bound.view.session.session_id) == (Resolution.BOUND, session_id)
    assert bench.session().session_id == session_id
    assert bench.story() == [*before, "key BOUND"]


async def test_binding_the_same_key_again_changes_nothing(bench: Bench) -> None:
    """A second binding of the same pair is EXISTING."""
    session_id = await keyless(bench)
    await bench.resolve(bind=session_id)
    before = bench.contents()
    assert (await bench.resolve(bind=session_id)).resolution is Resolution.EXISTING
    assert bench.contents() == before


async def test_a_session_holds_one_key_for_life(bench: Bench) -> None:
    """Binding a further key is KEY_MISMATCH, with the session's id."""
    session_id = await keyless(bench)
    await bench.resolve(bind=session_id)
    error = await bench.refused(KeyMismatch, bench.resolve("other", bind=session_id))
    assert error.details == {"session_id": session_id}


async def test_a_key_is_held_by_one_session(bench: Bench) -> None:
    """Binding a key that another session holds is KEY_BOUND, with that session's id."""
    holder = (await bench.resolve()).view.session.session_id
    session_id = await keyless(bench)
    error = await bench.refused(KeyBound, bench.resolve(bind=session_id))
    assert error.details == {"session_id": holder}


async def test_binding_an_unknown_session_is_refused(bench: Bench) -> None:
    """There must be a session to bind."""
    await bench.refused(SessionNotFound, bench.resolve(bind=UNKNOWN))


async def test_binding_needs_a_key(bench: Bench) -> None:
    """Naming the session twice is not a binding."""
    session_id = await keyless(bench)
    await bench.refused(FieldInvalid, bench.resolve(session_id, bind=session_id))


async def test_a_repeated_request_id_has_no_second_effect(bench: Bench) -> None:
    """A repeat says what the first call did, with the session as it is now."""
    first = await bench.resolve(request_id="r1")
    await bench.running()
    before = bench.contents()
    again = await bench.resolve(request_id="r1")
    assert again.resolution is first.resolution is Resolution.CREATED
    assert again.view.session.session_id == first.view.session.session_id
    assert again.view.session.state is SessionState.STARTING
    assert bench.contents() == before


async def test_a_repeated_binding_says_so_again(bench: Bench) -> None:
    """A binding with a request id is BOUND however often it is sent."""
    session_id = await keyless(bench)
    for _ in range(2):
        assert (await bench.resolve(bind=session_id, request_id="r1")).resolution is Resolution.BOUND


async def test_a_request_id_means_one_request(bench: Bench) -> None:
    """The same request id with other content is REQUEST_ID_REUSED, and says since when it is taken."""
    await bench.resolve(request_id="r1")
    bench.clock.advance(5)
    error = await bench.refused(RequestIdReused, bench.resolve("other", request_id="r1"))
    assert error.details == {"first_seen_at": "2027-01-15T08:00:00+00:00"}


async def test_request_ids_of_two_rpcs_do_not_meet(bench: Bench) -> None:
    """Each RPC has request ids of its own."""
    await bench.resolve(request_id="r1")
    assert (await bench.start(request_id="r1")).run.state is RunState.PENDING


async def test_a_call_that_wrote_nothing_records_nothing(bench: Bench) -> None:
    """The request id of a resolve that found its session is free for another request, also if the writer found it."""
    await bench.resolve()
    await bench.resolve(request_id="r1")
    nameless = await keyless(bench)
    await bench.resolve("bound", bind=nameless)
    await bench.resolve("bound", bind=nameless, request_id="r1")
    await bench.resolve("other", request_id="r1")


async def test_a_persons_resolve_is_noted_for_the_sweep(bench: Bench) -> None:
    """An established resolve by a user moves the last interaction with the next sweep, one by the system does not."""
    await bench.resolve()
    created_at_ms = bench.clock.wall_ms()
    bench.clock.advance(500)
    await bench.resolve(interaction=Interaction.SYSTEM)
    await bench.plane.sweeper.sweep()
    assert bench.session().last_interaction_at_ms == created_at_ms
    await bench.resolve()
    number = bench.session().change_number
    await bench.plane.sweeper.sweep()
    assert bench.session().last_interaction_at_ms == bench.clock.wall_ms()
    assert bench.session().change_number == number


async def test_noted_interactions_are_bounded(tmp_path: Path) -> None:
    """No more sessions are noted between two sweeps than touched_sessions_max."""
    async with open_bench(tmp_path / "plane.db", touched_sessions_max=2) as bench:
        for name in ("a", "b", "c", "a", "b", "c"):
            await bench.resolve(name)
        assert len(bench.plane.sweeper._visits) == 2
