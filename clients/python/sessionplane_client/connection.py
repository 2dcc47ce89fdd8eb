"""One channel to one server, and the two ways to call over it.

Owns the channel. Every unary call has a deadline and is sent again by the transport while the server is
UNAVAILABLE (see `options`); what changes something carries a request_id, so that a repeat has no second
effect. Streams go on in their own loop (`stream`, `runner`), never by a retry of the transport.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from sessionplane.v1.admin_service_pb2_grpc import AdminServiceStub
from sessionplane.v1.runner_service_pb2_grpc import RunnerServiceStub
from sessionplane.v1.session_service_pb2_grpc import SessionServiceStub

from .backoff import Backoff
from .calls import unary
from .errors import client_closed
from .exchange import ATTEMPTS_MAX, ExchangeChannel
from .options import channel_options

if TYPE_CHECKING:
    from sessionplane.v1.admin_service_pb2_grpc import AdminServiceAsyncStub
    from sessionplane.v1.runner_service_pb2_grpc import RunnerServiceAsyncStub
    from sessionplane.v1.session_service_pb2_grpc import SessionServiceAsyncStub

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Connection:
    """What every group of calls stands on; see Client."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = 10.0,
        backoff: Backoff | None = None,
        options: Sequence[tuple[str, str | int]] = (),
        exchange: bool = True,
    ) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._backoff = backoff or Backoff()
        self._closed = False
        every = [*channel_options(), *options]
        self._channel = (
            grpc.aio.secure_channel(target, credentials, every)
            if credentials
            else grpc.aio.insecure_channel(target, every)
        )
        retries = dict(every).get("grpc.enable_retries", 1)
        self._exchange = ExchangeChannel(self._channel, attempts_max=ATTEMPTS_MAX if retries else 1)
        carried: Any = self._exchange if exchange else self._channel
        self.session_service: SessionServiceAsyncStub = SessionServiceStub(carried)
        self.runner_service: RunnerServiceAsyncStub = RunnerServiceStub(carried)
        self.admin_service: AdminServiceAsyncStub = AdminServiceStub(carried)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the channel. Calls that are under way raise SessionPlaneError `CLIENT_CLOSED`."""
        self._closed = True
        await self._exchange.aclose()
        await self._channel.close()

    async def _unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        *,
        timeout_s: float | None = None,
    ) -> _Response:
        if self._closed:
            raise client_closed()
        return await unary(method, request, timeout_s=timeout_s or self._timeout_s)

    def _open(
        self, method: grpc.aio.UnaryStreamMultiCallable[_Request, _Response]
    ) -> Callable[[_Request], grpc.aio.UnaryStreamCall[_Request, _Response]]:
        def open_call(request: _Request) -> grpc.aio.UnaryStreamCall[_Request, _Response]:
            if self._closed:
                raise client_closed()
            return method(request)

        return open_call


def only(**targets: str | None) -> None:
    """Raises TypeError unless exactly one of these is given."""
    if sum(target is not None for target in targets.values()) != 1:
        raise TypeError(f"give exactly one of {', '.join(targets)}")
