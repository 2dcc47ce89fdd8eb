"""One subscriber: catch-up and live without a gap or a repeat, and an end that says why."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from sessionplane.live.feed import Feed
from sessionplane.live.tail import Slice
from tests.support.desks import LIMITS, Desk, events, upto


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
