"""The asyncio client against a scripted server: what goes out, what comes back, and what is left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest

from sessionplane.v1 import admin_service_pb2 as admin
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as service
from sessionplane.v1.event_pb2 import EVENT_KIND_OUTPUT_DELTA, Event, OutputDelta
from sessionplane_client import (
    Backoff,
    Client,
    KeyNotBound,
    SessionEnded,
    SessionPlaneError,
    StreamGap,
    Unavailable,
)
from sessionplane_client.options import channel_options
from tests.support.scripted import Refusal, Scripted, scripted

AT_ONCE = Backoff(first_s=0.001, max_s=0.001)
NO_RETRIES = [("grpc.enable_retries", 0)]  # of the transport, which waits between them


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as server:
        yield server


@pytest.fixture
async def client(server: Scripted) -> AsyncIterator[Client]:
    async with Client(server.target, backoff=AT_ONCE) as client:
        yield client


def opened(at: int = 0) -> service.StreamEventsResponse:
    session = session_pb2.Session(session_id="ses_1", key="agent:main:k")
    return service.StreamEventsResponse(
        resume_token=f"t{at}",
        after_sequence=at,
        through_sequence=at,
        opened=service.StreamOpened(session=session, until_run_id="run_1"),
    )


def batch(after: int, through: int) -> service.StreamEventsResponse:
    events = [
        Event(
            session_id="ses_1",
            sequence=n,
            kind=EVENT_KIND_OUTPUT_DELTA,
            output_delta=OutputDelta(text=str(n)),
        )
        for n in range(after + 1, through + 1)
    ]
    return service.StreamEventsResponse(
        resume_token=f"t{through}",
        after_sequence=after,
        through_sequence=through,
        batch=service.EventBatch(events=events),
    )


def plays(
    *frames: service.StreamEventsResponse, end: Refusal | None = None, hold: bool = False
) -> Callable[[service.StreamEventsRequest, grpc.aio.ServicerContext], Awaitable[None]]:
    """A script that writes these frames, then ends as told, or stays until it is cancelled."""

    async def script(_: service.StreamEventsRequest, context: grpc.aio.ServicerContext) -> None:
        for frame in frames:
            await context.write(frame)
        if hold:
            await asyncio.Event().wait()
        if end is not None:
            await end.abort(context)

    return script


DRAINING = Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING", "The server is stopping.")


async def test_a_stream_goes_on_by_itself(server: Scripted, client: Client) -> None:
    """A stream that breaks is resumed with the newest token and the run that is meant, and says so."""
    server.streams += [
        plays(opened(), batch(0, 2), end=DRAINING),
        plays(opened(2), batch(2, 3), end=Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "SLOW_CONSUMER")),
        plays(opened(3), batch(3, 5)),
    ]
    reconnects: list[str] = []
    async with client.stream(
        key="k",
        until=service.STREAM_UNTIL_RUN_END,
        on_reconnect=lambda error, _: reconnects.append(error.reason),
    ) as events:
        assert events.session is not None
        assert events.session.session_id == "ses_1"
        assert [event.sequence async for event in events] == [1, 2, 3, 4, 5]
        assert (events.token, events.until_run_id) == ("t5", "run_1")
    assert reconnects == ["DRAINING", "SLOW_CONSUMER"]
    sent = server.named("StreamEvents")
    assert [request.resume_token for request in sent] == ["", "t2", "t3"]
    assert [request.until_run_id for request in sent] == ["", "run_1", "run_1"]
    assert {request.session.key for request in sent} == {"k"}


async def test_leaving_a_stream_ends_its_call(server: Scripted, client: Client) -> None:
    """A loop that is left early leaves no call on the server."""
    server.streams.append(plays(opened(), batch(0, 1), hold=True))
    async with client.stream(session_id="ses_1") as events:
        async for _ in events:
            break
    assert await server.ended.get() == "StreamEvents"


async def test_a_read_that_is_cancelled_loses_nothing(server: Scripted, client: Client) -> None:
    """A timeout around a read ends the call; the next read goes on from the token."""
    server.streams += [plays(opened(), batch(0, 1), hold=True), plays(opened(1), batch(1, 2))]
    async with client.stream(session_id="ses_1") as events:
        assert (await anext(events)).sequence == 1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(events), 0.01)
        assert await server.ended.get() == "StreamEvents"
        assert [event.sequence async for event in events] == [2]


async def test_the_token_covers_only_what_was_handed_out(server: Scripted, client: Client) -> None:
    """In the middle of a frame the token is that of the frame before; at its end it is the frame's own."""
    server.streams.append(plays(opened(4), batch(4, 6)))
    async with client.stream(session_id="ses_1") as events:
        assert events.token == "t4"
        await anext(events)
        assert events.token == "t4"
        await anext(events)
        assert events.token == "t6"


async def test_a_final_end_is_raised_with_the_servers_words(server: Scripted, client: Client) -> None:
    """What was received before is delivered; then the typed error with reason, message and metadata."""
    final = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "SESSION_ENDED", "It is final.", successor="ses_2")
    server.streams.append(plays(opened(), batch(0, 1), end=final))
    async with client.stream(session_id="ses_1") as events:
        assert (await anext(events)).sequence == 1
        with pytest.raises(SessionEnded) as caught:
            await anext(events)
        assert [event async for event in events] == []
    assert caught.value.metadata == {"successor": "ses_2"}
    assert str(caught.value) == "It is final. [FAILED_PRECONDITION SESSION_ENDED]"


async def test_a_hole_in_a_stream_is_raised_and_ends_the_call(server: Scripted, client: Client) -> None:
    """Frames that do not follow each other raise StreamGap; the call does not stay open."""
    server.streams.append(plays(opened(), batch(2, 3), hold=True))
    async with client.stream(session_id="ses_1") as events:
        with pytest.raises(StreamGap):
            await anext(events)
        assert await server.ended.get() == "StreamEvents"


async def test_a_stream_gives_up_after_its_attempts(server: Scripted) -> None:
    """A server that only ever refuses is given up on with its own last error."""
    server.streams += [plays(end=DRAINING)] * 4
    patience = Backoff(first_s=0.001, max_s=0.001, attempts_max=3)
    async with Client(server.target, backoff=patience) as client:
        with pytest.raises(Unavailable, match="stopping"):
            await anext(client.stream(session_id="ses_1"))
    assert len(server.named("StreamEvents")) == 4


async def test_progress_is_shown(server: Scripted, client: Client) -> None:
    """A sign of life reaches on_progress and is no event."""
    progress = service.StreamEventsResponse(
        resume_token="t0", progress=service.StreamProgress(caught_up=True)
    )
    server.streams.append(plays(opened(), progress))
    seen: list[bool] = []
    async with client.stream(key="k", on_progress=lambda frame: seen.append(frame.caught_up)) as events:
        assert [event async for event in events] == []
    assert seen == [True]


async def test_closing_the_client_ends_what_waits(server: Scripted) -> None:
    """A reader in another task gets an error, not a cancellation that nobody asked for."""
    server.streams.append(plays(opened(), hold=True))
    async with Client(server.target) as client:
        events = client.stream(key="k")
        async with events:
            reading = asyncio.create_task(anext(events))
            await asyncio.sleep(0)
            await client.close()
            with pytest.raises(SessionPlaneError, match="closed"):
                await reading
    with pytest.raises(SessionPlaneError, match="closed"):
        await client.get_run("run_1")


async def test_create_follows_through_resolve(server: Scripted, client: Client) -> None:
    """With create the stream's target is a resolve request of the key."""
    server.streams.append(plays(opened()))
    async with client.stream(key="k", agent="ops", create=True, filter_run_id="run_1"):
        pass
    (request,) = server.named("StreamEvents")
    assert request.resolve.session == session_pb2.SessionRef(key="k", agent="ops")
    assert request.filter.run_id == "run_1"


async def test_what_changes_something_carries_a_fresh_request_id(server: Scripted, client: Client) -> None:
    """Whatever changes something is safe to repeat without the caller doing anything for it."""
    server.answers = {
        "ResolveSession": service.ResolveSessionResponse(),
        "StartRun": service.StartRunResponse(),
        "Interrupt": service.InterruptResponse(),
        "ClaimRun": runner.ClaimRunResponse(),
        "SuspendSession": service.SuspendSessionResponse(),
        "CloseSession": service.CloseSessionResponse(),
    }
    for _ in range(2):
        await client.suspend_session(key="k")
        await client.close_session(key="k")
        await client.resolve(key="k")
        await client.start_run(key="k", input="hello")
        await client.interrupt(key="k")
        await client.claim_run("run_1")
    await client.resolve(key="k", request_id="mine")
    ids = [request.request_id for _, request in server.requests]
    assert all(ids)
    assert len(set(ids)) == 13
    assert ids[-1] == "mine"


async def test_a_call_is_sent_again_while_the_server_is_unavailable(server: Scripted, client: Client) -> None:
    """The transport repeats a unary call with the same request id; the caller sees one answer."""
    answer = service.ResolveSessionResponse(resume_token="t1")
    server.answers["ResolveSession"] = [DRAINING, DRAINING, answer]
    assert await client.resolve(key="k") == answer
    assert len({request.request_id for request in server.named("ResolveSession")}) == 1
    assert len(server.named("ResolveSession")) == 3


async def test_a_refusal_is_a_typed_error(server: Scripted, client: Client) -> None:
    """The reason picks the class; it is asked once only."""
    refusal = Refusal(grpc.StatusCode.NOT_FOUND, "KEY_NOT_BOUND", "No session.", canonical_key="agent:main:k")
    server.answers["GetSession"] = refusal
    with pytest.raises(KeyNotBound) as caught:
        await client.get_session(key="k")
    assert caught.value.metadata["canonical_key"] == "agent:main:k"
    assert len(server.requests) == 1


async def test_nobody_there_is_unavailable() -> None:
    """Without a server every call ends in Unavailable with the transport's words and no reason."""
    async with Client("127.0.0.1:1", options=NO_RETRIES) as client:
        with pytest.raises(Unavailable, match="connect") as caught:
            await client.server_info()
    assert caught.value.reason == ""


async def test_waiting_for_a_run_outlives_answers_and_outages(server: Scripted) -> None:
    """wait_run asks until the run is finished, across answers that it is not and a server that is away."""
    unfinished = service.WaitRunResponse(run=run_pb2.Run(run_id="run_1"))
    finished = service.WaitRunResponse(run=run_pb2.Run(run_id="run_1"), finished=True)
    finished.run.terminal.output_text = "done"
    server.answers["WaitRun"] = [unfinished, *[DRAINING] * 7, unfinished, finished]
    async with Client(server.target, backoff=AT_ONCE, options=NO_RETRIES) as client:
        assert (await client.wait_run("run_1")).terminal.output_text == "done"


async def test_waiting_for_a_run_ends_at_the_callers_timeout(server: Scripted, client: Client) -> None:
    """TimeoutError, and no call left behind."""
    cancelled = asyncio.Event()

    async def never(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    server.answers["WaitRun"] = never
    with pytest.raises(TimeoutError):
        await client.wait_run("run_1", timeout_s=0.05)
    await cancelled.wait()


async def test_a_stream_filters_by_what_was_asked(server: Scripted, client: Client) -> None:
    """Kinds, types and a run become the filter; without any of them there is none."""
    server.streams += [plays(opened(), batch(0, 1)), plays(opened(), batch(0, 1))]
    kinds = [EVENT_KIND_OUTPUT_DELTA]
    async with client.stream(key="k", kinds=kinds, custom_types=["tool.call"], filter_run_id="r") as events:
        assert [event.sequence async for event in events] == [1]
    async with client.stream(key="k") as events:
        assert [event.sequence async for event in events] == [1]
    some, every = server.named("StreamEvents")
    assert some.filter == service.EventFilter(kinds=kinds, custom_types=["tool.call"], run_id="r")
    assert not every.HasField("filter")


async def test_pages_are_followed_to_the_end(server: Scripted, client: Client) -> None:
    """sessions and list_events iterate over all pages with the same arguments."""
    server.answers["ListSessions"] = [
        service.ListSessionsResponse(sessions=[session_pb2.Session(session_id="a")], next_page_token="p"),
        service.ListSessionsResponse(sessions=[session_pb2.Session(session_id="b")]),
    ]
    server.answers["ListEvents"] = [
        service.ListEventsResponse(events=batch(0, 2).batch.events, next_page_token="p"),
        service.ListEventsResponse(events=batch(2, 3).batch.events),
    ]
    asked = {"filter": "state = ACTIVE", "show_internal": True, "page_size": 1}
    assert [session.session_id async for session in client.sessions(**asked)] == ["a", "b"]
    wanted = service.ListSessionsRequest(**asked)
    assert server.named("ListSessions") == [wanted, service.ListSessionsRequest(page_token="p", **asked)]
    assert [event.sequence async for event in client.list_events(key="k", custom_types=["a"])] == [1, 2, 3]
    first, second = server.named("ListEvents")
    assert (first.page_token, second.page_token) == ("", "p")
    assert first.filter == second.filter == service.EventFilter(custom_types=["a"])


async def test_a_run_is_described_in_python_values(server: Scripted, client: Client) -> None:
    """Text, bytes and mappings become payloads; seconds become durations; no name is no session."""
    server.answers["StartRun"] = service.StartRunResponse()
    await client.start_run(key="k", input={"n": 1}, run_timeout_s=1.5, labels={"a": "b"})
    await client.start_run(input=b"\x00")
    described, nameless = server.named("StartRun")
    assert described.run.input.structured["n"] == 1
    assert described.run.run_timeout.nanos == 500_000_000
    assert not nameless.HasField("session")
    assert nameless.run.input.data == b"\x00"


async def test_a_claim_is_a_claim_or_nothing(server: Scripted, client: Client) -> None:
    """claim_run returns the run with its lease, or None; the deadline is a little more than the wait."""
    deadlines: list[float | None] = []

    async def claimed(_: object, context: grpc.aio.ServicerContext) -> runner.ClaimRunResponse:
        deadlines.append(context.time_remaining())
        run = run_pb2.Run(run_id="run_1", input=run_pb2.Payload(text="hello"))
        return runner.ClaimRunResponse(claimed=True, run=run, lease=run_pb2.Lease(token="secret"))

    server.answers["ClaimRun"] = [claimed, runner.ClaimRunResponse(run=run_pb2.Run(run_id="run_1"))]
    claim = await client.claim_run(pool="p", lease_s=30, wait_s=19)
    assert claim is not None
    assert (claim.text, claim.lease.token) == ("hello", "secret")
    assert deadlines[0] is not None
    assert deadlines[0] == pytest.approx(20, abs=1)
    assert await client.claim_run("run_1") is None
    by_pool, by_id = server.named("ClaimRun")
    assert (by_pool.WhichOneof("target"), by_id.WhichOneof("target")) == ("pool", "run_id")
    assert by_pool.lease_duration.seconds == 30
    assert not by_id.HasField("lease_duration")


async def test_operators_ask_too(server: Scripted, client: Client) -> None:
    """explain_key and server_info pass the admin service's answers through."""
    server.answers["ExplainKey"] = admin.ExplainKeyResponse(canonical_key="agent:main:k")
    server.answers["GetServerInfo"] = admin.GetServerInfoResponse(version="0.1.0")
    server.answers["GetInterrupt"] = service.GetInterruptResponse(
        interrupt=run_pb2.Interrupt(interrupt_id="int_1")
    )
    assert (await client.explain_key("K", agent="main")).canonical_key == "agent:main:k"
    assert (await client.server_info()).version == "0.1.0"
    assert (await client.get_interrupt("int_1")).interrupt_id == "int_1"


@pytest.mark.parametrize("names", [{}, {"key": "k", "session_id": "s"}])
async def test_a_session_is_named_once(names: dict[str, str], client: Client) -> None:
    """Neither or both of key and session_id is the caller's mistake, found before anything is sent."""
    with pytest.raises(TypeError, match="exactly one"):
        await client.resolve(**names)
    with pytest.raises(TypeError, match="exactly one"):
        client.stream(run_id="run_1", key="k")
    with pytest.raises(TypeError, match="exactly one"):
        await client.interrupt(run_id="run_1", session_id="s")
    with pytest.raises(TypeError, match="exactly one"):
        await client.claim_run()


def test_the_transport_retries_unary_calls_only() -> None:
    """Every method of the three services is in the service config, except the streams."""
    config = json.loads(str(dict(channel_options())["grpc.service_config"]))
    retried = {
        f"{name['service']}/{name['method']}" for each in config["methodConfig"] for name in each["name"]
    }
    methods = {
        f"{each.full_name}/{method.name}"
        for file in (service, runner, admin)
        for each in file.DESCRIPTOR.services_by_name.values()
        for method in each.methods
        if not (method.server_streaming or method.client_streaming)
    }
    assert retried == methods
