"""What lies between clients and the server: it delays, loses, repeats, and cuts when a process dies.

Requests and answers cross it as bytes. Nothing that it holds belongs to the server's process, so it outlives that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from google.protobuf.message import Message

from sessionplane.proof.history.records import Call, Recorder, Refusal
from sessionplane.proof.sim.loop import SeededLoop
from sessionplane.proof.sim.open_call import OpenCall, Outcome
from sessionplane.proof.sim.server import Server


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


class _Unary:
    """One call on its way."""

    def __init__(self, net: Network, record: Call, timeout_s: float) -> None:
        self.outcome: asyncio.Future[Outcome | str] = net.loop.create_future()
        self._net = net
        self._method = record.method
        self._data = record.request.SerializeToString()
        self._until_s = net.loop.time() + timeout_s
        self._open_calls: list[OpenCall] = []
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
        open_call = OpenCall(self._done, self._cut, until_s=self._until_s)
        self._open_calls.append(open_call)
        server.take(self._method, self._data, open_call)

    def _done(self, outcome: Outcome) -> None:
        if not self._net.happens(self._net.odds.answer_lost):
            self._net.hop(self._settle, outcome)

    def _cut(self) -> None:
        self._net.hop(self._settle, "cut")

    def _give_up(self) -> None:
        self._settle("no answer in time")
        for open_call in self._open_calls:
            self._net.hop(open_call.cancel)

    def _settle(self, outcome: Outcome | str) -> None:
        if not self.outcome.done():
            self._timer.cancel()
            self.outcome.set_result(outcome)
