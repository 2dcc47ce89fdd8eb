"""What a call raises when the server says no, or cannot be asked.

Owns the translation from a gRPC status to one exception type with a stable `reason`. It never decides whether
something is tried again (see `backoff`), and never shows a payload or a lease token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc_status import rpc_status

if TYPE_CHECKING:
    from grpc import Call
    from grpc.aio import AioRpcError

    from sessionplane.v1.run_pb2 import RunTerminal

DOMAIN = "sessionplane"

_BY_REASON: dict[str, type[SessionPlaneError]] = {}


class SessionPlaneError(Exception):
    """A call that failed, with the server's own words.

    `reason` is stable and for programs; it is empty if the failure did not come from the server itself (no
    connection, a deadline, a proxy). `message` is for people. `metadata` holds details such as `session_id`.
    """

    def __init_subclass__(cls, reason: str = "") -> None:
        if reason:
            _BY_REASON[reason] = cls

    def __init__(
        self,
        code: StatusCode,
        reason: str,
        message: str,
        metadata: Mapping[str, str] | None = None,
        *,
        retry_delay_s: float | None = None,
    ) -> None:
        super().__init__(code, reason, message)
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_delay_s = retry_delay_s

    def __str__(self) -> str:
        return f"{self.message} [{self.code.name}{f' {self.reason}' if self.reason else ''}]"


class Unavailable(SessionPlaneError):
    """The server cannot be reached, or is starting or stopping."""


class KeyInvalid(SessionPlaneError, reason="KEY_INVALID"):
    """The key cannot be used."""


class KeyNotBound(SessionPlaneError, reason="KEY_NOT_BOUND"):
    """No session holds the key."""


class SessionNotFound(SessionPlaneError, reason="SESSION_NOT_FOUND"):
    """There is no such session."""


class RunNotFound(SessionPlaneError, reason="RUN_NOT_FOUND"):
    """There is no such run."""


class SessionExists(SessionPlaneError, reason="SESSION_EXISTS"):
    """The key has a live session, whose id is in `metadata`, and the policy was FAIL."""


class SessionReplaced(SessionPlaneError, reason="SESSION_REPLACED"):
    """Another session than the expected one holds the key: `current` in `metadata`, empty for none."""


class EtagMismatch(SessionPlaneError, reason="ETAG_MISMATCH"):
    """The session has changed since it was read; `metadata` has its `current` etag."""


class SessionEnded(SessionPlaneError, reason="SESSION_ENDED"):
    """The session is final, with its successor, if any, in `metadata`; or it has ended and the policy was FAIL."""


class InvalidTransition(SessionPlaneError, reason="INVALID_TRANSITION"):
    """The session or run cannot do that from the state it is in, which `metadata` names."""


class RunInProgress(SessionPlaneError, reason="RUN_IN_PROGRESS"):
    """Another run is active and the policy was REJECT."""


class RunQueueFull(SessionPlaneError, reason="RUN_QUEUE_FULL"):
    """Too many runs wait in the session."""


class SubscriberNotFound(SessionPlaneError, reason="SUBSCRIBER_NOT_FOUND"):
    """There is no such open stream."""


class TokenInvalid(SessionPlaneError, reason="TOKEN_INVALID"):
    """The resume token is not one of this session."""


class TokenCompacted(SessionPlaneError, reason="TOKEN_COMPACTED"):
    """What came after the resume token was removed by retention. For a stream of events `metadata` has the oldest token
    that works, as `floor_token`; a watch begins again without one.
    """


class StoreReplaced(SessionPlaneError, reason="STORE_REPLACED"):
    """The resume token is of another database."""


class LogBehindToken(SessionPlaneError, reason="LOG_BEHIND_TOKEN"):
    """The server lost events that this client has seen."""


class StreamGap(SessionPlaneError, reason="STREAM_GAP"):
    """The frames of a stream did not follow each other: found by this client, never sent by a server."""


class LeaseLost(SessionPlaneError, reason="LEASE_LOST"):
    """The run has another runner, or this one was silent for too long: stop working on it."""


class RunFinished(SessionPlaneError, reason="RUN_FINISHED"):
    """The run ended otherwise than by this runner's report: stop working on it."""

    terminal: RunTerminal | None = None


class Disconnected(SessionPlaneError, reason="DISCONNECTED"):
    """The stream was replaced by a newer one, or ended by an operator."""


def error_of(
    code: StatusCode,
    reason: str,
    message: str,
    metadata: Mapping[str, str] | None = None,
    *,
    retry_delay_s: float | None = None,
) -> SessionPlaneError:
    """Builds the error class that fits the reason, else the code."""
    fallback = Unavailable if code is StatusCode.UNAVAILABLE else SessionPlaneError
    return _BY_REASON.get(reason, fallback)(code, reason, message, metadata, retry_delay_s=retry_delay_s)


def client_closed() -> SessionPlaneError:
    """What a call raises that was under way, or is begun, when its client is closed."""
    return SessionPlaneError(StatusCode.CANCELLED, "CLIENT_CLOSED", "The client was closed.")


def from_rpc_error(error: AioRpcError) -> SessionPlaneError:
    """Translates what grpc.aio raised.

    ErrorInfo of another domain (a proxy's, say) is not taken for the server's word. Details that cannot be
    read are left out: the code and the message always survive.
    """
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in _details(error):
        for known in (info, retry):
            if detail.Is(known.DESCRIPTOR):
                detail.Unpack(known)
    ours = info.domain == DOMAIN
    asked_s = retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None
    return error_of(
        error.code(),
        info.reason if ours else "",
        error.details() or "The call failed without a message.",
        info.metadata if ours else None,
        retry_delay_s=asked_s,
    )


def _details(error: AioRpcError) -> list[error_details_pb2.Any]:
    try:
        status = rpc_status.from_call(cast("Call", error))  # it is all of a Call that is read
    except (ValueError, DecodeError):  # not our server's: its code and message must do
        return []
    return list(status.details) if status else []
