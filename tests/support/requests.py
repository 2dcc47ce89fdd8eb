"""Requests as callers build them, with a session where one is needed, and the parser that reads each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from sessionplane.domain.keys import KeySettings
from sessionplane.domain.limits import DEFAULT
from sessionplane.domain.tokens import ResumeToken
from sessionplane.plane.claims import Holder
from sessionplane.rpc.parse import Parser
from sessionplane.v1 import event_pb2, run_pb2, session_pb2
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as pb

PARSER = Parser(DEFAULT, KeySettings())
HOLDER = Holder(namespace="default", run_id="run_1", lease_token="lse_1")
K = session_pb2.SessionRef(key="k")
TOKEN = ResumeToken(store_id="ab" * 16, session_id="ses_" + "01" * 16, sequence=7, chain=b"12345678")


def resolve(**given: Any) -> pb.ResolveSessionRequest:
    return pb.ResolveSessionRequest(**({"session": K} | given))


def start(spec: dict[str, Any] | None = None, **given: Any) -> pb.StartRunRequest:
    return pb.StartRunRequest(**({"session": K, "run": run_pb2.RunSpec(**(spec or {}))} | given))


def stream(**given: Any) -> pb.StreamEventsRequest:
    return pb.StreamEventsRequest(**({"session": K} | given))


def publish(*events: runner.NewEvent, **given: Any) -> runner.PublishEventsRequest:
    return runner.PublishEventsRequest(events=events, **given)


def text(written: str) -> runner.NewEvent:
    return runner.NewEvent(output_delta=event_pb2.OutputDelta(text=written))


def custom(kind: str, data: bytes = b"") -> runner.NewEvent:
    return runner.NewEvent(custom=event_pb2.CustomEvent(type=kind, data=run_pb2.Payload(data=data)))


def finish(**given: Any) -> runner.FinishRunRequest:
    return runner.FinishRunRequest(**({"outcome": run_pb2.RUN_OUTCOME_SUCCEEDED} | given))


def read(request: Message) -> Any:
    """Read a request with the method that is for it."""
    readers: dict[type[Message], Callable[[Any], Any]] = {
        pb.ResolveSessionRequest: PARSER.resolve,
        pb.StartRunRequest: PARSER.start,
        pb.InterruptRequest: PARSER.interrupt,
        pb.SuspendSessionRequest: PARSER.suspend,
        pb.CloseSessionRequest: PARSER.close,
        pb.StreamEventsRequest: PARSER.stream,
        pb.WatchSessionsRequest: PARSER.watch,
        runner.ClaimRunRequest: PARSER.claim,
        runner.PublishEventsRequest: lambda asked: PARSER.publish(HOLDER, asked),
        runner.FinishRunRequest: lambda asked: PARSER.finish(HOLDER, asked),
    }
    return readers[type(request)](request)
