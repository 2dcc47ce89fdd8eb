"""The gRPC server: its options, each with its reason, and the services on it.

Measured on grpcio 1.85 unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from sessionplane.domain.limits import Limits
from sessionplane.plane.plane import ControlPlane
from sessionplane.rpc.admin_service import AdminService, ServerFacts
from sessionplane.rpc.door import Door
from sessionplane.rpc.exchange import Exchange
from sessionplane.rpc.guard import Gate, guarded, method_handler
from sessionplane.rpc.health import Health
from sessionplane.rpc.parse import Parser
from sessionplane.rpc.runner_service import RunnerService
from sessionplane.rpc.session_service import SessionService
from sessionplane.v1 import admin_service_pb2, runner_service_pb2, session_service_pb2

TRANSPORT_BYTES_MAX = 8 * 1024 * 1024
"""The transport's own cap. Ours is lower, and answers with details; this one resets without."""

QUIET_S = 0.02
"""So long must nobody have come before a server that stops closes its door: until then all are told to come again."""

CUT_S = 1.0
"""So long after its end may a connection take to go away: a frozen peer does not take part in that."""

OPTIONS: tuple[tuple[str, int], ...] = (
    # Two servers would share one port, silently; the second must fail.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", TRANSPORT_BYTES_MAX),
    # The core sheds what waits above these as bare CANCELLED: of 10,000 calls at once two thirds.
    ("grpc.server.max_pending_requests", 50_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    # A low cap resets honest bursts.
    ("grpc.max_concurrent_streams", 10_000),
    # A frozen peer is noticed after 18 + 10 s: half a minute is promised, and timers are late on a busy machine.
    # Without the third one it takes a minute more.
    ("grpc.keepalive_time_ms", 18_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Connections are renewed by the hour, so that clients follow their name service. See `options` for the grace.
    ("grpc.max_connection_age_ms", 3_600_000),
    # Clients in other languages ping every 10 s at the most; do not throw them out for it.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)

SLACK_MS = 60_000
"""How much longer than a stream's age the transport waits for it to end by itself."""


def options(limits: Limits) -> tuple[tuple[str, int], ...]:
    """Return the options of a server with these bounds.

    New calls leave a connection that has reached its age, but the core cuts whatever is still open there after the
    grace, without a word of ours. A stream may have begun at the last moment, so the grace outlasts its whole age.
    """
    grace_ms = min(limits.stream_age_ms + SLACK_MS, 2**31 - 1)
    return (*OPTIONS, ("grpc.max_connection_age_grace_ms", grace_ms))


SERVICES = (
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
    runner_service_pb2.DESCRIPTOR.services_by_name["RunnerService"],
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"],
)


def services(
    plane: ControlPlane, facts: ServerFacts, *, gate: Gate, limits: Limits
) -> Iterator[tuple[str, dict[str, grpc.RpcMethodHandler[Any, Any]]]]:
    """Return what a plane serves, as any transport may carry it: the name of each service and its guarded methods."""
    parser = Parser(limits, plane.keys)
    exchange = Exchange(limits)
    gate.on_close = exchange.drain
    servicers = (
        SessionService(plane, parser, exchange),
        RunnerService(plane, parser),
        AdminService(plane, parser, facts),
    )
    for descriptor, servicer in zip(SERVICES, servicers, strict=True):
        methods = guarded(descriptor, servicer, gate, limits)
        exchange.offer(methods)
        yield descriptor.full_name, {each.method.name: method_handler(each, limits) for each in methods}


class Edge:
    """A gRPC server in front of a plane: built, then started, then drained."""

    def __init__(
        self, plane: ControlPlane, facts: ServerFacts, *, limits: Limits, with_reflection: bool
    ) -> None:
        self._plane = plane
        self._gate = Gate()
        self._health = Health((service.full_name for service in SERVICES), self._gate)
        self._services = tuple(services(plane, facts, gate=self._gate, limits=limits))
        self._limits = limits
        self._with_reflection = with_reflection
        self._door = Door(self._build, patience_s=(limits.stream_age_ms + SLACK_MS) / 1000)

    def _build(self) -> grpc.aio.Server:
        """Make a server with everything on it, in front of the same plane each time."""
        server = grpc.aio.server(options=options(self._limits))
        for service, methods in self._services:
            handler = grpc.method_handlers_generic_handler(service, methods)
            server.add_generic_rpc_handlers((handler,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._with_reflection:
            _add_reflection(server)
        return server

    def bind(self, address: str) -> int:
        """Listen on an address; returns the port. Raises RuntimeError if it is taken."""
        return self._door.bind(address)

    async def start(self) -> None:
        """Serve, and say so."""
        await self._door.start()
        self._health.serve()

    async def drain(self) -> None:
        """Say NOT_SERVING, let nobody in, end streams and waits with a status that tells them to come again."""
        self._health.drain()
        self._gate.close()
        self._plane.drain()

    async def stop(self, grace_s: float) -> None:
        """Answer what has come already, wait for what is still being answered, then close."""
        await self._gate.quiet(pause_s=QUIET_S, most_s=grace_s / 4)
        await self._gate.left(most_s=grace_s)
        await self._door.stop(CUT_S)


def _add_reflection(server: grpc.aio.Server) -> None:
    """Serve reflection under both names: the library knows v1alpha only, and v1 is the same on the wire."""
    names = [service.full_name for service in SERVICES]
    names += [health.SERVICE_NAME, reflection.SERVICE_NAME]
    servicer = reflection.aio.ReflectionServicer(service_names=names)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for service in (reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection"):
        methods = {"ServerReflectionInfo": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
