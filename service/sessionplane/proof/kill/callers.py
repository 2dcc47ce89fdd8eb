"""Callers: they race for keys, send messages, interrupt, and do what operators do."""

from __future__ import annotations

import asyncio

from sessionplane.proof.kill.world import POOL, Actor, Busy
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.run_pb2 import Payload, RunSpec

RIVALS = 3
"""So many call at once for a new key."""


class Racer(Actor):
    """Resolves one key after another: a new one by rival calls, known ones in every spelling and by any policy."""

    async def live(self) -> None:
        """Resolve until the end."""
        while not self.world.ending:
            name = self.fresh("key")
            rivals = self.chance.choices(
                (self._resolve, self._resolve_with_run, self._start), (18, 1, 1), k=RIVALS
            )
            await asyncio.gather(*(rival(name) for rival in rivals))
            self.world.keys.append(name)
            for _ in range(self.chance.randrange(4)):
                what = self.chance.choices(self._whats, self._weights)[0]
                await what(self, self.chance.choice(self.world.keys))

    async def _resolve(self, name: str) -> None:
        request_id = self.fresh("resolve") if self.happens(0.5) else ""
        await self.ask(
            "ResolveSession", pb.ResolveSessionRequest(session=self.ref(name), request_id=request_id)
        )

    async def _resolve_with_run(self, name: str) -> None:
        request = pb.ResolveSessionRequest(
            session=self.ref(name), run=self._run(), request_id=self.fresh("both")
        )
        await self.ask("ResolveSession", request)

    async def _start(self, name: str) -> None:
        request = pb.StartRunRequest(session=self.ref(name), run=self._run(), request_id=self.fresh("start"))
        await self.ask("StartRun", request)

    def _run(self) -> RunSpec:
        return RunSpec(input=Payload(text=self.fresh("message")), pool=POOL)

    async def _resolve_by_policy(self, name: str) -> None:
        request = pb.ResolveSessionRequest(
            session=self.ref(name),
            missing_policy=self.chance.choice(session_pb2.MissingPolicy.values()),
            conflict_policy=self.chance.choice(session_pb2.ConflictPolicy.values()),
            visibility=self.chance.choice(session_pb2.Visibility.values()),
            interaction=self.chance.choice(session_pb2.Interaction.values()),
            request_id=self.fresh("policy"),
        )
        await self.ask("ResolveSession", request)

    async def _look(self, name: str) -> None:
        await self.ask("GetSession", pb.GetSessionRequest(session=self.ref(name)))

    async def _reset(self, name: str) -> None:
        request = pb.ResetSessionRequest(session=self.ref(name), request_id=self.fresh("reset"))
        await self.ask("ResetSession", request)

    async def _delete(self, name: str) -> None:
        request = pb.DeleteSessionRequest(session=self.ref(name), request_id=self.fresh("delete"))
        await self.ask("DeleteSession", request)

    _whats = (_resolve, _look, _resolve_by_policy, _reset, _delete)
    _weights = (70, 10, 10, 8, 2)


class Sender(Actor):
    """Sends one message after another, and interrupts some."""

    _policies = (
        run_pb2.RUN_POLICY_ENQUEUE,
        run_pb2.RUN_POLICY_REJECT,
        run_pb2.RUN_POLICY_INTERRUPT,
        run_pb2.RUN_POLICY_INJECT,
    )
    _weights = (5, 1, 1, 1)

    async def live(self) -> None:
        """Send until the end."""
        while not self.world.ending:
            await self._send()
            if self.happens(0.3):
                await self._interrupt()
            if self.happens(0.03):
                await self._operate()
            await self.think(0.05)

    async def _send(self) -> None:
        text = self.fresh("message")
        policy = self.chance.choices(self._policies, self._weights)[0]
        spec = RunSpec(input=Payload(text=text), pool=POOL, policy=policy)
        if self.happens(0.5):
            spec.run_id = text
            self.world.runs[text] = None
        request = pb.StartRunRequest(session=self.ref(self.chance.choice(Busy)), run=spec, request_id=text)
        await self.ask("StartRun", request)

    async def _interrupt(self) -> None:
        """Stop a run by its id, or whatever runs under a key; by force now and then."""
        force = self.happens(0.3)
        request = pb.InterruptRequest(
            mode=run_pb2.INTERRUPT_MODE_FORCE if force else run_pb2.INTERRUPT_MODE_GRACEFUL,
            reason=self.fresh("why"),
            request_id=self.fresh("interrupt"),
            drop_queued=self.happens(0.2),
        )
        run_id = self.some_run()
        if run_id and self.happens(0.5):
            request.run_id = run_id
        else:
            request.session.CopyFrom(self.ref(self.chance.choice(Busy)))
        made = await self.ask("Interrupt", request)
        if made is not None:
            await self.ask("GetInterrupt", pb.GetInterruptRequest(interrupt_id=made.interrupt.interrupt_id))

    async def _operate(self) -> None:
        """Suspend, close or reset the session of a key that is in use."""
        session, request_id = self.ref(self.chance.choice(Busy)), self.fresh("operate")
        method, request = self.chance.choice(
            (
                ("SuspendSession", pb.SuspendSessionRequest(session=session, request_id=request_id)),
                ("CloseSession", pb.CloseSessionRequest(session=session, request_id=request_id)),
                ("ResetSession", pb.ResetSessionRequest(session=session, request_id=request_id)),
            )
        )
        await self.ask(method, request)
