"""Requests that cannot be read: each field's bounds, and which field a refusal names."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from sessionplane.domain.errors import (
    FieldInvalid,
    KeyInvalid,
    LimitExceeded,
    SessionPlaneError,
)
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as pb
from tests.support.requests import (
    K,
    custom,
    finish,
    publish,
    read,
    resolve,
    start,
    stream,
    text,
)

LONG = "x" * 129
HUGE = run_pb2.Payload(data=b"x" * 262_144)
REFUSED: list[tuple[Message, type[SessionPlaneError], str]] = [
    (pb.ResolveSessionRequest(), FieldInvalid, "session"),
    (resolve(bind_session_id=LONG), LimitExceeded, "bind_session_id"),
    (
        resolve(session=session_pb2.SessionRef(session_id="ses_1"), bind_session_id="ses_2"),
        FieldInvalid,
        "bind_session_id",
    ),
    (resolve(interaction=9), FieldInvalid, "interaction"),
    (resolve(visibility=9), FieldInvalid, "visibility"),
    (resolve(missing_policy=9), FieldInvalid, "missing_policy"),
    (resolve(conflict_policy=9), FieldInvalid, "conflict_policy"),
    (resolve(ended_policy=9), FieldInvalid, "ended_policy"),
    (resolve(expected_session_id="ses_1"), FieldInvalid, "expected_session_id"),
    (resolve(expected_session_id=LONG, conflict_policy=3), LimitExceeded, "expected_session_id"),
    (resolve(run=run_pb2.RunSpec(policy=9)), FieldInvalid, "run.policy"),
    (resolve(run=run_pb2.RunSpec(input=HUGE)), LimitExceeded, "run.input"),
    (resolve(labels={"a": "x" * 4_096}), LimitExceeded, "labels"),
    (resolve(display_name=LONG), LimitExceeded, "display_name"),
    (resolve(request_id=LONG), LimitExceeded, "request_id"),
    (start(session=session_pb2.SessionRef(key="")), KeyInvalid, "session.key"),
    (start({"run_id": "a b"}), FieldInvalid, "run.run_id"),
    (start({"run_id": LONG}), LimitExceeded, "run.run_id"),
    (start({"input": HUGE}), LimitExceeded, "run.input"),
    (start({"policy": 9}), FieldInvalid, "run.policy"),
    (start({"pool": LONG}), LimitExceeded, "run.pool"),
    (start({"start_timeout": Duration(nanos=1)}), FieldInvalid, "run.start_timeout"),
    (start({"start_timeout": Duration(seconds=86_401)}), FieldInvalid, "run.start_timeout"),
    (start({"run_timeout": Duration(nanos=1)}), FieldInvalid, "run.run_timeout"),
    (start({"run_timeout": Duration(seconds=604_801)}), FieldInvalid, "run.run_timeout"),
    (start({"labels": {str(number): "" for number in range(33)}}), LimitExceeded, "run.labels"),
    (start(interaction=9), FieldInvalid, "interaction"),
    (pb.InterruptRequest(), FieldInvalid, "target"),
    (pb.InterruptRequest(run_id=""), FieldInvalid, "run_id"),
    (pb.InterruptRequest(session=session_pb2.SessionRef()), FieldInvalid, "session"),
    (pb.InterruptRequest(session=K, expected_run_id=LONG), LimitExceeded, "expected_run_id"),
    (pb.InterruptRequest(session=K, mode=9), FieldInvalid, "mode"),
    (pb.InterruptRequest(session=K, grace_period=Duration(seconds=301)), FieldInvalid, "grace_period"),
    (pb.InterruptRequest(session=K, grace_period=Duration(seconds=-1)), FieldInvalid, "grace_period"),
    (pb.InterruptRequest(session=K, reason="x" * 1_025), LimitExceeded, "reason"),
    (pb.SuspendSessionRequest(), FieldInvalid, "session"),
    (pb.SuspendSessionRequest(session=K, grace_period=Duration(seconds=3_601)), FieldInvalid, "grace_period"),
    (pb.SuspendSessionRequest(session=K, grace_period=Duration(seconds=-1)), FieldInvalid, "grace_period"),
    (pb.SuspendSessionRequest(session=K, request_id=LONG), LimitExceeded, "request_id"),
    (pb.CloseSessionRequest(), FieldInvalid, "session"),
    (pb.CloseSessionRequest(session=K, close_timeout=Duration(seconds=3_601)), FieldInvalid, "close_timeout"),
    (pb.CloseSessionRequest(session=K, close_timeout=Duration(seconds=-1)), FieldInvalid, "close_timeout"),
    (pb.CloseSessionRequest(session=K, reason="x" * 1_025), LimitExceeded, "reason"),
    (pb.CloseSessionRequest(session=K, request_id=LONG), LimitExceeded, "request_id"),
    (pb.StreamEventsRequest(), FieldInvalid, "target"),
    (stream(session=session_pb2.SessionRef()), FieldInvalid, "session"),
    (pb.StreamEventsRequest(run_id=""), FieldInvalid, "run_id"),
    (pb.StreamEventsRequest(resolve=pb.ResolveSessionRequest()), FieldInvalid, "resolve.session"),
    (pb.StreamEventsRequest(resolve=resolve(display_name=LONG)), LimitExceeded, "resolve.display_name"),
    (pb.StreamEventsRequest(resolve=resolve(interaction=9)), FieldInvalid, "resolve.interaction"),
    (
        pb.StreamEventsRequest(resolve=resolve(run=run_pb2.RunSpec(pool=LONG))),
        LimitExceeded,
        "resolve.run.pool",
    ),
    (stream(start=9), FieldInvalid, "start"),
    (stream(until=9), FieldInvalid, "until"),
    (stream(until_run_id="run_1"), FieldInvalid, "until_run_id"),
    (stream(until_run_id="run_1", until=pb.STREAM_UNTIL_CAUGHT_UP), FieldInvalid, "until_run_id"),
    (stream(filter=pb.EventFilter(kinds=[99])), FieldInvalid, "filter.kinds"),
    (stream(filter=pb.EventFilter(run_id=LONG)), LimitExceeded, "filter.run_id"),
    (stream(filter=pb.EventFilter(custom_types=[LONG])), LimitExceeded, "filter.custom_types"),
    (stream(filter=pb.EventFilter(custom_types=["a"] * 65)), LimitExceeded, "filter.custom_types"),
    (stream(presence=9), FieldInvalid, "presence"),
    (stream(pending_timeout=Duration(seconds=601)), FieldInvalid, "pending_timeout"),
    (stream(subscriber_name=LONG), LimitExceeded, "subscriber_name"),
    (runner.ClaimRunRequest(), FieldInvalid, "target"),
    (runner.ClaimRunRequest(run_id=""), FieldInvalid, "run_id"),
    (runner.ClaimRunRequest(pool=""), FieldInvalid, "pool"),
    (runner.ClaimRunRequest(pool=LONG), LimitExceeded, "pool"),
    (runner.ClaimRunRequest(pool="p", runner_id=LONG), LimitExceeded, "runner_id"),
    (runner.ClaimRunRequest(pool="p", lease_duration=Duration(seconds=1)), FieldInvalid, "lease_duration"),
    (runner.ClaimRunRequest(pool="p", lease_duration=Duration(seconds=601)), FieldInvalid, "lease_duration"),
    (publish(*[text("")] * 257), LimitExceeded, "events"),
    (publish(*[text("x" * 250_000)] * 5), LimitExceeded, "events"),
    (publish(first_run_sequence=-1), FieldInvalid, "first_run_sequence"),
    (publish(text("a"), runner.NewEvent()), FieldInvalid, "events[1]"),
    (publish(text("x" * 262_145)), LimitExceeded, "events[0].output_delta.text"),
    (publish(custom("")), FieldInvalid, "events[0].custom.type"),
    (publish(custom("a b")), FieldInvalid, "events[0].custom.type"),
    (publish(custom(LONG)), LimitExceeded, "events[0].custom.type"),
    (publish(custom("a", b"x" * 262_144)), LimitExceeded, "events[0].custom.data"),
    (runner.FinishRunRequest(), FieldInvalid, "outcome"),
    (finish(outcome=run_pb2.RUN_OUTCOME_LOST), FieldInvalid, "outcome"),
    (finish(outcome=9), FieldInvalid, "outcome"),
    (finish(result=HUGE), LimitExceeded, "result"),
    (finish(failure=run_pb2.RunFailure(reason=LONG)), LimitExceeded, "failure.reason"),
    (finish(failure=run_pb2.RunFailure(message="x" * 4_097)), LimitExceeded, "failure.message"),
]


@pytest.mark.parametrize(
    ("asked", "error", "field"),
    REFUSED,
    ids=[f"{number}-{field}" for number, (_, _, field) in enumerate(REFUSED)],
)
def test_a_bad_field_is_named(asked: Message, error: type[SessionPlaneError], field: str) -> None:
    """Each field that cannot be used is refused by its own name."""
    with pytest.raises(error) as refused:
        read(asked)
    assert refused.value.details["field"] == field
