"""How a stream goes on and ends: what it waits for, the signs of life in between, and why it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sessionplane.domain.errors import Checksum, SessionNotFound
from sessionplane.domain.events import Entry, EventKind, Place, SessionMoved
from sessionplane.domain.sessions import MoveReason, SessionCause, SessionState
from sessionplane.domain.streams import EVERYTHING, ClosingReason, Filter, Until
from sessionplane.live.feed import Bookmark, End
from sessionplane.live.tail import Slice
from sessionplane.rpc.streams import read_mark
from sessionplane.store import codec
from tests.support.desks import NOW, QUICK, Desk, events, rest, upto
from tests.support.logs import SESSION_ID, Log
from tests.support.values import key


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


LOST = {
    reason: SessionMoved(key=key(), reason=reason, other_session_id="ses_2", holds=False)
    for reason in (MoveReason.RESET, MoveReason.ROLLED_OVER, MoveReason.MERGED, MoveReason.DELETED)
}
WHY = dict.fromkeys(LOST, ClosingReason.SESSION_FINAL) | {MoveReason.DELETED: ClosingReason.SESSION_DELETED}


@pytest.mark.parametrize("reason", LOST)
@pytest.mark.parametrize("until", [None, Until.RUN_END, Until.SESSION_END])
async def test_the_last_event_of_a_session_ends_every_stream(
    desk: Desk, until: Until | None, reason: MoveReason
) -> None:
    """Behind the event that takes the key for good, or tells of the deletion, a stream is over, and says which."""
    desk.log.texts(1)
    desk.log.add(LOST[reason])
    desk.log.texts(1)
    async with desk.feed(until=until, until_run_id="run_9") as feed:
        pieces, ended_by = await rest(feed)
    assert (ended_by, feed.cursor.sequence) == (WHY[reason], 2)
    assert events(pieces) == b"".join(entry.data for entry in desk.log.entries[:2])


@pytest.mark.parametrize("reason", LOST)
async def test_what_was_delivered_wins_over_the_session_s_end(desk: Desk, reason: MoveReason) -> None:
    """In a reset or a deletion the run's terminal and the change to ENDED come first: who waited for them gets OK."""
    desk.log.terminal("run_1")
    desk.log.session(SessionState.ENDED, SessionCause.SUPERSEDED)
    desk.log.add(LOST[reason])
    for plan, ended_by in (
        ({"until": Until.RUN_END, "until_run_id": "run_1"}, ClosingReason.RUN_END),
        ({"until": Until.SESSION_END, "until_generation": 1}, ClosingReason.SESSION_END),
        (
            {"until": Until.CAUGHT_UP, "goal": 1, "goal_reason": ClosingReason.CAUGHT_UP},
            ClosingReason.CAUGHT_UP,
        ),
        (
            {"until": Until.CAUGHT_UP, "goal": 3, "goal_reason": ClosingReason.CAUGHT_UP},
            ClosingReason.CAUGHT_UP,
        ),
        ({"goal": 3, "goal_reason": ClosingReason.SESSION_FINAL}, WHY[reason]),
        ({"until": Until.SESSION_END, "until_generation": 2}, WHY[reason]),
    ):
        async with desk.feed(**plan) as feed:
            assert (await rest(feed))[1] is ended_by


@pytest.mark.parametrize(
    "reason", [ClosingReason.CAUGHT_UP, ClosingReason.SESSION_END, ClosingReason.SESSION_FINAL]
)
async def test_a_late_reader_is_shown_what_came_after_the_session_s_end(
    desk: Desk, reason: ClosingReason
) -> None:
    """A late result may lie behind the event that took the key: whoever opens after it is shown the whole log."""
    desk.log.add(LOST[MoveReason.RESET])
    desk.log.texts(1)
    async with desk.feed(
        until=Until(reason) if reason in set(Until) else None, goal=2, goal_reason=reason
    ) as feed:
        pieces, ended_by = await rest(feed)
    assert (ended_by, feed.cursor.sequence) == (reason, 2)
    assert events(pieces) == b"".join(entry.data for entry in desk.log.entries)


async def test_nothing_behind_a_goal_is_delivered(desk: Desk) -> None:
    """What came after the place at which the stream is over stays for the next one, whose token is that place."""
    desk.log.texts(1)
    async with desk.feed(until=Until.CAUGHT_UP, goal=1, goal_reason=ClosingReason.CAUGHT_UP) as feed:
        desk.log.texts(1)
        desk.tell()
        pieces, _ = await rest(feed)
    assert (events(pieces), feed.cursor) == (desk.log.entries[0].data, desk.log.place(1))


async def test_a_session_that_was_removed_for_good_is_not_waited_for(desk: Desk) -> None:
    """A log that is gone under a slow reader is told as such."""
    desk.log.texts(1)
    async with desk.feed() as feed:
        desk.log.entries.clear()
        with pytest.raises(SessionNotFound):
            await feed.next()


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
            feed.pulse.writing(begins=True)
            feed.pulse.writing(begins=False)


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
        feed.pulse.on_stall = stall
        feed.pulse.writing(begins=True)
        await stalled.wait()
    assert stalls == [1]


async def test_a_write_that_ends_in_time_is_no_stall() -> None:
    """Writing again and again is not standing still."""
    desk = Desk(limits=QUICK)
    stalls: list[int] = []
    async with desk.feed() as feed, asyncio.timeout(5):
        feed.pulse.on_stall = lambda: stalls.append(1)
        for _ in range(3):
            feed.pulse.writing(begins=True)
            feed.pulse.writing(begins=False)
            assert isinstance(await feed.next(), Bookmark)
    assert stalls == []


async def test_leaving_stops_the_timer_and_the_following(desk: Desk) -> None:
    """A feed that was left is woken by nothing, and is not counted."""
    async with desk.feed() as feed:
        assert len(desk.tails) == 1
    assert len(desk.tails) == 0
    assert feed.pulse._timer is None


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
    piece = Slice(NOW, log.entries, EVERYTHING, codec.custom_type)
    assert [mark.kind for mark in piece.marks] == [EventKind.SESSION_CHANGED, EventKind.SESSION_MOVED]
    assert [read_mark(mark).ended_generation for mark in piece.marks] == [3, 0]
    assert [read_mark(mark).last for mark in piece.marks] == [None, ClosingReason.SESSION_DELETED]
