"""The product as a Python object: runs the use cases, wakes whoever waits, and keeps the promises between them.

Who writes: the store's writer, one command at a time, in the order of submission. Who waits: handlers, on futures of
commands, on bells, on feeds. What a commit brought is told to tails and bells on the event loop before the futures of
its commands are done, so an answer never overtakes its events. A handler that goes away takes nothing back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import TypeVar

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.events import Entry
from sessionplane.domain.freshness import FreshnessSettings
from sessionplane.domain.keys import KeySettings, SessionKey
from sessionplane.domain.limits import Limits
from sessionplane.domain.runs import Run, RunState
from sessionplane.domain.sessions import Interaction, Session
from sessionplane.domain.streams import ClosingReason
from sessionplane.live.bells import Bells
from sessionplane.live.feed import Feed, SessionMark
from sessionplane.live.watch import Watch
from sessionplane.plane import claims, importing, resolving, runs
from sessionplane.plane.compactor import Compactor
from sessionplane.plane.context import Clock, Context, pool_topic, run_topic, with_request
from sessionplane.plane.following import Following
from sessionplane.plane.freshness import Judge, Visits
from sessionplane.plane.leases import Leases, RunRef
from sessionplane.plane.logs import LARGE_LOG
from sessionplane.plane.presence import Attendance
from sessionplane.plane.sessions import RunView
from sessionplane.plane.streams import Opening, StreamRequest
from sessionplane.plane.sweeper import Sweeper
from sessionplane.plane.watching import WatchRequest
from sessionplane.store.contract import Committed, ReadTx, Store, Tx

T = TypeVar("T")
R = TypeVar("R")


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
        freshness: FreshnessSettings,
    ) -> None:
        """Stand on an open store; `start` makes it ready. Must be built on the event loop that will use it."""
        self.store = store
        self.clock = clock
        self.limits = limits
        self.keys = keys
        self.bells = Bells(waiters_max=limits.waiters_max)
        self._new_id = new_id
        self._new_secret = new_secret
        self._leases = Leases()
        self._attached = Attendance()
        visits = Visits(most=limits.touched_sessions_max)
        self._judge = Judge(freshness, visits)
        # Resolves of one key that wait for one command. Bounded by the writer's queue.
        self._settling: dict[tuple[str, SessionKey], asyncio.Future[resolving.Resolved]] = {}
        # From the monotonic clock to Unix time, as it was at the start; see Context.judged_ms.
        self._anchor_ms = clock.wall_ms() - clock.monotonic_ms()
        self.sweeper = Sweeper(self.execute, store.scan, visits, clock=clock, limits=limits)
        self.compactor = Compactor(self.execute, limits=limits)
        self.following = Following(
            store,
            self.execute,
            self.sweeper,
            self.bells,
            clock=clock,
            new_id=new_id,
            read_mark=read_mark,
            stale=self._is_stale,
            limits=limits,
        )
        store.on_commit(self._committed)

    @property
    def draining(self) -> bool:
        """Whether the server stops."""
        return self.bells.closed

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
            judge=self._judge,
            new_id=self._new_id,
            new_secret=self._new_secret,
        )

    def _committed(self, committed: Committed) -> None:
        """Tell whoever follows or waits what a commit brought. Called on the event loop, in commit order."""
        self.following.committed(committed)
        for topic in committed.topics:
            self.bells.ring(topic)
            if topic.kind == LARGE_LOG:
                self.compactor.note_large(topic)

    async def resolve(self, request: resolving.ResolveRequest) -> resolving.Resolved:
        """Find or create the session of a key. An established key is one read, here, without a lock.

        Raises what `resolving.resolve` raises.
        """
        found = self._look(request)
        if isinstance(found, str):
            found = await self._settle(request, found)
        if found.untouched:
            self._note_interaction(request, found.view.session)
        return found

    def _note_interaction(self, request: resolving.ResolveRequest, session: Session) -> None:
        """Remember that a person was here; the sweep writes it."""
        if request.asker is Interaction.USER:
            self.sweeper.note_interaction(session)

    def _look(
        self, request: resolving.ResolveRequest, *, seen: str | None = None
    ) -> resolving.Resolved | str:
        """Answer from what is on disk, if no write is needed."""
        stale = None if self._judge.idle else self._is_stale
        return self.read(lambda tx: resolving.look(tx, request, stale=stale, seen=seen))

    def _is_stale(self, session: Session) -> bool:
        return self._judge.is_stale(session, now_ms=self.clock.wall_ms())

    async def _settle(self, request: resolving.ResolveRequest, seen: str) -> resolving.Resolved:
        """Resolve in the writer's turn, whoever was `seen` to hold the key. Of many that ask for the same key at once
        the first one does so, and the others look at what it left: a new key costs one command.
        """
        key = request.session.key
        if key is None or request.bind_session_id or request.run is not None:
            return await self._write(request, seen)
        name = (request.call.namespace, key)
        first = self._settling.get(name)
        if first is not None:
            # The first one's trouble is its own, and so is its request id: ask again for this one.
            with suppress(SessionPlaneError):
                await asyncio.shield(first)
            joined = self._look(request, seen=seen)
            return await self._write(request, seen) if isinstance(joined, str) else joined
        future = self._write(request, seen)
        self._settling[name] = future
        future.add_done_callback(lambda done: self._settled(name, done))
        return await asyncio.shield(future)

    def _settled(self, name: tuple[str, SessionKey], done: asyncio.Future[resolving.Resolved]) -> None:
        """Let the next one ask. A refusal that nobody waits for any more is nobody's: the loop would log it, key and
        all.
        """
        del self._settling[name]
        if not done.cancelled():
            done.exception()

    def _write(self, request: resolving.ResolveRequest, seen: str) -> asyncio.Future[resolving.Resolved]:
        """Queue a resolve for the writer. A caller that goes away takes nothing back."""
        return self.execute(lambda tx, use: resolving.resolve(tx, request, use, seen=seen), size=request.size)

    async def wait_run(self, namespace: str, run_id: str, *, wait_s: float) -> RunView:
        """Wait until the run has finished, or the time is over; return it as it is then.

        Raises RunNotFound, Draining and Overloaded.
        """
        until_s = asyncio.get_running_loop().time() + wait_s
        meant = run_id
        while True:
            with self.bells.listen(run_topic(namespace, meant)) as ticket:
                while True:
                    found = self.read(lambda tx: runs.get_run(tx, namespace, run_id))
                    if found.run.run_id != meant:
                        break
                    if found.run.state is RunState.FINISHED or not await self.bells.rung(
                        ticket, until_s=until_s
                    ):
                        return found
            # An input's id means another run: listen to that one's bell, and look again.
            meant = found.run.run_id

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
                    claimed = await self.execute(with_request(claims.claim, request))
                except SessionPlaneError:
                    if rung:
                        # A ring in turn that came to nothing goes to the next one, or the run would wait in vain.
                        ticket.set()
                    raise
                if claimed is not None:
                    return claimed
                rung = await self.bells.rung(ticket, until_s=until_s)
                if not rung:
                    return None

    async def import_sessions(
        self, request: importing.ImportRequest, *, size: int = 0
    ) -> Sequence[importing.Imported]:
        """Import sessions from elsewhere, or rehearse it: then nothing is kept of it."""
        try:
            return await self.execute(with_request(importing.import_sessions, request), size=size)
        except importing.Rehearsed as rehearsed:
            return rehearsed.results

    def stream(
        self, request: StreamRequest, *, peer: str = "", pending_s: float = 0
    ) -> AbstractAsyncContextManager[tuple[Opening, Feed]]:
        """Open a stream, and close it again whatever happens. See `Following.stream`."""
        return self.following.stream(request, peer=peer, pending_s=pending_s)

    def watch(self, request: WatchRequest, *, peer: str = "") -> AbstractAsyncContextManager[Watch]:
        """Watch sessions. See `Following.watch`."""
        return self.following.watch(request, peer=peer)

    async def start(self) -> None:
        """Make ready: see `Sweeper.start`."""
        await self.sweeper.start()

    async def stop(self) -> None:
        """Write what waited for a sweep that will not come. What cannot be written is lost, as in a crash."""
        with suppress(SessionPlaneError):
            await self.sweeper.write_visits()

    def drain(self) -> None:
        """Begin to stop: streams end with a token, waiting calls end, and no new ones begin."""
        self.bells.close()
        self.following.seats.end_all(ClosingReason.DRAINING)
