"""The server's process: production code from the guard of each RPC down to the file, without sockets and threads.

It is put together here as `app` does it, and taken apart as SIGTERM or kill -9 do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from random import Random
from typing import Any

import grpc

from sessionplane.app import at_work
from sessionplane.domain.freshness import FreshnessSettings
from sessionplane.domain.keys import KeySettings
from sessionplane.domain.limits import Limits
from sessionplane.plane.plane import ControlPlane
from sessionplane.proof.sim.disk import Disk
from sessionplane.proof.sim.loop import Process, SeededLoop, owned
from sessionplane.proof.sim.open_call import OpenCall, Outcome
from sessionplane.rpc.admin_service import ServerFacts
from sessionplane.rpc.guard import Gate
from sessionplane.rpc.server import services
from sessionplane.rpc.streams import read_mark
from sessionplane.store.sqlite import SqliteStore

FACTS = ServerFacts(version="0", schema_version=0, sqlite_version="0", sqlite_verdict="", ready_at_ms=0)
GRACE_S = 1.0
STOPPED = "stopped"


class WorldClock:
    """The machine's clocks: the one that is the loop's, and the one that people set."""

    def __init__(self, loop: SeededLoop) -> None:
        self._loop = loop
        self.offset_ms = 1_800_000_000_000

    def monotonic_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def wall_ms(self) -> int:
        return self.offset_ms + self.monotonic_ms()


class Server:
    """One life of the process. `exited` is called when it ends by itself, with the reason."""

    def __init__(
        self,
        loop: SeededLoop,
        disk: Disk,
        *,
        clock: WorldClock,
        new_id: Callable[[str], str],
        new_secret: Callable[[], str],
        limits: Limits,
        freshness: FreshnessSettings,
        chance: Random,
    ) -> None:
        self.process = Process("server")
        self.ready = False
        self.on_ready: Callable[[], None] = lambda: None
        self.on_exit: Callable[[str], None] = lambda _: None
        self.store: SqliteStore | None = None
        self.plane: ControlPlane | None = None
        self._loop = loop
        self._disk = disk
        self._clock = clock
        self._new_id = new_id
        self._new_secret = new_secret
        self._limits = limits
        self._freshness = freshness
        self._chance = chance
        self._gate = Gate()
        self._open_calls: dict[OpenCall, None] = {}
        self._methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._asked: asyncio.Event | None = None
        main = owned(self.process).run(self._begin)
        main.add_done_callback(self._ended, context=Context())

    def _begin(self) -> asyncio.Task[str]:
        return self._loop.create_task(self._main(), name="main")

    async def _main(self) -> str:
        self._asked = asyncio.Event()
        store = self._disk.open(self._loop, self._limits, self._chance)
        self.store = store
        try:
            return await self._serve_until_asked(self._plane_on(store), store, self._asked)
        finally:
            await store.close()

    async def _serve_until_asked(self, plane: ControlPlane, store: SqliteStore, asked: asyncio.Event) -> str:
        async with at_work(plane, store) as work:
            self._serve(plane)
            work.broken.add_done_callback(lambda _: asked.set())
            await asked.wait()
            if work.broken.done():
                return f"broken: {work.broken.result()!r}"
            await self._drain(plane)
        return STOPPED

    def _plane_on(self, store: SqliteStore) -> ControlPlane:
        return ControlPlane(
            store,
            clock=self._clock,
            new_id=self._new_id,
            new_secret=self._new_secret,
            read_mark=read_mark,
            limits=self._limits,
            keys=KeySettings(),
            freshness=self._freshness,
        )

    def _serve(self, plane: ControlPlane) -> None:
        self.plane = plane
        for _, methods in services(plane, FACTS, gate=self._gate, limits=self._limits):
            self._methods.update(methods)
        self.ready = True
        self.on_ready()

    async def _drain(self, plane: ControlPlane) -> None:
        """Send everybody away, with a grace for what is being answered."""
        self._gate.close()
        plane.drain()
        for _ in range(10):
            if not self._open_calls:
                return
            await asyncio.sleep(GRACE_S / 10)
        for open_call in list(self._open_calls):
            open_call.on_cut()
            open_call.cancel()

    def _ended(self, main: asyncio.Task[str]) -> None:
        self.ready = False
        error = None if main.cancelled() else main.exception()
        if self.process.alive:
            self.on_exit(f"failed: {error!r}" if error is not None else main.result())

    @property
    def served(self) -> frozenset[str]:
        """The methods that it has."""
        return frozenset(self._methods)

    def take(self, method: str, data: bytes, open_call: OpenCall) -> None:
        """Let a call in."""
        self._open_calls[open_call] = None
        open_call.task = owned(self.process).run(self._spawn, method, data, open_call)
        open_call.task.add_done_callback(lambda task: self._answered(open_call, task), context=Context())

    def _spawn(self, method: str, data: bytes, open_call: OpenCall) -> asyncio.Task[Any]:
        handler: Any = self._methods[method]
        if handler.request_streaming:
            open_call.serve(handler.request_deserializer, handler.response_serializer)
            open_call.receive(data)
            return self._loop.create_task(handler.stream_stream(None, open_call))
        behaviour = handler.unary_stream if handler.response_streaming else handler.unary_unary
        open_call.serve(handler.request_deserializer, handler.response_serializer)
        return self._loop.create_task(behaviour(handler.request_deserializer(data), open_call))

    def _answered(self, open_call: OpenCall, task: asyncio.Task[Any]) -> None:
        """Hand over what the handler said; runs outside the process, which may be dead by now."""
        self._open_calls.pop(open_call, None)
        if task.cancelled():
            return
        refusal = open_call.refusal(task.exception())
        open_call.on_done(Outcome(refusal=refusal) if refusal else Outcome(answer=task.result()))

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        if self._asked is not None and self.process.alive:
            owned(self.process).run(self._asked.set)

    def kill(self) -> None:
        """kill -9: no step more, the connections are cut, and what is on the disk is there for the next one."""
        self.ready = False
        self._disk.crash()
        self._loop.kill(self.process)
        if self.store is not None:
            self.store.abandon()
        for open_call in list(self._open_calls):
            open_call.on_cut()
        self._open_calls.clear()
