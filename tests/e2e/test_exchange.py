"""Exchange: many requests over one stream, each as if it had been called by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import FieldDescriptor
from google.rpc import error_details_pb2

from sessionplane.rpc.guard import snake
from sessionplane.rpc.server import SERVICES
from sessionplane.v1 import admin_service_pb2 as admin
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.processes import server_process
from tests.support.refusals import Refusal, refused
from tests.support.serving import Served, serving
from tests.support.wire import DEADLINE_S, Wire, span, wired

KIB = 1024
# A window that does not grow, so that a reader who does not read is noticed soon.
NARROW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)]
CODES = {code.value[0]: code for code in grpc.StatusCode}


class Talk:
    """One open Exchange, spoken by hand."""

    def __init__(self, wire: Wire) -> None:
        self.call = wire.sessions.Exchange(timeout=DEADLINE_S)
        self.frames: list[pb.ExchangeResponse] = []

    async def ask(self, *requests: pb.UnaryRequest, cancel: Iterable[int] = ()) -> None:
        """Send requests in one message."""
        await self.call.write(pb.ExchangeRequest(requests=requests, cancelled_ids=cancel))

    async def frame(self) -> pb.ExchangeResponse:
        """Read one message."""
        message = await self.call.read()
        assert message is not grpc.aio.EOF
        self.frames.append(message)
        return message

    async def answers(self, count: int) -> dict[int, pb.UnaryResponse]:
        """Read messages until so many answers came; return them by id, in the order in which they came."""
        found: dict[int, pb.UnaryResponse] = {}
        while len(found) < count:
            for response in (await self.frame()).responses:
                assert response.id not in found
                found[response.id] = response
        return found

    async def end(self) -> list[pb.UnaryResponse]:
        """Close our side, and return what was still answered; the stream must end with OK."""
        await self.call.done_writing()
        left = []
        while (message := await self.call.read()) is not grpc.aio.EOF:
            left += message.responses
        assert await self.call.code() is grpc.StatusCode.OK
        return left

    async def refusal(self) -> Refusal:
        """Read to an end that is not OK."""

        async def rest() -> None:
            while await self.call.read() is not grpc.aio.EOF:
                pass

        return await refused(rest())


@asynccontextmanager
async def talking(wire: Wire) -> AsyncIterator[Talk]:
    """Open an Exchange, and cancel it in the end."""
    talk = Talk(wire)
    try:
        yield talk
    finally:
        talk.call.cancel()


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    """A server whose longest wait is short."""
    async with serving(tmp_path / "plane.db", limits={"exchange_requests_max": 8}) as served:
        yield served


@pytest_asyncio.fixture
async def talk(server: Served) -> AsyncIterator[Talk]:
    """An open Exchange."""
    async with talking(server.wire) as opened:
        yield opened


def resolve(number: int, key: str = "chat", **more: Any) -> pb.UnaryRequest:
    """Ask for the session of a key."""
    asked = pb.ResolveSessionRequest(session=SessionRef(key=key))
    return pb.UnaryRequest(id=number, resolve_session=asked, **more)


def claim(number: int, pool: str = "p", **more: Any) -> pb.UnaryRequest:
    """Wait for a run of a pool."""
    return pb.UnaryRequest(id=number, claim_run=runner.ClaimRunRequest(pool=pool), **more)


def reason(response: pb.UnaryResponse) -> tuple[grpc.StatusCode, str]:
    """Read how a request was refused: code and reason."""
    assert response.WhichOneof("response") == "error", response
    info = error_details_pb2.ErrorInfo()
    assert response.error.details[0].Unpack(info)
    assert info.domain == "sessionplane"
    assert response.error.message.endswith(".")
    return CODES[response.error.code], info.reason


def _entries(message: Any, oneof: str) -> dict[str, FieldDescriptor]:
    return {field.name: field for field in message.DESCRIPTOR.oneofs_by_name[oneof].fields}


def test_every_unary_method_can_be_exchanged() -> None:
    """The requests and responses of an Exchange are those of the three services, under the names of the methods."""
    unary = [
        method
        for service in SERVICES
        for method in service.methods
        if not (method.client_streaming or method.server_streaming)
    ]
    requests, responses = _entries(pb.UnaryRequest, "request"), _entries(pb.UnaryResponse, "response")
    assert {name: each.message_type for name, each in requests.items()} == {
        snake(method.name): method.input_type for method in unary
    }
    assert {name: each.message_type for name, each in responses.items() if name != "error"} == {
        snake(method.name): method.output_type for method in unary
    }
    assert {name: each.number for name, each in requests.items()} == {
        name: each.number for name, each in responses.items() if name != "error"
    }


async def test_requests_in_one_message_are_each_answered(talk: Talk) -> None:
    """One key in many spellings, and requests of all three services, in one message: one answer each, one session."""
    others = (
        pb.UnaryRequest(id=90, get_server_info=admin.GetServerInfoRequest()),
        pb.UnaryRequest(id=91, get_session=pb.GetSessionRequest(session=SessionRef(key="nobody's"))),
    )
    spellings = ("chat", "CHAT", " chat", "agent:main:chat")
    await talk.ask(*(resolve(number, key) for number, key in enumerate(spellings)), *others)
    found = await talk.answers(6)
    assert len({found[number].resolve_session.session.session_id for number in range(4)}) == 1
    assert found[90].get_server_info.version
    assert reason(found[91]) == (grpc.StatusCode.NOT_FOUND, "KEY_NOT_BOUND")
    assert await talk.end() == []


async def test_a_request_that_waits_holds_back_no_other(talk: Talk, server: Served) -> None:
    """Answers come in any order: a claim that waits for a run is answered once there is one, the rest at once."""
    await talk.ask(claim(1), resolve(2))
    assert list(await talk.answers(1)) == [2]
    started = await server.wire.start("chat", pool="p")
    found = await talk.answers(1)
    assert found[1].claim_run.run.run_id == started.run.run_id
    assert found[1].claim_run.claimed


async def test_answers_that_are_ready_go_out_together(talk: Talk) -> None:
    """What was asked in one message and needs no wait costs fewer messages than answers."""
    await talk.ask(resolve(1))
    await talk.answers(1)
    talk.frames.clear()
    await talk.ask(*(resolve(number) for number in range(8)))
    await talk.answers(8)
    assert len(talk.frames) == 1


async def test_closing_our_side_gets_the_rest_answered(talk: Talk, server: Served) -> None:
    """What is under way when the client has no more to ask is answered, and then the stream ends with OK."""
    await talk.ask(claim(1), claim(2, timeout=span(0.3)))
    ending = asyncio.create_task(talk.end())
    await server.wire.start("chat", pool="p")
    left = {response.id: response for response in await ending}
    assert sorted(left) == [1, 2]
    assert [left[number].claim_run.claimed for number in (1, 2)].count(True) == 1


async def test_a_timeout_of_a_request_is_a_deadline(talk: Talk) -> None:
    """A wait answers before its timeout with what is true; other work that takes longer is TIMED_OUT."""
    await talk.ask(claim(1, timeout=span(0.3)), resolve(2, timeout=span(0)))
    found = await talk.answers(2)
    assert not found[1].claim_run.claimed
    assert reason(found[2]) == (grpc.StatusCode.DEADLINE_EXCEEDED, "TIMED_OUT")


async def test_a_cancelled_request_waits_no_longer(talk: Talk, server: Served) -> None:
    """A claim that was cancelled takes no run, is not answered, and its id is free."""
    await talk.ask(claim(1), resolve(2))
    await talk.answers(1)
    await talk.ask(cancel=[1, 77])
    await talk.ask(resolve(3))
    await talk.answers(1)
    started = await server.wire.start("chat", pool="p")
    claimed = await server.wire.claim(pool="p", wait_s=5)
    assert claimed.run.run_id == started.run.run_id
    await talk.ask(resolve(1))
    assert list(await talk.answers(1)) == [1]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (pb.UnaryRequest(id=1), (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")),
        (resolve(1, timeout=span(-1)), (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")),
        (resolve(1, "k" * 1_100 * KIB), (grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED")),
    ],
    ids=["of no method", "with a timeout below zero", "too large by itself"],
)
async def test_a_bad_request_hurts_no_other(
    talk: Talk, request_: pb.UnaryRequest, expected: tuple[grpc.StatusCode, str]
) -> None:
    """What is wrong with one request is its own answer; its neighbours in the message are answered."""
    await talk.ask(request_, resolve(2))
    found = await talk.answers(2)
    assert reason(found[1]) == expected
    assert found[2].resolve_session.session.session_id


async def test_an_id_that_is_under_way_ends_the_stream(talk: Talk) -> None:
    """Two requests of one id could not be told apart."""
    await talk.ask(claim(1))
    await talk.ask(claim(1))
    refusal = await talk.refusal()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert "1 is under way" in refusal.message


async def test_what_is_no_message_ends_the_stream(server: Served) -> None:
    """Bytes that cannot be read are MALFORMED, and a message above its bound is LIMIT_EXCEEDED."""
    raw = server.wire.channel.stream_stream("/sessionplane.v1.SessionService/Exchange")
    for data, expected in ((b"\x0a\x05ab", "MALFORMED"), (b"\x0a" + b"x" * 5_000 * KIB, "LIMIT_EXCEEDED")):
        call = raw(timeout=DEADLINE_S)
        await call.write(data)
        refusal = await refused(call.read())
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, expected)


async def test_the_server_reads_no_further_than_it_has_room(talk: Talk, server: Served) -> None:
    """With as many requests under way as there may be, the next one is not begun until one of them is answered."""
    await talk.ask(*(claim(number, pool=f"p{number}") for number in range(8)), resolve(8, "new"))
    await server.wire.start("chat", pool="p3")
    found = await talk.answers(2)
    assert list(found) == [3, 8]
    assert found[8].resolve_session.resolution == 1


async def test_a_full_server_opens_no_further_exchange(tmp_path: Path) -> None:
    """Exchanges are bounded, and one that ends makes room."""
    async with serving(tmp_path / "plane.db", limits={"server_exchanges_max": 1}) as server:
        async with talking(server.wire) as first:
            await first.ask(resolve(1))
            await first.answers(1)
            async with talking(server.wire) as second:
                refusal = await second.refusal()
                assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STREAM_LIMIT")
            await first.end()
        async with talking(server.wire) as third:
            await third.ask(resolve(1))
            await third.answers(1)


async def test_an_old_exchange_is_left_without_a_word_lost(tmp_path: Path) -> None:
    """At its age a stream says `closing`, goes on answering what it has and what still comes, and ends with OK."""
    async with (
        serving(tmp_path / "plane.db", limits={"stream_age_ms": 200}) as server,
        talking(server.wire) as talk,
    ):
        await talk.ask(claim(1))
        assert (await talk.frame()).closing
        await talk.ask(resolve(2))
        assert list(await talk.answers(1)) == [2]
        await server.wire.start("chat", pool="p")
        assert [response.id for response in await talk.end()] == [1]


async def test_an_old_exchange_that_nobody_closes_ends(tmp_path: Path) -> None:
    """A client that does not listen to `closing` is sent away when the longest wait is over, to come again."""
    async with (
        serving(tmp_path / "plane.db", limits={"stream_age_ms": 50, "wait_ms_max": 200}) as server,
        talking(server.wire) as talk,
    ):
        refusal = await talk.refusal()
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "MAX_AGE")
        assert refusal.retry_after_s == 0


async def test_a_server_that_stops_answers_what_it_has(tmp_path: Path) -> None:
    """Draining says `closing`, ends what waits with DRAINING, and then the stream."""
    async with (
        server_process(tmp_path / "plane.db") as server,
        wired(server.address) as wire,
        talking(wire) as talk,
    ):
        await talk.ask(claim(1), resolve(2))
        assert list(await talk.answers(1)) == [2]
        stopping = asyncio.create_task(server.terminate())
        found = await talk.answers(1)
        assert reason(found[1]) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        refusal = await talk.refusal()
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert (await stopping).code == 0


async def _has_room(wire: Wire) -> None:
    """Try until the server, which was full, opens an Exchange."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with talking(wire) as talk:
                with suppress(grpc.aio.AioRpcError):
                    await talk.ask(resolve(1))
                    await talk.answers(1)
                    return


async def test_a_client_that_does_not_read_is_ended(tmp_path: Path) -> None:
    """Answers that nobody reads stop the reading of requests first, and then the stream: SLOW_CONSUMER."""
    limits = {"slow_subscriber_ms": 300, "stream_abort_ms": 300, "labels_bytes_max": 200_000}
    limits |= {"server_exchanges_max": 1}
    async with (
        serving(tmp_path / "plane.db", limits=limits) as server,
        grpc.aio.insecure_channel(server.address, options=NARROW) as channel,
        talking(Wire(channel)) as talk,
    ):
        await server.wire.resolve("chat", labels={"much": "x" * 150_000})
        await talk.ask(resolve(9_999))
        await talk.answers(1)
        await talk.ask(*(resolve(number) for number in range(200)))
        await _has_room(server.wire)
        refusal = await talk.refusal()
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SLOW_CONSUMER")


async def test_a_bug_in_one_answer_hurts_no_other(
    talk: Talk, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is INTERNAL with an incident id; the other requests of the message are answered, and the stream goes on."""

    def explode(*_: Any) -> None:
        raise RuntimeError("/etc/secret")

    monkeypatch.setattr(server.running.plane, "read", explode)
    await talk.ask(
        pb.UnaryRequest(id=1, get_run=pb.GetRunRequest(run_id="run_1")), claim(2, timeout=span(0.2))
    )
    found = await talk.answers(2)
    assert reason(found[1]) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in str(found[1])
    assert not found[2].claim_run.claimed
