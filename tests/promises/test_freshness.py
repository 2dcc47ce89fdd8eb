"""freshness: a conversation goes on until its policy says otherwise, and only what a user does counts as use.

Seen in the wild: bookkeeping kept sessions fresh for ever; a timer reset one at the wrong moment and thousands of
messages were lost; one rolled over under a live run; after every restart each key had a new session, since a file's
time was taken for the conversation's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.clock import FakeClock
from tests.support.serving import Served, serving
from tests.support.story import check_log, story
from tests.support.wire import Wire

KEY = "agent:main:main"
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
IDLE = {"main": {"idle": {"minutes": 10}}}
BERLIN = ZoneInfo("Europe/Berlin")
ROLLED_OVER = session_pb2.RESOLUTION_ROLLED_OVER
EXISTING = session_pb2.RESOLUTION_EXISTING
SYSTEM = session_pb2.INTERACTION_SYSTEM


@pytest.fixture
def clock() -> FakeClock:
    """The clock of the server: it stands still until a test lets time pass."""
    return FakeClock()


@pytest.fixture
async def server(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Served]:
    """A server whose main sessions go stale after ten idle minutes."""
    async with serving(tmp_path / "plane.db", clock=clock, freshness=IDLE) as served:
        yield served


def at(year: int, month: int, day: int, hour: int, minute: int = 0) -> int:
    """A moment by the clocks of Berlin, in ms."""
    return int(datetime(year, month, day, hour, minute, tzinfo=BERLIN).timestamp() * 1000)


async def rolled(wire: Wire, key: str = KEY) -> bool:
    """Come as a user, and say whether the key has a new session for that."""
    return (await wire.resolve(key)).resolution == ROLLED_OVER


async def _label(wire: Wire) -> None:
    await wire.update(KEY, labels={"seen": str((await wire.get(KEY)).session.etag)})


async def _read(wire: Wire) -> None:
    await wire.get(KEY)
    await wire.log(KEY)
    await wire.sessions.ListSessions(pb.ListSessionsRequest())


async def _look_on(wire: Wire) -> None:
    async with wire.stream(KEY, presence=session_pb2.PRESENCE_OBSERVER):
        pass


async def _attach(wire: Wire) -> None:
    async with wire.stream(KEY):
        pass


async def _resolve_by_timer(wire: Wire) -> None:
    assert (await wire.resolve(KEY, interaction=SYSTEM)).resolution == EXISTING
    hidden = session_pb2.VISIBILITY_INTERNAL
    assert (await wire.resolve(KEY, visibility=hidden)).resolution == EXISTING


async def _work_by_timer(wire: Wire) -> None:
    started = await wire.sessions.StartRun(
        pb.StartRunRequest(session=SessionRef(key=KEY), interaction=SYSTEM)
    )
    held = await wire.hold(started.run.run_id)
    await wire.publish(held, "ping")
    await wire.heartbeat(held)
    await wire.finish(held)


async def _interrupt(wire: Wire) -> None:
    await wire.interrupt(KEY)


BOOKKEEPING: list[Callable[[Wire], Awaitable[None]]] = [
    _label,
    _read,
    _look_on,
    _attach,
    _resolve_by_timer,
    _work_by_timer,
    _interrupt,
]


@pytest.mark.parametrize("bookkeeping", BOOKKEEPING)
async def test_bookkeeping_keeps_no_session_fresh(
    server: Served, clock: FakeClock, bookkeeping: Callable[[Wire], Awaitable[None]]
) -> None:
    """What is done every minute without a user is not use: the user who comes at last gets a new session."""
    wire = server.wire
    old = (await wire.resolve(KEY)).session.session_id
    for _ in range(11):
        clock.advance(MINUTE_MS)
        await bookkeeping(wire)
        assert (await wire.get(KEY)).session.session_id == old
    assert await rolled(wire)


async def test_use_keeps_a_session_fresh_for_as_long_as_it_lasts(server: Served, clock: FakeClock) -> None:
    """A user who comes every nine minutes, by whatever call, has one session all day."""
    wire = server.wire
    old = (await wire.resolve(KEY)).session.session_id
    resolve = pb.ResolveSessionRequest(session=SessionRef(key=KEY))
    for turn in range(24):
        clock.advance(9 * MINUTE_MS)
        if turn % 3 == 0:
            assert not await rolled(wire)
        elif turn % 3 == 1:
            started = await wire.start(KEY)
            await wire.run_through(started.run.run_id, "answer")
        else:
            async with wire.stream(resolve=resolve) as stream:
                assert stream.opened.resolution == EXISTING
    assert (await wire.get(KEY)).session.session_id == old


async def test_a_stale_session_is_judged_before_it_is_touched(server: Served, clock: FakeClock) -> None:
    """Coming back is no use of the old session: it rolls over once, also if the answer was lost and asked for again."""
    wire = server.wire
    old = (await wire.resolve(KEY)).session
    clock.advance(HOUR_MS)
    first = await wire.resolve(KEY, request_id="r1")
    again = await wire.resolve(KEY, request_id="r1")
    assert first.resolution == again.resolution == ROLLED_OVER
    assert first.session.session_id == again.session.session_id != old.session_id
    assert first.previous_session_id == again.previous_session_id == old.session_id
    left = (await wire.get(session_id=old.session_id)).session
    assert left.last_interaction_time == old.last_interaction_time


async def test_nothing_of_what_was_said_is_lost(server: Served, clock: FakeClock) -> None:
    """The old session is listed and read as before, and each names the other."""
    wire = server.wire
    old = (await wire.start(KEY, text="remember this")).session.session_id
    await wire.run_through((await wire.get(KEY)).session.active_run_id, "I will")
    before = story(await wire.log(KEY))
    clock.advance(HOUR_MS)
    new = (await wire.start(KEY)).session
    assert new.previous_session_id == old
    log = await wire.log(session_id=old)
    check_log(log)
    assert story(log) == [*before, "session DETACHED>ENDED", "key ROLLED_OVER"]
    listed = (await wire.sessions.ListSessions(pb.ListSessionsRequest())).sessions
    assert {session.session_id for session in listed} == {old, new.session_id}


async def test_a_session_never_rolls_over_under_a_run(server: Served, clock: FakeClock) -> None:
    """While a run is under way or waits, its session is the key's, however long ago a user was there."""
    wire = server.wire
    held = await wire.hold((await wire.start(KEY)).run.run_id)
    queued = (await wire.start(KEY)).run.run_id
    for _ in range(5):
        # One sweep of the server's sees how late it is, and grants the lease again.
        clock.advance(11 * MINUTE_MS)
        await wire.publish(held, "still at it")
        assert not await rolled(wire)
    await wire.finish(held)
    clock.advance(5 * MINUTE_MS)
    assert not await rolled(wire)
    clock.advance(HOUR_MS)
    await wire.wait(queued)
    assert await rolled(wire)


async def test_users_who_come_back_at_once_meet_in_one_session(server: Served, clock: FakeClock) -> None:
    """Of many messages to a stale key one makes the new session, and all are in it."""
    wire = server.wire
    old = (await wire.resolve(KEY)).session.session_id
    clock.advance(HOUR_MS)
    started = await asyncio.gather(*[wire.start(KEY, text=str(n)) for n in range(10)])
    resolved = await asyncio.gather(*[wire.resolve(KEY) for _ in range(10)])
    ids = {answer.session.session_id for answer in (*started, *resolved)}
    assert len(ids | {old}) == 2
    assert sum(line.startswith("input ") for line in story(await wire.log(KEY))) == 10


async def test_without_a_policy_a_conversation_goes_on_for_years(tmp_path: Path, clock: FakeClock) -> None:
    """The default is never."""
    async with serving(tmp_path / "plane.db", clock=clock, limits={"detached_ttl_ms": 2**50}) as server:
        await server.wire.resolve(KEY)
        for _ in range(5):
            clock.advance(365 * 24 * HOUR_MS)
            assert not await rolled(server.wire)


async def test_a_restart_makes_nothing_old_or_new(tmp_path: Path, clock: FakeClock) -> None:
    """Only what users did counts, and that is on disk: whatever else was written, and however often it restarted."""
    for turn in range(4):
        async with serving(tmp_path / "plane.db", clock=clock, freshness=IDLE) as server:
            found = await server.wire.resolve(KEY)
            assert found.resolution == (EXISTING if turn else session_pb2.RESOLUTION_CREATED)
        clock.advance(9 * MINUTE_MS)
    for _ in range(2):
        async with serving(tmp_path / "plane.db", clock=clock, freshness=IDLE) as server:
            await _label(server.wire)
        clock.advance(MINUTE_MS)
    async with serving(tmp_path / "plane.db", clock=clock, freshness=IDLE) as server:
        assert await rolled(server.wire)


# Days and clocks


@pytest.mark.parametrize(
    ("hour", "before", "boundary"),
    [
        # A usual day.
        (4, at(2027, 6, 1, 12), at(2027, 6, 2, 4)),
        # Clocks are put forward at 02:00 on 28 March 2027: the day has 23 hours.
        (4, at(2027, 3, 27, 4), at(2027, 3, 27, 4) + 23 * HOUR_MS),
        # That day has no 02:30, and its 2 o'clock comes as it becomes 3.
        (2, at(2027, 3, 27, 12), at(2027, 3, 28, 3)),
        # Clocks are put back at 03:00 on 31 October 2027: the day has 25 hours.
        (4, at(2027, 10, 30, 4), at(2027, 10, 30, 4) + 25 * HOUR_MS),
        # Its 2 o'clock comes twice, and counts when it comes first.
        (2, at(2027, 10, 30, 12), at(2027, 10, 30, 12) + 14 * HOUR_MS),
    ],
)
async def test_a_day_ends_once_whatever_the_clocks_do(
    tmp_path: Path, hour: int, before: int, boundary: int
) -> None:
    """A session of the day before is fresh until the last millisecond, stale from the boundary on, and its successor
    has the whole new day.
    """
    clock = FakeClock(wall=before)
    daily = {"main": {"daily": {"hour": hour, "zone": "Europe/Berlin"}}}
    async with serving(tmp_path / "plane.db", clock=clock, freshness=daily) as server:
        await server.wire.resolve(KEY)
        clock.advance(boundary - before - 1)
        assert not await rolled(server.wire)
        clock.advance(1)
        assert await rolled(server.wire)
        clock.advance(20 * HOUR_MS)
        assert not await rolled(server.wire)


async def test_an_hour_that_comes_twice_ends_one_day(tmp_path: Path) -> None:
    """Nobody loses the session that began in the first of two equal hours when the second one strikes."""
    first = int(
        datetime(2027, 10, 31, 0, 0, tzinfo=UTC).timestamp() * 1000
    )  # 02:00 in Berlin, for the first time
    clock = FakeClock(wall=first - 1)
    daily = {"main": {"daily": {"hour": 2, "zone": "Europe/Berlin"}}}
    async with serving(tmp_path / "plane.db", clock=clock, freshness=daily) as server:
        await server.wire.resolve(KEY)
        clock.advance(1)
        assert await rolled(server.wire)
        clock.advance(HOUR_MS)  # 02:00 again
        assert not await rolled(server.wire)


async def test_a_clock_that_is_set_back_ends_no_conversation(server: Served, clock: FakeClock) -> None:
    """What was said by a clock that was ahead makes nothing stale when it is put right, nor when it is ahead again."""
    wire = server.wire
    old = (await wire.resolve(KEY)).session.session_id
    clock.wall += 24 * HOUR_MS
    clock.wall -= 48 * HOUR_MS
    assert not await rolled(wire)
    clock.advance(9 * MINUTE_MS)
    assert not await rolled(wire)
    clock.wall += 24 * HOUR_MS
    assert (await wire.get(KEY)).session.session_id == old


async def test_a_clock_that_is_set_back_over_a_boundary_ends_one_day(tmp_path: Path) -> None:
    """The day that the clock strikes for the second time ended when it struck first."""
    boundary = at(2027, 6, 2, 4)
    clock = FakeClock(wall=boundary - HOUR_MS)
    daily = {"main": {"daily": {"hour": 4, "zone": "Europe/Berlin"}}}
    async with serving(tmp_path / "plane.db", clock=clock, freshness=daily) as server:
        await server.wire.resolve(KEY)
        clock.advance(HOUR_MS)
        assert await rolled(server.wire)
        clock.wall -= HOUR_MS // 2
        assert not await rolled(server.wire)
        clock.advance(HOUR_MS // 2 - 1)
        assert not await rolled(server.wire)
