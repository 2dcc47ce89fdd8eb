"""Where a watch begins, and that a copy kept by watching is the truth whatever happens and whenever it is read."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionplane.domain.errors import Draining, LogBehindToken, StoreReplaced, StreamLimit, TokenCompacted
from sessionplane.domain.sessions import Session, Visibility
from sessionplane.domain.streams import ClosingReason, Presence
from sessionplane.domain.tokens import WatchToken
from sessionplane.live.watch import CaughtUp, Ended
from sessionplane.plane import watching
from sessionplane.plane.watching import WatchOpening, WatchRequest
from tests.support.planes import NAMESPACE, Bench, open_bench

GONE_MS = 10_000
"""How long a deleted session is kept in the tests of its removal."""


def asked(number: int | None = None, *, store_id: str = "", bench: Bench | None = None) -> WatchRequest:
    """A watch from a number, or from the beginning."""
    if number is None:
        return WatchRequest(namespace=NAMESPACE)
    named = bench.store.store_id if bench else store_id
    return WatchRequest(namespace=NAMESPACE, token=WatchToken(store_id=named, number=number))


def opened(bench: Bench, request: WatchRequest) -> WatchOpening:
    return bench.plane.read(lambda tx: watching.open_watch(tx, request))


async def test_a_watch_begins_with_everything_or_above_its_token(bench: Bench) -> None:
    """The goal is what was there as it was opened."""
    await bench.resolve("a")
    await bench.resolve("b")
    assert opened(bench, asked()) == WatchOpening(begin=0, goal=2, fresh=True)
    for number in (0, 1, 2):
        found = opened(bench, asked(number, bench=bench))
        assert found == WatchOpening(begin=number, goal=2, fresh=False)


async def test_a_token_must_fit_the_database(bench: Bench) -> None:
    """Another database's, and one of a future that this one does not know, are named for what they are."""
    await bench.resolve()
    with pytest.raises(StoreReplaced) as replaced:
        opened(bench, asked(1, store_id="0" * 32))
    assert replaced.value.details == {"store_epoch": bench.store.store_id}
    with pytest.raises(LogBehindToken) as ahead:
        opened(bench, asked(2, bench=bench))
    assert ahead.value.details == {"head": "1", "token": "2"}


async def test_a_token_below_what_was_removed_is_compacted(tmp_path: Path) -> None:
    """Up to the number of a session that was removed for good a token may have missed it; from there on it cannot."""
    async with open_bench(tmp_path / "plane.db", deleted_ttl_ms=GONE_MS) as bench:
        for name in "abc":
            await bench.resolve(name)
        await bench.delete("b")
        number = bench.plane.read(lambda tx: tx.change_numbers(NAMESPACE)).newest
        await bench.resolve("d")
        for any_number in range(number + 1):
            assert opened(bench, asked(any_number, bench=bench)).begin == any_number
        await purge(bench)
        for behind in range(number):
            with pytest.raises(TokenCompacted):
                opened(bench, asked(behind, bench=bench))
        assert opened(bench, asked(number, bench=bench)).begin == number
        assert opened(bench, asked()).begin == 0


async def purge(bench: Bench) -> None:
    """Let the time of deleted sessions pass, and everything of them go."""
    bench.clock.advance(GONE_MS)
    await bench.plane.compactor.retain()


async def test_a_page_accounts_for_all_numbers_there_are(bench: Bench) -> None:
    """A page that is not full reaches the newest number, also if the row that bore it is gone; a full one its last."""
    for name in "abc":
        await bench.resolve(name)
    pages = [bench.plane.read(lambda tx, n=n: watching.changes(tx, NAMESPACE, n, 2)) for n in (0, 2, 3)]
    assert [[row.change_number for row in page.sessions] for page in pages] == [[1, 2], [3], []]
    assert [(page.through, page.more) for page in pages] == [(2, True), (3, False), (3, False)]
    await bench.write(lambda tx, _: tx._connection.execute("UPDATE namespaces SET change_number = 9"))
    assert bench.plane.read(lambda tx: watching.changes(tx, NAMESPACE, 2, 2)).through == 9


async def test_a_watch_has_a_seat(bench: Bench) -> None:
    """It is listed as an observer of no session, counted, and ended like any stream."""
    request = WatchRequest(namespace=NAMESPACE, subscriber_name="board")
    async with bench.plane.watch(request, peer="ipv4:127.0.0.1:1") as watch:
        (seat,) = bench.plane.following.seats.page(NAMESPACE, session_id="", after="", limit=10)
        assert (seat.name, seat.peer, seat.session_id) == ("board", "ipv4:127.0.0.1:1", "")
        assert seat.presence is Presence.OBSERVER
        seat.end(ClosingReason.DISCONNECTED)
        assert await watch.next() == Ended(ClosingReason.DISCONNECTED)
    assert len(bench.plane.following.seats) == 0


async def test_a_server_that_is_full_or_stops_is_not_watched(tmp_path: Path) -> None:
    """The bound of streams holds for watches, and draining lets no new one begin."""
    async with open_bench(tmp_path / "plane.db", server_streams_max=1) as bench:
        async with bench.plane.watch(asked()):
            with pytest.raises(StreamLimit):
                await bench.plane.watch(asked()).__aenter__()
        bench.plane.drain()
        with pytest.raises(Draining):
            await bench.plane.watch(asked()).__aenter__()


# A copy

KEYS = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["resolve", "hide", "start", "through", "reset", "delete", "update"]), KEYS
        ),
        st.tuples(st.just("take"), st.integers(1, 4)),
        st.tuples(st.sampled_from(["come back", "purge"]), st.just("")),
    ),
    max_size=25,
)


@dataclass
class Copy:
    """Somebody who keeps a copy of the visible sessions, and comes back with the newest token whenever it likes. Who is
    told that a token is compacted begins again.
    """

    bench: Bench
    rows: dict[str, Session] = field(default_factory=dict)
    number: int | None = None

    async def open(self) -> None:
        """Watch from where the copy stands."""
        self._context = self.bench.plane.watch(asked(self.number, bench=self.bench))
        try:
            self.watch = await self._context.__aenter__()
        except TokenCompacted:
            self.rows, self.number = {}, None
            await self.open()

    async def leave(self) -> None:
        """Go away."""
        await self._context.__aexit__(None, None, None)

    async def take(self, *, until_caught_up: bool = False) -> None:
        """Take one piece, or all that there is."""
        while True:
            try:
                async with asyncio.timeout(5):
                    piece = await self.watch.next()
            except TokenCompacted:
                await self.leave()
                await self.open()
                continue
            if isinstance(piece, CaughtUp):
                self.number = piece.through
                return
            assert not isinstance(piece, Ended)
            for row in piece.sessions:
                self._keep(row)
            if not until_caught_up:
                return

    def _keep(self, row: Session) -> None:
        if not self.watch.tells(row):
            return
        assert row.change_number > (self.number or 0)
        self.number = row.change_number
        if row.deleted_at_ms is None:
            self.rows[row.session_id] = row
        else:
            self.rows.pop(row.session_id, None)


@given(STEPS)
@settings(max_examples=settings.default.max_examples // 4)
def test_a_copy_that_was_kept_by_watching_is_the_truth(steps: list[tuple[str, Any]]) -> None:
    """However changes, reading and coming back fall, the copy is in the end what the rows say."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(kept(Path(folder) / "plane.db", steps))


async def kept(database: Path, steps: list[tuple[str, Any]]) -> None:
    async with open_bench(
        database, watch_sessions_max=2, progress_after_ms=1, deleted_ttl_ms=GONE_MS
    ) as bench:
        copy = Copy(bench)
        await copy.open()
        for verb, what in steps:
            if verb == "take":
                for _ in range(what):
                    await copy.take()
            elif verb == "come back":
                await copy.leave()
                await copy.open()
            elif verb == "purge":
                await purge(bench)
            else:
                await change(bench, verb, what)
        await copy.leave()
        await copy.open()
        await copy.take(until_caught_up=True)
        await copy.leave()
        rows = bench.plane.read(lambda tx: tx.sessions_changed(NAMESPACE, after=0, limit=1_000))
        assert copy.rows == {
            row.session_id: row
            for row in rows
            if row.deleted_at_ms is None and row.visibility is Visibility.VISIBLE
        }


async def change(bench: Bench, verb: str, name: str) -> None:
    """Let something happen to a session."""
    bench.clock.advance(1_000)
    if verb == "resolve":
        await bench.resolve(name)
    elif verb == "hide":
        await bench.resolve(name, visibility=Visibility.INTERNAL)
    elif verb == "start":
        await bench.start(name)
    elif verb == "through":
        run = (await bench.start(name)).run
        if await bench.claim(run.run_id):
            await bench.publish(run.run_id, "text")
            await bench.finish(run.run_id)
    elif verb == "reset":
        await bench.reset(name)
    elif verb == "delete":
        await bench.delete(name)
    else:
        await bench.resolve(name)
        await bench.update(name, display_name=str(bench.clock.wall))
