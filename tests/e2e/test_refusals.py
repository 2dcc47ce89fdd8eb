"""Refusals: each names its code and reason, says something safe in words, and leaves every row as it was."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from sessionplane.v1 import admin_service_pb2 as admin
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as service
from sessionplane.v1.event_pb2 import CustomEvent
from sessionplane.v1.run_pb2 import Payload, RunFailure, RunSpec
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.refusals import Refusal, refused
from tests.support.rows import rows
from tests.support.serving import Served, serving
from tests.support.wire import Held, Wire, delta, span, wired

pytestmark = pytest.mark.asyncio(loop_scope="module")

KIB = 1024
NO_SESSION = "ses_" + "0" * 32
CHAT = SessionRef(key="chat")

_UNSAFE = re.compile(
    r"Traceback|Error\b|Exception|0x[0-9a-f]{6}|sqlite|\.py\b|/tmp|protobuf\.|<class|SELECT|INSERT"
)


@dataclass(frozen=True)
class World:
    """A server with a session `chat` whose run is under way, a session `other`, one that has ended and one that is
    final, and one without a key.
    """

    wire: Wire
    held: Held
    session_id: str
    final_id: str
    nameless_id: str


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[False, True], ids=["call", "exchange"])
async def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    """One server for all, since what is refused changes nothing; each refusal as a call and over an Exchange."""
    async with (
        serving(tmp_path_factory.mktemp("refusals") / "plane.db") as served,
        wired(served.address, exchange=request.param) as wire,
    ):
        yield replace(served, wire=wire)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(server: Served) -> World:
    """The world that no refused call may change."""
    started = await server.wire.start("chat")
    held = await server.wire.hold(started.run.run_id, lease_s=600)
    await server.wire.publish(held, "so far")
    await server.wire.start("other")
    await server.wire.interrupt(run_id=(await server.wire.start("over")).run.run_id)
    final_id = (await server.wire.resolve("renewed")).session.session_id
    await server.wire.reset("renewed")
    nameless_id = (await server.wire.start()).session.session_id
    return World(server.wire, held, started.session.session_id, final_id, nameless_id)


def check_safe(refusal: Refusal) -> None:
    """Assert that a refusal is ours, and that its message is a sentence without anything of the inside."""
    assert refusal.domain == "sessionplane"
    assert refusal.message.endswith(".")
    assert not _UNSAFE.search(refusal.message), refusal.message
    assert len(refusal.message) < 1_000


Call = Callable[[World], Awaitable[Any]]


def resolve(**fields: Any) -> Call:
    return lambda world: world.wire.sessions.ResolveSession(service.ResolveSessionRequest(**fields))


def start(session: SessionRef | None = CHAT, **spec: Any) -> Call:
    return lambda world: world.wire.sessions.StartRun(
        service.StartRunRequest(session=session, run=RunSpec(**spec))
    )


def publish(*events: runner.NewEvent, first: int = 0) -> Call:
    return lambda world: world.wire.runs.PublishEvents(
        runner.PublishEventsRequest(
            run_id=world.held.run_id,
            lease_token=world.held.lease_token,
            events=events,
            first_run_sequence=first,
        )
    )


def finish(outcome: Any = run_pb2.RUN_OUTCOME_SUCCEEDED, **report: Any) -> Call:
    return lambda world: world.wire.finish(world.held, outcome, **report)


def stream(**fields: Any) -> Call:
    return lambda world: world.wire.stream(**({"key": "chat"} | fields)).__aenter__()


def claim(**fields: Any) -> Call:
    return lambda world: world.wire.runs.ClaimRun(runner.ClaimRunRequest(**fields))


def interrupt(**fields: Any) -> Call:
    return lambda world: world.wire.interrupt(**({"key": "chat"} | fields))


def page(method: str, **fields: Any) -> Call:
    request = {"ListSessions": service.ListSessionsRequest, "ListEvents": service.ListEventsRequest}[method]
    return lambda world: getattr(world.wire.sessions, method)(request(**fields))


def custom(kind: str, data: Payload | None = None) -> runner.NewEvent:
    return runner.NewEvent(custom=CustomEvent(type=kind, data=data))


BIG = "x" * (256 * KIB + 1)

INVALID: dict[str, dict[str, Call]] = {
    "FIELD_INVALID": {
        "no session": resolve(),
        "empty session id": resolve(session=SessionRef(session_id="")),
        "bind without a key": resolve(session=SessionRef(session_id=NO_SESSION), bind_session_id=NO_SESSION),
        "interaction of no meaning": resolve(session=CHAT, interaction=99),
        "visibility of no meaning": resolve(session=CHAT, visibility=99),
        "missing policy of no meaning": resolve(session=CHAT, missing_policy=99),
        "conflict policy of no meaning": resolve(session=CHAT, conflict_policy=99),
        "ended policy of no meaning": resolve(session=CHAT, ended_policy=99),
        "an expected session without REPLACE": resolve(session=CHAT, expected_session_id=NO_SESSION),
        "a run policy of no meaning": resolve(session=SessionRef(key="new"), run=RunSpec(policy=99)),
        "an update of nobody": lambda world: world.wire.update(display_name="x"),
        "a mask of no field": lambda world: world.wire.update(
            "chat", update_mask=FieldMask(paths=["labels.team"])
        ),
        "no interrupt": lambda world: world.wire.sessions.GetInterrupt(service.GetInterruptRequest()),
        "no subscriber": lambda world: world.wire.admin.DisconnectSubscriber(
            admin.DisconnectSubscriberRequest()
        ),
        "a reset of nobody": lambda world: world.wire.reset(),
        "a deletion of nobody": lambda world: world.wire.delete(),
        "policy of no meaning": start(policy=99),
        "run id with a space": start(run_id="a run"),
        "start_timeout too short": start(start_timeout=span(0.001)),
        "start_timeout too long": start(start_timeout=span(25 * 3600)),
        "start_timeout below zero": start(start_timeout=span(-1)),
        "run_timeout too long": start(run_timeout=span(10 * 365 * 24 * 3600)),
        "interrupt of nothing": lambda world: world.wire.sessions.Interrupt(service.InterruptRequest()),
        "mode of no meaning": interrupt(mode=99),
        "grace below zero": interrupt(grace_period=span(-0.5)),
        "grace too long": interrupt(grace_period=span(301)),
        "stream of nothing": lambda world: world.wire.stream(until=1).__aenter__(),
        "start of no meaning": stream(start=99),
        "until of no meaning": stream(until=99),
        "presence of no meaning": stream(presence=99),
        "kind of no meaning": stream(filter=service.EventFilter(kinds=[99])),
        "pending_timeout too long": stream(pending_timeout=span(601)),
        "until_run_id without until": stream(until_run_id="run"),
        "claim of nothing": claim(),
        "claim from no pool": claim(pool=""),
        "lease too short": claim(pool="p", lease_duration=span(0.001)),
        "lease too long": claim(pool="p", lease_duration=span(601)),
        "empty event": publish(runner.NewEvent()),
        "custom type with a space": publish(custom("a type")),
        "custom type missing": publish(custom("")),
        "first_run_sequence below zero": publish(delta("x"), first=-1),
        "outcome of no meaning": finish(99),
        "outcome unset": finish(0),
        "outcome that is the server's finding": finish(run_pb2.RUN_OUTCOME_LOST),
        "lease token missing": lambda world: world.wire.publish(Held(world.held.run_id, ""), "x"),
        "page size below zero": page("ListSessions", page_size=-1),
        "page of events of nothing": page("ListEvents"),
    },
    "LIMIT_EXCEEDED": {
        "too many labels": resolve(session=SessionRef(key="new"), labels={str(n): "" for n in range(33)}),
        "labels too large": resolve(session=SessionRef(key="new"), labels={"name": "x" * 4 * KIB}),
        "labels of a run too many": start(labels={str(n): "" for n in range(33)}),
        "labels of an update too large": lambda world: world.wire.update(
            "chat", labels={"name": "x" * 4 * KIB}
        ),
        "name of an update too long": lambda world: world.wire.update("chat", display_name="x" * 129),
        "request id too long": resolve(session=CHAT, request_id="x" * 129),
        "display name too long": resolve(session=CHAT, display_name="\N{EURO SIGN}" * 43),
        "key of a megabyte": resolve(session=SessionRef(key="k" * 1_000_000)),
        "key too long once it is folded": resolve(session=SessionRef(key="k" * 513)),
        "session id too long": resolve(session=SessionRef(session_id="s" * 129)),
        "run id too long": start(run_id="r" * 129),
        "pool too long": start(pool="p" * 129),
        "input too large": start(input=Payload(text=BIG)),
        "content type too long": start(input=Payload(content_type="t" * 129)),
        "reason too long": interrupt(reason="r" * (KIB + 1)),
        "delta too large": publish(delta(BIG)),
        "custom event too large": publish(custom("tool", Payload(text=BIG))),
        "too many events": publish(*[delta("x")] * 257),
        "publication too large": publish(*[delta("x" * 250 * KIB)] * 4, delta("x" * 40 * KIB)),
        "result too large": finish(result=Payload(text=BIG)),
        "failure message too long": finish(2, failure=RunFailure(message="m" * (4 * KIB + 1))),
        "one byte over a request": start(input=Payload(text="x" * (1024 * KIB + 64 * KIB - 10))),
        "five MiB": start(input=Payload(text="x" * (5 * 1024 * KIB))),
    },
    "KEY_INVALID": {"a key of nothing": resolve(session=SessionRef(key=" "))},
    "AGENT_MISMATCH": {"another agent's key": resolve(session=SessionRef(key="agent:a:x", agent="b"))},
    "FILTER_INVALID": {
        "filter for another run": lambda world: world.wire.stream(
            run_id=world.held.run_id, filter=service.EventFilter(run_id="other")
        ).__aenter__()
    },
    "PAGE_TOKEN_INVALID": {
        "garbage": page("ListSessions", page_token="garbage"),
        "no ASCII": page("ListEvents", session=CHAT, page_token="\N{EURO SIGN}"),
    },
}


def _cases(table: dict[str, dict[str, Call]]) -> list[Any]:
    return [
        pytest.param(call, reason, id=f"{reason}-{name}")
        for reason, calls in table.items()
        for name, call in calls.items()
    ]


@pytest.mark.parametrize(("call", "reason"), _cases(INVALID))
async def test_what_cannot_be_meant_is_refused_and_changes_nothing(
    server: Served, world: World, call: Call, reason: str
) -> None:
    """A request that breaks a rule is INVALID_ARGUMENT, with the rule's reason."""
    before = rows(server.database)
    refusal = await refused(call(world))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    check_safe(refusal)
    assert rows(server.database) == before


UNKNOWN: dict[str, dict[str, Call]] = {
    "SESSION_NOT_FOUND": {
        "ResolveSession": lambda world: world.wire.resolve(session_id=NO_SESSION),
        "GetSession": lambda world: world.wire.get(session_id=NO_SESSION),
        "StartRun": lambda world: world.wire.start(session_id=NO_SESSION),
        "Interrupt": lambda world: world.wire.interrupt(session_id=NO_SESSION),
        "StreamEvents": lambda world: world.wire.stream(session_id=NO_SESSION).__aenter__(),
        "ListEvents": lambda world: world.wire.log(session_id=NO_SESSION),
        "UpdateSession": lambda world: world.wire.update(session_id=NO_SESSION, display_name="x"),
        "ResetSession": lambda world: world.wire.reset(session_id=NO_SESSION),
        "bind": lambda world: world.wire.resolve("new", bind_session_id=NO_SESSION),
    },
    "RUN_NOT_FOUND": {
        "GetRun": lambda world: world.wire.get_run("none"),
        "WaitRun": lambda world: world.wire.wait("none"),
        "Interrupt": lambda world: world.wire.interrupt(run_id="none"),
        "StreamEvents": lambda world: world.wire.stream(run_id="none").__aenter__(),
        "until_run_id": stream(until=1, until_run_id="none"),
        "a filter's run": stream(filter=service.EventFilter(run_id="none")),
        "ClaimRun": claim(run_id="none"),
        "PublishEvents": lambda world: world.wire.publish(Held("none", "token"), "x"),
        "HeartbeatRun": lambda world: world.wire.heartbeat(Held("none", "token")),
        "FinishRun": lambda world: world.wire.finish(Held("none", "token")),
        "ReleaseRun": lambda world: world.wire.release(Held("none", "token")),
    },
    "INTERRUPT_NOT_FOUND": {
        "GetInterrupt": lambda world: world.wire.sessions.GetInterrupt(
            service.GetInterruptRequest(interrupt_id="none")
        ),
        "acknowledged": lambda world: world.wire.heartbeat(world.held, acknowledged="none"),
    },
    "KEY_NOT_BOUND": {
        "GetSession": lambda world: world.wire.get("nobody"),
        "Interrupt": lambda world: world.wire.interrupt("nobody"),
        "StreamEvents": lambda world: world.wire.stream("nobody").__aenter__(),
        "ListEvents": lambda world: world.wire.log("nobody"),
        "ResolveSession": resolve(
            session=SessionRef(key="nobody"), missing_policy=session_pb2.MISSING_POLICY_FAIL
        ),
        "UpdateSession": lambda world: world.wire.update("nobody", display_name="x"),
    },
}


@pytest.mark.parametrize(("call", "reason"), _cases(UNKNOWN))
async def test_what_is_not_there_is_not_found_and_not_created(
    server: Served, world: World, call: Call, reason: str
) -> None:
    """An id or key that names nothing is NOT_FOUND on every method that reads it."""
    before = rows(server.database)
    refusal = await refused(call(world))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, reason)
    check_safe(refusal)
    assert rows(server.database) == before


CONFLICTS: dict[str, dict[str, Call]] = {
    "LEASE_LOST": {
        "PublishEvents": lambda world: world.wire.publish(Held(world.held.run_id, "wrong"), "x"),
        "HeartbeatRun": lambda world: world.wire.heartbeat(Held(world.held.run_id, "wrong")),
        "FinishRun": lambda world: world.wire.finish(Held(world.held.run_id, "\N{EURO SIGN}")),
        "ReleaseRun": lambda world: world.wire.release(Held(world.held.run_id, "wrong")),
    },
    "RUN_SEQUENCE_GAP": {"a hole": publish(delta("x"), first=3)},
    "INVALID_TRANSITION": {"a run given back that has spoken": lambda world: world.wire.release(world.held)},
    "KEY_MISMATCH": {
        "another key": lambda world: world.wire.resolve("another", bind_session_id=world.session_id)
    },
    "KEY_BOUND": {
        "a key of another": lambda world: world.wire.resolve("other", bind_session_id=world.session_id)
    },
    "KEY_NOT_BOUND": {
        "reset of a session without a key": lambda world: world.wire.reset(session_id=world.nameless_id)
    },
    "SESSION_ENDED": {
        "StartRun": lambda world: world.wire.start(session_id=world.final_id),
        "ResetSession": lambda world: world.wire.reset(session_id=world.final_id),
        "ResolveSession": resolve(session=SessionRef(key="over"), ended_policy=session_pb2.ENDED_POLICY_FAIL),
    },
}


@pytest.mark.parametrize(("call", "reason"), _cases(CONFLICTS))
async def test_what_does_not_fit_the_state_is_refused_and_changes_nothing(
    server: Served, world: World, call: Call, reason: str
) -> None:
    """A request that comes at the wrong time is FAILED_PRECONDITION, with what is in its way."""
    before = rows(server.database)
    refusal = await refused(call(world))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, reason)
    check_safe(refusal)
    assert rows(server.database) == before


RIVALS: dict[str, dict[str, Call]] = {
    "ALREADY_EXISTS SESSION_EXISTS": {
        "ResolveSession": resolve(session=CHAT, conflict_policy=session_pb2.CONFLICT_POLICY_FAIL)
    },
    "ABORTED SESSION_REPLACED": {
        "ResolveSession": resolve(
            session=CHAT,
            conflict_policy=session_pb2.CONFLICT_POLICY_REPLACE,
            expected_session_id=NO_SESSION,
        ),
        "ResetSession": lambda world: world.wire.reset("chat", expected_session_id=NO_SESSION),
        "nobody holds it": lambda world: world.wire.reset("nobody", expected_session_id=NO_SESSION),
    },
    "ABORTED ETAG_MISMATCH": {
        "UpdateSession": lambda world: world.wire.update("chat", display_name="x", etag="old")
    },
    "ABORTED RUN_IN_PROGRESS": {
        "ResolveSession": resolve(session=CHAT, run=RunSpec(policy=run_pb2.RUN_POLICY_REJECT))
    },
}


@pytest.mark.parametrize(("call", "expected"), _cases(RIVALS))
async def test_what_somebody_else_was_quicker_with_is_refused_and_changes_nothing(
    server: Served, world: World, call: Call, expected: str
) -> None:
    """A guarded call that finds something else than it expected says so, and what is there."""
    before = rows(server.database)
    refusal = await refused(call(world))
    assert f"{refusal.code.name} {refusal.reason}" == expected
    check_safe(refusal)
    assert rows(server.database) == before


@pytest.mark.parametrize(
    "other",
    [
        {"session": SessionRef(key="elsewhere")},
        {"run": RunSpec(run_id="mine", input=Payload(text="another input"))},
        {"run": RunSpec(run_id="mine", policy=run_pb2.RUN_POLICY_REJECT)},
    ],
)
async def test_a_run_id_in_use_for_other_work_is_refused(server: Served, other: dict[str, Any]) -> None:
    """A known run id is the same work again, or a mistake: it never starts something else."""
    mine: dict[str, Any] = {"session": CHAT, "run": RunSpec(run_id="mine")}
    first = await server.wire.sessions.StartRun(service.StartRunRequest(**mine))
    again = await server.wire.sessions.StartRun(service.StartRunRequest(**mine))
    assert again.disposition == run_pb2.RUN_DISPOSITION_DUPLICATE
    assert again.run.session_id == first.run.session_id
    before = rows(server.database)
    refusal = await refused(server.wire.sessions.StartRun(service.StartRunRequest(**(mine | other))))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RUN_ID_REUSED")
    assert (refusal.metadata or {})["session_id"] == first.session.session_id
    check_safe(refusal)
    assert rows(server.database) == before
