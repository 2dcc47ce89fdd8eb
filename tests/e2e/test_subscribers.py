"""Operators see who reads what, and can end it; the subscriber may come back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from sessionplane.v1 import admin_service_pb2 as admin
from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import SessionRef
from sessionplane.v1.session_service_pb2 import STREAM_START_OLDEST
from tests.support.refusals import refused
from tests.support.serving import Served, serving
from tests.support.wire import DEADLINE_S, Wire, span


async def listed(wire: Wire, **asked: object) -> list[admin.Subscriber]:
    """All subscribers, page by page of one."""
    found: list[admin.Subscriber] = []
    request = admin.ListSubscribersRequest(page_size=1, **asked)
    while True:
        page = await wire.admin.ListSubscribers(request, timeout=DEADLINE_S)
        found.extend(page.subscribers)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


async def disconnect(wire: Wire, subscriber_id: str) -> None:
    request = admin.DisconnectSubscriberRequest(subscriber_id=subscriber_id)
    await wire.admin.DisconnectSubscriber(request, timeout=DEADLINE_S)


async def test_every_open_stream_is_listed_oldest_first(server: Served) -> None:
    """Streams of sessions and of runs, watches, and those that wait for their run, each with what it follows."""
    wire = server.wire
    run_id = (await wire.start("chat")).run.run_id
    session_id = (await wire.get("chat")).session.session_id
    keyless = (await wire.start()).session.session_id
    async with (
        wire.stream("chat", subscriber_name="screen"),
        wire.stream(run_id=run_id, presence=session_pb2.PRESENCE_OBSERVER),
        wire.stream(session_id=keyless),
        wire.watch(subscriber_name="board"),
    ):
        waiting = wire.stream(run_id="soon", pending_timeout=span(30))
        async with asyncio.timeout(DEADLINE_S):
            while len(found := await listed(wire)) < 5:
                continue
        names = [(each.subscriber_name, each.session_id, each.session_key, each.run_id) for each in found]
        assert names == [
            ("screen", session_id, "agent:main:chat", ""),
            ("", session_id, "agent:main:chat", run_id),
            ("", keyless, "", ""),
            ("board", "", "", ""),
            ("", "", "", "soon"),
        ]
        attached, observer = session_pb2.PRESENCE_ATTACHED, session_pb2.PRESENCE_OBSERVER
        assert [each.presence for each in found] == [attached, observer, attached, observer, attached]
        assert all(each.peer.startswith("ipv4:127.0.0.1:") and each.connect_time.seconds for each in found)
        assert len({each.subscriber_id for each in found}) == 5
        chat = [found[0].subscriber_id, found[1].subscriber_id]
        for ref in (SessionRef(key="Chat"), SessionRef(session_id=session_id)):
            assert [each.subscriber_id for each in await listed(wire, session=ref)] == chat
        waiting.leave()
    async with asyncio.timeout(DEADLINE_S):
        while await listed(wire):
            continue


async def test_a_subscriber_is_shown_with_how_far_it_is(server: Served) -> None:
    """What was accounted for to it, and how much it lacks."""
    wire = server.wire
    held = await wire.hold((await wire.start("chat")).run.run_id)
    async with wire.stream("chat", start=STREAM_START_OLDEST) as stream:
        await wire.publish(held, "a", "b")
        await stream.through((await wire.get("chat")).session.head_sequence)
        (found,) = await listed(wire)
    assert (found.through_sequence, found.lag) == (stream.frames[-1].through_sequence, 0)


async def test_a_disconnected_stream_ends_by_name_and_its_token_still_goes_on(server: Served) -> None:
    """It closes with DISCONNECTED, not resumable by itself; who comes back by token misses nothing."""
    wire = server.wire
    await wire.resolve("chat")
    async with wire.stream("chat") as stream, wire.stream("chat") as other:
        (first, second) = await listed(wire)
        await disconnect(wire, first.subscriber_id)
        await stream.rest()
        assert [each.subscriber_id for each in await listed(wire)] == [second.subscriber_id]
        await wire.start("chat")
        await other.until(lambda event: event.HasField("input_recorded"))
    assert stream.ended_by == "DISCONNECTED"
    assert stream.closing is not None
    assert not stream.closing.resumable
    assert stream.refusal is not None
    assert (stream.refusal.code, stream.refusal.reason) == (grpc.StatusCode.ABORTED, "DISCONNECTED")
    again = await wire.stream("chat", resume_token=stream.token, until=pb.STREAM_UNTIL_CAUGHT_UP).rest()
    assert again.events == (await wire.log("chat"))[2:]


async def test_a_disconnected_watch_ends_by_name(server: Served) -> None:
    """A watch has no closing frame; its status says it."""
    async with server.wire.watch() as watch:
        (found,) = await listed(server.wire)
        await disconnect(server.wire, found.subscriber_id)
        await watch.rest()
    assert watch.refusal is not None
    assert (watch.refusal.code, watch.refusal.reason) == (grpc.StatusCode.ABORTED, "DISCONNECTED")


async def test_a_stream_that_waits_for_its_run_can_be_ended(server: Served) -> None:
    """Before it is open there is nothing to close: the status comes at once."""
    wire = server.wire
    waiting = asyncio.ensure_future(
        refused(wire.stream(run_id="soon", pending_timeout=span(30)).__aenter__())
    )
    async with asyncio.timeout(DEADLINE_S):
        while not (found := await listed(wire)):
            continue
    await disconnect(wire, found[0].subscriber_id)
    refusal = await waiting
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "DISCONNECTED")


async def test_one_that_does_not_read_is_ended_within_the_bound(tmp_path: Path) -> None:
    """An operator need not wait until it counts as slow, and the reason stays the operator's."""
    limits = {"slow_subscriber_ms": 600_000, "stream_abort_ms": 200, "labels_bytes_max": 200_000}
    narrow = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
    async with (
        serving(tmp_path / "plane.db", limits=limits) as server,
        grpc.aio.insecure_channel(server.address, options=narrow) as channel,
        Wire(channel).watch() as watch,
    ):
        for number in range(60):
            await server.wire.resolve(f"chat-{number}", labels={"piece": "x" * 100_000})
        (found,) = await listed(server.wire)
        await disconnect(server.wire, found.subscriber_id)
        async with asyncio.timeout(DEADLINE_S):
            while await listed(server.wire):
                continue
        await watch.rest()
    assert watch.refusal is not None
    assert watch.refusal.reason == "DISCONNECTED"
    assert len(watch.copy) < 60


@pytest.mark.parametrize("subscriber_id", ["sub_none", "ses_1"])
async def test_an_unknown_subscriber_is_not_found(server: Served, subscriber_id: str) -> None:
    """Nothing is ended for an id that no open stream has."""
    async with server.wire.watch():
        refusal = await refused(disconnect(server.wire, subscriber_id))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "SUBSCRIBER_NOT_FOUND")
        assert len(await listed(server.wire)) == 1


async def test_a_list_of_subscribers_is_refused_by_name(server: Served) -> None:
    """Unknown sessions, a page of another list, and what cannot be read."""
    wire = server.wire
    await wire.resolve("chat")
    async with wire.watch(), wire.watch():
        token = (await wire.admin.ListSubscribers(admin.ListSubscribersRequest(page_size=1))).next_page_token
    chat = SessionRef(key="chat")
    for asked, reason in {
        "KEY_NOT_BOUND": {"session": SessionRef(key="nobody")},
        "SESSION_NOT_FOUND": {"session": SessionRef(session_id="ses_none")},
        "PAGE_TOKEN_INVALID": {"session": chat, "page_token": token},
        "FIELD_INVALID": {"page_size": -1},
    }.items():
        refusal = await refused(wire.admin.ListSubscribers(admin.ListSubscribersRequest(**reason)))
        assert refusal.reason == asked
