"""The product as a Python object: runs the use cases, wakes whoever waits, and keeps the promises between them.

Who writes: the store's writer, one command at a time, in the order of submission. Who waits: handlers, on futures of
commands, on bells, on feeds. What a commit brought is told to tails and bells on the event loop before the futures of
its commands are done, so an answer never overtakes its events. A handler that goes away takes nothing back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from sessionplane.domain.errors import Draining, RunNotFound, SessionPlaneError, StreamLimit
from sessionplane.domain.events import Entry, Place
from sessionplane.domain.keys import KeySettings, SessionKey
from sessionplane.domain.limits import Limits
from sessionplane.domain.runs import Run, RunState
from sessionplane.domain.sessions import Interaction
from sessionplane.domain.streams import ClosingReason, Presence
from sessionplane.live.bells import Bells, Ticket
from sessionplane.live.feed import Feed, SessionMark, Sources
from sessionplane.live.loops import PASSING, all_of
from sessionplane.live.tail import Tails
from sessionplane.plane import claims, runs, sessions, streams, upkeep
from sessionplane.plane.context import Clock, Context, pool_topic, run_topic
from sessionplane.plane.leases import Leases, RunRef
from sessionplane.plane.presence import Attendance
from sessionplane.plane.streams import Opening, StreamRequest
from sessionplane.store.contract import Committed, ReadTx, Store, Tx

T = TypeVar("T")
R = TypeVar("R")


def _with(use_case: Callable[[Tx, R, Context], T], request: R) -> Callable[[Tx, Context], T]:
    """Give a use case its request now, and the rest when its turn comes."""
    return lambda tx, context: use_case(tx, request, context)


class ControlPlane:
    """Everything that callers, runners, subscribers and operators can ask for."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        new_id: Callable[[str], str],
        new_secret: Callable[[], str],
        read_mark: Callable[[Entry], SessionMark],
        limits: Limits,
        keys: KeySettings,
    ) -> None:
        """Stand on an open store; `start` makes it ready. Must be built on the event loop that will use it."""
        self.store = store
        self.clock = clock
        self.limits = limits
        self.keys = keys
        self.tails = Tails(limits)
        self.bells = Bells(waiters_max=limits.waiters_max)
        self.draining = False
        self._new_id = new_id
        self._new_secret = new_secret
        self._read_mark = read_mark
        self._leases = Leases()
        self._attached = Attendance()
        # Resolves of one new key that wait for one command. Bounded by the writer's queue.
        self._creating: dict[tuple[str, SessionKey], asyncio.Future[sessions.Resolved]] = {}
        # Last interactions that wait for the sweep. Bounded by touched_sessions_max.
        self._touched: dict[tuple[str, str], int] = {}
        # Streams that closed while nothing could be written. Bounded by the streams that were open.
        self._departed: list[tuple[str, str]] = []
        # From the monotonic clock to Unix time, as it was at the start; see Context.judged_ms.
        self._anchor_ms = clock.wall_ms() - clock.monotonic_ms()
        self._looked_at_ms = clock.monotonic_ms()
        self._ready_at_ms = self._looked_at_ms
        self._settled_to: str | None = ""
        store.on_commit(self._committed)

    def execute(self, use_case: Callable[[Tx, Context], T], *, size: int = 0) -> asyncio.Future[T]:
        """Queue a use case for the writer; its moment is taken when it begins. Raises what `submit` raises."""
        return self.store.submit(lambda tx: use_case(tx, self._context()), size=size)

    def read(self, query: Callable[[ReadTx], T]) -> T:
        """Run a query of a few point reads, here and now."""
        return self.store.read(query)

    def attached_count(self, session_id: str) -> int:
        """Return how many attached streams the session has. Live memory: it never routes."""
        return self._attached.attached(session_id)

    def lease_expires_at_ms(self, run: Run) -> int | None:
        """Return when the run's lease runs out, as a wall-clock estimate; None without one."""
        term = self._leases.term(RunRef(run.namespace, run.run_id))
        return None if term is None else self.clock.wall_ms() + term.deadline_ms - self.clock.monotonic_ms()

    def _context(self) -> Context:
        monotonic_ms = self.clock.monotonic_ms()
        return Context(
            now_ms=self.clock.wall_ms(),
            judged_ms=self._anchor_ms + monotonic_ms,
            monotonic_ms=monotonic_ms,
            limits=self.limits,
            leases=self._leases,
            presence=self._attached,
            new_id=self._new_id,
            new_secret=self._new_secret,
        )

    def _committed(self, committed: Committed) -> None:
        """Tell tails and bells what a commit brought. Called on the event loop, in commit order."""
        for session_id, entries in committed.entries.items():
            self.tails.grow(session_id, entries)
        for topic in committed.topics:
            self.bells.ring(topic)

    async def resolve(self, request: sessions.ResolveRequest) -> sessions.Resolved:
        """Find or create the session of a key. An established key is one read, here, without a lock.

        Raises what `sessions.resolve` raises.
        """
        found = self.read(lambda tx: sessions.find_resolved(tx, request))
        if found is not None:
            self._note_interaction(request, found)
            return found
        key = request.session.key
        if key is None or request.bind_session_id:
            return await self.execute(_with(sessions.resolve, request))
        return await self._create(request, (request.call.namespace, key))

    async def _create(
        self, request: sessions.ResolveRequest, name: tuple[str, SessionKey]
    ) -> sessions.Resolved:
        """Create the session of a new key; whoever asks meanwhile waits for the same command."""
        first = self._creating.get(name)
        if first is not None:
            # The first one's trouble is its own, and so is its request id: ask again for this one.
            with suppress(SessionPlaneError):
                await asyncio.shield(first)
            joined = self.read(lambda tx: sessions.find_joined(tx, request))
            return await self.execute(_with(sessions.resolve, request)) if joined is None else joined
        future = self.execute(_with(sessions.resolve, request))
        self._creating[name] = future
        future.add_done_callback(lambda _: self._creating.pop(name, None))
        return await asyncio.shield(future)

    def _note_interaction(self, request: sessions.ResolveRequest, found: sessions.Resolved) -> None:
        """Remember that a person was here; the sweep writes it, nobody waits for it."""
        session = found.view.session
        if request.interaction is Interaction.USER and len(self._touched) < self.limits.touched_sessions_max:
            self._touched[session.namespace, session.session_id] = self.clock.wall_ms()

    async def wait_run(self, namespace: str, run_id: str, *, wait_s: float) -> runs.RunView:
        """Wait until the run has finished, or the time is over; return it as it is then.

        Raises RunNotFound, Draining and Overloaded.
        """
        until_s = asyncio.get_running_loop().time() + wait_s
        with self.bells.listen(run_topic(namespace, run_id)) as ticket:
            while True:
                found = self.read(lambda tx: runs.get_run(tx, namespace, run_id))
                if found.run.state is RunState.FINISHED or not await self._rung(ticket, until_s):
                    return found

    async def claim(self, request: claims.ClaimRequest, *, wait_s: float) -> claims.Claimed | None:
        """Claim a run, waiting for one until the time is over; None if none came.

        Raises RunNotFound, RequestIdReused, Draining and Overloaded.
        """
        until_s = asyncio.get_running_loop().time() + wait_s
        namespace = request.call.namespace
        if request.run_id:
            ticket = self.bells.listen(run_topic(namespace, request.run_id))
        else:
            topic = pool_topic(namespace, request.pool)
            ticket = self.bells.listen(topic, in_turn=True, most=self.limits.pool_waiters_max)
        rung = False
        with ticket:
            while True:
                try:
                    claimed = await self.execute(_with(claims.claim, request))
                except SessionPlaneError:
                    if rung:
                        # A ring in turn that came to nothing goes to the next one, or the run would wait in vain.
                        ticket.set()
                    raise
                if claimed is not None:
                    return claimed
                rung = await self._rung(ticket, until_s)
                if not rung:
                    return None

    async def _rung(self, ticket: Ticket, until_s: float) -> bool:
        """Wait for a ring until the time is over. Raises Draining when the server stops meanwhile."""
        left_s = until_s - asyncio.get_running_loop().time()
        rung = left_s > 0 and await ticket.wait(timeout_s=left_s)
        if self.draining:
            raise Draining
        return rung

    @asynccontextmanager
    async def stream(
        self, request: StreamRequest, *, pending_s: float = 0
    ) -> AsyncIterator[tuple[Opening, Feed]]:
        """Open a stream, and close it again whatever happens.

        Raises what `streams.open_stream` raises, StreamLimit and Draining.
        """
        if len(self.tails) >= self.limits.server_streams_max:
            raise StreamLimit(limit=self.limits.server_streams_max, scope="in this server")
        opening = await self._open(request, pending_s)
        session = opening.view.session
        try:
            if self.draining:
                raise Draining
            if self.tails.followers(session.session_id) >= self.limits.session_streams_max:
                raise StreamLimit(limit=self.limits.session_streams_max, scope="in this session")
            with self._feed(opening) as feed:
                yield opening, feed
        finally:
            if opening.attached:
                self._depart(session.namespace, session.session_id)

    async def _open(self, request: StreamRequest, pending_s: float) -> Opening:
        """Open the stream, waiting for a run that does not exist yet if that is wanted."""
        if not (request.run_id and pending_s):
            return await self._snapshot(request)
        until_s = asyncio.get_running_loop().time() + pending_s
        with self.bells.listen(run_topic(request.namespace, request.run_id)) as ticket:
            while True:
                try:
                    return await self._snapshot(request)
                except RunNotFound:
                    if not await self._rung(ticket, until_s):
                        raise

    async def _snapshot(self, request: StreamRequest) -> Opening:
        """Take the snapshot, through the writer if the stream attaches or resolves."""
        if request.presence is Presence.OBSERVER and request.resolve is None:
            return self.read(lambda tx: streams.observe_stream(tx, request))
        opened = self.execute(_with(streams.open_stream, request))
        try:
            return await asyncio.shield(opened)
        except asyncio.CancelledError:
            opened.add_done_callback(self._depart_unseen)
            raise

    def _depart_unseen(self, opened: asyncio.Future[Opening]) -> None:
        """Detach a stream whose caller went away while it was attached."""
        if opened.cancelled() or opened.exception() is not None:
            return
        opening = opened.result()
        if opening.attached:
            self._depart(opening.view.session.namespace, opening.view.session.session_id)

    def _depart(self, namespace: str, session_id: str) -> None:
        """Detach. When the writer's queue or the disk is full the sweep tries again."""

        def settle(detached: asyncio.Future[None]) -> None:
            if not detached.cancelled() and isinstance(detached.exception(), PASSING):
                self._departed.append((namespace, session_id))

        try:
            detached = self.execute(lambda tx, use: sessions.detach(tx, namespace, session_id, use))
        except PASSING:
            self._departed.append((namespace, session_id))
        except SessionPlaneError:
            return  # The server stops; a restart begins with nobody attached.
        else:
            detached.add_done_callback(settle)

    def _feed(self, opening: Opening) -> Feed:
        session_id = opening.view.session.session_id

        async def page(after: Place) -> list[Entry]:
            return await self.store.scan(
                lambda tx: tx.entries(
                    session_id,
                    after=after,
                    limit=self.limits.batch_events_max,
                    bytes_max=self.limits.batch_bytes_max,
                )
            )

        sources = Sources(
            page=page,
            head=lambda: self.read(lambda tx: tx.head(session_id).sequence),
            mark=self._read_mark,
        )
        return Feed(
            session_id=session_id, plan=opening.plan, tails=self.tails, sources=sources, limits=self.limits
        )

    async def start(self) -> None:
        """Recover: grant every lease again in full, since nobody could be heard while the server was away."""
        after: RunRef | None = RunRef("", "")
        while after is not None:
            after = await self.execute(_with(upkeep.recover_leases, after))
        self._ready_at_ms = self._looked_at_ms = self.clock.monotonic_ms()

    async def look_for_pauses(self) -> None:
        """Give everybody time again after a pause in which nobody could be heard. Called every `sweep_ms`, also while
        a sweep is under way: a sweep that takes long is no pause, and must not keep dead runners alive.
        """
        if self.clock.monotonic_ms() - self._looked_at_ms > 2 * self.limits.sweep_ms:
            await self.execute(lambda _, context: context.leases.grant_all(now_ms=context.monotonic_ms))
        self._looked_at_ms = self.clock.monotonic_ms()

    async def sweep(self) -> None:
        """Do what is late. Called every `sweep_ms`."""
        # Whichever of the two loops wakes first after a pause.
        await self.look_for_pauses()
        now_ms = self.clock.monotonic_ms()
        departed, self._departed = self._departed, []
        for namespace, session_id in departed:
            self._depart(namespace, session_id)
        await self._settle_late()
        await self._write_touched()
        await self._settle_after_start(now_ms)
        await self._forget(now_ms)

    async def _settle_late(self) -> None:
        """Deal with all that is late, step by step; a step that could not be dealt with is left to the next sweep."""
        before: upkeep.Due | None = None
        while (late := await self.execute(upkeep.due)) != before:
            waiting = [self.execute(_with(upkeep.lapse, ref)) for ref in late.leases]
            waiting += [self.execute(_with(upkeep.expire, ref)) for ref in late.runs]
            waiting += [self.execute(_with(sessions.settle_presence, name)) for name in late.absent]
            await all_of(waiting, what="sweep")
            if not late.fills(self.limits.upkeep_step_max):
                return
            before = late

    async def _write_touched(self) -> None:
        touched, self._touched = self._touched, {}
        if touched:
            rows = [(namespace, session_id, at_ms) for (namespace, session_id), at_ms in touched.items()]
            try:
                await self.execute(_with(upkeep.touch, rows))
            except PASSING:
                self._touched = touched | self._touched
                raise

    async def _forget(self, began_at_ms: int) -> None:
        """Forget old request ids, a step at a time and no longer than a sweep may take: more than came meanwhile."""
        while await self.execute(upkeep.forget) == self.limits.upkeep_step_max:
            if self.clock.monotonic_ms() - began_at_ms >= self.limits.sweep_ms:
                return

    async def _settle_after_start(self, now_ms: int) -> None:
        """Once the linger after a start is over, look in steps for sessions that nobody came back to."""
        after = self._settled_to
        if after is None or now_ms < self._ready_at_ms + self.limits.detach_linger_ms:
            return
        step = self.limits.upkeep_step_max
        page = await self.store.scan(lambda tx: upkeep.active_sessions(tx, after, step))
        for name in page:
            await self.execute(_with(sessions.settle_presence, name))
        self._settled_to = page[-1][1] if page else None

    def drain(self) -> None:
        """Begin to stop: streams end with a token, waiting calls end, and no new ones begin."""
        self.draining = True
        for follower in self.tails.everybody():
            follower.end(ClosingReason.DRAINING)
        self.bells.ring_all()
