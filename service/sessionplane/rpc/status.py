"""The one table from errors to gRPC statuses, and the one place that writes them.

Everything that is not in the table is a bug: INTERNAL with an incident id, and its cause in the log only. The table in
docs/protocol.md is printed from this one.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NoReturn

import grpc
import structlog
import uuid_utils
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from sessionplane.domain import errors
from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.streams import ClosingReason

log = structlog.get_logger(__name__)

DOMAIN = "sessionplane"
_Code = grpc.StatusCode

CODES: dict[type[SessionPlaneError], grpc.StatusCode] = {
    errors.Malformed: _Code.INVALID_ARGUMENT,
    errors.LimitExceeded: _Code.INVALID_ARGUMENT,
    errors.FieldInvalid: _Code.INVALID_ARGUMENT,
    errors.KeyInvalid: _Code.INVALID_ARGUMENT,
    errors.AgentMismatch: _Code.INVALID_ARGUMENT,
    errors.FilterInvalid: _Code.INVALID_ARGUMENT,
    errors.TokenInvalid: _Code.INVALID_ARGUMENT,
    errors.PageTokenInvalid: _Code.INVALID_ARGUMENT,
    errors.RequestIdReused: _Code.ALREADY_EXISTS,
    errors.SessionExists: _Code.ALREADY_EXISTS,
    errors.RunIdReused: _Code.ALREADY_EXISTS,
    errors.SessionNotFound: _Code.NOT_FOUND,
    errors.RunNotFound: _Code.NOT_FOUND,
    errors.InterruptNotFound: _Code.NOT_FOUND,
    errors.InputNotFound: _Code.NOT_FOUND,
    errors.SubscriberNotFound: _Code.NOT_FOUND,
    errors.KeyNotBound: _Code.NOT_FOUND,
    errors.KeyNeverBound: _Code.FAILED_PRECONDITION,
    errors.InvalidTransition: _Code.FAILED_PRECONDITION,
    errors.SessionEnded: _Code.FAILED_PRECONDITION,
    errors.EndedPolicyFails: _Code.FAILED_PRECONDITION,
    errors.KeyMismatch: _Code.FAILED_PRECONDITION,
    errors.KeyBound: _Code.FAILED_PRECONDITION,
    errors.RunFinished: _Code.FAILED_PRECONDITION,
    errors.LeaseLost: _Code.FAILED_PRECONDITION,
    errors.RunSequenceGap: _Code.FAILED_PRECONDITION,
    errors.StoreReplaced: _Code.FAILED_PRECONDITION,
    errors.RunInProgress: _Code.ABORTED,
    errors.EtagMismatch: _Code.ABORTED,
    errors.SessionReplaced: _Code.ABORTED,
    errors.SessionGone: _Code.ABORTED,
    errors.Disconnected: _Code.ABORTED,
    errors.Credential: _Code.UNAUTHENTICATED,
    errors.TokenCompacted: _Code.OUT_OF_RANGE,
    errors.LogBehindToken: _Code.DATA_LOSS,
    errors.Checksum: _Code.DATA_LOSS,
    errors.Damaged: _Code.DATA_LOSS,
    errors.RunQueueFull: _Code.RESOURCE_EXHAUSTED,
    errors.LogFull: _Code.RESOURCE_EXHAUSTED,
    errors.StreamLimit: _Code.RESOURCE_EXHAUSTED,
    errors.SlowConsumer: _Code.RESOURCE_EXHAUSTED,
    errors.StorageFull: _Code.RESOURCE_EXHAUSTED,
    errors.Overloaded: _Code.RESOURCE_EXHAUSTED,
    errors.TimedOut: _Code.DEADLINE_EXCEEDED,
    errors.MaxAge: _Code.UNAVAILABLE,
    errors.Draining: _Code.UNAVAILABLE,
    errors.StoreBusy: _Code.UNAVAILABLE,
    errors.StoreFailed: _Code.UNAVAILABLE,
}
"""error -> code. Total over `errors.leaves()` and their variants by test."""

RETRY_AFTER_S: dict[type[SessionPlaneError], int] = {
    errors.RunQueueFull: 1,
    errors.StreamLimit: 5,
    errors.SlowConsumer: 0,
    errors.StorageFull: 5,
    errors.Overloaded: 1,
    errors.MaxAge: 0,
    errors.Draining: 1,
    errors.StoreBusy: 1,
    errors.StoreFailed: 1,
}
"""error -> seconds after which the same call may work: RetryInfo is sent for these and no others."""

QUOTAS = (errors.RunQueueFull, errors.LogFull, errors.StreamLimit)
"""Errors about a bound that the caller can do something about: QuotaFailure is sent for these."""

FIELD_ERRORS = (
    errors.LimitExceeded,
    errors.FieldInvalid,
    errors.KeyInvalid,
    errors.AgentMismatch,
    errors.FilterInvalid,
)
"""Errors about one field: BadRequest names it."""

CLOSINGS: dict[ClosingReason, type[SessionPlaneError] | None] = {
    ClosingReason.RUN_END: None,
    ClosingReason.SESSION_END: None,
    ClosingReason.CAUGHT_UP: None,
    ClosingReason.SESSION_FINAL: errors.SessionEnded,
    ClosingReason.SESSION_DELETED: errors.SessionNotFound,
    ClosingReason.DRAINING: errors.Draining,
    ClosingReason.SLOW_CONSUMER: errors.SlowConsumer,
    ClosingReason.DISCONNECTED: errors.Disconnected,
    ClosingReason.REVOKED: errors.Credential,
    ClosingReason.MAX_AGE: errors.MaxAge,
}
"""How a stream ends -> the error of its status; None is OK."""


def status_of(error: SessionPlaneError) -> status_pb2.Status:
    """Return the rich status of an error: code, message, ErrorInfo, and what else helps."""
    kind = type(error)
    status = status_pb2.Status(code=CODES[kind].value[0], message=str(error))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.details)
    status.details.add().Pack(info)
    if kind in RETRY_AFTER_S:
        delay = duration_pb2.Duration(seconds=RETRY_AFTER_S[kind])
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, FIELD_ERRORS):
        field = error_details_pb2.BadRequest.FieldViolation(
            field=error.details.get("field", ""), description=str(error)
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[field]))
    if isinstance(error, QUOTAS):
        quota = error_details_pb2.QuotaFailure.Violation(subject=error.reason, description=str(error))
        status.details.add().Pack(error_details_pb2.QuotaFailure(violations=[quota]))
    return status


def damaged(error: errors.Damaged, *, rpc: str, cause: BaseException | None = None) -> status_pb2.Status:
    """Log damage of the database with its cause, and return the status that names the record."""
    log.error("data.damaged", rpc=rpc, record=str(error), cause=repr(cause or error.__cause__))
    return status_of(error)


def incident(error: BaseException, *, rpc: str) -> status_pb2.Status:
    """Log a bug with its cause, and return the status that says nothing but where to find it."""
    incident_id = uuid_utils.uuid7().hex
    log.error("rpc.incident", rpc=rpc, incident_id=incident_id, exc_info=error)
    message = f"The server failed on this call; incident {incident_id} is in its log. Nothing was promised."
    status = status_pb2.Status(code=_Code.INTERNAL.value[0], message=message)
    info = error_details_pb2.ErrorInfo(
        reason="INTERNAL", domain=DOMAIN, metadata={"incident_id": incident_id}
    )
    status.details.add().Pack(info)
    return status


async def abort(context: grpc.aio.ServicerContext[object, object], status: status_pb2.Status) -> NoReturn:
    """End the call with this status."""
    await context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError  # abort raises


async def abort_within(
    most_s: float, context: grpc.aio.ServicerContext[object, object], status: status_pb2.Status
) -> None:
    """End a stream with this status. It waits behind what its reader does not read; after a while it is left to the
    transport.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(most_s):
            await abort(context, status)
