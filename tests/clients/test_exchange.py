"""The client's calls over one stream: what they cost, and what becomes of them when the stream goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane_client import Backoff, Client, KeyNotBound, SessionPlaneError, exchange
from sessionplane_client.exchange import UNDER_WAY_MAX
from tests.support.scripted import Refusal, Scripted


@pytest.fixture
async def client(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A client that tries again as often as one does, and hardly waits between."""
    monkeypatch.setattr(exchange, "_AGAIN", Backoff(first_s=0.001, max_s=0.001))
    async with Client(server.target) as client:
        yield client


class Desk:
    """The server's side of one Exchange."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.messages: list[pb.ExchangeRequest] = []

    async def read(self) -> pb.ExchangeRequest | None:
        """Read a message; None when the client has closed its side."""
        message = await self._context.read()
        if message is grpc.aio.EOF:
            return None
        self.messages.append(message)
        return message

    async def requests(self, count: int) -> list[pb.UnaryRequest]:
        """Read until so many requests came."""
        found: list[pb.UnaryRequest] = []
        while len(found) < count:
            message = await self.read()
            assert message is not None
            found += message.requests
        return found

    async def say(self, *responses: pb.UnaryResponse, closing: bool = False) -> None:
        """Send answers in one message."""
        await self._context.write(pb.ExchangeResponse(responses=responses, closing=closing))

    async def serve(self) -> None:
        """Answer everything with its own id, until the client has no more to ask."""
        while (message := await self.read()) is not None:
            await self.say(*(named(request) for request in message.requests))


def named(request: pb.UnaryRequest, name: str = "") -> pb.UnaryResponse:
    """Answer a GetSession with a session that is named after the key."""
    answer = pb.GetSessionResponse()
    answer.session.session_id = name or f"of {request.get_session.session.key}"
    return pb.UnaryResponse(id=request.id, get_session=answer)


def script(server: Scripted, *talks: Callable[[Desk], Awaitable[None]]) -> list[Desk]:
    """Let the next Exchanges go like this, one after another; returns what is filled with their desks."""
    desks: list[Desk] = []

    def scripted(talk: Callable[[Desk], Awaitable[None]]) -> Any:
        async def run(context: Any) -> None:
            desks.append(Desk(context))
            await talk(desks[-1])

        return run

    server.exchanges.extend(scripted(talk) for talk in talks)
    return desks


async def get(client: Client, key: str) -> str:
    """Read a session of a key, and return its id."""
    return (await client.get_session(key=key)).session.session_id


async def test_callers_share_one_stream(server: Scripted, client: Client) -> None:
    """What is asked at the same time goes out in one message; each caller gets the answer to its own request."""
    desks = script(server, Desk.serve)
    keys = [f"k{number}" for number in range(50)]
    assert await asyncio.gather(*(get(client, key) for key in keys)) == [f"of {key}" for key in keys]
    assert [len(message.requests) for message in desks[0].messages] == [50]
    assert await get(client, "later") == "of later"
    assert len(desks) == 1


async def test_answers_find_their_callers_in_any_order(server: Scripted, client: Client) -> None:
    """An answer belongs to the request of its id, whenever it comes."""

    async def backwards(desk: Desk) -> None:
        for request in reversed(await desk.requests(3)):
            await desk.say(named(request))
        await desk.serve()

    script(server, backwards)
    assert await asyncio.gather(*(get(client, key) for key in "abc")) == ["of a", "of b", "of c"]


async def test_a_refusal_is_that_of_the_call(server: Scripted, client: Client) -> None:
    """The typed error, with its metadata."""
    status = Refusal(grpc.StatusCode.NOT_FOUND, "KEY_NOT_BOUND", "No session.", canonical_key="k").status
    error = pb.UnaryError(code=status.code, message=status.message, details=status.details)

    async def refuse(desk: Desk) -> None:
        (request,) = await desk.requests(1)
        await desk.say(pb.UnaryResponse(id=request.id, error=error))
        await desk.serve()

    script(server, refuse)
    with pytest.raises(KeyNotBound, match="No session") as caught:
        await client.get_session(key="k")
    assert caught.value.metadata == {"canonical_key": "k"}


@pytest.mark.parametrize(
    "ending",
    [
        Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING"),
        Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "SLOW_CONSUMER"),
        Refusal(grpc.StatusCode.INTERNAL, "", "Internal error from Core"),
    ],
    ids=["DRAINING", "SLOW_CONSUMER", "broken under a write"],
)
async def test_what_was_not_answered_is_asked_again(
    server: Scripted, client: Client, ending: Refusal
) -> None:
    """A stream that breaks is replaced; the same requests go over the new one, under the same request ids."""
    seen: list[pb.UnaryRequest] = []

    async def breaks(desk: Desk) -> None:
        requests = await desk.requests(2)
        seen.extend(requests)
        await desk.say(pb.UnaryResponse(id=requests[0].id, resolve_session=pb.ResolveSessionResponse()))
        await ending.abort(desk._context)

    async def resolves(desk: Desk) -> None:
        (request,) = await desk.requests(1)
        seen.append(request)
        await desk.say(pb.UnaryResponse(id=request.id, resolve_session=pb.ResolveSessionResponse()))
        await desk.serve()

    script(server, breaks, resolves)
    await asyncio.gather(client.resolve(key="a"), client.resolve(key="b"))
    first, second, again = (request.resolve_session for request in seen)
    assert (first.session.key, second.session.key) == ("a", "b")
    assert again == second
    assert again.request_id


async def test_a_refusal_that_asks_to_come_again_is_followed(server: Scripted, client: Client) -> None:
    """A request that the server is too busy stopping for is sent again, as the transport does with calls."""
    status = Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING").status
    error = pb.UnaryError(code=status.code, message=status.message, details=status.details)

    async def once(desk: Desk) -> None:
        (request,) = await desk.requests(1)
        await desk.say(pb.UnaryResponse(id=request.id, error=error))
        await desk.serve()

    script(server, once)
    assert await get(client, "k") == "of k"


async def test_a_server_that_stays_away_is_unavailable(server: Scripted, client: Client) -> None:
    """After as many attempts as a call has, the last error is the caller's."""

    async def refuse(desk: Desk) -> None:
        await Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING", "Come again.").abort(desk._context)

    desks = script(server, *[refuse] * 5)
    with pytest.raises(SessionPlaneError, match="Come again") as caught:
        await get(client, "k")
    assert (caught.value.reason, len(desks)) == ("DRAINING", 5)


async def test_closing_moves_what_comes_next(server: Scripted, client: Client) -> None:
    """What is under way is answered on the old stream, which the client closes; what comes goes over a new one."""
    moved, closed = asyncio.Event(), asyncio.Event()

    async def old(desk: Desk) -> None:
        (request,) = await desk.requests(1)
        await desk.say(closing=True)
        assert await desk.read() is None
        closed.set()
        await moved.wait()
        await desk.say(named(request, "old"))

    async def new(desk: Desk) -> None:
        await desk.serve()

    script(server, old, new)
    first = asyncio.create_task(get(client, "first"))
    await closed.wait()
    assert await get(client, "second") == "of second"
    moved.set()
    assert await first == "old"


async def test_a_server_without_exchange_is_called(server: Scripted, client: Client) -> None:
    """An older server, or a proxy that does not know the method, costs one attempt; then there are calls."""
    server.answers["GetSession"] = pb.GetSessionResponse(resume_token="called")
    for _ in range(2):
        assert (await client.get_session(key="k")).resume_token == "called"
    assert [name for name, _ in server.requests] == ["GetSession", "GetSession"]


async def test_a_proxy_that_holds_streams_back_is_gone_around(server: Scripted, client: Client) -> None:
    """If no answer ever came over a stream, calls that follow the first timeout are made without one."""
    server.answers["GetSession"] = pb.GetSessionResponse(resume_token="called")

    async def silent(desk: Desk) -> None:
        while await desk.read() is not None:
            pass

    script(server, silent)
    client._timeout_s = 0.2
    with pytest.raises(SessionPlaneError) as caught:
        await client.get_session(key="k")
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    client._timeout_s = 10
    assert (await client.get_session(key="k")).resume_token == "called"


async def test_a_caller_that_leaves_is_told_to_the_server(server: Scripted, client: Client) -> None:
    """Nobody waits for a request whose caller was cancelled: the server hears its id, and others go on."""
    asked, told = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def listen(desk: Desk) -> None:
        (request,) = await desk.requests(1)
        asked.set()
        message = await desk.read()
        assert message is not None
        told.set_result((request.id, list(message.cancelled_ids)))
        await desk.serve()

    script(server, listen)
    waiting = asyncio.create_task(client.claim_run("run_1", wait_s=5))
    await asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    number, cancelled = await told
    assert cancelled == [number]
    assert await get(client, "k") == "of k"


async def test_closing_the_client_ends_what_waits(server: Scripted, client: Client) -> None:
    """Whoever waits for an answer when the client is closed hears that, and so does who asks later."""
    asked = asyncio.Event()

    async def silent(desk: Desk) -> None:
        await desk.requests(1)
        asked.set()
        await desk.read()

    script(server, silent)
    waiting = asyncio.create_task(get(client, "k"))
    await asked.wait()
    await client.close()
    for call in (waiting, get(client, "k")):
        with pytest.raises(SessionPlaneError) as caught:
            await call
        assert caught.value.reason == "CLIENT_CLOSED"


async def test_a_stream_is_not_overfilled(server: Scripted, client: Client) -> None:
    """No more requests are under way than the server reads; the rest follow as answers come."""
    most = 0

    async def slowly(desk: Desk) -> None:
        nonlocal most
        waiting = await desk.requests(UNDER_WAY_MAX)
        most = len(waiting)
        for request in waiting:
            await desk.say(named(request))
        await desk.serve()

    script(server, slowly)
    keys = [str(number) for number in range(UNDER_WAY_MAX + 50)]
    assert await asyncio.gather(*(get(client, key) for key in keys)) == [f"of {key}" for key in keys]
    assert most == UNDER_WAY_MAX


async def test_large_requests_go_in_messages_of_their_own(server: Scripted, client: Client) -> None:
    """A message stays below what a server takes, however much is asked at once."""
    desks = script(server, Desk.serve)
    keys = [f"{number}{'k' * 700_000}" for number in range(4)]
    assert await asyncio.gather(*(get(client, key) for key in keys)) == [f"of {key}" for key in keys]
    assert [len(message.requests) for message in desks[0].messages] == [1, 1, 1, 1]


async def test_the_server_knows_how_long_the_caller_waits(server: Scripted, client: Client) -> None:
    """A request carries what is left of its caller's time."""
    desks = script(server, Desk.serve)
    with pytest.raises(SessionPlaneError):
        await asyncio.wait_for(client.claim_run("run_1", wait_s=5), 5)
    (request,) = desks[0].messages[0].requests
    assert isinstance(request.claim_run, runner.ClaimRunRequest)
    assert 4 < request.timeout.ToTimedelta().total_seconds() <= 15
