"""The client's end of a stream: what is sent comes in order, and no more than fits the window waits to be read."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context

from google.protobuf.message import Message

from sessionplane.proof.history.records import Stream
from sessionplane.proof.sim.network import Lost, Network, Refused
from sessionplane.proof.sim.open_call import OpenCall, Outcome
from sessionplane.v1.session_service_pb2 import StreamEventsResponse


class Flow:
    """A stream under way, in bytes. It is read by one task."""

    def __init__(self, net: Network, method: str, request: Message, *, window: int) -> None:
        self._net = net
        self._method = method
        self._data = request.SerializeToString()
        self._inbox: deque[bytes | Outcome | str] = deque()
        self._news: asyncio.Future[None] | None = None
        self._arrival_s = self._departure_s = 0.0
        self.over = False
        self.waited = False
        """Whether what was read last had to be waited for, so that nothing older is on its way."""
        self._open_call = OpenCall(self._come, lambda: self._come("cut"), on_frame=self._come, window=window)
        self._send(self._arrive)

    def _arrive(self) -> None:
        server = self._net.server
        if server is None or not server.ready:
            self._come("nobody is there")
        elif not self.over:
            server.take(self._method, self._data, self._open_call)

    def send(self, request: Message | None) -> None:
        """Send a further request; None says that it was the last."""
        data = None if request is None else request.SerializeToString()
        self._send(self._open_call.receive, data)

    def _send(self, deliver: object, *given: object) -> None:
        """Bring something to the server, behind what was sent before."""
        self._departure_s = max(self._departure_s, self._net.loop.time() + self._net.delay_s())
        self._net.loop.call_in_turn(self._departure_s, deliver, *given)  # type: ignore[arg-type]

    def _come(self, thing: bytes | Outcome | str) -> None:
        """Bring something to the client, behind what was sent before."""
        self._arrival_s = max(self._arrival_s, self._net.loop.time() + self._net.delay_s())
        # What was sent arrives, though its sender may be dead by then.
        self._net.loop.call_in_turn(self._arrival_s, self._take, thing, context=Context())

    def _take(self, thing: bytes | Outcome | str) -> None:
        if not self.over:
            self._inbox.append(thing)
            if self._news is not None and not self._news.done():
                self._news.set_result(None)

    async def next(self, *, timeout_s: float) -> bytes | Outcome | str:
        """Return the next frame; at the end what the server said, or why nobody knows. Raises TimeoutError."""
        self.waited = not self._inbox
        if self.waited:
            self._news = self._net.loop.create_future()
            async with asyncio.timeout(timeout_s):
                await self._news
        thing = self._inbox.popleft()
        if isinstance(thing, bytes):
            self._open_call.taken()
        else:
            self.over = True
        return thing

    def leave(self) -> None:
        """Go away without a word more."""
        if not self.over:
            self.over = True
            self._net.hop(self._open_call.cancel)


class Reading(Flow):
    """A stream of events, and what is recorded of it."""

    def __init__(self, net: Network, client: str, request: Message, *, window: int) -> None:
        self.record: Stream = net.recorder.opened(client, request)
        super().__init__(net, "StreamEvents", request, window=window)

    async def read(self, *, timeout_s: float) -> StreamEventsResponse | None:
        """Return the next frame; None if the server ended the stream with OK. Raises Refused, Lost and TimeoutError."""
        recorder = self._net.recorder
        thing = await self.next(timeout_s=timeout_s)
        if isinstance(thing, bytes):
            frame = StreamEventsResponse.FromString(thing)
            recorder.framed(self.record, frame, prompt=self.waited)
            return frame
        if isinstance(thing, str):
            recorder.cut(self.record, thing)
            raise Lost(thing)
        recorder.closed(self.record, thing.refusal)
        if thing.refusal is not None:
            raise Refused(thing.refusal)
        return None

    def leave(self) -> None:
        """Go away without a word more."""
        if not self.over:
            self._net.recorder.left(self.record)
        super().leave()
