"""Bytes that are no request: refused on every method in the same way, before anything looks at them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor

from sessionplane.v1 import admin_service_pb2, run_pb2, runner_service_pb2, session_service_pb2
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.refusals import refused
from tests.support.rows import rows
from tests.support.serving import Served, serving
from tests.support.wire import Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

KIB = 1024
REQUEST_MAX = 1024 * KIB + 64 * KIB
EXCHANGE_MAX = 4 * 1024 * KIB
TRANSPORT_MAX = 8 * 1024 * KIB

METHODS = [
    method
    for file, service in (
        (session_service_pb2, "SessionService"),
        (runner_service_pb2, "RunnerService"),
        (admin_service_pb2, "AdminService"),
    )
    for method in file.DESCRIPTOR.services_by_name[service].methods
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """One server for all: what is no request changes nothing, so no test sees another."""
    async with serving(tmp_path_factory.mktemp("malformed") / "plane.db") as served:
        yield served


def _send(wire: Wire, method: MethodDescriptor, data: bytes) -> Awaitable[Any]:
    """Send bytes to a method, as a broken client would; await its first answer."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    if method.client_streaming:
        return _first(wire.channel.stream_stream(path)(iter([data]), timeout=10))
    if method.server_streaming:
        return _first(wire.channel.unary_stream(path)(data, timeout=10))
    return wire.channel.unary_unary(path)(data, timeout=10)


async def _first(call: Any) -> Any:
    try:
        return await call.read()
    finally:
        call.cancel()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_bytes_that_are_no_message_are_malformed(server: Served, method: MethodDescriptor) -> None:
    """A cut message, a wrong wire type and a text that is no UTF-8 are refused by our words, never the parser's."""
    before = rows(server.database)
    cut, group = b"\x0a\x7fabc", b"\x0b\xff\xff"
    for data in (cut, group):
        refusal = await refused(_send(server.wire, method, data))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED")
        assert refusal.domain == "sessionplane"
        assert "parse" not in refusal.message.lower()
    assert rows(server.database) == before


@pytest.mark.parametrize("name", ["ResolveSession", "GetSession", "StartRun", "StreamEvents", "ListEvents"])
async def test_a_key_that_is_no_utf_8_is_malformed(server: Served, name: str) -> None:
    """Protobuf's rule that text is UTF-8 is kept, and the byte that breaks it is not shown to anybody."""
    (method,) = [each for each in METHODS if each.name == name]
    before = rows(server.database)
    bad = SessionRef(key="chat").SerializeToString().replace(b"chat", b"ch\xfft")
    refusal = await refused(_send(server.wire, method, b"\x0a" + bytes([len(bad)]) + bad))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED")
    assert rows(server.database) == before


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_a_request_over_the_limit_is_refused_with_both_numbers(
    server: Served, method: MethodDescriptor
) -> None:
    """One byte over 1 MiB + 64 KiB (an Exchange: 4 MiB), and 5 MiB, are refused by size, before they are parsed."""
    before = rows(server.database)
    most = EXCHANGE_MAX if method.name == "Exchange" else REQUEST_MAX
    for size in (most + 1, 5 * 1024 * KIB):
        refusal = await refused(_send(server.wire, method, bytes(size)))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED")
        assert (refusal.metadata or {})["actual"] == f"{size} bytes"
        assert (refusal.metadata or {})["limit"] == f"{most} bytes"
    assert rows(server.database) == before


async def test_a_message_over_the_transport_s_cap_is_resource_exhausted(server: Served) -> None:
    """What the transport itself refuses has no details, but neither is it UNKNOWN; the connection lives on."""
    (method,) = [each for each in METHODS if each.name == "StartRun"]
    refusal = await refused(_send(server.wire, method, bytes(TRANSPORT_MAX + 1)))
    assert refusal.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await server.wire.resolve("chat")).session.session_id


async def test_a_drive_that_goes_wrong_in_the_middle_is_refused_and_keeps_what_was_acknowledged(
    server: Served,
) -> None:
    """Garbage on an open DriveRun ends the stream with MALFORMED; the run and its lease stay."""
    wire = server.wire
    held = await wire.hold((await wire.start("chat")).run.run_id)
    call = wire.channel.stream_stream("/sessionplane.v1.RunnerService/DriveRun")()
    opening = runner_service_pb2.DriveRunOpen(run_id=held.run_id, lease_token=held.lease_token)
    await call.write(runner_service_pb2.DriveRunRequest(open=opening).SerializeToString())
    await call.read()
    await call.write(b"\x0a\x7fabc")
    refusal = await refused(call.read())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED")
    await wire.publish(held, "still here")
    assert (await wire.get_run(held.run_id)).state == run_pb2.RUN_STATE_RUNNING


async def test_an_unknown_method_is_unimplemented(server: Served) -> None:
    """What is not there is said to be not there."""
    refusal = await refused(server.wire.channel.unary_unary("/sessionplane.v1.SessionService/Nothing")(b""))
    assert refusal.code == grpc.StatusCode.UNIMPLEMENTED
