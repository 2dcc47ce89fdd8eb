"""Who is there: attaching and leaving move a session along its table, and never its runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1.session_pb2 import SESSION_STATE_ACTIVE, SESSION_STATE_DETACHED
from sessionplane.v1.session_service_pb2 import STREAM_START_OLDEST, STREAM_UNTIL_CAUGHT_UP
from tests.support.frames import Following
from tests.support.serving import Served, serving
from tests.support.story import story, tell, terminals
from tests.support.wire import DEADLINE_S, Held, Wire

SHORT = {"detach_linger_ms": 100}


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Served]:
    """A server that waits a tenth of a second for a subscriber to come back."""
    async with serving(tmp_path / "hasty.db", limits=SHORT) as served:
        yield served


def _observe(wire: Wire) -> Following:
    return wire.stream("chat", presence=session_pb2.PRESENCE_OBSERVER, start=STREAM_START_OLDEST)


async def _states(wire: Wire) -> list[str]:
    return [tell(event) for event in await wire.log("chat") if event.HasField("session_changed")]


async def _claimed(wire: Wire) -> Held:
    return await wire.hold((await wire.start("chat")).run.run_id)


async def _attached(wire: Wire, count: int) -> None:
    """Ask until so many streams are attached: a stream that left is noticed by the server in its own time."""
    async with asyncio.timeout(DEADLINE_S):
        while (await wire.get("chat")).session.attached_count != count:
            continue


async def test_a_first_event_that_nobody_watches_makes_a_session_active_and_detached_at_once(
    server: Served,
) -> None:
    """STARTING goes to ACTIVE and on to DETACHED, as two events of one commit."""
    held = await _claimed(server.wire)
    assert await _states(server.wire) == ["session none>CREATED", "session CREATED>STARTING"]
    await server.wire.publish(held, "hello")
    told = story(await server.wire.log("chat"))
    first = told.index("session STARTING>ACTIVE")
    assert told[first : first + 3] == ["session STARTING>ACTIVE", "session ACTIVE>DETACHED", "text hello"]


async def test_a_first_event_that_somebody_watches_makes_a_session_active(server: Served) -> None:
    """With a subscriber attached, a session whose runner was heard stays ACTIVE."""
    held = await _claimed(server.wire)
    async with server.wire.stream("chat"):
        await server.wire.publish(held, "hello")
        assert (await _states(server.wire))[-1] == "session STARTING>ACTIVE"


async def test_a_report_counts_as_a_first_event(server: Served) -> None:
    """A run that finishes without a word leaves a session that was really under way."""
    await server.wire.finish(await _claimed(server.wire))
    assert (await _states(server.wire))[-2:] == ["session STARTING>ACTIVE", "session ACTIVE>DETACHED"]


async def test_attaching_wakes_a_detached_session(server: Served) -> None:
    """The stream that attaches shows the session as ACTIVE already, and everybody reads why."""
    await server.wire.finish(await _claimed(server.wire))
    async with server.wire.stream("chat") as stream:
        assert stream.opened.session.state == SESSION_STATE_ACTIVE
        assert stream.opened.session.attached_count == 1
        assert (await _states(server.wire))[-1] == "session DETACHED>ACTIVE"


async def test_an_observer_attaches_nobody(server: Served) -> None:
    """Looking on changes neither the count nor the state, and writes nothing."""
    await server.wire.finish(await _claimed(server.wire))
    before = await server.wire.log("chat")
    async with _observe(server.wire) as stream:
        assert stream.opened.session.state == SESSION_STATE_DETACHED
        assert (await server.wire.get("chat")).session.attached_count == 0
        assert await server.wire.log("chat") == before


async def test_the_last_one_who_leaves_detaches_the_session_after_the_linger(hasty: Served) -> None:
    """One of two may go without a trace; when the other one is gone too, the session is DETACHED, once."""
    wire = hasty.wire
    await wire.finish(await _claimed(wire))
    async with _observe(wire) as observer, wire.stream("chat") as first, wire.stream("chat") as second:
        await _attached(wire, 2)
        first.leave()
        await _attached(wire, 1)
        assert (await wire.get("chat")).session.state == SESSION_STATE_ACTIVE
        second.leave()
        await observer.until(lambda event: tell(event) == "session ACTIVE>DETACHED" and event.sequence > 8)
    states = await _states(wire)
    assert states[-2:] == ["session DETACHED>ACTIVE", "session ACTIVE>DETACHED"]


async def test_a_stream_that_ends_by_itself_detaches_like_one_that_left(hasty: Served) -> None:
    """A subscriber whose wait is over is not there any more."""
    wire = hasty.wire
    await wire.finish(await _claimed(wire))
    async with _observe(wire) as observer:
        await wire.stream("chat", until=STREAM_UNTIL_CAUGHT_UP).rest()
        await observer.until(lambda event: tell(event) == "session DETACHED>ACTIVE")
        await observer.until(lambda event: tell(event) == "session ACTIVE>DETACHED" and event.sequence > 8)


async def test_who_comes_back_within_the_linger_was_never_away(server: Served) -> None:
    """A page that is reloaded leaves nothing in the log."""
    wire = server.wire
    held = await _claimed(wire)
    async with wire.stream("chat"):
        await wire.publish(held, "hello")
    await _attached(wire, 0)
    before = await wire.log("chat")
    async with wire.stream("chat") as stream:
        assert stream.opened.session.state == SESSION_STATE_ACTIVE
        assert await wire.log("chat") == before


async def test_a_second_stream_never_displaces_the_first(server: Served) -> None:
    """Streams are disposable: ten subscribers with one name all see the run to its end."""
    wire = server.wire
    held = await _claimed(wire)
    streams = [wire.stream("chat", subscriber_name="tab", until=1) for _ in range(10)]
    for stream in streams:
        await stream.frame()
    assert (await wire.get("chat")).session.attached_count == 10
    await wire.work(held, "to all")
    for stream in streams:
        await stream.rest()
        assert terminals(stream.events) == ["SUCCEEDED/RUNNER"]


async def test_a_subscriber_that_disconnects_never_cancels_a_run(server: Served) -> None:
    """The run goes on without anybody watching, and its end is there for whoever comes later."""
    wire = server.wire
    held = await _claimed(wire)
    async with wire.stream("chat") as stream:
        await wire.publish(held, "one ")
        stream.leave()
    await _attached(wire, 0)
    await wire.publish(held, "two")
    assert (await wire.get_run(held.run_id)).state == run_pb2.RUN_STATE_RUNNING
    assert (await wire.finish(held)).terminal.output_text == "one two"


@pytest.mark.parametrize("presence", [0, session_pb2.PRESENCE_OBSERVER])
async def test_a_session_that_nobody_comes_back_to_after_a_restart_is_detached(
    tmp_path: Path, presence: int
) -> None:
    """A restart begins with nobody: who attaches within the linger keeps the session ACTIVE, an observer does not."""
    async with serving(tmp_path / "plane.db") as server:
        held = await _claimed(server.wire)
        async with server.wire.stream("chat"):
            await server.wire.publish(held, "hello")
    async with serving(tmp_path / "plane.db", limits={"detach_linger_ms": 300}) as server:
        wire = server.wire
        async with wire.stream("chat", presence=presence) as stream:
            assert stream.opened.session.state == SESSION_STATE_ACTIVE
            assert (await wire.get("chat")).session.attached_count == (
                presence != session_pb2.PRESENCE_OBSERVER
            )
            if presence == session_pb2.PRESENCE_OBSERVER:
                await stream.until(lambda event: tell(event) == "session ACTIVE>DETACHED")
            else:
                before = await _states(wire)
                assert before[-1] == "session STARTING>ACTIVE"


async def test_attaching_to_an_ended_session_counts_and_changes_no_state(server: Served) -> None:
    """Somebody may wait for an ended session's next message; until it comes the session stays ended."""
    wire = server.wire
    await wire.interrupt(run_id=(await wire.start("chat")).run.run_id)
    before = await wire.log("chat")
    async with wire.stream("chat"):
        session = (await wire.get("chat")).session
        assert session.state == session_pb2.SESSION_STATE_ENDED
        assert session.attached_count == 1
        assert await wire.log("chat") == before
