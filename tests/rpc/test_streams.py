"""Frames of a stream: put together by hand, and the very bytes that the library would write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessionplane.domain.events import EventKind, OutputDelta
from sessionplane.domain.streams import ClosingReason, Filter, Presence
from sessionplane.domain.tokens import parse_resume_token
from sessionplane.live.feed import Bookmark, End, Feed
from sessionplane.live.tail import Slice
from sessionplane.plane.streams import Opening, StreamRequest
from sessionplane.rpc.streams import BATCH_TAG, _Frames
from sessionplane.store import codec
from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.event_pb2 import Event
from tests.support.logs import AT_MS, Log
from tests.support.planes import KEY, NAMESPACE, Bench, ref
from tests.support.values import session_id


@asynccontextmanager
async def framed(bench: Bench, **given: Any) -> AsyncIterator[tuple[_Frames, Feed, Opening]]:
    """Open a stream of the bench's session; return what puts its frames together."""
    request = StreamRequest(namespace=NAMESPACE, session=ref(KEY), **given)
    async with bench.plane.stream(request) as (opening, feed):
        yield _Frames(bench.plane, opening, feed), feed, opening


def parsed(frame: bytes) -> pb.StreamEventsResponse:
    return pb.StreamEventsResponse.FromString(frame)


def ranges(*frames: bytes) -> list[tuple[int, int]]:
    return [(parsed(frame).after_sequence, parsed(frame).through_sequence) for frame in frames]


@given(st.integers(0, 2**40))
@example(127)
@example(128)
@example(2**32)
def test_a_length_is_encoded_as_the_library_does(number: int) -> None:
    """A varint of ours is the varint behind a tag of the library's."""
    message = pb.StreamEventsResponse(after_sequence=number)
    assert message.SerializeToString() == (b"\x10" + codec.varint(number) if number else b"")


@given(st.lists(st.text(max_size=40), min_size=1, max_size=20), st.integers(1, 2**40))
def test_a_batch_is_what_the_library_would_write(texts: list[str], sequence: int) -> None:
    """Joined entries behind a tag and a length are an EventBatch, byte for byte."""
    entries = [
        codec.encode(
            session_id(1), sequence + place, "run_1", place + 1, AT_MS, OutputDelta(text=text, offset=place)
        )
        for place, text in enumerate(texts)
    ]
    head = pb.StreamEventsResponse(
        resume_token="t", after_sequence=sequence - 1, through_sequence=sequence + 20
    )
    data = b"".join(entries)
    frame = head.SerializeToString() + BATCH_TAG + codec.varint(len(data)) + data
    head.batch.events.extend(codec.decode(entry) for entry in entries)
    assert frame == head.SerializeToString()
    assert parsed(frame) == head


async def test_the_first_frame_shows_what_is_followed(bench: Bench) -> None:
    """`opened` has the session as it is, the run that is meant, and the place where the stream begins."""
    run = await bench.running()
    async with framed(bench) as (frames, _, opening):
        frame = parsed(frames.opened())
    assert frame.opened.session.session_id == run.session_id
    assert frame.opened.session.attached_count == 1
    assert frame.opened.resume_result == pb.RESUME_RESULT_FRESH
    assert frame.opened.resolution == session_pb2.RESOLUTION_UNSPECIFIED
    assert not frame.opened.HasField("run")
    assert (frame.after_sequence, frame.through_sequence) == (6, 6)
    assert parse_resume_token(frame.resume_token).sequence == opening.plan.begin.sequence == 6


async def test_frames_account_for_the_log_without_a_gap(bench: Bench) -> None:
    """Each frame's range begins where the one before ended, whatever kind it is, and its token is its end."""
    run = await bench.running()
    async with framed(bench, presence=Presence.OBSERVER) as (frames, feed, _):
        written = [frames.opened()]
        await bench.publish(run.run_id, "a")
        written.append(frames.batch(await piece_of(feed)))
        written.append(frames.progress(Bookmark(through=feed.cursor, caught_up=True, lag=0)))
        await bench.publish(run.run_id, "b")
        written.append(frames.batch(await piece_of(feed)))
        written.append(frames.closing(End(reason=ClosingReason.DRAINING, through=feed.cursor)))
    assert ranges(*written) == [(6, 6), (6, 9), (9, 9), (9, 10), (10, 10)]
    tokens = [parse_resume_token(parsed(frame).resume_token).sequence for frame in written]
    assert tokens == [6, 9, 9, 10, 10]
    shown = [event.sequence for frame in written for event in parsed(frame).batch.events]
    assert shown == [7, 8, 9, 10]


async def piece_of(feed: Feed) -> Slice:
    piece = await feed.next()
    assert isinstance(piece, Slice)
    return piece


async def test_followers_at_one_place_share_a_frame(bench: Bench) -> None:
    """A frame is put together once for all who begin where it begins."""
    run = await bench.running()
    async with (
        framed(bench, presence=Presence.OBSERVER) as (one, first, _),
        framed(bench, presence=Presence.OBSERVER) as (two, second, _),
    ):
        one.opened()
        two.opened()
        await bench.publish(run.run_id, "a")
        assert one.batch(await piece_of(first)) is two.batch(await piece_of(second))


async def test_who_passed_over_filtered_events_gets_a_frame_of_its_own(bench: Bench) -> None:
    """A frame that also accounts for what was filtered before it is not the shared one."""
    run = await bench.running()
    await bench.publish(run.run_id, "a")
    head = bench.session().head_sequence
    texts = Filter(kinds=frozenset({EventKind.OUTPUT_DELTA}))
    async with framed(bench, presence=Presence.OBSERVER, filter=texts) as (frames, feed, _):
        frames.opened()
        reading = asyncio.ensure_future(piece_of(feed))
        await asyncio.sleep(0)
        await bench.start()
        for _ in range(3):
            await asyncio.sleep(0)
        assert feed.cursor.sequence == head + 2
        await bench.publish(run.run_id, "b")
        piece = await reading
        frame = frames.batch(piece)
    assert (piece.after.sequence, piece.frame) == (head + 2, None)
    assert ranges(frame) == [(head, head + 3)]
    assert [event.output_delta.text for event in parsed(frame).batch.events] == ["b"]


async def test_progress_shows_the_state_now(bench: Bench) -> None:
    """A sign of life reads the session's state as it is, not as it was at the opening."""
    run = await bench.running()
    async with framed(bench, presence=Presence.OBSERVER) as (frames, feed, _):
        frames.opened()
        await bench.finish(run.run_id)
        frame = parsed(frames.progress(Bookmark(through=feed.cursor, caught_up=False, lag=4))).progress
    assert (frame.state, frame.caught_up, frame.lag) == (session_pb2.SESSION_STATE_DETACHED, False, 4)


async def test_an_idle_stream_says_the_same_again_and_anything_committed_is_seen(bench: Bench) -> None:
    """An idle stream costs next to nothing: its signs of life are the same bytes, until something is committed."""
    await bench.running(run_id="run_1")
    async with framed(bench) as (frames, feed, _):
        first, second = frames.progress(feed._bookmark()), frames.progress(feed._bookmark())
        assert second is first
        assert parsed(first).progress.state == session_pb2.SESSION_STATE_STARTING
        await bench.publish("run_1", "text")
        behind = frames.progress(feed._bookmark())
        assert not parsed(behind).progress.caught_up
        batches = [frames.batch(await piece_of(feed))]
        after = frames.progress(feed._bookmark())
        assert parsed(after).progress.state == session_pb2.SESSION_STATE_ACTIVE
        assert ranges(first, *batches, after)[-1] == (feed.through, feed.through)


@pytest.mark.parametrize("reason", ClosingReason)
async def test_the_last_frame_says_why(bench: Bench, reason: ClosingReason) -> None:
    """`closing` has the reason, and whether the token goes on."""
    await bench.resolve()
    async with framed(bench, presence=Presence.OBSERVER) as (frames, feed, _):
        frame = parsed(frames.closing(End(reason=reason, through=feed.cursor))).closing
    assert pb.ClosingReason.Name(frame.reason) == f"CLOSING_REASON_{reason}"
    resumable = {ClosingReason.DRAINING, ClosingReason.SLOW_CONSUMER, ClosingReason.MAX_AGE}
    assert frame.resumable is (reason in resumable)


def test_an_entry_is_a_batch_of_one() -> None:
    """Stored bytes are a frame's content as they are."""
    log = Log()
    entries = log.texts(3)
    batch = pb.EventBatch.FromString(b"".join(entry.data for entry in entries))
    assert [event.sequence for event in batch.events] == [1, 2, 3]
    assert all(isinstance(event, Event) for event in batch.events)
