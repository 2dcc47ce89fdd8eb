"""reset-and-delete: what a key leaves behind ends once, and nothing of it reaches what comes after.

Seen in the wild: a late event of the old run marked the new session as failed; a row that was deleted came back with
the next write; deleting one session reset another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import grpc
import pytest

from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.refusals import read, refused
from tests.support.rows import rows
from tests.support.serving import Served
from tests.support.story import check_log, story, terminals
from tests.support.wire import Held, Wire, wired

KEY = "chat"
REPLACE = session_pb2.CONFLICT_POLICY_REPLACE


@pytest.fixture
async def wires(server: Served) -> AsyncIterator[list[Wire]]:
    """Four connections to one server."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(wired(server.address)) for _ in range(4)]


async def _reset(wire: Wire) -> str:
    return (await wire.reset(KEY)).session.session_id


async def _replace(wire: Wire) -> str:
    return (await wire.resolve(KEY, conflict_policy=REPLACE)).session.session_id


async def _delete(wire: Wire) -> str:
    await wire.delete(KEY)
    return (await wire.resolve(KEY)).session.session_id


Way = Callable[[Wire], Awaitable[str]]
WAYS: list[Way] = [_reset, _replace, _delete]
KEPT: list[Way] = [_reset, _replace]
"""The ways after which the old session can still be read."""


@pytest.mark.parametrize("way", WAYS)
async def test_a_late_runner_never_touches_the_new_session(server: Served, way: Way) -> None:
    """Whatever the old run's runner still does is refused or answered, and writes nothing into the new session."""
    wire = server.wire
    zombie = await wire.hold((await wire.start(KEY)).run.run_id)
    await wire.publish(zombie, "so far")
    new = await way(wire)
    follower = await wire.hold((await wire.start(KEY, text="next")).run.run_id)
    for call in (wire.publish(zombie, "late"), wire.heartbeat(zombie), wire.release(zombie)):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_FINISHED")
    late = await wire.finish(zombie, run_pb2.RUN_OUTCOME_FAILED)
    assert late.finish_result == run_pb2.FINISH_RESULT_SUPERSEDED
    assert late.terminal.output_text == "so far"
    await wire.work(follower, "mine")
    log = await wire.log(session_id=new)
    check_log(log)
    assert terminals(log) == ["SUCCEEDED/RUNNER"]
    assert [line for line in story(log) if line.startswith("text")] == ["text mine"]
    session = (await wire.get(KEY)).session
    assert (session.session_id, session.running) == (new, False)


@pytest.mark.parametrize("way", KEPT)
async def test_publications_that_race_a_move_are_in_the_old_log_or_refused(
    server: Served, wires: list[Wire], way: Way
) -> None:
    """What was acknowledged lies before the terminal, which carries all of it; the rest heard that it has ended."""
    held = await server.wire.hold((await server.wire.start(KEY)).run.run_id)
    publishing = [wires[n % 3].publish(held, f"{n} ") for n in range(60)]
    moving = asyncio.ensure_future(way(wires[3]))
    answers = await asyncio.gather(*publishing, return_exceptions=True)
    new = await moving
    refusals = [read(each) for each in answers if isinstance(each, grpc.aio.AioRpcError)]
    assert {each.reason for each in refusals} <= {"RUN_FINISHED"}
    run = await server.wire.get_run(held.run_id)
    log = await server.wire.log(session_id=run.session_id)
    check_log(log)
    texts = [event.output_delta.text for event in log if event.HasField("output_delta")]
    assert len(texts) == 60 - len(refusals)
    assert run.terminal.output_text == "".join(texts)
    assert story(await server.wire.log(session_id=new))[0] == "session none>CREATED"
    assert not any(event.run_id for event in await server.wire.log(session_id=new))


@pytest.mark.parametrize("way", WAYS)
async def test_everybody_who_waits_for_the_run_hears_its_end(server: Served, way: Way) -> None:
    """A stream of the run and whoever waits for it get the terminal, although its key leads elsewhere by then."""
    wire = server.wire
    held = await wire.hold((await wire.start(KEY)).run.run_id)
    await wire.publish(held, "so far")
    async with wire.stream(run_id=held.run_id) as stream:
        waiting = asyncio.ensure_future(wire.wait(held.run_id))
        await way(wire)
        await stream.rest()
    assert (stream.ended_by, stream.refusal) == ("RUN_END", None)
    assert terminals(stream.events) == ["INTERRUPTED/SESSION_ENDED"]
    assert (await waiting).terminal == stream.events[-1].run_terminal
    assert (await waiting).terminal.output_text == "so far"


async def test_deleting_one_session_touches_no_other(server: Served) -> None:
    """Neither its successor, nor its predecessor, nor whoever has a similar key."""
    wire = server.wire
    keys = (KEY, "chat2", "agent:other:chat", f"telegram:group:{KEY}")
    first = (await wire.resolve(KEY)).session.session_id
    second = (await wire.reset(KEY)).session.session_id
    others = {key: (await wire.start(key)).run.run_id for key in keys[1:]}
    await wire.delete(session_id=second)
    for key, run_id in others.items():
        assert (await wire.get(key)).session.active_run_id == run_id
    assert (await wire.get(session_id=first)).session.superseded_by == second
    assert (await refused(wire.get(KEY))).reason == "KEY_NOT_BOUND"


async def _publish_and_finish(wire: Wire, held: Held) -> None:
    for text in ("a", "b", "c"):
        await wire.publish(held, text)
    await wire.finish(held)


async def _attach(wire: Wire, session_id: str) -> None:
    async with wire.stream(session_id=session_id) as stream:
        await stream.frame()


async def test_nothing_that_races_a_deletion_brings_the_session_back(
    server: Served, wires: list[Wire]
) -> None:
    """Runners, subscribers, labels, resolves and starts all at once: what is deleted stays so, and the key has at most
    one session, which is another one.
    """
    wire = server.wire
    for _ in range(10):
        started = await wire.start(KEY)
        held = await wire.hold(started.run.run_id)
        old = started.session.session_id
        resolve = pb.ResolveSessionRequest(session=SessionRef(key=KEY))
        calls = [
            _publish_and_finish(wires[0], held),
            _attach(wires[1], old),
            wires[1].update(session_id=old, labels={"late": "yes"}),
            wires[2].resolve(KEY),
            wires[3].delete(session_id=old),
            wires[2].start(session_id=old),
            wires[0].stream(resolve=resolve, until=pb.STREAM_UNTIL_CAUGHT_UP).rest(),
            wires[1].interrupt(session_id=old),
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        failed = [read(each) for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
        assert {each.reason for each in failed} <= {"RUN_FINISHED", "SESSION_NOT_FOUND", "SESSION_ENDED"}
        refusal = await refused(wire.get(session_id=old))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
        assert (await wire.get_run(held.run_id)).HasField("terminal")
        found = (await wire.resolve(KEY)).session
        assert found.session_id != old
        assert [row for row in rows(server.database)["keys"] if old in row] == []
        await wire.delete(KEY)


async def test_a_key_is_one_session_however_often_it_moves(server: Served, wires: list[Wire]) -> None:
    """Resolves, starts, resets and deletions of one key race; at the end each session but the last is final or gone,
    and the line of succession has no fork.
    """
    verbs: list[Callable[[Wire, int], Awaitable[object]]] = [
        lambda wire, _: wire.resolve(KEY),
        lambda wire, n: wire.start(KEY, run_id=f"run-{n}"),
        lambda wire, _: wire.reset(KEY),
        lambda wire, _: wire.delete(KEY),
    ]
    calls = [verbs[n // 4 % 4](wires[n % 4], n) for n in range(80)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    failed = [read(each) for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
    assert {each.reason for each in failed} <= {"RUN_QUEUE_FULL"}
    listed = (await server.wire.sessions.ListSessions(pb.ListSessionsRequest())).sessions
    assert sum(not session.final for session in listed) <= 1
    successors = [session.superseded_by for session in listed if session.superseded_by]
    assert len(set(successors)) == len(successors)
    for session in listed:
        check_log(await server.wire.log(session_id=session.session_id))
