"""What nobody asks for, done in time: leases that ran out, deadlines, subscribers that did not return, sessions that
came due, notes to write.

Owns what waits for the next sweep. Everything it does is a use case of `upkeep`, `lifecycle` or `expiry`, in bounded
steps that callers' commands come between; what cannot be done now is left to the next sweep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.limits import Limits
from sessionplane.domain.sessions import Session
from sessionplane.live.loops import PASSING, all_of
from sessionplane.plane import expiry, lifecycle, upkeep
from sessionplane.plane.context import Clock, Context, with_request
from sessionplane.plane.freshness import Visits
from sessionplane.plane.leases import RunRef
from sessionplane.plane.pauses import Pauses
from sessionplane.store.contract import ReadTx, Tx

T = TypeVar("T")


class Execute(Protocol):
    """Queues a use case for the writer."""

    def __call__(self, use_case: Callable[[Tx, Context], T], *, size: int = 0) -> asyncio.Future[T]:
        """See `ControlPlane.execute`."""


class Scan(Protocol):
    """Runs a query of any length."""

    def __call__(self, query: Callable[[ReadTx], T]) -> Coroutine[Any, Any, T]:
        """See `Store.scan`."""


class Sweeper:
    """The upkeep of one plane. `sweep` and `look_for_pauses` are called every `sweep_ms`."""

    def __init__(self, execute: Execute, scan: Scan, visits: Visits, *, clock: Clock, limits: Limits) -> None:
        self._execute = execute
        self._scan = scan
        self._clock = clock
        self._limits = limits
        self._visits = visits
        # Streams that closed while nothing could be written. Bounded by the streams that were open.
        self._departed: list[tuple[str, str]] = []
        self._ready_at_ms = clock.monotonic_ms()
        self._pauses = Pauses(now_ms=self._ready_at_ms, period_ms=limits.sweep_ms)
        self._settled_to: str | None = ""

    def note_interaction(self, session: Session) -> None:
        """Remember that a person was here; the sweep writes it, nobody waits for it. If too many are remembered it is
        written at once.
        """
        name, at_ms = (session.namespace, session.session_id), self._clock.wall_ms()
        if self._visits.note(name, at_ms):
            return
        with suppress(SessionPlaneError):
            written = self._execute(with_request(upkeep.touch, {name: at_ms}))
            written.add_done_callback(lambda done: done.cancelled() or done.exception())

    def depart(self, namespace: str, session_id: str) -> None:
        """Detach. When the writer's queue or the disk is full the sweep tries again."""

        def settle(detached: asyncio.Future[None]) -> None:
            if not detached.cancelled() and isinstance(detached.exception(), PASSING):
                self._departed.append((namespace, session_id))

        try:
            detached = self._execute(lambda tx, use: lifecycle.detach(tx, namespace, session_id, use))
        except PASSING:
            self._departed.append((namespace, session_id))
        except SessionPlaneError:
            return  # The server stops; a restart begins with nobody attached.
        else:
            detached.add_done_callback(settle)

    async def start(self) -> None:
        """Recover: grant every lease again in full, since nobody could be heard while the server was away."""
        # Looked for from before the first grant on: whoever has a lease is not heard until all this is over.
        self._pauses = Pauses(now_ms=self._clock.monotonic_ms(), period_ms=self._limits.sweep_ms)
        after: RunRef | None = RunRef("", "")
        while after is not None:
            after = await self._execute(with_request(upkeep.recover_leases, after))
        await self._execute(upkeep.expect_subscribers)
        self._ready_at_ms = self._clock.monotonic_ms()

    async def look_for_pauses(self) -> None:
        """Called every `sweep_ms`, also while a sweep is under way, since one that takes long is no pause."""
        self._pauses.look(self._clock.monotonic_ms())

    async def sweep(self) -> None:
        """Do what is late. Called every `sweep_ms`."""
        await self.look_for_pauses()
        now_ms = self._clock.monotonic_ms()
        departed, self._departed = self._departed, []
        for namespace, session_id in departed:
            self.depart(namespace, session_id)
        # Before anything is judged by it.
        await self.write_visits()
        await self._settle_late()
        await self._settle_after_start(now_ms)
        await self._forget(now_ms)

    def _due(self, tx: Tx, context: Context) -> upkeep.Due:
        """Collect what is late; after a pause no lease is, since everybody is given time again."""
        if self._pauses.asked(context.monotonic_ms):
            context.leases.grant_all(now_ms=context.monotonic_ms)
        return upkeep.due(tx, context)

    async def _settle_late(self) -> None:
        """Deal with all that is late, step by step; a step that could not be dealt with is left to the next sweep."""
        before: upkeep.Due | None = None
        while (late := await self._execute(self._due)) != before:
            waiting = [self._execute(with_request(upkeep.lapse, ref)) for ref in late.leases]
            waiting += [self._execute(with_request(upkeep.expire, ref)) for ref in late.runs]
            waiting += [self._execute(with_request(lifecycle.settle_presence, name)) for name in late.absent]
            waiting += [self._execute(with_request(expiry.expire, name)) for name in late.sessions]
            await all_of(waiting, what="sweep")
            if not late.fills(self._limits.upkeep_step_max):
                return
            before = late

    async def write_visits(self) -> None:
        """Write the last interactions that were noted; those that cannot be written now wait for the next sweep."""
        visits = self._visits.pending()
        if visits:
            await self._execute(with_request(upkeep.touch, visits))
            self._visits.written(visits)

    async def _forget(self, began_at_ms: int) -> None:
        """Forget old request ids, a step at a time and no longer than a sweep may take: more than came meanwhile."""
        while await self._execute(upkeep.forget) == self._limits.upkeep_step_max:
            if self._clock.monotonic_ms() - began_at_ms >= self._limits.sweep_ms:
                return

    async def _settle_after_start(self, now_ms: int) -> None:
        """Once the linger after a start is over, look in steps for sessions that nobody came back to."""
        after = self._settled_to
        if after is None or now_ms < self._ready_at_ms + self._limits.detach_linger_ms:
            return
        step = self._limits.upkeep_step_max
        page = await self._scan(lambda tx: upkeep.active_sessions(tx, after, step))
        for name in page:
            await self._execute(with_request(lifecycle.settle_presence, name))
        self._settled_to = page[-1][1] if page else None
