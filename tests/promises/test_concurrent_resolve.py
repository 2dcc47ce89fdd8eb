"""concurrent-resolve: whoever asks for a new key at the same time gets the same session.

Seen in the wild: two commands resolved a new key at once, each found nothing and each made a session; the lane that
should have kept them apart put their work in order, not their identity.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc
import pytest

from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.run_pb2 import Payload, RunSpec
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.refusals import Refusal, read, refused
from tests.support.rows import rows
from tests.support.serving import Served
from tests.support.stores import HeldWriter
from tests.support.story import check_log, story
from tests.support.wire import Wire, wired


@pytest.fixture
async def wires(server: Served) -> AsyncIterator[list[Wire]]:
    """Four connections to one server."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(wired(server.address)) for _ in range(4)]


async def test_concurrent_resolves_of_a_new_key_create_one_session(server: Served, wires: list[Wire]) -> None:
    """Of 400 callers one created the session, and all of them have its id."""
    resolved = await asyncio.gather(*[wires[n % 4].resolve("new", request_id=f"r{n}") for n in range(400)])
    assert len({answer.session.session_id for answer in resolved}) == 1
    resolutions = [answer.resolution for answer in resolved]
    assert resolutions.count(session_pb2.RESOLUTION_CREATED) == 1
    others = {session_pb2.RESOLUTION_CREATED, session_pb2.RESOLUTION_JOINED, session_pb2.RESOLUTION_EXISTING}
    assert set(resolutions) <= others
    assert len(rows(server.database)["sessions"]) == len(rows(server.database)["keys"]) == 1


async def test_concurrent_resolves_of_many_new_keys_create_one_session_each(wires: list[Wire]) -> None:
    """Keys do not disturb one another: each of 40 has one session, whoever of ten callers was first."""
    resolved = await asyncio.gather(*[wires[n % 4].resolve(f"key-{n % 40}") for n in range(400)])
    assert len({(answer.session.key, answer.session.session_id) for answer in resolved}) == 40


async def test_concurrent_spellings_of_a_new_key_create_one_session(wires: list[Wire]) -> None:
    """Callers that spell a new key differently race for the same pointer."""
    spellings = ["settings2", "agent:main:settings2", " Settings2", "AGENT:Main:SETTINGS2"]
    calls = [
        wire.resolve(spelling) for _ in range(20) for wire, spelling in zip(wires, spellings, strict=True)
    ]
    resolved = await asyncio.gather(*calls)
    assert {answer.session.key for answer in resolved} == {"agent:main:settings2"}
    assert len({answer.session.session_id for answer in resolved}) == 1


async def test_concurrent_verbs_on_a_new_key_meet_in_one_session(server: Served, wires: list[Wire]) -> None:
    """Resolve, StartRun and a stream that resolves race, and what was started is in the log they share."""
    resolve = pb.ResolveSessionRequest(session=SessionRef(key="new"))
    stream = wires[0].stream(resolve=resolve, start=pb.STREAM_START_OLDEST)
    resolving = [wire.resolve("new") for wire in wires]
    starting = [wire.start("new", text=str(n)) for n, wire in enumerate(wires)]
    resolved, started, opened = await asyncio.gather(
        asyncio.gather(*resolving), asyncio.gather(*starting), stream.__aenter__()
    )
    ids = {answer.session.session_id for answer in (*resolved, *started)}
    assert ids == {opened.opened.session.session_id}
    log = await server.wire.log("new")
    check_log(log)
    assert sorted(each for each in story(log) if each.startswith("input")) == [f"input {n}" for n in range(4)]
    opened.leave()


async def test_a_loser_adopts_the_winner_and_changes_nothing_of_it(server: Served, wires: list[Wire]) -> None:
    """Labels and name are the creator's: a resolve that came second does not overwrite them."""
    calls = [wire.resolve("new", labels={"by": str(n)}, display_name=str(n)) for n, wire in enumerate(wires)]
    resolved = await asyncio.gather(*calls)
    (winner,) = [answer for answer in resolved if answer.resolution == session_pb2.RESOLUTION_CREATED]
    assert {answer.session.display_name for answer in resolved} == {winner.session.display_name}
    session = (await server.wire.get("new")).session
    assert session.labels["by"] == session.display_name == winner.session.display_name


async def test_an_established_key_is_resolved_without_a_write(server: Served) -> None:
    """A resolve that finds its session leaves every row as it was."""
    created = await server.wire.resolve("old")
    before = rows(server.database)
    resolved = await server.wire.resolve(
        "old", request_id="again", interaction=session_pb2.INTERACTION_SYSTEM
    )
    assert resolved.resolution == session_pb2.RESOLUTION_EXISTING
    assert resolved.session.session_id == created.session.session_id
    by_id = await server.wire.resolve(
        session_id=created.session.session_id, interaction=session_pb2.INTERACTION_SYSTEM
    )
    assert by_id.session.key == "agent:main:old"
    assert rows(server.database) == before


async def test_an_established_key_is_resolved_while_the_writer_is_busy(server: Served) -> None:
    """Neither a key that has its session nor an explicit id waits for a lock."""
    created = await server.wire.resolve("old")
    async with HeldWriter(server.running.store):
        assert (await server.wire.resolve("old")).resolution == session_pb2.RESOLUTION_EXISTING
        by_id = await server.wire.resolve(session_id=created.session.session_id)
        assert by_id.session.session_id == created.session.session_id


async def _shown(wire: Wire, *, internal: bool = False) -> set[str]:
    """The keys that a list and a watch show; both show the same."""
    page = await wire.sessions.ListSessions(pb.ListSessionsRequest(show_internal=internal))
    async with wire.watch(show_internal=internal) as watch:
        await watch.caught_up()
        assert set(watch.copy) == {session.session_id for session in page.sessions}
    return {session.key for session in page.sessions}


async def test_internal_hand_offs_leave_no_visible_row(server: Served) -> None:
    """What machinery does under a key is its own until a user comes: it resolves, runs, follows and fails there, and
    neither a list nor a watch tells of it.
    """
    wire = server.wire
    internal = {"visibility": session_pb2.VISIBILITY_INTERNAL}
    hidden = (await wire.resolve("new", **internal)).session
    run = RunSpec(run_id="handed-over", input=Payload(text="from here to there"))
    await wire.resolve("new", run=run, **internal)
    async with wire.stream(session_id=hidden.session_id, until=pb.STREAM_UNTIL_RUN_END) as stream:
        await wire.run_through("handed-over", "done")
        await stream.rest()
    assert stream.refusal is None
    system = pb.StartRunRequest(session=SessionRef(key="new"), interaction=session_pb2.INTERACTION_SYSTEM)
    await wire.interrupt(run_id=(await wire.sessions.StartRun(system)).run.run_id)
    await wire.reset("new")
    assert await _shown(wire) == set()
    assert await _shown(wire, internal=True) == {"agent:main:new"}
    await wire.resolve("new")
    assert await _shown(wire) == {"agent:main:new"}
    assert (await wire.get(session_id=hidden.session_id)).session.visibility == hidden.visibility


async def test_machinery_that_wants_no_row_leaves_none(server: Served) -> None:
    """It asks with `missing` FAIL, and gets the session that is there or nothing."""
    before = rows(server.database)
    asked = {
        "visibility": session_pb2.VISIBILITY_INTERNAL,
        "missing_policy": session_pb2.MISSING_POLICY_FAIL,
    }
    refusal = await refused(server.wire.resolve("new", run=RunSpec(), **asked))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "KEY_NOT_BOUND")
    assert rows(server.database) == before
    created = await server.wire.resolve("new")
    assert (await server.wire.resolve("new", **asked)).session.session_id == created.session.session_id


async def test_of_machinery_and_a_user_who_come_at_once_both_have_one_visible_session(
    server: Served, wires: list[Wire]
) -> None:
    """Whichever of them creates it: the user's makes it visible, and machinery's hides nothing."""
    internal = {"visibility": session_pb2.VISIBILITY_INTERNAL}
    for turn in range(10):
        calls = [wire.resolve(f"key-{turn}", **(internal if n % 2 else {})) for n, wire in enumerate(wires)]
        resolved = await asyncio.gather(*calls[:: -1 if turn % 2 else 1])
        assert len({answer.session.session_id for answer in resolved}) == 1
    assert len(await _shown(server.wire)) == 10


async def test_policies_race_for_a_new_key_and_make_no_second_session(
    server: Served, wires: list[Wire]
) -> None:
    """Who will only create, who will only find, and who takes what comes: one session, and everybody is told of it."""
    policies = [
        {"conflict_policy": session_pb2.CONFLICT_POLICY_FAIL},
        {"missing_policy": session_pb2.MISSING_POLICY_FAIL},
        {},
        {"ended_policy": session_pb2.ENDED_POLICY_CREATE_NEW},
    ]
    calls = [wires[n % 4].resolve("new", **policies[n % 4]) for n in range(80)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    found = [each for each in answers if isinstance(each, pb.ResolveSessionResponse)]
    failed = [read(each) for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert len(found) + len(failed) == 80
    holder = (await server.wire.get("new")).session.session_id
    assert {answer.session.session_id for answer in found} == {holder}
    assert [answer.resolution for answer in found].count(session_pb2.RESOLUTION_CREATED) == 1
    assert {each.reason for each in failed} <= {"SESSION_EXISTS", "KEY_NOT_BOUND"}
    assert len(rows(server.database)["sessions"]) == 1


async def test_of_rivals_who_replace_the_same_session_one_wins(server: Served, wires: list[Wire]) -> None:
    """The others are told whom it made; without an expectation each replaces the one before."""
    old = (await server.wire.resolve("old")).session.session_id
    replace = {"conflict_policy": session_pb2.CONFLICT_POLICY_REPLACE}
    calls = [wire.resolve("old", expected_session_id=old, **replace) for wire in wires]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    (won,) = [each for each in answers if isinstance(each, pb.ResolveSessionResponse)]
    lost = [read(each) for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert {(each.code, each.reason) for each in lost} == {(grpc.StatusCode.ABORTED, "SESSION_REPLACED")}
    assert {(each.metadata or {})["current"] for each in lost} == {won.session.session_id}
    chain = await asyncio.gather(*[wire.resolve("old", **replace) for wire in wires])
    links = {answer.previous_session_id: answer.session.session_id for answer in chain}
    session_id, length = won.session.session_id, 0
    while session_id in links:
        session_id, length = links[session_id], length + 1
    assert (session_id, length) == ((await server.wire.get("old")).session.session_id, 4)


async def test_an_unknown_session_id_creates_nothing(server: Served) -> None:
    """An id names a session that exists; only a key can call for a new one."""
    before = rows(server.database)
    unknown = "ses_" + "0" * 32
    for call in (server.wire.resolve(session_id=unknown), server.wire.start(session_id=unknown)):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    assert rows(server.database) == before


async def test_concurrent_bindings_of_one_key_have_one_winner(server: Served, wires: list[Wire]) -> None:
    """Of sessions without a key that want the same one, one gets it; the others hear whose it is."""
    nameless = [(await wire.start()).session.session_id for wire in wires]

    async def bind(wire: Wire, session_id: str) -> pb.ResolveSessionResponse | Refusal:
        try:
            return await wire.resolve("wanted", bind_session_id=session_id)
        except grpc.aio.AioRpcError:
            return await refused(wire.resolve("wanted", bind_session_id=session_id))

    outcomes = await asyncio.gather(*map(bind, wires, nameless))
    (winner,) = [each for each in outcomes if isinstance(each, pb.ResolveSessionResponse)]
    assert winner.resolution == session_pb2.RESOLUTION_BOUND
    losers = [each for each in outcomes if isinstance(each, Refusal)]
    assert {(each.code, each.reason) for each in losers} == {
        (grpc.StatusCode.FAILED_PRECONDITION, "KEY_BOUND")
    }
    assert {(each.metadata or {})["session_id"] for each in losers} == {winner.session.session_id}
    assert (await server.wire.get("wanted")).session.session_id == winner.session.session_id


async def test_a_binding_races_with_a_resolve_and_one_of_them_holds_the_key(
    server: Served, wires: list[Wire]
) -> None:
    """A key that is bound while others resolve it still has one session, and everybody is told that one."""
    nameless = (await server.wire.start()).session.session_id
    binding = asyncio.gather(wires[0].resolve("new", bind_session_id=nameless), return_exceptions=True)
    resolved = await asyncio.gather(*[wire.resolve("new") for wire in wires[1:]])
    await binding
    holder = (await server.wire.get("new")).session.session_id
    assert {answer.session.session_id for answer in resolved} == {holder}
