"""A log that is committed and told of, each when a test says so, and readers of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sessionplane.domain.events import Entry, Place
from sessionplane.domain.limits import Limits
from sessionplane.domain.streams import ClosingReason, Plan
from sessionplane.live.feed import Bookmark, End, Feed, Sources
from sessionplane.live.tail import Slice, Tails
from sessionplane.rpc.streams import read_mark
from sessionplane.store import codec
from tests.support.logs import SESSION_ID, Log

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
        self.tails = Tails(self.limits, codec.custom_type)
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
        sources = Sources(
            page=self._page, head=lambda: len(self.log.entries), mark=read_mark, type_of=codec.custom_type
        )
        made = Feed(
            session_id=SESSION_ID,
            plan=Plan(begin=begin, **plan),
            tails=self.tails,
            sources=sources,
            limits=self.limits,
        )
        with made as feed:
            yield feed


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
