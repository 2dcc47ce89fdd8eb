"""Callers, runners and subscribers that keep a server busy for a while, and keep what it answered, byte for byte.

Owns what a recording is made of: every kind of call that writes, alone and several at once, so that some commits are
groups; retention; streams. It speaks the wire only. What it gets is believed later, from the call that sent it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from sessionplane.proof.powercut import evidence
from sessionplane.proof.powercut.evidence import Answer, Fact
from sessionplane.v1 import admin_service_pb2 as admin
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as service
from sessionplane.v1.event_pb2 import OutputDelta
from sessionplane.v1.run_pb2 import (
    RUN_OUTCOME_INTERRUPTED,
    RUN_OUTCOME_SUCCEEDED,
    RUN_POLICY_INJECT,
    Payload,
    RunSpec,
)
from sessionplane.v1.session_pb2 import SessionRef

A = TypeVar("A", bound=Message)

DEADLINE_S = 30.0
_AT_ONCE = 3
_PIECES = 3
_SESSIONS = "SessionService"
_RUNNERS = "RunnerService"
_ADMIN = "AdminService"


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """A call, how its answer is read, and what follows from that."""

    where: str
    rpc: str
    request: Message
    read: Callable[[bytes], Any]
    facts: Callable[[Any], Sequence[Fact]]


class Traffic:
    """What one client process does, and what it was answered."""

    def __init__(
        self, channel: grpc.aio.Channel, name: str, answers: list[Answer], unanswered: list[_Call]
    ) -> None:
        """Keep what is answered and what is not. No two names may be the same in one recording."""
        self._channel = channel
        self._name = name
        self._answers = answers
        self._unanswered = unanswered
        self._made = 0
        self._session_ids: dict[str, str] = {}
        self._published: dict[str, int] = {}

    async def ask_again(self) -> None:
        """Repeat what a server that was killed has not answered: it may have been done, and says so then."""
        for call in tuple(self._unanswered):
            self._unanswered.remove(call)
            await self._make(call)

    async def work(self, rounds: int) -> None:
        """Do so many rounds, a few at once."""
        async with asyncio.TaskGroup() as group:
            for lane in range(_AT_ONCE):
                group.create_task(self._lane(lane, range(lane, rounds, _AT_ONCE)))

    async def resolve_one_by_one(self, count: int) -> None:
        """Resolve new keys, each after the answer for the one before."""
        for number in range(count):
            await self._resolve(f"{self._name}-alone-{number}")

    async def resolve_at_once(self, count: int) -> None:
        """Resolve new keys without waiting for any of them."""
        await asyncio.gather(*(self._resolve(f"{self._name}-at-once-{number}") for number in range(count)))

    async def _lane(self, lane: int, numbers: Sequence[int]) -> None:
        key = f"{self._name}-lane-{lane}"
        await self._resolve(key)
        async with self._following(key):
            for number in numbers:
                await self._round(key, number)

    async def _round(self, key: str, number: int) -> None:
        """Do everything once that a session goes through, and something rarer, by turns."""
        await self._resolve(f"{key}-{number}")
        run_id = await self._start(key)
        token = await self._claim(run_id)
        await self._publish(run_id, token)
        if number % 2:
            await self._interrupt(run_id, token)
        else:
            await self._publish(run_id, token, taken=await self._start(key, policy=RUN_POLICY_INJECT))
        await self._finish(run_id, token, interrupted=bool(number % 2))
        await self._rarer(key, number)

    async def _rarer(self, key: str, number: int) -> None:
        other = f"{key}-{number}"
        match number % 5:
            case 0:
                await self._change("UpdateSession", service.UpdateSessionResponse, other, labels={"a": "b"})
            case 1:
                await self._change("ResetSession", service.ResetSessionResponse, other)
            case 2:
                await self._change("DeleteSession", service.DeleteSessionResponse, other)
            case 3:
                await self._change("CloseSession", service.CloseSessionResponse, other)
            case _:
                await self._compact(key)

    async def _resolve(self, key: str) -> str:
        request = service.ResolveSessionRequest(session=SessionRef(key=key), request_id=f"resolve-{key}")
        answer = await self._call(
            _SESSIONS,
            "ResolveSession",
            request,
            service.ResolveSessionResponse,
            lambda got: [_request("ResolveSession", request, session_id=got.session.session_id)],
        )
        return answer.session.session_id

    async def _start(self, key: str, **spec: Any) -> str:
        number = self._next()
        request = service.StartRunRequest(
            session=SessionRef(key=key),
            run=RunSpec(input=Payload(text=f"input {number}"), **spec),
            request_id=f"start-{self._name}-{number}",
        )
        answer = await self._call(
            _SESSIONS,
            "StartRun",
            request,
            service.StartRunResponse,
            lambda got: [
                _request(
                    "StartRun",
                    request,
                    session_id=got.session.session_id,
                    run_id=got.input_id or got.run.run_id,
                )
            ],
        )
        return answer.input_id or answer.run.run_id

    async def _claim(self, run_id: str) -> str:
        request = runner.ClaimRunRequest(run_id=run_id, request_id=f"claim-{run_id}")
        answer = await self._call(
            _RUNNERS,
            "ClaimRun",
            request,
            runner.ClaimRunResponse,
            lambda got: [_request("ClaimRun", request, session_id=got.run.session_id, run_id=run_id)],
        )
        self._session_ids[run_id] = answer.run.session_id
        return answer.lease.token

    async def _publish(self, run_id: str, token: str, *, taken: str = "") -> None:
        number = self._next()
        numbers = range(1, _PIECES + 1)
        texts = [evidence.piece_text(number, each, _PIECES) for each in numbers]
        request = runner.PublishEventsRequest(
            run_id=run_id,
            lease_token=token,
            events=[runner.NewEvent(output_delta=OutputDelta(text=text)) for text in texts],
            acknowledged_input_ids=[taken] if taken else [],
            first_run_sequence=self._published.get(run_id, 0) + 1,
        )
        self._published[run_id] = request.first_run_sequence + _PIECES - 1
        session_id = self._session_ids[run_id]
        await self._call(
            _RUNNERS,
            "PublishEvents",
            request,
            runner.PublishEventsResponse,
            lambda _: [evidence.piece(session_id, number, each, _PIECES) for each in numbers],
        )

    async def _interrupt(self, run_id: str, token: str) -> None:
        request = service.InterruptRequest(run_id=run_id, request_id=f"interrupt-{run_id}")
        answer = await self._call(
            _SESSIONS,
            "Interrupt",
            request,
            service.InterruptResponse,
            lambda got: [
                _request(
                    "Interrupt",
                    request,
                    session_id=self._session_ids[run_id],
                    interrupt_id=got.interrupt.interrupt_id,
                ),
                evidence.interrupt(got.interrupt.interrupt_id),
            ],
        )
        heard = runner.HeartbeatRunRequest(
            run_id=run_id, lease_token=token, acknowledged_interrupt_id=answer.interrupt.interrupt_id
        )
        await self._call(_RUNNERS, "HeartbeatRun", heard, runner.HeartbeatRunResponse, lambda _: [])

    async def _finish(self, run_id: str, token: str, *, interrupted: bool) -> None:
        request = runner.FinishRunRequest(
            run_id=run_id,
            lease_token=token,
            outcome=RUN_OUTCOME_INTERRUPTED if interrupted else RUN_OUTCOME_SUCCEEDED,
        )
        await self._call(
            _RUNNERS, "FinishRun", request, runner.FinishRunResponse, lambda _: [evidence.finished(run_id)]
        )

    async def _change(self, rpc: str, answer: type[A], key: str, **more: Any) -> None:
        request_type = getattr(service, f"{rpc}Request")
        request = request_type(session=SessionRef(key=key), request_id=f"{rpc}-{key}", **more)
        await self._call(
            _SESSIONS,
            rpc,
            request,
            answer,
            lambda got: [_request(rpc, request, session_id=_session_id(got))],
        )

    async def _compact(self, key: str) -> None:
        request = admin.CompactEventsRequest(session=SessionRef(key=key), older_than=Duration())
        await self._call(_ADMIN, "CompactEvents", request, admin.CompactEventsResponse, lambda _: [])

    async def _call(
        self, where: str, rpc: str, request: Message, answer: type[A], facts: Callable[[A], Sequence[Fact]]
    ) -> A:
        got: A = await self._make(_Call(where, rpc, request, answer.FromString, facts))
        return got

    async def _make(self, call: _Call) -> Any:
        """Make a call, and keep its answer's bytes as they came."""
        method: Any = self._channel.unary_unary(
            f"/sessionplane.v1.{call.where}/{call.rpc}",
            request_serializer=type(call.request).SerializeToString,
        )
        self._unanswered.append(call)
        raw: bytes = await method(call.request, timeout=DEADLINE_S, wait_for_ready=True)
        self._unanswered.remove(call)
        got = call.read(raw)
        self._answers.append(Answer(rpc=call.rpc, raw=raw, facts=call.facts(got)))
        return got

    @asynccontextmanager
    async def _following(self, key: str) -> AsyncIterator[None]:
        """Have a subscriber whom the server tells everything meanwhile."""
        stream: Any = self._channel.unary_stream("/sessionplane.v1.SessionService/StreamEvents")
        request = service.StreamEventsRequest(session=SessionRef(key=key))
        frames = stream(request.SerializeToString())
        reading = asyncio.create_task(_read(frames))
        try:
            yield
        finally:
            frames.cancel()
            await reading

    def _next(self) -> int:
        """Return a number that this client has not used."""
        self._made += 1
        return self._made


async def _read(frames: Any) -> None:
    try:
        async for _ in frames:
            pass
    except (asyncio.CancelledError, grpc.aio.AioRpcError):
        return


def _request(rpc: str, request: Any, **led_to: str) -> Fact:
    return evidence.request(rpc, request.request_id, **led_to)


def _session_id(answer: Any) -> str:
    return str(
        answer.session_id if isinstance(answer, service.DeleteSessionResponse) else answer.session.session_id
    )
