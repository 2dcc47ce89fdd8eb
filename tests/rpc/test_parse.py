"""Requests from the wire: each field's bounds and defaults, and which field a refusal names."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from sessionplane.domain.errors import (
    FieldInvalid,
    FilterInvalid,
    TokenInvalid,
)
from sessionplane.domain.events import Custom, EventKind, OutputDelta
from sessionplane.domain.interrupts import InterruptMode
from sessionplane.domain.keys import KeySettings
from sessionplane.domain.limits import DEFAULT
from sessionplane.domain.runs import RunFailure, RunOutcome, RunPolicy, RunReport
from sessionplane.domain.sessions import (
    ConflictPolicy,
    EndedPolicy,
    Interaction,
    MissingPolicy,
    Visibility,
)
from sessionplane.domain.streams import EVERYTHING, Filter, Presence, Start, Until
from sessionplane.domain.tokens import WatchToken, WatchTokenWriter
from sessionplane.rpc.parse import Parser
from sessionplane.v1 import event_pb2, run_pb2, session_pb2
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as pb
from tests.support.requests import (
    HOLDER,
    PARSER,
    TOKEN,
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


def test_a_resolve_has_defaults() -> None:
    """Of a bare resolve everything else is the documented default."""
    asked = read(resolve())
    assert str(asked.session.key) == "agent:main:k"
    assert (asked.interaction, asked.bind_session_id, asked.labels, asked.display_name) == (
        Interaction.USER,
        "",
        {},
        "",
    )
    assert (asked.missing, asked.conflict, asked.ended, asked.expected_session_id) == (
        MissingPolicy.CREATE,
        ConflictPolicy.USE_EXISTING,
        EndedPolicy.RESUME,
        "",
    )
    assert (asked.visibility, asked.run) == (Visibility.VISIBLE, None)


def test_a_resolve_is_read_whole() -> None:
    """Every field of a resolve arrives."""
    asked = read(
        resolve(
            bind_session_id="ses_1",
            interaction=session_pb2.INTERACTION_SYSTEM,
            labels={"a": "b"},
            display_name="K",
            request_id="r1",
        )
    )
    assert (asked.bind_session_id, asked.interaction, asked.labels, asked.display_name) == (
        "ses_1",
        Interaction.SYSTEM,
        {"a": "b"},
        "K",
    )
    assert (asked.call.rpc, asked.call.request_id) == ("ResolveSession", "r1")


def test_the_policies_of_a_resolve_are_read() -> None:
    """Policies, the expected session, visibility, and the run with the same marks as a StartRun's."""
    asked = read(
        resolve(
            missing_policy=session_pb2.MISSING_POLICY_FAIL,
            conflict_policy=session_pb2.CONFLICT_POLICY_REPLACE,
            ended_policy=session_pb2.ENDED_POLICY_CREATE_NEW,
            expected_session_id="ses_1",
            visibility=session_pb2.VISIBILITY_INTERNAL,
            run=run_pb2.RunSpec(run_id="mine"),
        )
    )
    assert (asked.missing, asked.conflict, asked.ended, asked.expected_session_id) == (
        MissingPolicy.FAIL,
        ConflictPolicy.REPLACE,
        EndedPolicy.CREATE_NEW,
        "ses_1",
    )
    assert (asked.visibility, asked.asker) == (Visibility.INTERNAL, Interaction.SYSTEM)
    assert asked.run == read(start({"run_id": "mine"})).run


def test_a_start_has_defaults() -> None:
    """Of a bare start everything else is the documented default; without a session it is a new one."""
    asked = read(pb.StartRunRequest())
    assert asked.session is None
    run = asked.run
    assert (run.run_id, run.input, run.policy, run.pool, run.labels) == ("", b"", RunPolicy.ENQUEUE, "", {})
    assert (run.start_timeout_ms, run.run_timeout_ms) == (600_000, 86_400_000)
    assert asked.interaction is Interaction.USER


def test_a_start_is_read_whole() -> None:
    """Every field of a start arrives."""
    spec = {
        "run_id": "mine",
        "input": run_pb2.Payload(text="hello"),
        "policy": run_pb2.RUN_POLICY_REJECT,
        "pool": "gpu",
        "start_timeout": Duration(seconds=1),
        "run_timeout": Duration(seconds=604_800),
        "labels": {"a": "b"},
    }
    asked = read(start(spec, interaction=session_pb2.INTERACTION_SYSTEM, request_id="r1"))
    run = asked.run
    assert (run.run_id, run.policy, run.pool, run.labels) == ("mine", RunPolicy.REJECT, "gpu", {"a": "b"})
    assert (run.start_timeout_ms, run.run_timeout_ms) == (1_000, 604_800_000)
    assert run_pb2.Payload.FromString(run.input).text == "hello"
    assert (asked.interaction, asked.call.rpc) == (Interaction.SYSTEM, "StartRun")


def fingerprint(request: pb.StartRunRequest) -> bytes:
    stamp: bytes = read(request).run.fingerprint
    return stamp


def test_the_same_work_is_the_same_run() -> None:
    """Session, input and policy make a run; spelling, pool, timeouts and labels do not."""
    first = fingerprint(start({"input": run_pb2.Payload(text="a")}))
    same = start(
        {
            "input": run_pb2.Payload(text="a"),
            "pool": "p",
            "labels": {"a": "b"},
            "run_timeout": Duration(seconds=9),
        },
        session=session_pb2.SessionRef(key=" K ", agent="main"),
        request_id="r1",
    )
    assert fingerprint(same) == first


@pytest.mark.parametrize(
    "other",
    [
        start({"input": run_pb2.Payload(text="b")}),
        start({"input": run_pb2.Payload(text="a", content_type="text/plain")}),
        start({"input": run_pb2.Payload(text="a"), "policy": run_pb2.RUN_POLICY_REJECT}),
        start({"input": run_pb2.Payload(text="a")}, session=session_pb2.SessionRef(key="other")),
        start({"input": run_pb2.Payload(text="a")}, session=session_pb2.SessionRef(session_id="ses_1")),
        start({"input": run_pb2.Payload(text="a")}, session=None),
    ],
    ids=["input", "content type", "policy", "key", "id", "no session"],
)
def test_other_work_is_another_run(other: pb.StartRunRequest) -> None:
    """Another session, input or policy is other work."""
    assert fingerprint(other) != fingerprint(start({"input": run_pb2.Payload(text="a")}))


def test_an_interrupt_has_defaults() -> None:
    """A bare interrupt is GRACEFUL with the documented grace."""
    asked = read(pb.InterruptRequest(session=K))
    assert (asked.wish.mode, asked.wish.grace_ms, asked.wish.reason) == (InterruptMode.GRACEFUL, 10_000, "")
    assert (asked.run_id, asked.expected_run_id) == ("", "")


def test_an_interrupt_is_read_whole() -> None:
    """Every field of an interrupt arrives."""
    asked = read(
        pb.InterruptRequest(
            run_id="run_1",
            expected_run_id="run_1",
            mode=run_pb2.INTERRUPT_MODE_FORCE,
            grace_period=Duration(),
            reason="stop",
            request_id="r1",
        )
    )
    assert (asked.session, asked.run_id, asked.expected_run_id) == (None, "run_1", "run_1")
    assert (asked.wish.mode, asked.wish.grace_ms, asked.wish.reason, asked.call.rpc) == (
        InterruptMode.FORCE,
        0,
        "stop",
        "Interrupt",
    )


def test_a_suspension_is_read_whole() -> None:
    """A bare one lasts two minutes; a given grace, 0 too, is taken as it is."""
    assert read(pb.SuspendSessionRequest(session=K)).grace_ms == 120_000
    asked = read(pb.SuspendSessionRequest(session=K, grace_period=Duration(), request_id="r1"))
    assert (asked.grace_ms, str(asked.session.key)) == (0, "agent:main:k")
    assert (asked.call.rpc, asked.call.request_id) == ("SuspendSession", "r1")


def test_a_close_is_read_whole() -> None:
    """A bare one waits for two minutes and gives no reason; a given timeout, 0 too, is taken as it is."""
    bare = read(pb.CloseSessionRequest(session=K))
    assert (bare.timeout_ms, bare.reason) == (120_000, "")
    asked = read(
        pb.CloseSessionRequest(session=K, close_timeout=Duration(), reason="enough", request_id="r1")
    )
    assert (asked.timeout_ms, asked.reason, str(asked.session.key)) == (0, "enough", "agent:main:k")
    assert (asked.call.rpc, asked.call.request_id) == ("CloseSession", "r1")


def test_a_stream_has_defaults() -> None:
    """A bare stream is attached, follows everything for ever, and waits for no run."""
    asked, pending_s = read(stream())
    assert (asked.start, asked.until, asked.until_run_id, asked.token) == (None, None, "", None)
    assert asked.filter is EVERYTHING
    assert (asked.presence, pending_s) == (Presence.ATTACHED, 0)


def test_a_stream_is_read_whole() -> None:
    """Every field of a stream arrives."""
    asked, pending_s = read(
        pb.StreamEventsRequest(
            run_id="run_1",
            resume_token=TOKEN.encode(),
            start=pb.STREAM_START_OLDEST,
            until=pb.STREAM_UNTIL_RUN_END,
            until_run_id="run_1",
            filter=pb.EventFilter(
                kinds=[event_pb2.EVENT_KIND_CUSTOM], custom_types=["tool.call", "tool.call"], run_id="run_1"
            ),
            presence=session_pb2.PRESENCE_OBSERVER,
            pending_timeout=Duration(seconds=1, nanos=500_000_000),
            subscriber_name="screen",
        )
    )
    assert (asked.run_id, asked.token, asked.start) == ("run_1", TOKEN, Start.OLDEST)
    assert (asked.until, asked.until_run_id) == (Until.RUN_END, "run_1")
    assert asked.filter == Filter(
        kinds=frozenset({EventKind.CUSTOM}), custom_types=frozenset({"tool.call"}), run_id="run_1"
    )
    assert (asked.presence, pending_s, asked.subscriber_name) == (Presence.OBSERVER, 1.5, "screen")


def test_a_stream_may_hold_a_resolve() -> None:
    """A resolve inside a stream is read like one by itself, with the same fingerprint."""
    inner = resolve(request_id="r1", labels={"a": "b"})
    asked, _ = read(pb.StreamEventsRequest(resolve=inner))
    assert asked.resolve == read(inner)


def test_a_watch_is_read_whole() -> None:
    """Every field of a watch arrives; its token is one of a watch of this namespace."""
    token = WatchTokenWriter(store_id=TOKEN.store_id, namespace="default").at(7)
    asked = read(pb.WatchSessionsRequest(resume_token=token, show_internal=True, subscriber_name="board"))
    assert asked.token == WatchToken(store_id=TOKEN.store_id, number=7)
    assert (asked.namespace, asked.show_internal, asked.subscriber_name) == ("default", True, "board")
    asked = read(pb.WatchSessionsRequest())
    assert (asked.token, asked.show_internal, asked.subscriber_name) == (None, False, "")
    for token in ("garbage", TOKEN.encode()):
        with pytest.raises(TokenInvalid):
            read(pb.WatchSessionsRequest(resume_token=token))


def test_a_token_that_is_none_is_refused() -> None:
    """Garbage for a token is TOKEN_INVALID."""
    with pytest.raises(TokenInvalid):
        read(stream(resume_token="garbage"))


@pytest.mark.parametrize(
    "asked",
    [
        stream(filter=pb.EventFilter(kinds=[0])),
        pb.StreamEventsRequest(run_id="run_1", filter=pb.EventFilter(run_id="run_2")),
        stream(filter=pb.EventFilter(custom_types=["tool.*"])),
        stream(filter=pb.EventFilter(custom_types=["tool.call", ""])),
    ],
    ids=["unset kind", "another run", "a wildcard", "no type"],
)
def test_a_filter_that_cannot_pass_anything_is_refused(asked: pb.StreamEventsRequest) -> None:
    """An unset kind, another run than the target's, and a type that no event can have, are FILTER_INVALID."""
    with pytest.raises(FilterInvalid):
        read(asked)


def test_a_claim_has_defaults() -> None:
    """A bare claim asks for the documented lease."""
    asked = read(runner.ClaimRunRequest(pool="p"))
    assert (asked.pool, asked.run_id, asked.runner_id, asked.lease_ms) == ("p", "", "", 15_000)
    asked = read(
        runner.ClaimRunRequest(
            run_id="run_1", runner_id="me", lease_duration=Duration(seconds=2), request_id="r1"
        )
    )
    assert (asked.run_id, asked.runner_id, asked.lease_ms, asked.call.request_id) == (
        "run_1",
        "me",
        2_000,
        "r1",
    )


def test_a_holder_shows_its_lease() -> None:
    """A run id and a token are both needed."""
    assert PARSER.holder("run_1", "lse_1") == HOLDER
    for run_id, token, field in (("", "lse_1", "run_id"), ("run_1", "", "lease_token")):
        with pytest.raises(FieldInvalid) as refused:
            PARSER.holder(run_id, token)
        assert refused.value.details["field"] == field


def test_a_publication_is_read_whole() -> None:
    """Texts and events of the runner's own arrive in order, at their bounds too."""
    data = run_pb2.Payload(data=b"d")
    asked = read(
        publish(text("a"), custom("step:1/a.b-c_d", b"d"), text("x" * 262_144), first_run_sequence=3)
    )
    assert asked.first_run_sequence == 3
    assert list(asked.events) == [
        OutputDelta(text="a"),
        Custom(type="step:1/a.b-c_d", data=data.SerializeToString()),
        OutputDelta(text="x" * 262_144),
    ]
    assert len(read(publish(*[text("")] * 256)).events) == 256


def test_both_ways_to_publish_are_read_alike() -> None:
    """A publication means the same in a unary call and on a stream."""
    unary, streamed = publish(text("a"), first_run_sequence=1), runner.DriveRunPublish(first_run_sequence=1)
    streamed.events.extend(unary.events)
    assert PARSER.publish(HOLDER, unary) == PARSER.publish(HOLDER, streamed)


def test_a_report_is_read_whole() -> None:
    """Every field of a report arrives, and what was not given is not made up."""
    bare = read(finish())
    assert bare.report == RunReport(outcome=RunOutcome.SUCCEEDED)
    full = read(
        finish(
            outcome=run_pb2.RUN_OUTCOME_FAILED,
            output_text="half",
            result=run_pb2.Payload(text="r"),
            failure=run_pb2.RunFailure(reason="QUOTA", message="No more.", retryable=True),
        )
    ).report
    assert (full.outcome, full.output_text) == (RunOutcome.FAILED, "half")
    assert full.failure == RunFailure(reason="QUOTA", message="No more.", retryable=True)
    assert run_pb2.Payload.FromString(full.result).text == "r"


def test_reports_are_told_apart() -> None:
    """Every field counts for whether a report is a repeat, an empty text against none included."""
    reports = [
        finish(),
        finish(output_text=""),
        finish(output_text="a"),
        finish(outcome=run_pb2.RUN_OUTCOME_FAILED),
        finish(result=run_pb2.Payload(text="r")),
        finish(failure=run_pb2.RunFailure(reason="R")),
        finish(failure=run_pb2.RunFailure(reason="R", retryable=True)),
    ]
    stamps = [read(report).fingerprint for report in reports]
    assert len(set(stamps)) == len(stamps)
    assert [read(report).fingerprint for report in reports] == stamps


def test_both_ways_to_finish_are_the_same_report() -> None:
    """A report that was sent on a stream and again in a unary call is a repeat."""
    streamed = runner.DriveRunFinish(outcome=run_pb2.RUN_OUTCOME_SUCCEEDED, output_text="a")
    assert PARSER.finish(HOLDER, streamed) == read(finish(output_text="a"))


def test_a_key_is_explained_by_this_servers_settings() -> None:
    """ExplainKey reads keys as the server does."""
    parser = Parser(DEFAULT, KeySettings(default_agent="home"))
    assert str(parser.explain("K", "").key) == "agent:home:k"
    assert str(parser.explain("K", "work").key) == "agent:work:k"
