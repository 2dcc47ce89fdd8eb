"""What stands between the transport and the handlers: parse, admit, translate errors.

It does the work of interceptors without being one, since grpc.aio's cost tens of microseconds a call. Every method of
every service is registered here, so none can go without it. A request that cannot be parsed reaches the guard as the
error that it is, because a deserializer that raises would leak the parser's text with status UNKNOWN.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from sessionplane.domain.errors import Draining, LimitExceeded, Malformed, SessionPlaneError
from sessionplane.domain.limits import Limits
from sessionplane.rpc.status import abort, incident, status_of

Context = grpc.aio.ServicerContext[Any, Any]

M = TypeVar("M", bound=Message)


BUSY_PAUSES = 8
"""How many pauses without a newcomer a server waits that had calls to answer as it began to stop."""


class Gate:
    """Whether calls are let in, how many came, and how many are being answered. One for the whole server, closed as it
    begins to stop.
    """

    def __init__(self) -> None:
        self.open = True
        self.came = 0
        self.under_way = 0

    async def quiet(self, *, pause_s: float, most_s: float) -> None:
        """Wait until nobody came for a pause, at most for a while. In a burst the core hands calls over in bouts, the
        farther apart the busier the machine is: then one pause says nothing, and it takes several in a row.
        """
        wanted = BUSY_PAUSES if self.under_way else 1
        calm = 0
        for _ in range(round(most_s / pause_s)):
            came = self.came
            await asyncio.sleep(pause_s)
            calm = calm + 1 if self.came == came else 0
            wanted = wanted if calm else BUSY_PAUSES
            if calm == wanted:
                return


def guarded_parse(message: type[M], *, bytes_max: int) -> Callable[[bytes], M | SessionPlaneError]:
    """Return a deserializer that never raises: what cannot be read comes out as the error to answer with."""

    def parse(data: bytes) -> M | SessionPlaneError:
        if len(data) > bytes_max:
            return LimitExceeded(field="the request", actual=f"{len(data)} bytes", limit=f"{bytes_max} bytes")
        try:
            return message.FromString(data)
        except DecodeError:
            return Malformed()

    return parse


def method_handlers(
    service: ServiceDescriptor, servicer: object, *, gate: Gate, limits: Limits
) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """Guard a service: each method of its descriptor by the servicer's method of that name in snake case.

    A handler of a unary method takes (request, context) and returns the response. One of a streaming response
    takes (request, context) and writes to the context itself: encoded bytes if its class says so in `raw_methods`.
    """
    raw: frozenset[str] = getattr(servicer, "raw_methods", frozenset())
    return {
        method.name: _handler(
            method, getattr(servicer, _snake(method.name)), gate, limits, raw=method.name in raw
        )
        for method in service.methods
    }


def _handler(
    method: MethodDescriptor,
    behaviour: Callable[..., Awaitable[Any]],
    gate: Gate,
    limits: Limits,
    *,
    raw: bool,
) -> grpc.RpcMethodHandler[Any, Any]:
    parse = guarded_parse(GetMessageClass(method.input_type), bytes_max=limits.request_bytes_max)
    encode = None if raw else GetMessageClass(method.output_type).SerializeToString
    name = f"{method.containing_service.name}/{method.name}"
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.client_streaming, method.server_streaming]
    guard = _guarded_stream if method.client_streaming else _guarded
    return make(
        guard(behaviour, name=name, gate=gate), request_deserializer=parse, response_serializer=encode
    )


def _guarded(behaviour: Callable[..., Awaitable[Any]], *, name: str, gate: Gate) -> Callable[..., Any]:
    """Guard a method with one request."""

    async def call(request: Message | SessionPlaneError, context: Context) -> Any:
        gate.came += 1
        gate.under_way += 1
        try:
            if isinstance(request, SessionPlaneError):
                raise request
            if not gate.open:
                raise Draining
            return await behaviour(request, context)
        except SessionPlaneError as error:
            status = status_of(error)
        except (grpc.aio.AbortError, grpc.aio.InternalError):
            raise
        except Exception as error:  # noqa: BLE001 - the last line: nothing leaks, nothing goes unlogged
            status = incident(error, rpc=name)
        finally:
            gate.under_way -= 1
        return await abort(context, status)

    return call


def _guarded_stream(behaviour: Callable[..., Awaitable[Any]], *, name: str, gate: Gate) -> Callable[..., Any]:
    """Guard a method with a stream of requests; the behaviour reads from the context."""
    guarded = _guarded(lambda _, context: behaviour(context), name=name, gate=gate)

    async def call(_requests: object, context: Context) -> Any:
        return await guarded(None, context)

    return call


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
