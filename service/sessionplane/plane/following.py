"""Opens what is followed: finds the seat, takes the snapshot, and puts a feed behind it.

Owns the order of an opening: a seat first, then the transaction that attaches, then the feed. Whatever fails on the
way leaves the seat empty and nobody attached. What a stream delivers is `live`'s, where it begins `streams`'.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sessionplane.domain.errors import Disconnected, Draining, RunNotFound
from sessionplane.domain.events import Entry, Place
from sessionplane.domain.limits import Limits
from sessionplane.domain.sessions import Interaction, Resolution, Session
from sessionplane.domain.streams import Presence
from sessionplane.live.bells import Bells
from sessionplane.live.feed import Feed, SessionMark, Sources
from sessionplane.live.pulse import age_s
from sessionplane.live.seats import SUBSCRIBER_ID, Seat, Seats
from sessionplane.live.tail import Tails
from sessionplane.live.watch import Changes, Watch, Watches
from sessionplane.plane import streams, watching
from sessionplane.plane.context import Clock, run_topic, with_request
from sessionplane.plane.streams import Opening, StreamRequest
from sessionplane.plane.sweeper import Execute, Sweeper
from sessionplane.plane.watching import WatchRequest
from sessionplane.store import codec
from sessionplane.store.contract import Committed, Store


class Following:
    """Everything that is open to be read: seats, and the tails and watches that they read from."""

    def __init__(
        self,
        store: Store,
        execute: Execute,
        sweeper: Sweeper,
        bells: Bells,
        *,
        clock: Clock,
        new_id: Callable[[str], str],
        read_mark: Callable[[Entry], SessionMark],
        stale: Callable[[Session], bool],
        limits: Limits,
    ) -> None:
        self.seats = Seats(limits)
        self.tails = Tails(limits, codec.custom_type)
        self.watches = Watches(self._changes)
        self._store = store
        self._execute = execute
        self._sweeper = sweeper
        self._bells = bells
        self._clock = clock
        self._new_id = new_id
        self._read_mark = read_mark
        self._stale = stale
        self._limits = limits

    def committed(self, committed: Committed) -> None:
        """Tell who follows what a commit brought."""
        for session_id, entries in committed.entries.items():
            self.tails.grow(session_id, entries)
        for namespace in committed.namespaces:
            self.watches.changed(namespace)

    @asynccontextmanager
    async def watch(self, request: WatchRequest, *, peer: str) -> AsyncIterator[Watch]:
        """Watch sessions. Raises what `watching.open_watch` raises, StreamLimit and Draining."""
        seat = self._seat(request.namespace, request.subscriber_name, peer, Presence.OBSERVER)
        with self.seats.take(seat):
            if self._bells.closed:
                raise Draining
            opening = self._store.read(lambda tx: watching.open_watch(tx, request))
            with Watch(
                namespace=request.namespace,
                begin=opening.begin,
                goal=opening.goal,
                fresh=opening.fresh,
                show_internal=request.show_internal,
                watches=self.watches,
                limits=self._limits,
                age_s=age_s(self._limits, seat.subscriber_id),
            ) as watch:
                seat.occupy(watch)
                yield watch

    async def _changes(self, namespace: str, after: int) -> Changes:
        limit = self._limits.watch_sessions_max
        return await self._store.scan(lambda tx: watching.changes(tx, namespace, after, limit))

    @asynccontextmanager
    async def stream(
        self, request: StreamRequest, *, peer: str, pending_s: float
    ) -> AsyncIterator[tuple[Opening, Feed]]:
        """Open a stream, and close it again whatever happens.

        Raises what `streams.open_stream` raises, StreamLimit, Draining, and Disconnected if somebody ended it while
        it waited for its run.
        """
        seat = self._seat(request.namespace, request.subscriber_name, peer, request.presence, request.run_id)
        with self.seats.take(seat):
            opening = await self._open(request, seat, pending_s)
            session = opening.view.session
            try:
                if self._bells.closed:
                    raise Draining
                self.seats.place(seat, session.session_id)
                self._note_interaction(request, opening)
                with self._feed(opening, age_s(self._limits, seat.subscriber_id)) as feed:
                    seat.occupy(feed)
                    yield opening, feed
            finally:
                if opening.attached:
                    self._sweeper.depart(session.namespace, session.session_id)

    def _seat(self, namespace: str, name: str, peer: str, presence: Presence, run_id: str = "") -> Seat:
        return Seat(
            subscriber_id=self._new_id(SUBSCRIBER_ID),
            namespace=namespace,
            name=name,
            peer=peer,
            presence=presence,
            run_id=run_id,
            connected_at_ms=self._clock.wall_ms(),
        )

    async def _open(self, request: StreamRequest, seat: Seat, pending_s: float) -> Opening:
        """Open the stream, waiting for a run that does not exist yet if that is wanted."""
        if not (request.run_id and pending_s):
            return await self._snapshot(request, seat)
        until_s = asyncio.get_running_loop().time() + pending_s
        with self._bells.listen(run_topic(request.namespace, request.run_id)) as ticket:
            seat.wake = ticket.set
            while True:
                try:
                    return await self._snapshot(request, seat)
                except RunNotFound:
                    if not await self._bells.rung(ticket, until_s=until_s):
                        raise
                    if seat.ended is not None:
                        raise Disconnected from None

    async def _snapshot(self, request: StreamRequest, seat: Seat) -> Opening:
        """Take the snapshot, through the writer if the stream attaches or resolves. Whoever may attach has a place in
        the session before that, so that nobody is refused who was counted already. The key may move to another session
        between the two; then the place is looked for again.
        """
        if request.presence is Presence.OBSERVER and request.resolve is None:
            return self._store.read(lambda tx: streams.observe_stream(tx, request))
        there = self._store.read(lambda tx: streams.find_target(tx, request, stale=self._stale))
        if there is not None:
            self.seats.place(seat, there.session_id)
        opened = self._execute(with_request(streams.open_stream, request), size=request.size)
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
            self._sweeper.depart(opening.view.session.namespace, opening.view.session.session_id)

    def _note_interaction(self, request: StreamRequest, opening: Opening) -> None:
        """Remember that a person was here. What only names, as a resolve beside a token does, has no resolution."""
        found = opening.resolution is Resolution.EXISTING
        if found and request.resolve is not None and request.resolve.asker is Interaction.USER:
            self._sweeper.note_interaction(opening.view.session)

    def _feed(self, opening: Opening, age_s: float) -> Feed:
        session_id = opening.view.session.session_id

        async def page(after: Place) -> list[Entry]:
            return await self._store.scan(
                lambda tx: tx.entries(
                    session_id,
                    after=after,
                    limit=self._limits.batch_events_max,
                    bytes_max=self._limits.batch_bytes_max,
                )
            )

        sources = Sources(
            page=page,
            head=lambda: self._store.read(lambda tx: tx.head(session_id).sequence),
            mark=self._read_mark,
            type_of=codec.custom_type,
        )
        return Feed(
            session_id=session_id,
            plan=opening.plan,
            tails=self.tails,
            sources=sources,
            limits=self._limits,
            age_s=age_s,
        )
