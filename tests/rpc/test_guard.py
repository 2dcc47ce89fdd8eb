"""What stands before every handler: nothing gets in unread, nothing gets out unexplained."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from sessionplane.domain.errors import (
    Draining,
    LimitExceeded,
    Malformed,
    RunNotFound,
    SessionPlaneError,
    leaves,
)
from sessionplane.domain.limits import DEFAULT, Limits
from sessionplane.rpc.admin_service import AdminService
from sessionplane.rpc.guard import Gate, guarded, guarded_parse, method_handler, snake
from sessionplane.rpc.runner_service import RunnerService
from sessionplane.rpc.server import SERVICES
from sessionplane.rpc.session_service import SessionService
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.runner_service_pb2 import DriveRunRequest, DriveRunResponse
from tests.support.calls import Aborted, FakeContext

SESSIONS, RUNNERS, _ = SERVICES


class Servicer:
    """Handlers of one service that all do what the test says."""

    raw_methods = frozenset({"StreamEvents"})
    large_methods = frozenset({"Exchange"})

    def __init__(self, behaviour: Callable[..., Awaitable[Any]]) -> None:
        self._behaviour = behaviour

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return self._behaviour


def handler(
    behaviour: Callable[..., Awaitable[Any]],
    method: str = "GetRun",
    *,
    gate: Gate | None = None,
    limits: Limits = DEFAULT,
    service: Any = SESSIONS,
) -> Any:
    methods = guarded(service, Servicer(behaviour), gate or Gate(), limits)
    return next(method_handler(each, limits) for each in methods if each.method.name == method)


async def answers(_request: Any, _context: Any) -> pb.GetRunResponse:
    """A handler that works."""
    return pb.GetRunResponse(resume_token="t")


def raises(error: BaseException) -> Callable[..., Awaitable[Any]]:
    """A handler that does not."""

    async def behaviour(*_: Any) -> Any:
        raise error

    return behaviour


async def status_after(call: Any, request: Any = None) -> tuple[int, str, str]:
    """Call a handler that must end with an error; return code, message and reason."""
    context = FakeContext()
    with pytest.raises(Aborted):
        await call(request, context)
    assert context.status is not None
    info = error_details_pb2.ErrorInfo()
    context.status.details[0].Unpack(info)
    return context.status.code, context.status.message, info.reason


def test_every_method_has_a_handler() -> None:
    """None is left out."""
    servicers = zip(SERVICES, (SessionService, RunnerService, AdminService), strict=True)
    missing = {
        method.name
        for descriptor, servicer in servicers
        for method in descriptor.methods
        if not hasattr(servicer, snake(method.name))
    }
    assert missing == set()


@given(st.binary(max_size=200))
def test_reading_never_raises(data: bytes) -> None:
    """Whatever bytes come, they are a message or the error to answer with."""
    parse = guarded_parse(pb.StreamEventsRequest, bytes_max=100)
    read = parse(data)
    if len(data) > 100:
        assert isinstance(read, LimitExceeded)
    else:
        assert isinstance(read, pb.StreamEventsRequest | Malformed)


def test_a_request_is_bounded() -> None:
    """A message of the bound is read, one byte more is LIMIT_EXCEEDED with both numbers."""
    data = pb.GetRunRequest(run_id="r" * 50).SerializeToString()
    assert guarded_parse(pb.GetRunRequest, bytes_max=len(data))(data) == pb.GetRunRequest(run_id="r" * 50)
    refused = guarded_parse(pb.GetRunRequest, bytes_max=len(data) - 1)(data)
    assert isinstance(refused, LimitExceeded)
    assert refused.details == {"field": "the request", "actual": "52 bytes", "limit": "51 bytes"}


@pytest.mark.parametrize(
    "data", [b"\x0a\x02\xff\xfe", b"\x0a\x05ab", b"\xff"], ids=["bad UTF-8", "cut", "garbage"]
)
def test_what_is_no_message_is_malformed(data: bytes) -> None:
    """Bad UTF-8 and cut messages are MALFORMED, without the parser's own words."""
    assert isinstance(guarded_parse(pb.GetRunRequest, bytes_max=100)(data), Malformed)


@pytest.mark.parametrize("service", SERVICES, ids=[service.name for service in SERVICES])
def test_every_method_is_registered(service: Any) -> None:
    """Each method of each service that is served has a handler with a bounded deserializer."""
    for method in service.methods:
        found = handler(
            answers, method.name, limits=Limits(request_bytes_max=1, exchange_bytes_max=1), service=service
        )
        assert found is not None
        assert (found.request_streaming, found.response_streaming) == (
            method.client_streaming,
            method.server_streaming,
        )
        assert isinstance(found.request_deserializer(b"\x0a\x00"), LimitExceeded)


def test_streams_of_events_are_written_raw() -> None:
    """The frames of StreamEvents are bytes already; everything else is encoded by its class."""
    assert handler(answers, "StreamEvents").response_serializer is None
    encode = handler(answers, "GetRun").response_serializer
    assert (
        encode(pb.GetRunResponse(resume_token="t")) == pb.GetRunResponse(resume_token="t").SerializeToString()
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("StartRun", "start_run"), ("GetServerInfo", "get_server_info"), ("Interrupt", "interrupt")],
)
def test_a_method_is_found_by_its_name(name: str, expected: str) -> None:
    """A servicer's method is named after the RPC."""
    assert snake(name) == expected


async def test_an_answer_passes() -> None:
    """What a handler returns is the answer."""
    call = handler(answers).unary_unary
    assert await call(pb.GetRunRequest(), FakeContext()) == pb.GetRunResponse(resume_token="t")


@pytest.mark.parametrize("leaf", leaves())
async def test_a_refusal_is_its_status(leaf: type[SessionPlaneError]) -> None:
    """Each error of ours ends the call with its status from the table."""
    error = leaf()
    _, message, reason = await status_after(handler(raises(error)).unary_unary, pb.GetRunRequest())
    assert (message, reason) == (str(error), leaf.reason)


async def test_what_could_not_be_read_is_refused() -> None:
    """An unreadable request never reaches the handler."""
    call = handler(raises(AssertionError())).unary_unary
    code, _, reason = await status_after(call, Malformed())
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "MALFORMED")


async def test_a_closed_gate_lets_nobody_in() -> None:
    """While draining, new calls are UNAVAILABLE, and an unreadable one is still told so."""
    gate = Gate()
    gate.close()
    call = handler(raises(AssertionError()), gate=gate).unary_unary
    assert (await status_after(call, pb.GetRunRequest()))[2] == Draining.reason
    assert (await status_after(call, Malformed()))[2] == Malformed.reason


@pytest.mark.parametrize(
    ("under_way", "comes_in", "pauses"),
    [(0, (), 1), (0, (0,), 9), (1, (), 8), (1, (3, 6), 15), (1, range(100), 50)],
)
async def test_a_stopping_server_outwaits_the_gaps_of_a_burst(
    under_way: int, comes_in: Sequence[int], pauses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One quiet pause is enough for an idle server; one that had calls waits for several in a row, but not for ever."""
    gate, slept = Gate(), 0
    gate.under_way = under_way

    async def pause(_delay_s: float) -> None:
        nonlocal slept
        gate.came += slept in comes_in
        slept += 1

    monkeypatch.setattr(asyncio, "sleep", pause)
    await gate.quiet(pause_s=0.02, most_s=1)
    assert slept == pauses


@pytest.mark.parametrize("error", [RunNotFound(run_id="r"), ValueError("a bug")])
async def test_a_status_that_cannot_get_out_is_left_to_the_transport(error: Exception) -> None:
    """It waits behind what the reader of a stream does not read; the handler waits for it only for a while."""

    class Unread(FakeContext):
        async def abort_with_status(self, _status: Any) -> None:
            await asyncio.Event().wait()

    limits = replace(DEFAULT, stream_abort_ms=1)
    stream = handler(raises(error), "StreamEvents", limits=limits).unary_stream
    assert await stream(pb.StreamEventsRequest(), Unread()) is None


@pytest.mark.parametrize("error", [ValueError("a secret"), KeyError("a secret"), AssertionError("a secret")])
async def test_a_bug_does_not_leak(error: Exception) -> None:
    """Any other exception is INTERNAL with an incident id; its text is in the log only, with the RPC's name."""
    with structlog.testing.capture_logs() as logs:
        code, message, reason = await status_after(handler(raises(error)).unary_unary, pb.GetRunRequest())
    assert (code, reason) == (grpc.StatusCode.INTERNAL.value[0], "INTERNAL")
    assert "secret" not in message
    assert logs[0]["rpc"] == "SessionService/GetRun"
    assert logs[0]["exc_info"] is error


async def test_an_end_that_was_written_already_stands() -> None:
    """A handler that ended its call itself is not ended a second time."""
    context = FakeContext()
    with pytest.raises(Aborted):
        await handler(raises(Aborted())).unary_unary(pb.GetRunRequest(), context)
    assert context.status is None


async def test_a_lost_call_is_the_transports_business() -> None:
    """An error of the transport itself is no bug of ours, and is not logged."""
    error = grpc.aio.InternalError("gone")
    with structlog.testing.capture_logs() as logs, pytest.raises(grpc.aio.InternalError):
        await handler(raises(error)).unary_unary(pb.GetRunRequest(), FakeContext())
    assert logs == []


async def test_a_stream_of_requests_is_guarded_alike() -> None:
    """A handler that reads from its context is refused and answered by the same rules."""

    async def echoes(context: FakeContext) -> None:
        while isinstance(request := await context.read(), DriveRunRequest):
            await context.write(
                DriveRunResponse(opened={}) if request.HasField("open") else DriveRunResponse()
            )
        raise RunNotFound(run_id="r")

    call = handler(echoes, "DriveRun", service=RUNNERS).stream_stream
    context = FakeContext(DriveRunRequest(open={}), DriveRunRequest())
    with pytest.raises(Aborted):
        await call(None, context)
    assert len(context.written) == 2
    assert context.status is not None
    assert context.status.code == grpc.StatusCode.NOT_FOUND.value[0]
    closed = Gate()
    closed.close()
    call = handler(echoes, "DriveRun", gate=closed, service=RUNNERS).stream_stream
    assert (await status_after(call))[2] == Draining.reason
