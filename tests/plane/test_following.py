"""Opening what is followed: a seat first, then the transaction, then the feed, and nothing left behind if one fails."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from sessionplane.domain.errors import Disconnected, Draining, RunNotFound, StorageFull, StreamLimit
from sessionplane.domain.sessions import ConflictPolicy, Interaction, Resolution, SessionState
from sessionplane.domain.streams import ClosingReason, Presence
from sessionplane.domain.tokens import ResumeToken, stamp
from sessionplane.live.feed import End
from sessionplane.live.seats import Seat
from sessionplane.plane.resolving import ResolveRequest
from sessionplane.plane.streams import StreamRequest
from tests.support.planes import KEY, NAMESPACE, Bench, call, lose_the_commit, open_bench, ref
from tests.support.stores import HeldWriter
from tests.support.waits import LONG_S, waiting


def stream(name: str = KEY, **given: Any) -> StreamRequest:
    return StreamRequest(namespace=NAMESPACE, session=ref(name), **given)


def resolving(
    name: str = KEY,
    *,
    interaction: Interaction = Interaction.USER,
    conflict: ConflictPolicy = ConflictPolicy.USE_EXISTING,
    **given: Any,
) -> StreamRequest:
    resolve = ResolveRequest(
        call=call("ResolveSession"), session=ref(name), interaction=interaction, conflict=conflict
    )
    return StreamRequest(namespace=NAMESPACE, resolve=resolve, **given)


def seats(bench: Bench) -> list[Seat]:
    return bench.plane.following.seats.page(NAMESPACE, session_id="", after="", limit=100)


async def test_an_open_stream_is_somebody(bench: Bench) -> None:
    """An attached stream counts while it is open, an observer does not."""
    session_id = (await bench.resolve()).view.session.session_id
    async with bench.plane.stream(stream()) as (opening, _):
        assert opening.attached
        assert bench.plane.attached_count(session_id) == 1
        async with bench.plane.stream(stream(presence=Presence.OBSERVER)):
            assert (bench.plane.attached_count(session_id), len(bench.plane.following.seats)) == (1, 2)
    await bench.settled()
    assert (bench.plane.attached_count(session_id), len(bench.plane.following.seats)) == (0, 0)


async def test_a_stream_that_fails_is_closed(bench: Bench) -> None:
    """Whatever happens inside, a stream is counted out and stops following."""
    session_id = (await bench.resolve()).view.session.session_id
    with pytest.raises(ZeroDivisionError):
        async with bench.plane.stream(stream()):
            raise ZeroDivisionError
    await bench.settled()
    assert (bench.plane.attached_count(session_id), len(bench.plane.following.seats)) == (0, 0)


async def test_a_caller_that_goes_away_while_attaching_is_counted_out(bench: Bench) -> None:
    """A stream whose caller left before it was opened leaves nobody attached."""
    session_id = (await bench.resolve()).view.session.session_id

    async def open_and_hold() -> None:
        async with bench.plane.stream(stream()):
            raise AssertionError

    async with HeldWriter(bench.store):
        opening = asyncio.ensure_future(open_and_hold())
        await asyncio.sleep(0)
        opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    for _ in range(2):
        await bench.settled()
    assert bench.plane.attached_count(session_id) == 0


async def test_a_departure_that_could_not_be_written_is_made_up_for(bench: Bench) -> None:
    """When the commit of a detach is lost, the sweep counts the subscriber out."""
    session_id = (await bench.resolve()).view.session.session_id
    opened = bench.plane.stream(stream())
    await opened.__aenter__()
    async with HeldWriter(bench.store):
        await opened.__aexit__(None, None, None)
        lost = bench.plane.execute(lose_the_commit)
    with pytest.raises(StorageFull):
        await lost
    await asyncio.sleep(0)
    assert bench.plane.attached_count(session_id) == 1
    await bench.plane.sweeper.sweep()
    assert bench.plane.attached_count(session_id) == 0
    assert bench.plane.sweeper._departed == []


async def test_a_departure_in_a_rush_is_made_up_for(tmp_path: Path) -> None:
    """When the writer's queue is full as a stream closes, the sweep counts the subscriber out."""
    async with open_bench(tmp_path / "plane.db", writer_commands_max=2) as bench:
        session_id = (await bench.resolve()).view.session.session_id
        opened = bench.plane.stream(stream())
        await opened.__aenter__()
        async with HeldWriter(bench.store):
            filler = asyncio.ensure_future(bench.settled())
            await asyncio.sleep(0)
            await opened.__aexit__(None, None, None)
        await filler
        assert bench.plane.attached_count(session_id) == 1
        await bench.plane.sweeper.sweep()
        await bench.settled()
        assert bench.plane.attached_count(session_id) == 0


async def test_streams_of_a_session_are_bounded(tmp_path: Path) -> None:
    """Over session_streams_max a stream is refused, nobody is left attached, and other sessions are open."""
    async with open_bench(tmp_path / "plane.db", session_streams_max=1) as bench:
        session_id = (await bench.resolve()).view.session.session_id
        await bench.resolve("other")
        async with bench.plane.stream(stream()):
            with pytest.raises(StreamLimit) as refused:
                async with bench.plane.stream(stream()):
                    raise AssertionError
            await bench.settled()
            assert refused.value.details == {"limit": "1", "scope": "in this session"}
            assert bench.plane.attached_count(session_id) == 1
            async with bench.plane.stream(stream("other")):
                pass


async def test_streams_of_a_server_are_bounded(tmp_path: Path) -> None:
    """Over server_streams_max a stream is refused."""
    async with open_bench(tmp_path / "plane.db", server_streams_max=1) as bench:
        await bench.resolve()
        async with bench.plane.stream(stream()):
            with pytest.raises(StreamLimit):
                async with bench.plane.stream(stream()):
                    raise AssertionError


async def test_stopping_ends_all_streams(bench: Bench) -> None:
    """While draining, open streams end with DRAINING, and new ones are refused and counted out."""
    session_id = (await bench.resolve()).view.session.session_id
    async with bench.plane.stream(stream()) as (_, feed):
        bench.plane.drain()
        assert await feed.next() == End(reason=ClosingReason.DRAINING, through=feed.cursor)
    with pytest.raises(Draining):
        async with bench.plane.stream(stream()):
            raise AssertionError
    await bench.settled()
    assert bench.plane.attached_count(session_id) == 0


async def test_a_stream_may_wait_for_its_run(bench: Bench, tasks: list[asyncio.Task[Any]]) -> None:
    """A stream of a run that does not exist yet opens when it does."""
    request = StreamRequest(namespace=NAMESPACE, run_id="soon")

    async def opened() -> str:
        async with bench.plane.stream(request, pending_s=LONG_S) as (opening, _):
            return opening.run.run.run_id if opening.run else ""

    following = await waiting(tasks, bench, opened())
    await bench.start(run_id="other")
    assert not following.done()
    await bench.start(run_id="soon")
    assert await following == "soon"


async def test_a_stream_waits_no_longer_than_it_said(bench: Bench) -> None:
    """A run that does not come in time is RUN_NOT_FOUND, and leaves no waiter."""
    request = StreamRequest(namespace=NAMESPACE, run_id="never")
    for pending_s in (0, 0.001):
        with pytest.raises(RunNotFound):
            async with bench.plane.stream(request, pending_s=pending_s):
                raise AssertionError
    assert len(bench.plane.bells) == 0


async def test_a_burst_does_not_overshoot_the_server(tmp_path: Path) -> None:
    """Of many streams that are asked for at once no more are opened than the server may have."""
    async with open_bench(tmp_path / "plane.db", server_streams_max=3) as bench, AsyncExitStack() as stack:
        session_id = (await bench.resolve()).view.session.session_id
        opening = [stack.enter_async_context(bench.plane.stream(stream())) for _ in range(10)]
        opened = await asyncio.gather(*opening, return_exceptions=True)
        refused = [each for each in opened if isinstance(each, StreamLimit)]
        assert len(refused) == 7
        assert len(bench.plane.following.seats) == bench.plane.attached_count(session_id) == 3
        await stack.aclose()
        await bench.settled()
        assert len(bench.plane.following.seats) == bench.plane.attached_count(session_id) == 0


@pytest.mark.parametrize("make", [stream, resolving])
async def test_who_is_refused_by_a_session_was_never_there(tmp_path: Path, make: Any) -> None:
    """A stream over session_streams_max does not wake its session, not even for a moment."""
    async with open_bench(tmp_path / "plane.db", session_streams_max=2) as bench, AsyncExitStack() as stack:
        run = await bench.running()
        await bench.publish(run.run_id, "a")
        assert bench.session().state is SessionState.DETACHED
        for _ in range(2):
            await stack.enter_async_context(bench.plane.stream(stream(presence=Presence.OBSERVER)))
        await bench.refused(StreamLimit, bench.plane.stream(make()).__aenter__())
        assert len(seats(bench)) == 2


async def test_a_stream_that_moves_the_key_needs_no_place_where_it_was(tmp_path: Path) -> None:
    """A session that is full refuses nobody whose stream gets a session of its own."""
    async with open_bench(tmp_path / "plane.db", session_streams_max=1) as bench:
        old = (await bench.resolve()).view.session.session_id
        async with bench.plane.stream(stream()):
            with pytest.raises(StreamLimit):
                await bench.plane.stream(resolving()).__aenter__()
            async with bench.plane.stream(resolving(conflict=ConflictPolicy.REPLACE)) as (opening, _):
                assert opening.view.session.previous_session_id == old
                assert opening.resolution is Resolution.REPLACED


async def test_a_burst_does_not_overshoot_a_session(tmp_path: Path) -> None:
    """Of many streams that are asked for at once no more are opened than a session may have."""
    async with open_bench(tmp_path / "plane.db", session_streams_max=2) as bench, AsyncExitStack() as stack:
        await bench.resolve()
        opening = [stack.enter_async_context(bench.plane.stream(resolving())) for _ in range(5)]
        opened = await asyncio.gather(*opening, return_exceptions=True)
        assert len([each for each in opened if isinstance(each, StreamLimit)]) == 3
        assert [len(seats(bench)), bench.plane.attached_count(bench.session().session_id)] == [2, 2]


async def test_a_seat_says_who_reads_what(bench: Bench) -> None:
    """An operator sees who a subscriber is, where it comes from, what it follows, how far it is, and since when."""
    run = await bench.running()
    request = StreamRequest(
        namespace=NAMESPACE, run_id=run.run_id, presence=Presence.OBSERVER, subscriber_name="screen"
    )
    async with bench.plane.stream(request, peer="ipv4:127.0.0.1:1") as (_, feed):
        await feed.next()
        await bench.publish(run.run_id, "a")
        (seat,) = seats(bench)
        assert (seat.name, seat.peer, seat.presence) == ("screen", "ipv4:127.0.0.1:1", Presence.OBSERVER)
        assert (seat.session_id, seat.run_id, seat.connected_at_ms) == (
            run.session_id,
            run.run_id,
            bench.clock.wall_ms(),
        )
        assert seat.occupant is not None
        assert (seat.occupant.through, seat.occupant.lag) == (6, bench.session().head_sequence - 6)
        assert seat.subscriber_id.startswith("sub_")
    assert seats(bench) == []


async def test_a_seat_can_be_ended_before_its_run_exists(
    bench: Bench, tasks: list[asyncio.Task[Any]]
) -> None:
    """A stream that waits for its run is listed, and ends with DISCONNECTED when an operator says so."""

    async def opened() -> None:
        request = StreamRequest(namespace=NAMESPACE, run_id="soon")
        async with bench.plane.stream(request, pending_s=LONG_S):
            raise AssertionError

    following = await waiting(tasks, bench, opened())
    (seat,) = seats(bench)
    assert (seat.run_id, seat.session_id) == ("soon", "")
    seat.end(ClosingReason.DISCONNECTED)
    with pytest.raises(Disconnected):
        await following
    assert seats(bench) == []


async def test_a_seat_that_is_ended_while_it_opens_ends_the_stream(
    bench: Bench, tasks: list[asyncio.Task[Any]]
) -> None:
    """Between the request and its opening an operator's wish is kept: the stream opens, and is over."""
    await bench.resolve()
    async with HeldWriter(bench.store):
        opened = bench.plane.stream(stream())
        opening = asyncio.ensure_future(opened.__aenter__())
        tasks.append(opening)
        await asyncio.sleep(0)
        (seat,) = seats(bench)
        seat.end(ClosingReason.DISCONNECTED)
    _, feed = await opening
    assert await feed.next() == End(reason=ClosingReason.DISCONNECTED, through=feed.cursor)
    await opened.__aexit__(None, None, None)


async def test_a_stream_that_resolves_an_established_key_is_an_interaction(bench: Bench) -> None:
    """Whoever opens a stream by resolving was here, as with any other resolve; machinery was not, nor a reconnect."""
    await bench.resolve()
    bench.clock.advance(60_000)
    async with bench.plane.stream(resolving(interaction=Interaction.SYSTEM)) as (opening, _):
        token = ResumeToken(
            store_id=bench.store.store_id,
            session_id=opening.view.session.session_id,
            sequence=opening.view.head.sequence,
            chain=stamp(opening.view.head.chain),
        )
    async with bench.plane.stream(resolving(token=token)), bench.plane.stream(stream()):
        await bench.plane.sweeper.sweep()
    assert bench.session().last_interaction_at_ms == bench.clock.wall_ms() - 60_000
    async with bench.plane.stream(resolving()):
        await bench.plane.sweeper.sweep()
    assert bench.session().last_interaction_at_ms == bench.clock.wall_ms()
