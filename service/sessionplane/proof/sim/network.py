"""What lies between clients and the server: it delays, loses, repeats, and cuts when a process dies.

Requests and answers cross it as bytes. Nothing that it holds belongs to the server's process, so it outlives that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from random import Random
from typing import Any

from google.protobuf.message import Message

from sessionplane.proof.history.records import Call, Recorder, Refusal, Stream
from sessionplane.proof.sim.loop import SeededLoop
from sessionplane.proof.sim.server import Exchange, Outcome, Server
from sessionplane.v1.session_service_pb2 import StreamEventsResponse


class Lost(Exception):
    """Nobody knows what became of the call."""


class Refused(Exception):
    """The server refused the call."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """How bad the network is: the share of calls that lose their request, lose their answer, arrive twice, or are
    given up by the client while they are under way.
    """

    hop_s: float = 0.003
    request_lost: float = 0.0
    answer_lost: float = 0.0
    twice: float = 0.0
    given_up: float = 0.0


class Network:
    """Carries calls to whichever server is there."""

    def __init__(self, loop: SeededLoop, chance: Random, recorder: Recorder) -> None:
        self.loop = loop
        self.recorder = recorder
        self.odds = Odds()
        self.server: Server | None = None
        self._chance = chance

    def hop(self, callback: Callable[..., object], *given: Any) -> None:
        """Bring something to the other side."""
        self.loop.call_later(self.delay_s(), callback, *given)

    def delay_s(self) -> float:
        """Return how long something is under way."""
        return self._chance.random() * self.odds.hop_s

    def happens(self, share: float) -> bool:
        """Let chance decide."""
        return share > 0 and self._chance.random() < share

    async def call(self, client: str, method: str, request: Message, *, timeout_s: float = 5.0) -> Any:
        """Call and return the answer. Raises Refused, and Lost if no answer came."""
        record = self.recorder.called(client, method, request)
        outcome = await _Unary(self, record, timeout_s).outcome
        if isinstance(outcome, str):
            self.recorder.lost(record, outcome)
            raise Lost(outcome)
        if outcome.refusal is not None:
            self.recorder.refused(record, outcome.refusal)
            raise Refused(outcome.refusal)
        self.recorder.answered(record, outcome.answer)
        return outcome.answer

    def open(self, client: str, request: Message, *, window: int) -> Reading:
        """Open a stream of events."""
        return Reading(self, client, request, window)


class _Unary:
    """One call on its way."""

    def __init__(self, net: Network, record: Call, timeout_s: float) -> None:
        self.outcome: asyncio.Future[Outcome | str] = net.loop.create_future()
        self._net = net
        self._method = record.method
        self._data = record.request.SerializeToString()
        self._until_s = net.loop.time() + timeout_s
        self._exchanges: list[Exchange] = []
        if net.happens(net.odds.given_up):
            timeout_s = 3 * net.delay_s()
        self._timer = net.loop.call_later(timeout_s, self._give_up)
        if not net.happens(net.odds.request_lost):
            net.hop(self._arrive)
        if net.happens(net.odds.twice):
            record.repeated = True
            net.hop(self._arrive)

    def _arrive(self) -> None:
        server = self._net.server
        if server is None or not server.ready:
            self._net.hop(self._settle, "nobody is there")
            return
        exchange = Exchange(self._done, self._cut, until_s=self._until_s)
        self._exchanges.append(exchange)
        server.take(self._method, self._data, exchange)

    def _done(self, outcome: Outcome) -> None:
        if not self._net.happens(self._net.odds.answer_lost):
            self._net.hop(self._settle, outcome)

    def _cut(self) -> None:
        self._net.hop(self._settle, "cut")

    def _give_up(self) -> None:
        self._settle("no answer in time")
        for exchange in self._exchanges:
            self._net.hop(exchange.cancel)

    def _settle(self, outcome: Outcome | str) -> None:
        if not self.outcome.done():
            self._timer.cancel()
            self.outcome.set_result(outcome)


class Reading:
    """The client's end of a stream: frames come in order, and no more than fit the window wait to be read."""

    def __init__(self, net: Network, client: str, request: Message, window: int) -> None:
        self.record: Stream = net.recorder.opened(client, request)
        self._net = net
        self._data = request.SerializeToString()
        self._inbox: deque[StreamEventsResponse | Outcome | str] = deque()
        self._news: asyncio.Future[None] | None = None
        self._arrival_s = 0.0
        self._over = False
        self.waited = False
        """Whether what was read last had to be waited for, so that nothing older is on its way."""
        self._exchange = Exchange(self._done, self._cut, until_s=None, on_frame=self._sent, window=window)
        net.hop(self._arrive)

    def _arrive(self) -> None:
        server = self._net.server
        if server is None or not server.ready:
            self._come("nobody is there")
        elif not self._over:
            server.take("StreamEvents", self._data, self._exchange)

    def _sent(self, frame: bytes) -> None:
        self._come(StreamEventsResponse.FromString(frame))

    def _done(self, outcome: Outcome) -> None:
        self._come(outcome)

    def _cut(self) -> None:
        self._come("cut")

    def _come(self, thing: StreamEventsResponse | Outcome | str) -> None:
        """Bring something to the client, behind what was sent before."""
        loop = self._net.loop
        self._arrival_s = max(self._arrival_s, loop.time() + self._net.delay_s())
        # What was sent arrives, though its sender may be dead by then.
        loop.call_in_turn(self._arrival_s, self._take, thing, context=Context())

    def _take(self, thing: StreamEventsResponse | Outcome | str) -> None:
        if not self._over:
            self._inbox.append(thing)
            if self._news is not None and not self._news.done():
                self._news.set_result(None)

    async def read(self, *, timeout_s: float) -> StreamEventsResponse | None:
        """Return the next frame; None if the server ended the stream with OK. Raises Refused, Lost and TimeoutError."""
        self.waited = not self._inbox
        if self.waited:
            self._news = self._net.loop.create_future()
            async with asyncio.timeout(timeout_s):
                await self._news
        thing = self._inbox.popleft()
        if isinstance(thing, StreamEventsResponse):
            self._exchange.taken()
            self._net.recorder.framed(self.record, thing, prompt=self.waited)
            return thing
        self._over = True
        if isinstance(thing, str):
            self._net.recorder.cut(self.record, thing)
            raise Lost(thing)
        self._net.recorder.closed(self.record, thing.refusal)
        if thing.refusal is not None:
            raise Refused(thing.refusal)
        return None

    def leave(self) -> None:
        """Go away without a word more."""
        if not self._over:
            self._over = True
            self._net.recorder.left(self.record)
            self._net.hop(self._exchange.cancel)
