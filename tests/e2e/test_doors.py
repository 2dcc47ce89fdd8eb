"""Both doors: whatever a unary call answers, the same request over an Exchange answers, too."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.message import Message
from grpc.aio import AioRpcError

from sessionplane.rpc.server import SERVICES
from sessionplane.v1 import admin_service_pb2 as admin
from sessionplane.v1 import run_pb2
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.run_pb2 import Payload, RunSpec
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.serving import serving
from tests.support.wire import DEADLINE_S, Wire, publication, report, wired

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = SessionRef(key="chat")
UNARY = [
    method.name
    for service in SERVICES
    for method in service.methods
    if not (method.client_streaming or method.server_streaming)
]
_MOMENTS = re.compile(r"((expire|next_heartbeat|last_interaction)_time|duration) \{[^}]*\}")
"""What depends on the moment of the answer, not on what was asked."""


class Place:
    """A server with some life in it, seen through both doors."""

    def __init__(self, call: Wire, exchange: Wire) -> None:
        self.doors = (call, exchange)
        self.wire = call
        self.names: dict[str, str] = {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """One place for all: each request leaves things as the second one finds them again."""
    file: Path = tmp_path_factory.mktemp("doors") / "plane.db"
    async with serving(file) as server, wired(server.address, exchange=True) as exchange:
        found = Place(server.wire, exchange)
        held = await server.wire.hold((await server.wire.start("chat")).run.run_id, lease_s=600)
        await server.wire.publish(held, "one")
        done = await server.wire.hold((await server.wire.start("done")).run.run_id)
        await server.wire.finish(done, run_pb2.RUN_OUTCOME_SUCCEEDED)
        stopped = await server.wire.interrupt(run_id=(await server.wire.start("stopped")).run.run_id)
        found.held, found.done = held, done
        found.interrupt_id = stopped.interrupt.interrupt_id
        yield found


REQUESTS: dict[str, Callable[[Any], Message]] = {
    "ResolveSession": lambda _: pb.ResolveSessionRequest(
        session=SessionRef(key="fresh"), run=RunSpec(input=Payload(text="hello")), request_id="resolve"
    ),
    "GetSession": lambda _: pb.GetSessionRequest(session=CHAT),
    "ListSessions": lambda _: pb.ListSessionsRequest(filter="running = true"),
    "UpdateSession": lambda _: pb.UpdateSessionRequest(
        session=CHAT, display_name="Chat", request_id="update"
    ),
    "ResetSession": lambda _: pb.ResetSessionRequest(session=SessionRef(key="reset"), request_id="reset"),
    "SuspendSession": lambda _: pb.SuspendSessionRequest(session=CHAT, request_id="suspend"),
    "CloseSession": lambda _: pb.CloseSessionRequest(session=SessionRef(key="stopped"), request_id="close"),
    "DeleteSession": lambda _: pb.DeleteSessionRequest(
        session=SessionRef(key="nobody's"), request_id="delete"
    ),
    "StartRun": lambda _: pb.StartRunRequest(session=CHAT, request_id="start"),
    "GetRun": lambda place: pb.GetRunRequest(run_id=place.held.run_id),
    "ListRuns": lambda _: pb.ListRunsRequest(session=CHAT),
    "WaitRun": lambda place: pb.WaitRunRequest(run_id=place.done.run_id),
    "Interrupt": lambda place: pb.InterruptRequest(run_id=place.held.run_id, request_id="interrupt"),
    "GetInterrupt": lambda place: pb.GetInterruptRequest(interrupt_id=place.interrupt_id),
    "ListEvents": lambda _: pb.ListEventsRequest(session=CHAT),
    "ClaimRun": lambda place: runner.ClaimRunRequest(run_id=place.done.run_id),
    "PublishEvents": lambda place: publication(place.held, "one", first=1),
    "HeartbeatRun": lambda place: runner.HeartbeatRunRequest(
        run_id=place.held.run_id, lease_token=place.held.lease_token
    ),
    "FinishRun": lambda place: report(place.done),
    "ReleaseRun": lambda place: runner.ReleaseRunRequest(run_id=place.done.run_id, lease_token="t"),
    "GetServerInfo": lambda _: admin.GetServerInfoRequest(),
    "ExplainKey": lambda _: admin.ExplainKeyRequest(key=" CHAT "),
    "CheckInvariants": lambda _: admin.CheckInvariantsRequest(),
    "ListSubscribers": lambda _: admin.ListSubscribersRequest(),
    "DisconnectSubscriber": lambda _: admin.DisconnectSubscriberRequest(subscriber_id="sub_of_nobody"),
    "CompactEvents": lambda _: admin.CompactEventsRequest(session=SessionRef(key="done")),
    "ImportSessions": lambda _: admin.ImportSessionsRequest(
        entries=[admin.ImportEntry(raw_key="imported", source_id="theirs")], dry_run=True
    ),
}
"""A request of each method that may be repeated: it says the same twice, or is refused twice alike."""


async def test_every_unary_method_is_walked() -> None:
    """None is left out."""
    assert sorted(REQUESTS) == sorted(UNARY)


async def _said(wire: Wire, method: str, request: Message) -> tuple[str, str]:
    """Make a call; return its answer, or its status with all details, as text."""
    stub = next(each for each in (wire.sessions, wire.runs, wire.admin) if hasattr(each, method))
    try:
        answer = await getattr(stub, method)(request, timeout=DEADLINE_S)
    except AioRpcError as error:
        packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
        return error.code().name, f"{error.details()} {packed!r}"
    return "OK", _MOMENTS.sub("", str(answer))


@pytest.mark.parametrize("method", UNARY)
async def test_both_doors_say_the_same(place: Place, method: str) -> None:
    """The same answer or the same refusal, to the last detail, whichever way a request comes."""
    request = REQUESTS[method](place)
    await _said(place.wire, method, request)
    call, exchange = [await _said(wire, method, request) for wire in place.doors]
    assert exchange == call
