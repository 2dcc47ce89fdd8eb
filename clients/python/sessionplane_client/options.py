"""The settings of a channel, each with its reason. Nothing here is a default of gRPC."""

from __future__ import annotations

import json

# Calls that the transport may send again by itself. Streams are not among them: they go on in our own loop,
# which knows the token. What changes something carries a request_id, so a repeat has no second effect.
_UNARY = {
    "sessionplane.v1.SessionService": (
        "ResolveSession GetSession ListSessions UpdateSession ResetSession SuspendSession CloseSession DeleteSession "
        "StartRun GetRun ListRuns WaitRun Interrupt GetInterrupt ListEvents"
    ),
    "sessionplane.v1.RunnerService": "ClaimRun PublishEvents HeartbeatRun FinishRun ReleaseRun",
    "sessionplane.v1.AdminService": (
        "GetServerInfo ExplainKey CheckInvariants ListSubscribers DisconnectSubscriber CompactEvents ImportSessions"
    ),
}

_RETRY_POLICY = {
    # gRPC allows no more than five attempts. With these waits they span two seconds: the restart of a server.
    "maxAttempts": 5,
    "initialBackoff": "0.15s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}

_MIB = 1024 * 1024


def service_config() -> str:
    """The gRPC service config: which methods are retried, and how. As JSON, the way a channel takes it."""
    return json.dumps(
        {
            "methodConfig": [
                {
                    "name": [{"service": service, "method": method} for method in methods.split()],
                    "retryPolicy": _RETRY_POLICY,
                }
                for service, methods in _UNARY.items()
            ]
        }
    )


def channel_options() -> list[tuple[str, str | int]]:
    """Options of every channel of this client."""
    return [
        ("grpc.service_config", service_config()),
        # A peer that froze without closing its connection is noticed within half a minute. The three belong
        # together: without ping_timeout_ms the core waits a minute whatever the other two say.
        ("grpc.keepalive_time_ms", 18_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # A server that restarts is back within two seconds; the core's own two minutes would miss it. The
        # third one bounds a single attempt to connect, it is not a wait.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.min_reconnect_backoff_ms", 5_000),
        # No answer exceeds 3 MiB; the rest is room.
        ("grpc.max_receive_message_length", 8 * _MIB),
    ]
