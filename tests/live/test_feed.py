"""One subscriber: catch-up and live without a gap or a repeat, and an end that says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessionplane.domain.errors import Checksum
from sessionplane.domain.events import Entry, EventKind, Place, SessionMoved
from sessionplane.domain.limits import Limits
from sessionplane.domain.sessions import MoveReason, SessionCause, SessionState
from sessionplane.domain.streams import EVERYTHING, ClosingReason, Filter, Plan, Until
from sessionplane.live.feed import Bookmark, End, Feed, Sources
from sessionplane.live.tail import Slice, Tails
from sessionplane.rpc.streams import read_mark
from tests.support.logs import SESSION_ID, Log
from tests.support.values import key

LIMITS = Limits(batch_events_max=3, tail_events_max=4)
QUICK = Limits(progress_after_ms=5, slow_subscriber_ms=5)
NOW = Place(0, b"")


@dataclass
class Desk:
    """A log that is committed and told of, each when the test says so."""

    limits: Limits = LIMITS
    log: Log = field(default_factory=Log)
    told: int = 0
    pages: int = 0

    def __post_init__(self) -> None:
        self.tails = Tails(self.limits)
        self.readable = asyncio.Event()
        self.readable.set()

    def tell(self, count: int | None = None) -> None:
        """Tell the loop of what was committed and not told of yet."""
        upto = len(self.log.entries) if count is None else min(self.told + count, len(self.log.entries))
        if upto > self.told:
            self.tails.grow(SESSION_ID, self.log.entries[self.told : upto])
            self.told = upto

    async def _page(self, after: Place) -> Sequence[Entry]:
        self.pages += 1
        page = list(self.log.behind(after))[:2]
        await self.readable.wait()
        return page

    @asynccontextmanager
    async def feed(self, begin: Place = NOW, **plan: Any) -> AsyncIterator[Feed]:
        """Open a stream."""
        sources = Sources(page=self._page, head=lambda: len(self.log.entries), mark=read_mark)
        made = Feed(
            session_id=SESSION_ID,
            plan=Plan(begin=begin, **plan),
            tails=self.tails,
            sources=sources,
            limits=self.limits,
        )
        with made as feed:
            yield feed


@pytest.fixture
async def desk() -> Desk:
    return Desk()


def events(pieces: Sequence[Any]) -> bytes:
    return b"".join(piece.data for piece in pieces if isinstance(piece, Slice))


async def rest(feed: Feed) -> tuple[list[Slice | Bookmark], ClosingReason]:
    """Read a feed to its end."""
    pieces: list[Slice | Bookmark] = []
    async with asyncio.timeout(5):
        while not isinstance(piece := await feed.next(), End):
            pieces.append(piece)
    return pieces, piece.reason


async def upto(feed: Feed, sequence: int) -> list[Slice]:
    """Read a feed up to a sequence."""
    pieces: list[Slice] = []
    async with asyncio.timeout(5):
        while feed.cursor.sequence < sequence:
            piece = await feed.next()
            assert isinstance(piece, Slice)
            pieces.append(piece)
    return pieces


async def test_a_late_reader_catches_up_from_the_log(desk: Desk) -> None:
    """What was committed before the stream opened is read in pages, in order, up to the head."""
    desk.log.texts(5)
    async with desk.feed() as feed:
        pieces = await upto(feed, 5)
    assert [piece.through.sequence for piece in pieces] == [2, 4, 5]
    assert events(pieces) == b"".join(entry.data for entry in desk.log.entries)


async def test_a_reader_at_the_head_is_served_from_the_tail(desk: Desk) -> None:
    """What is committed while the stream is open comes without reading the log."""
    desk.log.texts(2)
    desk.tell()
    async with desk.feed(desk.log.head) as feed:
        entries = desk.log.texts(2)
        desk.tell()
        pieces = await upto(feed, 4)
    assert (len(pieces), desk.pages) == (1, 0)
    assert events(pieces) == b"".join(entry.data for entry in entries)


async def test_a_waiting_reader_is_woken(desk: Desk) -> None:
    """A feed that waits gets what comes then, and several commits go out together."""
    async with desk.feed() as feed:
        reading = asyncio.ensure_future(feed.next())
        await asyncio.sleep(0)
        for _ in range(2):
            desk.log.texts(1)
            desk.tell()
        piece = await reading
    assert isinstance(piece, Slice)
    assert piece.count == 2


async def test_followers_at_one_place_share_their_bytes(desk: Desk) -> None:
    """Two readers at the same place get the same object, with room for one encoded frame."""
    async with desk.feed() as one, desk.feed() as two:
        desk.log.texts(2)
        desk.tell()
        assert await one.next() is await two.next()


async def test_who_fell_behind_reads_the_log_and_comes_back(desk: Desk) -> None:
    """A reader whose place has left the tail reads pages, then slices again, without a gap."""
    async with desk.feed() as feed:
        desk.log.texts(LIMITS.tail_events_max * 4)
        desk.tell()
        pieces = await upto(feed, len(desk.log.entries))
        assert desk.pages
        pages = desk.pages
        desk.log.texts(1)
        desk.tell()
        pieces += await upto(feed, len(desk.log.entries))
    assert desk.pages == pages
    assert events(pieces) == b"".join(entry.data for entry in desk.log.entries)


async def test_a_commit_between_the_look_and_the_wait_is_not_missed(desk: Desk) -> None:
    """A commit that comes while a page is being read is delivered behind it, once."""
    desk.log.texts(2)
    async with desk.feed() as feed:
        desk.readable.clear()
        reading = asyncio.ensure_future(feed.next())
        await asyncio.sleep(0)
        desk.log.texts(2)
        desk.tell()
        desk.readable.set()
        pieces = [await reading, *await upto(feed, 4)]
    assert events(pieces) == b"".join(entry.data for entry in desk.log.entries)


async def test_a_commit_that_is_told_of_later_is_read_from_the_log(desk: Desk) -> None:
    """A stream that opens between a commit and its telling gets it once, beside a reader who waits for it."""
    async with desk.feed() as early:
        desk.log.texts(2)
        desk.tell()
        await upto(early, 2)
        desk.log.texts(2)
        async with desk.feed(desk.log.place(2)) as late:
            pieces = await upto(late, 4)
            desk.tell()
            desk.log.texts(1)
            desk.tell()
            pieces += await upto(late, 5)
            assert events(pieces) == b"".join(entry.data for entry in desk.log.entries[2:])
            assert events(await upto(early, 5)) == events(pieces)


@dataclass(frozen=True)
class Step:
    """One move of an interleaving."""

    verb: str
    number: int


STEPS = st.lists(
    st.builds(
        Step,
        verb=st.sampled_from(["commit", "tell", "open", "hold", "let go", "turn"]),
        number=st.integers(0, 6),
    ),
    max_size=25,
)


@given(STEPS)
@example(
    [Step("open", 0), Step("commit", 2), Step("tell", 2), Step("commit", 2), Step("open", 2), Step("turn", 5)]
)
def test_every_interleaving_delivers_each_event_once(steps: list[Step]) -> None:
    """However commits, their telling, page reads and new readers fall, each reader gets all behind its place, once."""
    asyncio.run(interleave(steps))


class Readers:
    """Readers that take whatever comes, until the test is over."""

    def __init__(self, desk: Desk, stack: AsyncExitStack) -> None:
        self._desk = desk
        self._stack = stack
        self._over = False
        self._readings: list[tuple[int, asyncio.Task[list[Slice]]]] = []

    async def open(self, begin: int) -> None:
        """Let one more reader begin behind a sequence."""
        feed = await self._stack.enter_async_context(self._desk.feed(self._desk.log.place(begin)))
        self._readings.append((begin, asyncio.ensure_future(self._read(feed))))

    async def _read(self, feed: Feed) -> list[Slice]:
        pieces: list[Slice] = []
        while not (self._over and feed.cursor == self._desk.log.head):
            piece = await feed.next()
            if isinstance(piece, Slice):
                pieces.append(piece)
        return pieces

    async def finish(self) -> list[tuple[int, list[Slice]]]:
        """Tell of everything and one event more; return what each reader got."""
        self._desk.readable.set()
        self._desk.log.texts(1)
        self._over = True
        self._desk.tell()
        async with asyncio.timeout(5):
            return [(begin, await reading) for begin, reading in self._readings]


async def interleave(steps: list[Step]) -> None:
    desk = Desk()
    async with AsyncExitStack() as stack:
        readers = Readers(desk, stack)
        for step in steps:
            match step.verb:
                case "commit":
                    desk.log.texts(step.number)
                case "tell":
                    desk.tell(step.number)
                case "open":
                    await readers.open(min(step.number, len(desk.log.entries)))
                case "hold":
                    desk.readable.clear()
                case "let go":
                    desk.readable.set()
            await turns(step.number if step.verb == "turn" else 1)
        for begin, pieces in await readers.finish():
            assert events(pieces) == b"".join(entry.data for entry in desk.log.entries[begin:])
            assert all(before.through == after.after for before, after in pairwise(pieces))


async def turns(count: int) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_filter_accounts_for_what_it_drops(desk: Desk) -> None:
    """A reader of one run moves past other events without being given them."""
    desk.log.text("a", run_id="run_1")
    desk.log.text("b", run_id="run_2")
    desk.log.terminal("run_2")
    desk.log.text("c", run_id="run_1")
    async with desk.feed(filter=Filter(run_id="run_1")) as feed:
        pieces = await upto(feed, 4)
    assert events(pieces) == desk.log.entries[0].data + desk.log.entries[3].data


async def test_run_end_is_the_end_of_that_run(desk: Desk) -> None:
    """RUN_END stops behind the terminal of the run that is waited for, and nothing behind it is delivered."""
    desk.log.text("a")
    desk.log.terminal("run_2")
    desk.log.terminal("run_1")
    desk.log.texts(1)
    async with desk.feed(until=Until.RUN_END, until_run_id="run_1") as feed:
        pieces, reason = await rest(feed)
        assert feed.cursor == desk.log.place(3)
    assert reason is ClosingReason.RUN_END
    assert events(pieces) == b"".join(entry.data for entry in desk.log.entries[:3])


async def test_a_terminal_ends_a_stream_that_does_not_show_it(desk: Desk) -> None:
    """A filter on another run hides the terminal, and the stream ends all the same."""
    desk.log.terminal("run_1")
    async with desk.feed(until=Until.RUN_END, until_run_id="run_1", filter=Filter(run_id="run_2")) as feed:
        assert await rest(feed) == ([], ClosingReason.RUN_END)


async def test_the_next_run_is_found_and_announced(desk: Desk) -> None:
    """Without a run in the lane the first one recorded behind the place is waited for, and named in a bookmark."""
    desk.log.input("run_0")
    async with desk.feed(until=Until.RUN_END, discover_after=1) as feed:
        await upto(feed, 1)
        assert feed.until_run_id == ""
        desk.log.input("run_1")
        desk.log.input("run_2")
        desk.tell()
        piece, bookmark = await feed.next(), await feed.next()
        assert isinstance(piece, Slice)
        assert isinstance(bookmark, Bookmark)
        assert (feed.until_run_id, bookmark.through) == ("run_1", desk.log.place(3))
        desk.log.terminal("run_2")
        desk.log.terminal("run_1")
        desk.tell()
        assert (await rest(feed))[1] is ClosingReason.RUN_END


async def test_a_run_that_begins_and_ends_in_one_slice_is_found(desk: Desk) -> None:
    """The input and the terminal may come together: the stream ends with that run."""
    desk.log.input("run_1")
    desk.log.terminal("run_1")
    desk.log.texts(1)
    async with desk.feed(until=Until.RUN_END) as feed:
        pieces, reason = await rest(feed)
    assert (reason, events(pieces)) == (
        ClosingReason.RUN_END,
        desk.log.entries[0].data + desk.log.entries[1].data,
    )


@pytest.mark.parametrize(("generation", "stops_at"), [(0, 2), (1, 2), (2, 4)])
async def test_session_end_is_the_end_of_that_generation(desk: Desk, generation: int, stops_at: int) -> None:
    """SESSION_END stops behind the end of the generation it waits for; 0 is the first end that comes."""
    desk.log.texts(1)
    desk.log.session(SessionState.ENDED, SessionCause.RUN_ENDED, generation=1)
    desk.log.session(SessionState.CREATED, SessionCause.RESUMED, generation=2)
    desk.log.session(SessionState.ENDED, SessionCause.RUN_ENDED, generation=2)
    async with desk.feed(until=Until.SESSION_END, until_generation=generation) as feed:
        assert (await rest(feed))[1] is ClosingReason.SESSION_END
        assert feed.cursor.sequence == stops_at


async def test_a_stream_for_ever_goes_on_behind_an_end(desk: Desk) -> None:
    """A session's end stops no stream that did not wait for it: the session may come back."""
    desk.log.session(SessionState.ENDED, SessionCause.RUN_ENDED)
    desk.log.texts(1)
    async with desk.feed() as feed:
        await upto(feed, 2)


@pytest.mark.parametrize("until", [None, Until.RUN_END, Until.SESSION_END])
async def test_losing_the_key_ends_every_stream(desk: Desk, until: Until | None) -> None:
    """Behind the event that takes the key away a stream is over, SESSION_FINAL."""
    moved = SessionMoved(key=key(), reason=MoveReason.RESET, other_session_id="ses_2", holds=False)
    desk.log.texts(1)
    desk.log.add(moved)
    async with desk.feed(until=until, until_run_id="run_9") as feed:
        assert (await rest(feed))[1] is ClosingReason.SESSION_FINAL


async def test_gaining_a_key_ends_nothing(desk: Desk) -> None:
    """A session that is bound goes on."""
    desk.log.add(SessionMoved(key=key(), reason=MoveReason.BOUND, holds=True))
    desk.log.texts(1)
    async with desk.feed() as feed:
        await upto(feed, 2)


async def test_caught_up_is_the_head_at_opening(desk: Desk) -> None:
    """A goal that is known as the stream opens ends it there, or at once if it is there already."""
    desk.log.texts(3)
    goal = {"goal": 3, "goal_reason": ClosingReason.CAUGHT_UP}
    async with desk.feed(until=Until.CAUGHT_UP, **goal) as feed:
        pieces, reason = await rest(feed)
        assert reason is ClosingReason.CAUGHT_UP
        assert events(pieces) == b"".join(entry.data for entry in desk.log.entries)
    async with desk.feed(desk.log.head, until=Until.CAUGHT_UP, **goal) as feed:
        assert await rest(feed) == ([], ClosingReason.CAUGHT_UP)


async def test_what_was_waited_for_wins_over_the_servers_end(desk: Desk) -> None:
    """A stream that has delivered its run's end says so, also when the server stops meanwhile."""
    desk.log.terminal("run_1")
    async with desk.feed(until=Until.RUN_END, until_run_id="run_1") as feed:
        assert isinstance(await feed.next(), Slice)
        feed.end(ClosingReason.DRAINING)
        assert (await rest(feed))[1] is ClosingReason.RUN_END


async def test_the_servers_end_reaches_a_waiting_reader(desk: Desk) -> None:
    """A feed that waits is woken by its end, and the first reason stays."""
    async with desk.feed() as feed:
        reading = asyncio.ensure_future(feed.next())
        await asyncio.sleep(0)
        feed.end(ClosingReason.DISCONNECTED)
        feed.end(ClosingReason.DRAINING)
        assert await reading == End(reason=ClosingReason.DISCONNECTED, through=NOW)


async def test_silence_is_broken_by_a_bookmark() -> None:
    """After progress_after_ms without a frame there is a sign of life that says where the reader stands."""
    desk = Desk(limits=QUICK)
    desk.log.texts(1)
    async with desk.feed(desk.log.head) as feed, asyncio.timeout(5):
        for _ in range(2):
            assert await feed.next() == Bookmark(through=desk.log.head, caught_up=True, lag=0)
            feed.writing(begins=True)
            feed.writing(begins=False)


async def test_a_bookmark_moves_past_what_was_filtered() -> None:
    """Silence because of a filter is accounted for, too."""
    desk = Desk(limits=QUICK)
    async with desk.feed(filter=Filter(run_id="run_2")) as feed, asyncio.timeout(5):
        desk.log.texts(3)
        desk.tell()
        assert await feed.next() == Bookmark(through=desk.log.head, caught_up=True, lag=0)


async def test_a_write_that_stands_still_is_noticed() -> None:
    """A subscriber that does not read for slow_subscriber_ms is reported, once."""
    desk = Desk(limits=QUICK)
    stalls: list[int] = []
    stalled = asyncio.Event()

    def stall() -> None:
        stalls.append(1)
        stalled.set()

    async with desk.feed() as feed, asyncio.timeout(5):
        feed.on_stall = stall
        feed.writing(begins=True)
        await stalled.wait()
    assert stalls == [1]


async def test_a_write_that_ends_in_time_is_no_stall() -> None:
    """Writing again and again is not standing still."""
    desk = Desk(limits=QUICK)
    stalls: list[int] = []
    async with desk.feed() as feed, asyncio.timeout(5):
        feed.on_stall = lambda: stalls.append(1)
        for _ in range(3):
            feed.writing(begins=True)
            feed.writing(begins=False)
            assert isinstance(await feed.next(), Bookmark)
    assert stalls == []


async def test_leaving_stops_the_timer_and_the_following(desk: Desk) -> None:
    """A feed that was left is woken by nothing, and is not counted."""
    async with desk.feed() as feed:
        assert len(desk.tails) == 1
    assert len(desk.tails) == 0
    assert feed._timer is not None
    assert feed._timer.cancelled()


async def test_a_damaged_log_is_not_served(desk: Desk) -> None:
    """What reading the log raises reaches the reader."""

    async def damaged(_: Place) -> Sequence[Entry]:
        raise Checksum(session_id=SESSION_ID, sequence=1)

    desk.log.texts(1)
    desk._page = damaged  # type: ignore[method-assign]
    async with desk.feed() as feed:
        with pytest.raises(Checksum):
            await feed.next()


def test_marks_are_all_that_a_feed_decides_by() -> None:
    """The kinds that a feed looks into are session changes, key moves, inputs and terminals."""
    log = Log()
    log.session(SessionState.ENDED, SessionCause.CLOSED, generation=3)
    log.add(SessionMoved(key=key(), reason=MoveReason.DELETED, holds=False))
    piece = Slice(NOW, log.entries, EVERYTHING)
    assert [mark.kind for mark in piece.marks] == [EventKind.SESSION_CHANGED, EventKind.SESSION_MOVED]
    assert [read_mark(mark).ended_generation for mark in piece.marks] == [3, 0]
    assert [read_mark(mark).key_lost for mark in piece.marks] == [False, True]
