"""A followed watch: it goes on by itself, tells when all was told, and never mistakes an end for a change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from sessionplane.v1 import admin_service_pb2 as admin
from sessionplane.v1 import session_service_pb2 as service
from sessionplane.v1.session_pb2 import Session
from sessionplane_client import Client, SessionPlaneError, SubscriberNotFound, TokenCompacted
from tests.support.scripted import Refusal, Script, Scripted, scripted
from tests.support.serving import AT_ONCE

DRAINING = Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING")
MAX_AGE = Refusal(grpc.StatusCode.UNAVAILABLE, "MAX_AGE")


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as made:
        yield made


@pytest.fixture
async def client(server: Scripted) -> AsyncIterator[Client]:
    async with Client(server.target, backoff=AT_ONCE) as made:
        yield made


def frame(number: int, *, session: str = "", removed: str = "") -> service.WatchSessionsResponse:
    """A frame: of a session, of one that is gone, or of neither."""
    made = service.WatchSessionsResponse(resume_token=f"t{number}")
    if session:
        made.session.session_id = session
    elif removed:
        made.removed.session_id = removed
    else:
        made.caught_up.SetInParent()
    return made


def plays(
    *frames: service.WatchSessionsResponse, end: Refusal | None = None, hold: asyncio.Event | None = None
) -> Script:
    """A script that writes these frames, then ends as told, or stays until it is told."""

    async def script(_: service.WatchSessionsRequest, context: grpc.aio.ServicerContext) -> None:
        for each in frames:
            await context.write(each)
        if hold is not None:
            await hold.wait()
        if end is not None:
            await end.abort(context)

    return script


async def take(watch: AsyncIterator[Session | service.SessionRemoved], count: int) -> list[str]:
    """Take so many items; what is gone has a minus."""
    found: list[str] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            item = await anext(watch)
            found.append(item.session_id if isinstance(item, Session) else f"-{item.session_id}")
    return found


async def test_a_watch_goes_on_by_itself_with_its_newest_token(server: Scripted, client: Client) -> None:
    """What ends it for a while is told of and gone on from; nothing is asked for twice."""
    server.watches += [
        plays(frame(1, session="a"), frame(2, session="b"), end=DRAINING),
        plays(frame(2), frame(3, removed="a"), end=MAX_AGE),
        plays(frame(4, session="c"), hold=asyncio.Event()),
    ]
    reconnects: list[str] = []
    watch = client.watch_sessions(
        show_internal=True,
        subscriber_name="board",
        on_reconnect=lambda error, _: reconnects.append(error.reason),
    )
    async with watch:
        assert await take(watch, 4) == ["a", "b", "-a", "c"]
        assert watch.token == "t4"
    assert reconnects == ["DRAINING", "MAX_AGE"]
    sent = server.named("WatchSessions")
    assert [request.resume_token for request in sent] == ["", "t2", "t3"]
    assert all(request.show_internal and request.subscriber_name == "board" for request in sent)
    assert [await server.ended.get() for _ in range(3)] == ["WatchSessions"] * 3


async def test_a_watch_tells_once_that_all_was_told(server: Scripted, client: Client) -> None:
    """The first `caught_up` is the end of the snapshot; later ones are signs of life."""
    server.watches += [
        plays(frame(1, session="a"), frame(1), frame(1), frame(2, session="b"), end=DRAINING),
        plays(frame(2), frame(3, session="c"), hold=asyncio.Event()),
    ]
    told: list[int] = []
    async with client.watch_sessions(on_caught_up=lambda: told.append(1)) as watch:
        assert await take(watch, 1) == ["a"]
        assert (watch.caught_up, told) == (False, [])
        assert await take(watch, 2) == ["b", "c"]
        assert (watch.caught_up, told) == (True, [1])


async def test_entering_a_watch_raises_what_the_server_says(server: Scripted, client: Client) -> None:
    """A token that cannot be gone on from is final."""
    server.watches.append(plays(end=Refusal(grpc.StatusCode.OUT_OF_RANGE, "TOKEN_COMPACTED")))
    with pytest.raises(TokenCompacted):
        async with client.watch_sessions(resume_token="old"):
            raise AssertionError
    assert server.named("WatchSessions")[0].resume_token == "old"


async def test_a_reader_that_gives_up_in_between_loses_nothing(server: Scripted, client: Client) -> None:
    """A wait that is cancelled is taken up again from the newest token."""
    server.watches += [
        plays(frame(1, session="a"), hold=asyncio.Event()),
        plays(frame(2, session="b"), hold=asyncio.Event()),
    ]
    async with client.watch_sessions() as watch:
        assert await take(watch, 1) == ["a"]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(watch)
        assert await take(watch, 1) == ["b"]
    assert [request.resume_token for request in server.named("WatchSessions")] == ["", "t1"]


async def test_leaving_a_watch_ends_its_call(server: Scripted, client: Client) -> None:
    """Nothing stays open behind it, and reading on ends the iteration."""
    server.watches.append(plays(frame(1, session="a"), hold=asyncio.Event()))
    async with client.watch_sessions() as watch:
        pass
    async with asyncio.timeout(10):
        assert await server.ended.get() == "WatchSessions"
    assert [item.session_id async for item in watch] == ["a"]


async def test_an_operators_end_is_final(server: Scripted, client: Client) -> None:
    """Who was disconnected does not come back by itself."""
    server.watches.append(plays(frame(1, session="a"), end=Refusal(grpc.StatusCode.ABORTED, "DISCONNECTED")))
    async with client.watch_sessions() as watch:
        assert await take(watch, 1) == ["a"]
        with pytest.raises(SessionPlaneError, match="DISCONNECTED"):
            await anext(watch)


async def test_subscribers_are_listed_page_by_page_and_ended(server: Scripted, client: Client) -> None:
    """Of one session, or of all; an unknown one has an error of its own."""
    server.answers["ListSubscribers"] = [
        admin.ListSubscribersResponse(subscribers=[admin.Subscriber(subscriber_id="a")], next_page_token="p"),
        admin.ListSubscribersResponse(subscribers=[admin.Subscriber(subscriber_id="b")]),
        admin.ListSubscribersResponse(),
    ]
    found = [each.subscriber_id async for each in client.subscribers(key="k", page_size=1)]
    assert (found, [each async for each in client.subscribers()]) == (["a", "b"], [])
    first, second, third = server.named("ListSubscribers")
    assert (first.session.key, first.page_size, second.page_token) == ("k", 1, "p")
    assert not third.HasField("session")
    server.answers["DisconnectSubscriber"] = [
        admin.DisconnectSubscriberResponse(),
        Refusal(grpc.StatusCode.NOT_FOUND, "SUBSCRIBER_NOT_FOUND"),
    ]
    await client.disconnect("a")
    with pytest.raises(SubscriberNotFound):
        await client.disconnect("b")
    assert [request.subscriber_id for request in server.named("DisconnectSubscriber")] == ["a", "b"]
