"""Errors on the wire: a code, a safe sentence, and details that programs can read."""

from __future__ import annotations

import base64
from string import Formatter
from typing import Any
from urllib.parse import quote

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2

from sessionplane.domain import errors
from sessionplane.domain.errors import SessionPlaneError, leaves
from sessionplane.domain.limits import DEFAULT
from sessionplane.domain.streams import RESUMABLE, ClosingReason
from sessionplane.rpc.status import CLOSINGS, CODES, RETRY_AFTER_S, abort, incident, status_of
from tests.support.calls import Aborted, FakeContext

DETAILS = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.RetryInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.QuotaFailure,
)


def details(status: status_pb2.Status) -> dict[type, Any]:
    """The details of a status by their type; each may come once."""
    found: dict[type, Any] = {}
    for packed in status.details:
        (kind,) = [kind for kind in DETAILS if packed.Is(kind.DESCRIPTOR)]
        assert kind not in found
        found[kind] = kind()
        packed.Unpack(found[kind])
    return found


@pytest.mark.parametrize("leaf", leaves())
def test_every_error_has_code_message_and_reason(leaf: type[SessionPlaneError]) -> None:
    """Each error is its code, its sentence and an ErrorInfo with our domain."""
    error = leaf(field="f")
    status = status_of(error)
    assert (status.code, status.message) == (CODES[leaf].value[0], str(error))
    info = details(status)[error_details_pb2.ErrorInfo]
    assert (info.reason, info.domain, dict(info.metadata)) == (leaf.reason, "sessionplane", {"field": "f"})


@pytest.mark.parametrize("leaf", leaves())
def test_what_may_be_tried_again_says_when(leaf: type[SessionPlaneError]) -> None:
    """RetryInfo stands where the same call may work later, and nowhere else."""
    retry = details(status_of(leaf())).get(error_details_pb2.RetryInfo)
    assert (retry.retry_delay.seconds if retry else None) == RETRY_AFTER_S.get(leaf)


def test_what_is_unavailable_or_passes_may_be_tried_again() -> None:
    """Every UNAVAILABLE tells when to try again."""
    unavailable = {leaf for leaf, code in CODES.items() if code is grpc.StatusCode.UNAVAILABLE}
    assert unavailable <= set(RETRY_AFTER_S)


def test_codes_that_only_transports_make_are_not_ours() -> None:
    """Our handlers never answer UNKNOWN or CANCELLED, and INTERNAL only for bugs. DEADLINE_EXCEEDED is for a request
    of an Exchange, whose timeout no transport knows.
    """
    foreign = {
        grpc.StatusCode.OK,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNIMPLEMENTED,
    }
    assert not foreign & set(CODES.values())
    late = [error for error, code in CODES.items() if code is grpc.StatusCode.DEADLINE_EXCEEDED]
    assert late == [errors.TimedOut]


def test_a_bad_field_is_a_field_violation() -> None:
    """Errors about a field carry BadRequest with its name and the sentence."""
    error = errors.KeyInvalid(field="session.key", problem="it is empty")
    (violation,) = details(status_of(error))[error_details_pb2.BadRequest].field_violations
    assert (violation.field, violation.description) == ("session.key", str(error))


def test_a_bound_is_a_quota_failure() -> None:
    """Errors about a bound carry QuotaFailure with the reason."""
    error = errors.RunQueueFull(limit=20)
    (violation,) = details(status_of(error))[error_details_pb2.QuotaFailure].violations
    assert (violation.subject, violation.description) == ("RUN_QUEUE_FULL", str(error))


def test_others_carry_no_more_than_they_have() -> None:
    """An error about neither carries ErrorInfo alone."""
    assert set(details(status_of(errors.LeaseLost(run_id="r", current_epoch=2)))) == {
        error_details_pb2.ErrorInfo
    }


def test_every_closing_reason_has_a_status() -> None:
    """Each way for a stream to end is OK or an error of the table."""
    assert set(CLOSINGS) == set(ClosingReason)
    assert {reason for reason, error in CLOSINGS.items() if error is None} == {
        ClosingReason.RUN_END,
        ClosingReason.SESSION_END,
        ClosingReason.CAUGHT_UP,
    }
    assert all(error in CODES for error in CLOSINGS.values() if error is not None)


def test_what_is_resumable_may_be_tried_again() -> None:
    """A stream that can be gone on with ends with an error that says when."""
    assert all(CLOSINGS[reason] in RETRY_AFTER_S for reason in RESUMABLE)


def test_closings_fill_their_messages() -> None:
    """The details that a closing stream passes fill every sentence."""
    given = {"session_id": "ses_1", "seconds": 30}
    assert all("(" not in str(error(**given)) for error in CLOSINGS.values() if error is not None)


def test_a_bug_says_nothing_but_where_to_find_it() -> None:
    """INTERNAL carries an incident id; what went wrong is in the log with the same id, and only there."""
    with structlog.testing.capture_logs() as logs:
        status = incident(ValueError("a secret"), rpc="SessionService/StartRun")
    info = details(status)[error_details_pb2.ErrorInfo]
    incident_id = info.metadata["incident_id"]
    assert (status.code, info.reason) == (grpc.StatusCode.INTERNAL.value[0], "INTERNAL")
    assert incident_id in status.message
    assert "secret" not in str(status)
    (line,) = logs
    assert (line["incident_id"], line["rpc"]) == (incident_id, "SessionService/StartRun")
    assert str(line["exc_info"]) == "a secret"


def test_two_incidents_have_two_ids() -> None:
    """Each bug is found by its own id."""
    with structlog.testing.capture_logs():
        first, second = (incident(ValueError(), rpc="X/Y").message for _ in range(2))
    assert first != second


async def test_aborting_sends_the_whole_status() -> None:
    """The status that ends the call carries code, sentence and details."""
    context = FakeContext()
    status = status_of(errors.RunNotFound(run_id="r"))
    with pytest.raises(Aborted):
        await abort(context, status)
    assert context.status == status


@pytest.mark.parametrize("leaf", leaves())
def test_a_refusal_fits_into_the_headers_of_any_transport(leaf: type[SessionPlaneError]) -> None:
    """However long what was sent is, what a refusal quotes of it is not: some transports take 8 KiB of headers."""
    names = [name for _, name, _, _ in Formatter().parse(leaf.__doc__ or "") if name]
    status = status_of(leaf(**dict.fromkeys(names, "é" * 10_000)))
    message, encoded = quote(status.message), base64.b64encode(status.SerializeToString())
    assert len(message) + len(encoded) < 8 * 1024


def test_a_canonical_key_is_never_cut() -> None:
    """The longest key that a refusal names comes whole, so that a program can use it."""
    key = f"agent:{'a' * 64}:{'k' * DEFAULT.key_rest_bytes_max}"
    status = status_of(errors.KeyNotBound(canonical_key=key))
    assert details(status)[error_details_pb2.ErrorInfo].metadata["canonical_key"] == key
