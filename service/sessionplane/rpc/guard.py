"""What stands between the transport and the handlers: parse, admit, translate errors.

It does the work of interceptors without being one, since grpc.aio's cost tens of microseconds a call. Every method of
every service is registered here, so none can go without it. A request that cannot be parsed reaches the guard as the
error that it is, because a deserializer that raises would leak the parser's text with status UNKNOWN.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status

from sessionplane.domain.errors import Damaged, Draining, LimitExceeded, Malformed, SessionPlaneError
from sessionplane.domain.limits import Limits
from sessionplane.rpc.status import abort, abort_within, damaged, incident, status_of

Context = grpc.aio.ServicerContext[Any, Any]

M = TypeVar("M", bound=Message)


BUSY_PAUSES = 8
"""How many pauses without a newcomer a server waits that had calls to answer as it began to stop."""


class Gate:
    """Whether calls are let in, how many came, how many are being answered, and who has not had all of the answer yet.
    One for the whole server, closed as it begins to stop.
    """

    def __init__(self) -> None:
        self.open = True
        self.came = 0
        self.under_way = 0
        self.on_close: Callable[[], None] = lambda: None
        """Called as it is closed, for who has calls open that let others in."""
        self._on_the_line = 0
        self._left = asyncio.Event()

    def close(self) -> None:
        """Let nobody in any more."""
        self.open = False
        self.on_close()

    def enter(self, context: Context) -> None:
        """Count who is on the line until the status is written, or until nobody is there to read it."""
        self._on_the_line += 1
        context.add_done_callback(self._leave)  # type: ignore[arg-type]  # the stubs know no functions

    def _leave(self, _: object) -> None:
        self._on_the_line -= 1
        self._left.set()

    async def left(self, *, most_s: float) -> None:
        """Wait until nobody is on the line, at most for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                while self._on_the_line:
                    self._left.clear()
                    await self._left.wait()

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


class Guarded:
    """One method behind its guard, whichever way its requests come."""

    def __init__(self, method: MethodDescriptor, servicer: object, gate: Gate, limits: Limits) -> None:
        self.method = method
        self.raw = method.name in getattr(servicer, "raw_methods", ())
        self.large = method.name in getattr(servicer, "large_methods", ())
        self.name = f"{method.containing_service.name}/{method.name}"
        self._behaviour: Callable[..., Awaitable[Any]] = getattr(servicer, snake(method.name))
        self._gate = gate
        self._abort_s = limits.stream_abort_ms / 1000

    async def answer(self, request: Message | SessionPlaneError | None, context: Any) -> Any:
        """Return the response, or the status to refuse with. Raises only what ends a call: its cancellation, or that
        the transport has done so.
        """
        gate = self._gate
        gate.came += 1
        gate.under_way += 1
        try:
            if isinstance(request, SessionPlaneError):
                raise request
            if not gate.open:
                raise Draining
            if self.method.client_streaming:
                return await self._behaviour(context)
            return await self._behaviour(request, context)
        except Damaged as error:
            return damaged(error, rpc=self.name)
        except SessionPlaneError as error:
            return status_of(error)
        except DecodeError as error:
            # A request is parsed before it comes here, so this is something that was stored.
            return damaged(Damaged(what="message", name="of a row"), rpc=self.name, cause=error)
        except (grpc.aio.AbortError, grpc.aio.InternalError):
            raise
        except Exception as error:  # noqa: BLE001 - the last line: nothing leaks, nothing goes unlogged
            return incident(error, rpc=self.name)
        finally:
            gate.under_way -= 1

    async def serve(self, request: Any, context: Context) -> Any:
        """Answer a call over the transport. A stream of requests is read from the context, as they come."""
        self._gate.enter(context)
        answer = await self.answer(request, context)
        if not isinstance(answer, Status):
            return answer
        if not self.method.server_streaming:
            return await abort(context, answer)
        return await abort_within(self._abort_s, context, answer)


def guarded(service: ServiceDescriptor, servicer: object, gate: Gate, limits: Limits) -> list[Guarded]:
    """Guard a service: each method of its descriptor by the servicer's method of that name in snake case.

    The servicer's method of a unary method takes (request, context) and returns the response. One of a streaming
    response takes (request, context) and writes to the context itself, encoded bytes if its class names it in
    `raw_methods`. One of streaming requests takes (context) and reads from it, too; its messages may hold several
    requests if its class names it in `large_methods`.
    """
    return [Guarded(method, servicer, gate, limits) for method in service.methods]


def method_handler(guarded: Guarded, limits: Limits) -> grpc.RpcMethodHandler[Any, Any]:
    """Return what the transport serves a method with."""
    method = guarded.method
    bytes_max = limits.exchange_bytes_max if guarded.large else limits.request_bytes_max
    parse = guarded_parse(GetMessageClass(method.input_type), bytes_max=bytes_max)
    encode = None if guarded.raw else GetMessageClass(method.output_type).SerializeToString
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.client_streaming, method.server_streaming]
    return make(guarded.serve, request_deserializer=parse, response_serializer=encode)


def snake(name: str) -> str:
    """Return the name that Python, and a field of the wire, give to a method."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
