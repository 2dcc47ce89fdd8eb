"""From the wire: requests as the use cases take them, each field judged once.

Raises FieldInvalid, LimitExceeded, KeyInvalid, AgentMismatch, FilterInvalid, TokenInvalid: never anything else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from sessionplane.domain import keys, listing_text
from sessionplane.domain.errors import FieldInvalid, FilterInvalid, LimitExceeded
from sessionplane.domain.events import Custom, EventKind, OutputDelta, Published
from sessionplane.domain.interrupts import InterruptMode
from sessionplane.domain.listing import SessionFilter
from sessionplane.domain.runs import REPORTABLE, RunFailure, RunOutcome, RunPolicy, RunReport
from sessionplane.domain.sessions import (
    ConflictPolicy,
    EndedPolicy,
    Interaction,
    MissingPolicy,
    Visibility,
)
from sessionplane.domain.streams import EVERYTHING, Filter, Presence, Start, Until
from sessionplane.domain.tokens import parse_resume_token, parse_watch_token
from sessionplane.plane.admission import RunSpec
from sessionplane.plane.claims import ClaimRequest, Holder
from sessionplane.plane.closing import CloseRequest
from sessionplane.plane.interrupts import InterruptRequest
from sessionplane.plane.lifecycle import SuspendRequest
from sessionplane.plane.resolving import ResolveRequest
from sessionplane.plane.runners import FinishRequest, PublishRequest
from sessionplane.plane.runs import StartRequest
from sessionplane.plane.sessions import SessionRef
from sessionplane.plane.stopping import Wish
from sessionplane.plane.streams import StreamRequest
from sessionplane.plane.watching import WatchRequest
from sessionplane.rpc.fields import NAMESPACE, digest, enum, within
from sessionplane.rpc.parse_imports import ImportRequests
from sessionplane.rpc.parse_sessions import SessionRequests
from sessionplane.v1 import (
    run_pb2,
    runner_service_pb2,
    session_service_pb2,
)

_CUSTOM_TYPE = re.compile(r"[A-Za-z0-9._:/-]+")


class _Report(Protocol):
    """What FinishRun and DriveRun's finish have in common."""

    outcome: run_pb2.RunOutcome.ValueType
    output_text: str

    @property
    def result(self) -> run_pb2.Payload: ...
    @property
    def failure(self) -> run_pb2.RunFailure: ...


class Parser(SessionRequests, ImportRequests):
    """Reads requests by the bounds and key settings of one server."""

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
        conflict = enum(ConflictPolicy, request.conflict_policy, f"{field}conflict_policy")
        if request.expected_session_id and conflict is not ConflictPolicy.REPLACE:
            raise FieldInvalid(
                field=f"{field}expected_session_id",
                problem="it needs conflict_policy = CONFLICT_POLICY_REPLACE",
            )
        return ResolveRequest(
            call=self.call("ResolveSession", request, ref.key),
            session=ref,
            missing=enum(MissingPolicy, request.missing_policy, f"{field}missing_policy")
            or MissingPolicy.CREATE,
            conflict=conflict or ConflictPolicy.USE_EXISTING,
            ended=enum(EndedPolicy, request.ended_policy, f"{field}ended_policy") or EndedPolicy.RESUME,
            expected_session_id=self.name(request.expected_session_id, f"{field}expected_session_id"),
            bind_session_id=self.name(request.bind_session_id, f"{field}bind_session_id"),
            visibility=enum(Visibility, request.visibility, f"{field}visibility") or Visibility.VISIBLE,
            interaction=enum(Interaction, request.interaction, f"{field}interaction") or Interaction.USER,
            labels=self.labels(request.labels, f"{field}labels"),
            display_name=self.name(request.display_name, f"{field}display_name"),
            run=self._spec(request.run, ref, f"{field}run") if request.HasField("run") else None,
        )

    def start(self, request: session_service_pb2.StartRunRequest) -> StartRequest:
        """Read a StartRun."""
        ref = self.ref(request.session) if request.HasField("session") else None
        return StartRequest(
            call=self.call("StartRun", request, ref.key if ref else None),
            session=ref,
            run=self._spec(request.run, ref),
            interaction=enum(Interaction, request.interaction, "interaction") or Interaction.USER,
        )

    def _spec(
        self, spec: run_pb2.RunSpec, ref: SessionRef | None, field: str = "run", *, where: str = ""
    ) -> RunSpec:
        """Read what to run in the session named by `ref`, else by `where`; `field` is its place in the request."""
        limits = self._limits
        policy = enum(RunPolicy, spec.policy, f"{field}.policy") or RunPolicy.ENQUEUE
        payload = self.payload(spec.input, f"{field}.input")
        where = (str(ref.key) if ref.key else ref.session_id) if ref else where
        return RunSpec(
            run_id=self.run_id(spec.run_id, f"{field}.run_id") if spec.run_id else "",
            input=payload,
            policy=policy,
            pool=self.name(spec.pool, f"{field}.pool"),
            start_timeout_ms=self.span_ms(
                spec,
                "start_timeout",
                default=limits.start_timeout_ms_default,
                least=limits.timeout_ms_min,
                most=limits.start_timeout_ms_max,
                prefix=f"{field}.",
            ),
            run_timeout_ms=self.span_ms(
                spec,
                "run_timeout",
                default=limits.run_timeout_ms_default,
                least=limits.timeout_ms_min,
                most=limits.run_timeout_ms_max,
                prefix=f"{field}.",
            ),
            labels=self.labels(spec.labels, f"{field}.labels"),
            fingerprint=digest(where.encode(), payload, policy.encode()),
        )

    def interrupt(self, request: session_service_pb2.InterruptRequest) -> InterruptRequest:
        """Read an Interrupt."""
        target = request.WhichOneof("target")
        if target is None:
            raise FieldInvalid(field="target", problem="name a session or a run_id")
        ref = self.ref(request.session) if target == "session" else None
        follow_up = None
        if request.HasField("follow_up"):
            follow_up = self._spec(request.follow_up, ref, "follow_up", where=request.run_id)
        return InterruptRequest(
            call=self.call("Interrupt", request, ref.key if ref else None),
            session=ref,
            run_id=self.run_id(request.run_id, "run_id") if ref is None else "",
            expected_run_id=self.name(request.expected_run_id, "expected_run_id"),
            wish=Wish(
                mode=enum(InterruptMode, request.mode, "mode") or InterruptMode.GRACEFUL,
                grace_ms=self.span_ms(
                    request,
                    "grace_period",
                    default=self._limits.interrupt_grace_ms_default,
                    least=0,
                    most=self._limits.interrupt_grace_ms_max,
                ),
                reason=within(request.reason, self._limits.reason_bytes_max, "reason"),
            ),
            drop_queued=request.drop_queued,
            follow_up=follow_up,
        )

    def suspend(self, request: session_service_pb2.SuspendSessionRequest) -> SuspendRequest:
        """Read a SuspendSession."""
        ref = self.ref(request.session)
        return SuspendRequest(
            call=self.call("SuspendSession", request, ref.key),
            session=ref,
            grace_ms=self.span_ms(
                request,
                "grace_period",
                default=self._limits.suspend_grace_ms_default,
                least=0,
                most=self._limits.suspend_grace_ms_max,
            ),
        )

    def close(self, request: session_service_pb2.CloseSessionRequest) -> CloseRequest:
        """Read a CloseSession."""
        ref = self.ref(request.session)
        return CloseRequest(
            call=self.call("CloseSession", request, ref.key),
            session=ref,
            timeout_ms=self.span_ms(
                request,
                "close_timeout",
                default=self._limits.close_timeout_ms_default,
                least=0,
                most=self._limits.close_timeout_ms_max,
            ),
            reason=within(request.reason, self._limits.reason_bytes_max, "reason"),
        )

    def stream(self, request: session_service_pb2.StreamEventsRequest) -> tuple[StreamRequest, float]:
        """Read a StreamEvents; the second value is the pending timeout in seconds."""
        target = request.WhichOneof("target")
        if target is None:
            raise FieldInvalid(field="target", problem="name a session, a run_id or a resolve")
        pending_ms = self.span_ms(
            request, "pending_timeout", default=0, least=0, most=self._limits.pending_timeout_ms_max
        )
        until = enum(Until, request.until, "until")
        if request.until_run_id and until is not Until.RUN_END:
            raise FieldInvalid(field="until_run_id", problem="it needs until = STREAM_UNTIL_RUN_END")
        asked = StreamRequest(
            namespace=NAMESPACE,
            session=self.ref(request.session) if target == "session" else None,
            run_id=self.run_id(request.run_id, "run_id") if target == "run_id" else "",
            resolve=self.resolve(request.resolve, "resolve.") if target == "resolve" else None,
            token=parse_resume_token(request.resume_token) if request.resume_token else None,
            start=enum(Start, request.start, "start"),
            until=until,
            until_run_id=self.name(request.until_run_id, "until_run_id"),
            filter=self.filter(request.filter),
            presence=enum(Presence, request.presence, "presence") or Presence.ATTACHED,
            subscriber_name=self.name(request.subscriber_name, "subscriber_name"),
        )
        if asked.run_id and asked.filter.run_id not in {"", asked.run_id}:
            raise FilterInvalid(field="filter.run_id", problem="filter.run_id is not the run of the target")
        return asked, pending_ms / 1000

    def watch(self, request: session_service_pb2.WatchSessionsRequest) -> WatchRequest:
        """Read a WatchSessions."""
        token = request.resume_token
        return WatchRequest(
            namespace=NAMESPACE,
            token=parse_watch_token(token, namespace=NAMESPACE) if token else None,
            show_internal=request.show_internal,
            subscriber_name=self.name(request.subscriber_name, "subscriber_name"),
        )

    def filter(self, wanted: session_service_pb2.EventFilter) -> Filter:
        """Read a filter; the empty one is the shared EVERYTHING."""
        if not (wanted.kinds or wanted.custom_types or wanted.run_id):
            return EVERYTHING
        kinds = frozenset(enum(EventKind, kind, "filter.kinds") for kind in wanted.kinds)
        if None in kinds:
            raise FilterInvalid(field="filter.kinds", problem="a kind is not one of EventKind")
        return Filter(
            kinds=frozenset(kind for kind in kinds if kind is not None),
            custom_types=self._types(wanted.custom_types),
            run_id=self.name(wanted.run_id, "filter.run_id"),
        )

    def _types(self, wanted: Sequence[str]) -> frozenset[str]:
        """Read types of custom events. What could never match is a mistake, and is said."""
        most = self._limits.filter_types_max
        if len(wanted) > most:
            raise LimitExceeded(field="filter.custom_types", actual=len(wanted), limit=most)
        for name in wanted:
            if not _CUSTOM_TYPE.fullmatch(self.name(name, "filter.custom_types")):
                raise FilterInvalid(
                    field="filter.custom_types",
                    problem="a custom type is 1 to 128 of A-Z a-z 0-9 . _ : / - and compared as a whole",
                )
        return frozenset(wanted)

    def session_filter(self, text: str) -> SessionFilter:
        """Read which sessions a list is about."""
        return listing_text.parse(text, key_settings=self._keys, limits=self._limits)

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
        acknowledged: Sequence[str] = ()
        if isinstance(request, runner_service_pb2.PublishEventsRequest):
            acknowledged = self.input_ids(request.acknowledged_input_ids, "acknowledged_input_ids")
        return PublishRequest(
            holder=holder,
            events=events,
            first_run_sequence=request.first_run_sequence,
            acknowledged_input_ids=acknowledged,
        )

    def input_ids(self, input_ids: Sequence[str], field: str) -> Sequence[str]:
        """Read acknowledged inputs."""
        most = self._limits.acknowledged_inputs_max
        if len(input_ids) > most:
            raise LimitExceeded(field=field, actual=len(input_ids), limit=most)
        return tuple(self.run_id(each, f"{field}[{index}]") for index, each in enumerate(input_ids))

    def _published(self, event: runner_service_pb2.NewEvent, field: str) -> Published:
        kind = event.WhichOneof("body")
        if kind == "output_delta":
            text = event.output_delta.text
            return OutputDelta(
                text=within(text, self._limits.payload_bytes_max, f"{field}.output_delta.text")
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
        outcome = enum(RunOutcome, request.outcome, "outcome")
        if outcome not in REPORTABLE:
            raise FieldInvalid(field="outcome", problem="report SUCCEEDED, FAILED or INTERRUPTED")
        failure = None
        if request.failure.ByteSize():
            limits = self._limits
            failure = RunFailure(
                reason=self.name(request.failure.reason, "failure.reason"),
                message=within(request.failure.message, limits.failure_message_bytes_max, "failure.message"),
                retryable=request.failure.retryable,
            )
        return RunReport(
            outcome=outcome,
            output_text=request.output_text if given else None,
            result=self.payload(request.result, "result"),
            failure=failure,
        )
