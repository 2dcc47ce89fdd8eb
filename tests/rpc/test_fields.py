"""The fields that requests are made of: bounds, spellings, and what makes two calls the same."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from sessionplane.domain.errors import AgentMismatch, FieldInvalid, KeyInvalid, LimitExceeded
from sessionplane.domain.keys import KeySettings
from sessionplane.domain.limits import DEFAULT
from sessionplane.domain.runs import RunPolicy
from sessionplane.domain.sessions import Interaction
from sessionplane.plane.sessions import SessionRef as Ref
from sessionplane.rpc.fields import _MEMBERS, Fields, digest, enum, within
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as pb

FIELDS = Fields(DEFAULT, KeySettings())


def named(**given: Any) -> session_pb2.SessionRef:
    return session_pb2.SessionRef(**given)


def test_a_key_is_made_canonical() -> None:
    """Past the edge there is only the canonical key, whatever the spelling and the agent's hint."""
    for ref in (
        named(key="Settings2"),
        named(key="agent:main:settings2"),
        named(key=" settings2 ", agent="Main"),
    ):
        assert str(FIELDS.ref(ref).key) == "agent:main:settings2"


def test_an_id_is_taken_as_it_is() -> None:
    """A session id means itself."""
    assert FIELDS.ref(named(session_id="ses_1")) == Ref(session_id="ses_1")


@pytest.mark.parametrize(
    ("ref", "error", "field"),
    [
        (named(), FieldInvalid, "here"),
        (named(agent="main"), FieldInvalid, "here"),
        (named(session_id=""), FieldInvalid, "here"),
        (named(session_id="x" * 129), LimitExceeded, "here.session_id"),
        (named(key=""), KeyInvalid, "here.key"),
        (named(key="a b"), KeyInvalid, "here.key"),
        (named(key="k" * 1_025), LimitExceeded, "here.key"),
        (named(key="agent:one:k", agent="two"), AgentMismatch, "here.key"),
        (named(key="k", agent="bad id!"), FieldInvalid, "here.agent"),
    ],
    ids=str,
)
def test_a_reference_that_names_nothing_is_refused(
    ref: session_pb2.SessionRef, error: type[FieldInvalid], field: str
) -> None:
    """Each way not to name a session is refused with the field that is wrong."""
    with pytest.raises(error) as refused:
        FIELDS.ref(ref, "here")
    assert refused.value.details["field"] == field


@pytest.mark.parametrize("run_id", ["a", "run_0123", "A.b_c:d-9", "x" * 128])
def test_a_run_id_may_be_the_callers_own(run_id: str) -> None:
    """A run id is 1 to 128 plain characters."""
    assert FIELDS.run_id(run_id, "run_id") == run_id


@pytest.mark.parametrize("run_id", ["", "a b", "a/b", "é", "a\n", "run\x00"])
def test_a_run_id_of_other_characters_is_refused(run_id: str) -> None:
    """Anything else is refused with the field."""
    with pytest.raises(FieldInvalid) as refused:
        FIELDS.run_id(run_id, "run.run_id")
    assert refused.value.details["field"] == "run.run_id"


@pytest.mark.parametrize(
    ("text", "fits"), [("x" * 128, True), ("x" * 129, False), ("é" * 64, True), ("é" * 65, False)]
)
def test_a_name_is_bounded_in_bytes(text: str, fits: bool) -> None:
    """Names hold 128 bytes of UTF-8, and the refusal says how many there were."""
    if fits:
        assert FIELDS.name(text, "pool") == text
        return
    with pytest.raises(LimitExceeded) as refused:
        FIELDS.name(text, "pool")
    size = len(text.encode())
    assert refused.value.details == {"field": "pool", "actual": f"{size} bytes", "limit": "128 bytes"}


@given(st.text(max_size=20), st.integers(0, 20))
def test_within_counts_bytes(text: str, bytes_max: int) -> None:
    """A text passes exactly if its UTF-8 fits."""
    fits = len(text.encode()) <= bytes_max
    if fits:
        assert within(text, bytes_max, "text") == text
    else:
        with pytest.raises(LimitExceeded):
            within(text, bytes_max, "text")


def test_labels_are_bounded_in_number() -> None:
    """32 labels pass, 33 do not."""
    labels = {f"l{number}": "" for number in range(33)}
    with pytest.raises(LimitExceeded) as refused:
        FIELDS.labels(labels, "labels")
    assert refused.value.details == {"field": "labels", "actual": "33", "limit": "32"}
    labels.popitem()
    assert FIELDS.labels(labels, "labels") == labels
    assert FIELDS.labels({}, "labels") == {}


def test_labels_are_bounded_in_bytes() -> None:
    """All names and values together hold 4 KiB."""
    assert FIELDS.labels({"n": "é" * 2_047 + "x"}, "labels")
    with pytest.raises(LimitExceeded) as refused:
        FIELDS.labels({"n": "é" * 2_048}, "labels")
    assert refused.value.details["actual"] == "4097 bytes"


@pytest.mark.parametrize("labels", [{"a\0b": ""}, {"a": "b\0"}])
def test_labels_hold_no_nul(labels: dict[str, str]) -> None:
    """A filter could not tell what stands behind it."""
    with pytest.raises(FieldInvalid) as refused:
        FIELDS.labels(labels, "labels")
    assert refused.value.details["field"] == "labels"


def test_labels_are_a_copy() -> None:
    """What was read does not change with the message."""
    message = pb.ResolveSessionRequest(labels={"a": "b"})
    labels = FIELDS.labels(message.labels, "labels")
    message.labels["a"] = "c"
    assert labels == {"a": "b"}


def test_a_payload_is_kept_as_it_came() -> None:
    """Content is encoded as it will be kept; an empty one is nothing."""
    payload = run_pb2.Payload(text="hello", content_type="text/plain")
    assert run_pb2.Payload.FromString(FIELDS.payload(payload, "run.input")) == payload
    assert FIELDS.payload(run_pb2.Payload(), "run.input") == b""


def test_a_payload_is_bounded() -> None:
    """256 KiB are the most, with everything around the content; a content type is a name."""
    overhead = len(run_pb2.Payload(data=b"x" * 262_000).SerializeToString()) - 262_000
    assert FIELDS.payload(run_pb2.Payload(data=b"x" * (262_144 - overhead)), "result")
    with pytest.raises(LimitExceeded) as refused:
        FIELDS.payload(run_pb2.Payload(data=b"x" * (262_145 - overhead)), "result")
    assert refused.value.details == {"field": "result", "actual": "262145 bytes", "limit": "262144 bytes"}
    with pytest.raises(LimitExceeded) as refused:
        FIELDS.payload(run_pb2.Payload(content_type="x" * 129), "result")
    assert refused.value.details["field"] == "result.content_type"


@pytest.mark.parametrize(
    ("span", "read"),
    [
        (None, 5_000),
        (Duration(seconds=1), 1_000),
        (Duration(seconds=1, nanos=999_999), 1_000),
        (Duration(seconds=9, nanos=500_000_000), 9_500),
        (Duration(seconds=10), 10_000),
        (Duration(nanos=999_999_999), None),
        (Duration(seconds=10, nanos=1_000_000), None),
        (Duration(), None),
        (Duration(seconds=-1), None),
        (Duration(seconds=2, nanos=-999_999_999), 1_000),
        (Duration(seconds=2**62), None),
    ],
    ids=str,
)
def test_a_span_is_read_in_milliseconds(span: Duration | None, read: int | None) -> None:
    """A span within its bounds is read, one that is absent is the default, and any other is refused in seconds."""
    request = pb.InterruptRequest(grace_period=span)
    bounds = {"default": 5_000, "least": 1_000, "most": 10_000}
    if read is not None:
        assert FIELDS.span_ms(request, "grace_period", **bounds) == read
        return
    with pytest.raises(FieldInvalid) as refused:
        FIELDS.span_ms(request, "grace_period", **bounds)
    assert refused.value.details == {"field": "grace_period", "problem": "it must be from 1 s to 10 s"}


def test_the_bound_of_a_span_is_written_out() -> None:
    """A bound of many seconds is a number that a caller can send back, and no 3.1536e+09."""
    with pytest.raises(FieldInvalid, match=r"from 0\.001 s to 3153600000 s"):
        FIELDS.span_ms(
            pb.InterruptRequest(grace_period=Duration()),
            "grace_period",
            default=1,
            least=1,
            most=3_153_600_000_000,
        )


def test_an_enum_that_is_not_set_is_the_default() -> None:
    """0 is None, a number is its member, and any other number is refused with the field."""
    assert enum(RunPolicy, 0, "run.policy") is None
    assert enum(RunPolicy, run_pb2.RUN_POLICY_REJECT, "run.policy") is RunPolicy.REJECT
    for number in (99, -1):
        with pytest.raises(FieldInvalid) as refused:
            enum(RunPolicy, number, "run.policy")
        assert refused.value.details == {
            "field": "run.policy",
            "problem": f"{number} is not one of its values",
        }


@pytest.mark.parametrize("kind", _MEMBERS)
def test_every_enum_on_the_wire_can_be_read(kind: type[StrEnum]) -> None:
    """Each number that the protos name and the server serves is a member, and each member has a number."""
    assert sorted(_MEMBERS[kind].values()) == sorted(kind)


def digest_of(request: Any, ref: session_pb2.SessionRef | None = None) -> bytes:
    key = FIELDS.ref(ref).key if ref is not None else None
    return FIELDS.call("ResolveSession", request, key).fingerprint


def test_another_spelling_of_a_key_is_the_same_request() -> None:
    """The fingerprint of a call does not depend on how the key was spelled, nor on the request id."""
    same = [
        pb.ResolveSessionRequest(session=ref, request_id=request_id, labels={"b": "1", "a": "2"})
        for ref in (
            named(key="Settings2"),
            named(key=" settings2", agent="main"),
            named(key="agent:main:settings2"),
        )
        for request_id in ("r1", "r2")
    ]
    assert len({digest_of(request, request.session) for request in same}) == 1


@pytest.mark.parametrize(
    "other",
    [
        pb.ResolveSessionRequest(session=named(key="other"), request_id="r1"),
        pb.ResolveSessionRequest(session=named(key="k", agent="two"), request_id="r1"),
        pb.ResolveSessionRequest(session=named(key="k"), request_id="r1", labels={"a": "b"}),
        pb.ResolveSessionRequest(
            session=named(key="k"), request_id="r1", interaction=session_pb2.INTERACTION_SYSTEM
        ),
        pb.ResolveSessionRequest(session=named(key="k"), request_id="r1", bind_session_id="ses_1"),
    ],
    ids=str,
)
def test_other_content_is_another_request(other: pb.ResolveSessionRequest) -> None:
    """Whatever else differs makes another fingerprint."""
    first = pb.ResolveSessionRequest(session=named(key="k"), request_id="r1")
    assert digest_of(first, first.session) != digest_of(other, other.session)


def test_reading_leaves_the_request_alone() -> None:
    """Hashing works on a copy."""
    request = pb.ResolveSessionRequest(session=named(key=" K "), request_id="r1")
    before = request.SerializeToString()
    digest_of(request, request.session)
    assert request.SerializeToString() == before


def test_a_call_without_a_request_id_is_not_hashed() -> None:
    """A call that cannot be repeated costs no hash."""
    call = FIELDS.call("ResolveSession", pb.ResolveSessionRequest(session=named(key="k")), None)
    assert (call.namespace, call.rpc, call.request_id, call.fingerprint) == (
        "default",
        "ResolveSession",
        "",
        b"",
    )


def test_a_request_id_is_bounded() -> None:
    """A request id is any text of up to 128 bytes."""
    assert FIELDS.call("X", pb.ResolveSessionRequest(request_id="é" * 64), None).request_id == "é" * 64
    with pytest.raises(LimitExceeded) as refused:
        FIELDS.call("X", pb.ResolveSessionRequest(request_id="é" * 65), None)
    assert refused.value.details["field"] == "request_id"


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_two_lists_of_parts_never_look_the_same(one: list[bytes], two: list[bytes]) -> None:
    """A digest tells where one part ends and the next begins."""
    assert (digest(*one) == digest(*two)) == (one == two)


def test_interactions_are_named_alike() -> None:
    """A person is INTERACTION_USER on the wire and USER inside."""
    assert enum(Interaction, session_pb2.INTERACTION_USER, "interaction") is Interaction.USER
