"""`grpc.health.v1`: whether the server and each of its services serve.

The library's servicer would do, but for its watches: one that is open makes a server that stops wait for its whole
grace, and the first one that leaves takes the others' wake-ups along. Here a watch is told that the server stops
serving, and then ended like any other stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from sessionplane.domain.errors import Draining
from sessionplane.rpc.guard import Context, Gate
from sessionplane.rpc.status import abort, status_of


class Health(health_pb2_grpc.HealthServicer):
    """Not serving before `serve`, nor from `drain` on. All services serve together; the empty name is the server."""

    def __init__(self, services: Iterable[str], gate: Gate) -> None:
        self._known = {"", *services}
        self._gate = gate
        self._serving = False
        self._draining = False
        # Set and replaced at each change: whoever waits holds the one that was there when it looked.
        self._changed = asyncio.Event()

    def serve(self) -> None:
        """Say that the server serves."""
        self._serving = True
        self._tell()

    def drain(self) -> None:
        """Say that it does not serve any more, and end all watches."""
        self._serving, self._draining = False, True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _status(self, service: str) -> HealthCheckResponse:
        if service not in self._known:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        serving = HealthCheckResponse.SERVING if self._serving else HealthCheckResponse.NOT_SERVING
        return HealthCheckResponse(status=serving)

    async def Check(  # noqa: N802 - a method of the stubs
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> HealthCheckResponse:
        """Answer for one service; an unknown one is NOT_FOUND, as the protocol says."""
        if request.service not in self._known:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service here.")
        return self._status(request.service)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> None:
        """Tell how a service is, and each change, until the server stops."""
        self._gate.enter(context)
        told = None
        while True:
            changed, status = self._changed, self._status(request.service)
            if status != told:
                await context.write(status)
            told = status
            if self._draining:
                await abort(context, status_of(Draining()))
            await changed.wait()
