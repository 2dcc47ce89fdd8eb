"""From the wire: requests as the use cases take them, each field judged once.

Raises FieldInvalid, LimitExceeded, KeyInvalid, AgentMismatch, FilterInvalid, TokenInvalid: never anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from sessionplane.domain import keys
from sessionplane.domain.errors import FieldInvalid, FilterInvalid, LimitExceeded
from sessionplane.domain.events import Custom, EventKind, OutputDelta, Published
from sessionplane.domain.interrupts import InterruptMode
from sessionplane.domain.keys import KeySettings, SessionKey
from sessionplane.domain.limits import Limits
from sessionplane.domain.runs import REPORTABLE, RunFailure, RunOutcome, RunPolicy, RunReport
from sessionplane.domain.sessions import Interaction
from sessionplane.domain.streams import EVERYTHING, Filter, Presence, Start, Until
from sessionplane.domain.tokens import parse_resume_token
from sessionplane.plane.context import Call
from sessionplane.plane.interrupts import InterruptRequest
from sessionplane.plane.runners import ClaimRequest, FinishRequest, Holder, PublishRequest
from sessionplane.plane.runs import RunSpec, StartRequest
from sessionplane.plane.sessions import ResolveRequest, SessionRef
from sessionplane.plane.streams import StreamRequest
from sessionplane.v1 import (
    event_pb2,
    run_pb2,
    runner_service_pb2,
    session_pb2,
    session_service_pb2,
)

NAMESPACE = "default"
"""The one tenant of a server without authentication."""

_RUN_ID = re.compile(r"[A-Za-z0-9._:-]+")
_CUSTOM_TYPE = re.compile(r"[A-Za-z0-9._:/-]+")

E = TypeVar("E", bound=StrEnum)


class _Report(Protocol):
    """What FinishRun and DriveRun's finish have in common."""

    outcome: run_pb2.RunOutcome.ValueType
    output_text: str

    @property
    def result(self) -> run_pb2.Payload: ...
    @property
    def failure(self) -> run_pb2.RunFailure: ...


class Parser:
    """Reads requests by the bounds and key settings of one server."""

    def __init__(self, limits: Limits, key_settings: KeySettings) -> None:
        self._limits = limits
        self._keys = key_settings

    def ref(self, ref: session_pb2.SessionRef, field: str = "session") -> SessionRef:
        """Read a reference that must name a session."""
        kind = ref.WhichOneof("ref")
        if kind == "key":
            key = keys.canonical(
                ref.key, settings=self._keys, agent=ref.agent, field=f"{field}.key", limits=self._limits
            )
            return SessionRef(key=key)
        if kind is None or not ref.session_id:
            raise FieldInvalid(field=field, problem="name a session by session_id or by key")
        return SessionRef(session_id=self.name(ref.session_id, f"{field}.session_id"))

    def explain(self, raw: str, agent: str) -> keys.Explanation:
        """Explain a key by this server's settings."""
        return keys.explain(raw, settings=self._keys, agent=agent, field="key", limits=self._limits)

    def resolve(self, request: session_service_pb2.ResolveSessionRequest, field: str = "") -> ResolveRequest:
        """Read a resolve, which may stand inside another request."""
        ref = self.ref(request.session, f"{field}session")
        if request.bind_session_id and ref.key is None:
            raise FieldInvalid(
                field=f"{field}bind_session_id", problem="it needs session.key, the key to bind"
            )
        return ResolveRequest(
            call=self.call("ResolveSession", request, ref.key),
            session=ref,
            bind_session_id=self.name(request.bind_session_id, f"{field}bind_session_id"),
            interaction=_enum(Interaction, request.interaction) or Interaction.USER,
            labels=self.labels(request.labels, f"{field}labels"),
            display_name=self.name(request.display_name, f"{field}display_name"),
        )

    def start(self, request: session_service_pb2.StartRunRequest) -> StartRequest:
        """Read a StartRun."""
        named = request.session.WhichOneof("ref") is not None
        ref = self.ref(request.session) if named else None
        return StartRequest(
            call=self.call("StartRun", request, ref.key if ref else None),
            session=ref,
            run=self._spec(request.run, ref),
            interaction=_enum(Interaction, request.interaction) or Interaction.USER,
        )

    def _spec(self, spec: run_pb2.RunSpec, ref: SessionRef | None) -> RunSpec:
        limits = self._limits
        policy = _enum(RunPolicy, spec.policy) or RunPolicy.ENQUEUE
        payload = self.payload(spec.input, "run.input")
        where = (str(ref.key) if ref.key else ref.session_id) if ref else ""
        return RunSpec(
            run_id=self.run_id(spec.run_id, "run.run_id") if spec.run_id else "",
            input=payload,
            policy=policy,
            pool=self.name(spec.pool, "run.pool"),
            start_timeout_ms=self.span_ms(
                spec,
                "start_timeout",
                default=limits.start_timeout_ms_default,
                least=limits.timeout_ms_min,
                most=limits.start_timeout_ms_max,
            ),
            run_timeout_ms=self.span_ms(
                spec,
                "run_timeout",
                default=limits.run_timeout_ms_default,
                least=limits.timeout_ms_min,
                most=limits.run_timeout_ms_max,
            ),
            labels=self.labels(spec.labels, "run.labels"),
            fingerprint=digest(where.encode(), payload, policy.encode()),
        )

    def interrupt(self, request: session_service_pb2.InterruptRequest) -> InterruptRequest:
        """Read an Interrupt."""
        target = request.WhichOneof("target")
        if target is None:
            raise FieldInvalid(field="target", problem="name a session or a run_id")
        ref = self.ref(request.session) if target == "session" else None
        return InterruptRequest(
            call=self.call("Interrupt", request, ref.key if ref else None),
            session=ref,
            run_id=self.run_id(request.run_id, "run_id") if ref is None else "",
            expected_run_id=self.name(request.expected_run_id, "expected_run_id"),
            mode=_enum(InterruptMode, request.mode) or InterruptMode.GRACEFUL,
            grace_ms=self.span_ms(
                request,
                "grace_period",
                default=self._limits.interrupt_grace_ms_default,
                least=0,
                most=self._limits.interrupt_grace_ms_max,
            ),
            reason=_within(request.reason, self._limits.reason_bytes_max, "reason"),
        )

    def stream(self, request: session_service_pb2.StreamEventsRequest) -> tuple[StreamRequest, float]:
        """Read a StreamEvents; the second value is the pending timeout in seconds."""
        target = request.WhichOneof("target")
        if target is None:
            raise FieldInvalid(field="target", problem="name a session, a run_id or a resolve")
        pending_ms = self.span_ms(
            request, "pending_timeout", default=0, least=0, most=self._limits.pending_timeout_ms_max
        )
        self.name(request.subscriber_name, "subscriber_name")
        until = _enum(Until, request.until)
        if request.until_run_id and until is not Until.RUN_END:
            raise FieldInvalid(field="until_run_id", problem="it needs until = STREAM_UNTIL_RUN_END")
        asked = StreamRequest(
            namespace=NAMESPACE,
            session=self.ref(request.session) if target == "session" else None,
            run_id=self.run_id(request.run_id, "run_id") if target == "run_id" else "",
            resolve=self.resolve(request.resolve, "resolve.") if target == "resolve" else None,
            token=parse_resume_token(request.resume_token) if request.resume_token else None,
            start=_enum(Start, request.start),
            until=until,
            until_run_id=self.name(request.until_run_id, "until_run_id"),
            filter=self.filter(request.filter),
            presence=_enum(Presence, request.presence) or Presence.ATTACHED,
        )
        if asked.run_id and asked.filter.run_id not in {"", asked.run_id}:
            raise FilterInvalid(problem="filter.run_id is not the run of the target")
        return asked, pending_ms / 1000

    def filter(self, wanted: session_service_pb2.EventFilter) -> Filter:
        """Read a filter; the empty one is the shared EVERYTHING."""
        if not wanted.kinds and not wanted.run_id:
            return EVERYTHING
        kinds = frozenset(_enum(EventKind, kind) for kind in wanted.kinds)
        if None in kinds:
            raise FilterInvalid(problem="a kind is not one of EventKind")
        return Filter(
            kinds=frozenset(kind for kind in kinds if kind is not None),
            run_id=self.name(wanted.run_id, "filter.run_id"),
        )

    def claim(self, request: runner_service_pb2.ClaimRunRequest) -> ClaimRequest:
        """Read a ClaimRun."""
        target = request.WhichOneof("target")
        if target is None:
            raise FieldInvalid(field="target", problem="name a run_id or a pool")
        if target == "pool" and not request.pool:
            raise FieldInvalid(field="pool", problem="it is empty; runs without a pool are claimed by run_id")
        limits = self._limits
        return ClaimRequest(
            call=self.call("ClaimRun", request, None),
            run_id=self.run_id(request.run_id, "run_id") if target == "run_id" else "",
            pool=self.name(request.pool, "pool"),
            runner_id=self.name(request.runner_id, "runner_id"),
            lease_ms=self.span_ms(
                request,
                "lease_duration",
                default=limits.lease_ms_default,
                least=limits.lease_ms_min,
                most=limits.lease_ms_max,
            ),
        )

    def holder(self, run_id: str, lease_token: str) -> Holder:
        """Read who says it holds which run."""
        if not lease_token:
            raise FieldInvalid(field="lease_token", problem="it is empty; ClaimRun gives one")
        return Holder(
            namespace=NAMESPACE,
            run_id=self.run_id(run_id, "run_id"),
            lease_token=self.name(lease_token, "lease_token"),
        )

    def publish(
        self,
        holder: Holder,
        request: runner_service_pb2.PublishEventsRequest | runner_service_pb2.DriveRunPublish,
    ) -> PublishRequest:
        """Read a publication, of either way to publish."""
        limits = self._limits
        if len(request.events) > limits.publish_events_max:
            raise LimitExceeded(field="events", actual=len(request.events), limit=limits.publish_events_max)
        size = request.ByteSize()
        if size > limits.publish_bytes_max:
            raise LimitExceeded(
                field="events", actual=f"{size} bytes", limit=f"{limits.publish_bytes_max} bytes"
            )
        if request.first_run_sequence < 0:
            raise FieldInvalid(field="first_run_sequence", problem="it is negative")
        events = [self._published(event, f"events[{index}]") for index, event in enumerate(request.events)]
        return PublishRequest(holder=holder, events=events, first_run_sequence=request.first_run_sequence)

    def _published(self, event: runner_service_pb2.NewEvent, field: str) -> Published:
        kind = event.WhichOneof("body")
        if kind == "output_delta":
            text = event.output_delta.text
            return OutputDelta(
                text=_within(text, self._limits.payload_bytes_max, f"{field}.output_delta.text")
            )
        if kind == "custom":
            name = self.name(event.custom.type, f"{field}.custom.type")
            if not _CUSTOM_TYPE.fullmatch(name):
                raise FieldInvalid(
                    field=f"{field}.custom.type", problem="use 1 to 128 of A-Z a-z 0-9 . _ : / -"
                )
            return Custom(type=name, data=self.payload(event.custom.data, f"{field}.custom.data"))
        raise FieldInvalid(field=field, problem="it has neither output_delta nor custom")

    def finish(
        self,
        holder: Holder,
        request: runner_service_pb2.FinishRunRequest | runner_service_pb2.DriveRunFinish,
    ) -> FinishRequest:
        """Read a report, of either way to finish."""
        report = self._report(request, given=request.HasField("output_text"))
        failed = request.failure.SerializeToString(deterministic=True)
        text = (report.output_text or "").encode()
        mark = b"given" if report.output_text is not None else b""
        stamp = digest(report.outcome.encode(), mark, text, report.result, failed)
        return FinishRequest(holder=holder, report=report, fingerprint=stamp)

    def _report(self, request: _Report, *, given: bool) -> RunReport:
        outcome = _enum(RunOutcome, request.outcome)
        if outcome not in REPORTABLE:
            raise FieldInvalid(field="outcome", problem="report SUCCEEDED, FAILED or INTERRUPTED")
        failure = None
        if request.failure.ByteSize():
            limits = self._limits
            failure = RunFailure(
                reason=self.name(request.failure.reason, "failure.reason"),
                message=_within(request.failure.message, limits.failure_message_bytes_max, "failure.message"),
                retryable=request.failure.retryable,
            )
        return RunReport(
            outcome=outcome,
            output_text=request.output_text if given else None,
            result=self.payload(request.result, "result"),
            failure=failure,
        )

    def call(self, rpc: str, request: Message, key: SessionKey | None) -> Call:
        """Say who calls what; the content is hashed only if the call can be repeated by its id."""
        request_id: str = request.request_id  # type: ignore[attr-defined]
        if not request_id:
            return Call(namespace=NAMESPACE, rpc=rpc)
        return Call(
            namespace=NAMESPACE,
            rpc=rpc,
            request_id=self.name(request_id, "request_id"),
            fingerprint=_content(request, key),
        )

    def run_id(self, text: str, field: str) -> str:
        """Read a run id, which must be there."""
        if not _RUN_ID.fullmatch(self.name(text, field)):
            raise FieldInvalid(field=field, problem="use 1 to 128 of A-Z a-z 0-9 . _ : -")
        return text

    def name(self, text: str, field: str) -> str:
        """Read a short text: an id or a name."""
        return _within(text, self._limits.id_bytes_max, field)

    def labels(self, labels: Mapping[str, str], field: str) -> Mapping[str, str]:
        """Read labels."""
        if not labels:
            return {}
        limits = self._limits
        if len(labels) > limits.labels_max:
            raise LimitExceeded(field=field, actual=len(labels), limit=limits.labels_max)
        size = sum(len(name.encode()) + len(value.encode()) for name, value in labels.items())
        if size > limits.labels_bytes_max:
            raise LimitExceeded(field=field, actual=f"{size} bytes", limit=f"{limits.labels_bytes_max} bytes")
        return dict(labels)

    def payload(self, payload: run_pb2.Payload, field: str) -> bytes:
        """Read content: encoded as it will be kept, and never looked into."""
        data = payload.SerializeToString(deterministic=True)
        if len(data) > self._limits.payload_bytes_max:
            limit = f"{self._limits.payload_bytes_max} bytes"
            raise LimitExceeded(field=field, actual=f"{len(data)} bytes", limit=limit)
        self.name(payload.content_type, f"{field}.content_type")
        return data

    def span_ms(self, request: Message, field: str, *, default: int, least: int, most: int) -> int:
        """Read a span of time in milliseconds, within its bounds."""
        if not request.HasField(field):
            return default
        span: Duration = getattr(request, field)
        span_ms = span.seconds * 1000 + span.nanos // 1_000_000
        if not least <= span_ms <= most:
            raise FieldInvalid(
                field=field, problem=f"it must be from {least / 1000:g} s to {most / 1000:g} s"
            )
        return span_ms


def digest(*parts: bytes) -> bytes:
    """Hash parts so that no two lists of parts look the same."""
    hasher = blake2b(digest_size=16)
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.digest()


def _content(request: Message, key: SessionKey | None) -> bytes:
    """Hash a request without its id, and with its key in canonical form: another spelling is the same request."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("request_id")
    if key is not None:
        copy.session.CopyFrom(session_pb2.SessionRef(key=key.text))  # type: ignore[attr-defined]
    return digest(copy.SerializeToString(deterministic=True))


def _within(text: str, bytes_max: int, field: str) -> str:
    if len(text) * 4 > bytes_max and len(text.encode()) > bytes_max:
        raise LimitExceeded(field=field, actual=f"{len(text.encode())} bytes", limit=f"{bytes_max} bytes")
    return text


def _members(kind: type[StrEnum], wire: Any) -> tuple[str, Mapping[int, StrEnum]]:
    """Return an enum's name on the wire and its members by number; an unknown name there fails the import."""
    prefix = wire.Name(0).removesuffix("UNSPECIFIED")
    numbers = {number: kind(name.removeprefix(prefix)) for name, number in wire.items() if number}
    return wire.DESCRIPTOR.name, numbers


_MEMBERS: dict[type[StrEnum], tuple[str, Mapping[int, StrEnum]]] = {
    kind: _members(kind, wire)
    for kind, wire in (
        (Interaction, session_pb2.Interaction),
        (RunPolicy, run_pb2.RunPolicy),
        (RunOutcome, run_pb2.RunOutcome),
        (InterruptMode, run_pb2.InterruptMode),
        (EventKind, event_pb2.EventKind),
        (Start, session_service_pb2.StreamStart),
        (Until, session_service_pb2.StreamUntil),
        (Presence, session_service_pb2.Presence),
    )
}


def _enum(kind: type[E], number: int) -> E | None:
    """Read an enum value; None for 0, the documented default. A number that is none of its values is refused."""
    if number == 0:
        return None
    name, members = _MEMBERS[kind]
    member = members.get(number)
    if member is None:
        raise FieldInvalid(field=name, problem=f"{number} is not one of its values")
    return kind(member)
