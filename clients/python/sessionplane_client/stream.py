"""A followed stream of events that goes on by itself.

Owns one StreamEvents call at a time. The state lives in `resume`; here are only the call, the wait between
two calls and what was received but not handed out. It never leaves a call behind: the call is cancelled when
it ends, when the reader is cancelled in the middle of a read, and when the stream is closed.

A reader that is cancelled (by asyncio.timeout, say) loses nothing: the frame that may have been on its way
was not accounted for, so the next read opens a new call with the newest token and gets it again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

from grpc.aio import AioRpcError

from sessionplane.v1.event_pb2 import Event
from sessionplane.v1.run_pb2 import Run
from sessionplane.v1.session_pb2 import Session
from sessionplane.v1.session_service_pb2 import (
    StreamClosing,
    StreamEventsRequest,
    StreamEventsResponse,
    StreamOpened,
    StreamProgress,
)

from .backoff import Backoff
from .calls import was_cancelled
from .errors import SessionPlaneError, client_closed, from_rpc_error
from .resume import Resume

if TYPE_CHECKING:
    from grpc.aio import UnaryStreamCall

    _Call: TypeAlias = UnaryStreamCall[StreamEventsRequest, StreamEventsResponse]

OnReconnect: TypeAlias = Callable[[SessionPlaneError, float], None]
OnProgress: TypeAlias = Callable[[StreamProgress], None]


class EventStream:
    """The events of a session or run, each once and in order; iterate it inside `async with`.

    Entering waits for the server's first frame, so that what is started afterwards cannot be missed; with
    `pending_timeout_s` that is when the run exists. Iteration ends when what `until` names was delivered, and
    never otherwise; it raises a SessionPlaneError when the stream cannot go on. Every wait may be cancelled.

    `on_reconnect(error, delay_s)` is called before each wait for the next call, `on_progress(frame)` for each
    sign of life.
    """

    def __init__(
        self,
        open_call: Callable[[StreamEventsRequest], _Call],
        request: StreamEventsRequest,
        *,
        backoff: Backoff,
        on_reconnect: OnReconnect | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._open_call = open_call
        self._resume = Resume(request, backoff=backoff, random=random.random)
        self._on_reconnect = on_reconnect
        self._on_progress = on_progress
        self._call: _Call | None = None
        self._waiting: deque[Event] = deque()  # bounded by one frame: nothing is read while it holds an event
        self._handed_out = request.resume_token
        self._over = False
        self.opened: StreamOpened | None = None
        self.closing: StreamClosing | None = None

    @property
    def token(self) -> str:
        """A resume token that covers nothing but what was handed out.

        While events of a frame are still waiting it is the token of the frame before: starting again from it
        repeats at most the events of one frame.
        """
        return self._handed_out if self._waiting else self._resume.token

    @property
    def session(self) -> Session | None:
        """The session as it was when the present call was opened."""
        return self.opened.session if self.opened else None

    @property
    def run(self) -> Run | None:
        """The run that is meant, as it was when the present call was opened."""
        return self.opened.run if self.opened and self.opened.HasField("run") else None

    @property
    def until_run_id(self) -> str:
        """With RUN_END: the run whose end is waited for, once it is known."""
        return self._resume.until_run_id

    async def __aenter__(self) -> Self:
        try:
            while self.opened is None and not self._over:
                await self._advance()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._over:
                raise StopAsyncIteration
            await self._advance()
        return self._waiting.popleft()

    async def aclose(self) -> None:
        """Ends the call. The token stays readable, a further read ends the iteration."""
        self._over = True
        self._drop_call()

    async def _advance(self) -> None:
        """Takes one frame; or the end of a call, and waits for the next. What it raises is final."""
        try:
            frame = await self._read()
        except SessionPlaneError as error:
            self._drop_call()
            await self._wait(error)
            return
        if frame is None:
            await self.aclose()
        else:
            self._take(frame)

    async def _read(self) -> StreamEventsResponse | None:
        if self._call is None:
            self._call = self._open_call(self._resume.request())
        try:
            frame = await self._call.read()
        except AioRpcError as error:
            raise from_rpc_error(error) from None
        except asyncio.CancelledError:
            self._drop_call()
            if was_cancelled():
                raise
            if self._over:
                return None
            raise client_closed() from None
        return frame if isinstance(frame, StreamEventsResponse) else None

    def _take(self, frame: StreamEventsResponse) -> None:
        self._handed_out = self._resume.token
        try:
            self._waiting.extend(self._resume.receive(frame))
        except SessionPlaneError:
            self._over = True
            self._drop_call()
            raise
        match frame.WhichOneof("frame"):
            case "opened":
                self.opened = frame.opened
            case "closing":
                self.closing = frame.closing
            case "progress" if self._on_progress:
                self._on_progress(frame.progress)

    async def _wait(self, error: SessionPlaneError) -> None:
        try:
            delay_s = self._resume.failed(error)
        except SessionPlaneError:
            self._over = True
            raise
        if self._on_reconnect:
            self._on_reconnect(error, delay_s)
        await asyncio.sleep(delay_s)

    def _drop_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
