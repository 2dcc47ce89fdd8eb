"""Watching: each changed session once as it is now, nothing missed, one reading for all who stand at one place."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from sessionplane.domain.errors import StoreFailed, TokenCompacted
from sessionplane.domain.limits import Limits
from sessionplane.domain.sessions import Session, Visibility
from sessionplane.domain.streams import ClosingReason
from sessionplane.live.watch import CaughtUp, Changes, Ended, Watch, Watches
from tests.support.values import NAMESPACE, NOW_MS, session
from tests.support.virtual import run_virtual

PAGE = 3


@dataclass
class Room:
    """A namespace whose sessions change, and are told of, when a test says so."""

    limits: Limits = field(default_factory=Limits)
    rows: dict[str, Session] = field(default_factory=dict)
    number: int = 0
    floor: int = 0
    reads: list[int] = field(default_factory=list)
    failure: Exception | None = None

    def __post_init__(self) -> None:
        self.watches = Watches(self._read)
        self.readable = asyncio.Event()
        self.readable.set()

    async def _read(self, namespace: str, after: int) -> Changes:
        assert namespace == NAMESPACE
        self.reads.append(after)
        rows = sorted(self.rows.values(), key=lambda row: row.change_number)
        found = [row for row in rows if row.change_number > after][:PAGE]
        more = len(found) == PAGE
        through = found[-1].change_number if more else self.number
        page = Changes(sessions=found, through=through, more=more, floor=self.floor)
        await self.readable.wait()
        if self.failure is not None:
            raise self.failure
        return page

    def change(self, *numbers: int, tell: bool = True, **changed: Any) -> None:
        """Write sessions in one commit."""
        for each in numbers:
            self.number += 1
            row = session(each, change_number=self.number, **changed)
            self.rows[row.session_id] = row
        if tell:
            self.watches.changed(NAMESPACE)

    def watch(self, *, begin: int = 0, goal: int | None = None, **given: Any) -> Watch:
        """Watch from a number; without one from nothing."""
        return Watch(
            namespace=NAMESPACE,
            begin=begin,
            goal=self.number if goal is None else goal,
            fresh=given.pop("fresh", not begin),
            show_internal=given.pop("show_internal", False),
            watches=self.watches,
            limits=self.limits,
            **given,
        )


@pytest.fixture
async def room() -> Room:
    return Room()


def told(piece: Any, watch: Watch) -> list[str]:
    assert isinstance(piece, Changes)
    return [
        f"{row.change_number}:{int(row.session_id[-4:], 16)}" for row in piece.sessions if watch.tells(row)
    ]


async def until_caught_up(watch: Watch) -> list[str]:
    """Take what is told before the watch has caught up."""
    found: list[str] = []
    async with asyncio.timeout(5):
        while not isinstance(piece := await watch.next(), CaughtUp):
            found += told(piece, watch)
    return found


async def turns() -> None:
    """Let everybody come to where they wait."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_fresh_watch_is_told_of_every_session_and_then_that_it_is(room: Room) -> None:
    """All pages of what is there, the oldest change first, then `caught up` once, then nothing."""
    room.change(1, 2, 3, 4, 5, 6, 7)
    with room.watch() as watch:
        assert await until_caught_up(watch) == ["1:1", "2:2", "3:3", "4:4", "5:5", "6:6", "7:7"]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await watch.next()
    assert room.reads == [0, 3, 6]


async def test_an_empty_namespace_has_been_told_at_once(room: Room) -> None:
    """Somebody who waits for the first session knows that there is none."""
    with room.watch() as watch:
        assert await watch.next() == CaughtUp(0)
        room.change(1)
        assert told(await watch.next(), watch) == ["1:1"]


async def test_a_resumed_watch_is_told_of_what_changed_since(room: Room) -> None:
    """Rows above the number, then that this was all; with nothing new that comes at once."""
    room.change(1, 2, 3)
    with room.watch(begin=2) as watch:
        assert await until_caught_up(watch) == ["3:3"]
    with room.watch(begin=3) as watch:
        assert await watch.next() == CaughtUp(3)


async def test_who_was_busy_is_told_once(room: Room) -> None:
    """A session that changed ten times meanwhile is told of once, as it is now."""
    room.change(1, 2)
    with room.watch() as watch:
        await until_caught_up(watch)
        for name in range(10):
            room.change(1, display_name=str(name))
        piece = await watch.next()
    assert told(piece, watch) == ["12:1"]
    assert isinstance(piece, Changes)
    assert piece.sessions[0].display_name == "9"


async def test_a_waiting_watch_is_woken_by_a_change_of_its_namespace_only(room: Room) -> None:
    """Somebody else's changes are not even looked for."""
    with room.watch() as watch:
        await until_caught_up(watch)
        reading = asyncio.ensure_future(watch.next())
        await turns()
        reads = len(room.reads)
        room.watches.changed("other")
        await turns()
        assert (reading.done(), len(room.reads)) == (False, reads)
        room.change(1)
        assert told(await reading, watch) == ["1:1"]


async def test_a_change_during_a_reading_is_not_missed(room: Room) -> None:
    """What is committed while a page is being read is told of behind it."""
    room.change(1)
    with room.watch() as watch:
        room.readable.clear()
        reading = asyncio.ensure_future(watch.next())
        await turns()
        room.change(2)
        room.readable.set()
        assert told(await reading, watch) == ["1:1"]
        assert isinstance(await watch.next(), CaughtUp)
        assert told(await watch.next(), watch) == ["2:2"]


async def test_a_commit_that_is_told_of_later_is_told_once(room: Room) -> None:
    """A page may hold a commit that the loop is still to be told of; nothing comes twice for it."""
    with room.watch() as watch:
        assert await watch.next() == CaughtUp(0)
        room.change(1, tell=False)
        assert told(await watch.next(), watch) == ["1:1"]
        room.watches.changed(NAMESPACE)
        room.change(2)
        assert told(await watch.next(), watch) == ["2:2"]


async def test_all_who_stand_at_one_place_share_one_reading(room: Room) -> None:
    """A change costs one read however many watch, and they get the very same object with room for its frames."""
    room.change(1)
    watches = [room.watch() for _ in range(50)]
    for watch in watches:
        watch.__enter__()
    pieces = await asyncio.gather(*(watch.next() for watch in watches))
    assert len({id(piece) for piece in pieces}) == 1
    room.change(1)
    pieces = await asyncio.gather(*(until_caught_up(watch) for watch in watches))
    pieces = await asyncio.gather(*(watch.next() for watch in watches))
    assert len({id(piece) for piece in pieces}) == 1
    assert room.reads == [0, 1]
    for watch in watches:
        watch.__exit__()


async def test_one_who_leaves_takes_the_reading_from_nobody(room: Room) -> None:
    """A watch that is cancelled while a page is read does not cancel it for the others."""
    room.change(1)
    room.readable.clear()
    with room.watch() as leaving, room.watch() as staying:
        one, two = asyncio.ensure_future(leaving.next()), asyncio.ensure_future(staying.next())
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.sleep(0)
        room.readable.set()
        assert told(await two, staying) == ["1:1"]
    assert one.cancelled()


async def test_a_failed_reading_is_everybodys_and_nobodys_later(room: Room) -> None:
    """Who read together fails together; who comes later reads anew."""
    room.change(1)
    room.failure = StoreFailed()
    with room.watch() as one, room.watch() as two, room.watch() as later:
        outcomes = await asyncio.gather(one.next(), two.next(), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreFailed, StoreFailed]
        room.failure = None
        assert told(await later.next(), later) == ["1:1"]


async def test_nothing_that_was_read_is_kept(room: Room) -> None:
    """Who comes later reads anew, since not all that is shown of a session changes its number."""
    room.change(1)
    with room.watch() as one, room.watch() as two:
        piece = await one.next()
        assert room.watches._boards[NAMESPACE]._readings == {}
        assert await two.next() is not piece
    assert room.reads == [0, 0]
    assert room.watches._boards == {}


async def test_hidden_sessions_are_told_of_on_request_only(room: Room) -> None:
    """Nobody else hears of them, deleted or not; one that becomes visible comes like any changed row."""
    room.change(1, visibility=Visibility.INTERNAL)
    room.change(2)
    with room.watch() as plain, room.watch(show_internal=True) as whole:
        assert await until_caught_up(plain) == ["2:2"]
        assert await until_caught_up(whole) == ["1:1", "2:2"]
        room.change(1, visibility=Visibility.INTERNAL, deleted_at_ms=NOW_MS)
        assert told(await plain.next(), plain) == []
        assert told(await whole.next(), whole) == ["3:1"]
        room.change(1)
        assert told(await plain.next(), plain) == ["4:1"]


async def test_who_knows_nothing_is_not_told_of_what_was_deleted_before(room: Room) -> None:
    """A fresh watch begins with what exists; what is deleted while it reads that is told of, and so to who resumes."""
    room.change(1, 2, 3, 4)
    room.change(2, deleted_at_ms=NOW_MS)
    with room.watch() as watch:
        assert told(await watch.next(), watch) == ["1:1", "3:3", "4:4"]
        room.change(1, deleted_at_ms=NOW_MS)
        assert await until_caught_up(watch) == ["6:1"]
    with room.watch(begin=4) as resumed:
        assert await until_caught_up(resumed) == ["5:2", "6:1"]


async def test_what_was_removed_for_good_and_never_told_ends_a_watch(room: Room) -> None:
    """Whoever could have missed a removal is told to begin again; a fresh watch misses nothing that went before it."""
    room.change(1, 2, 3, 4, 5)
    room.rows.pop(session(5).session_id)
    room.floor = 5
    with room.watch(begin=4) as behind, pytest.raises(TokenCompacted):
        await until_caught_up(behind)
    with room.watch(begin=5) as there:
        assert await there.next() == CaughtUp(5)
    with room.watch() as fresh:
        assert await until_caught_up(fresh) == ["1:1", "2:2", "3:3", "4:4"]
    with room.watch() as slow:
        await slow.next()
        room.change(1, 2)
        room.rows.pop(session(2).session_id)
        room.floor = 7
        with pytest.raises(TokenCompacted):
            await slow.next()


async def test_an_end_comes_before_everything_else(room: Room) -> None:
    """A watch that is to end tells no more, and the first reason stays; one that waits is woken."""
    room.change(1)
    with room.watch() as watch:
        watch.end(ClosingReason.DISCONNECTED)
        watch.end(ClosingReason.DRAINING)
        assert await watch.next() == Ended(ClosingReason.DISCONNECTED)
    with room.watch(begin=1) as waiting:
        await until_caught_up(waiting)
        ending = asyncio.ensure_future(waiting.next())
        await asyncio.sleep(0)
        waiting.end(ClosingReason.DRAINING)
        assert await ending == Ended(ClosingReason.DRAINING)


def test_silence_is_broken_and_no_watch_grows_too_old() -> None:
    """After progress_after_ms without a frame comes a sign of life."""
    assert run_virtual(lived(Room)) == [
        (0, "caught up"),
        (10, "caught up"),
        (20, "caught up"),
        (25, "MAX_AGE"),
    ]


class Busy(Room):
    """A namespace in which a hidden session changes all the time, so that there is always something to read."""

    async def _read(self, namespace: str, after: int) -> Changes:
        page = await super()._read(namespace, after)
        await asyncio.sleep(4)
        self.change(1, visibility=Visibility.INTERNAL)
        return page


def test_silence_is_broken_while_there_is_much_that_is_not_told() -> None:
    """Who is not shown what happens sees at least that the watch lives."""
    assert run_virtual(lived(Busy)) == [
        (0, "caught up"),
        (12, "caught up"),
        (24, "caught up"),
        (28, "MAX_AGE"),
    ]


async def lived(kind: type[Room]) -> list[tuple[float, str]]:
    """Let a watch grow old; return its frames, and when they came."""
    room = kind(limits=Limits(progress_after_ms=10_000))
    loop = asyncio.get_running_loop()
    happened: list[tuple[float, str]] = []
    with room.watch(age_s=25) as watch:
        while not isinstance(piece := await watch.next(), Ended):
            if isinstance(piece, CaughtUp):
                happened.append((loop.time(), "caught up"))
                watch.pulse.writing(begins=True)
                watch.pulse.writing(begins=False)
        happened.append((loop.time(), piece.reason))
    return happened
