"""Replay: a log of 100,000 events, read from its beginning by one Python client.

The client is grpc.aio with the generated messages, and parses every frame, since that is what its users have. The
floor is the bare stream to the same client, with prebuilt frames of the same bytes; it gets four times as many, since
it is soon over. What is missing to it is reading the log, checking its hashes and putting frames together.
"""

from __future__ import annotations

from collections.abc import AsyncIterable

import grpc

from driving import Held, fill, hold_run, session_of
from load import Bench, connected
from samples import Line, Sample, at_least, measured
from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_service_pb2_grpc import SessionServiceStub
from subscribing import frame_of

EVENTS = 100_000
STEP = 1_000
FRAME_EVENTS = 256
FLOOR_TIMES = 4


async def replay(bench: Bench) -> Line:
    """One long log, one client."""
    line = Line(
        "replay to one Python client", "event", "bare stream, same frames", (at_least("rate", 300_000),)
    )
    events = bench.size(EVENTS, step=STEP)
    async with connected(bench.ours, 1) as (connection,):
        held = await hold_run(connection)
        await fill(connection, held, events)
    line.name = f"replay of {events:,} events to one client"
    for _ in range(bench.rounds):
        line.floors.append(await _bare(bench, held, events))
        line.results.append(await _replay(bench, held, events))
    return line


async def _replay(bench: Bench, held: Held, events: int) -> Sample:
    request = pb.StreamEventsRequest(
        session=session_of(held),
        start=pb.STREAM_START_OLDEST,
        until=pb.STREAM_UNTIL_CAUGHT_UP,
        presence=session_pb2.PRESENCE_OBSERVER,
    )
    async with grpc.aio.insecure_channel(bench.ours.address) as channel:
        await channel.channel_ready()
        with measured(bench.ours) as sample:
            sample.operations = await _count(SessionServiceStub(channel).StreamEvents(request))
    assert sample.operations >= events, "every event is replayed"
    return sample


async def _bare(bench: Bench, held: Held, events: int) -> Sample:
    frame = frame_of(held, FRAME_EVENTS)
    async with grpc.aio.insecure_channel(bench.floor.address) as channel:
        await channel.channel_ready()
        frames: grpc.aio.UnaryStreamMultiCallable[bytes, pb.StreamEventsResponse] = channel.unary_stream(
            "/floor/Frames", response_deserializer=pb.StreamEventsResponse.FromString
        )
        with measured(bench.floor) as sample:
            count = events // FRAME_EVENTS * FLOOR_TIMES
            sample.operations = await _count(frames(count.to_bytes(4, "big") + frame))
    return sample


async def _count(frames: AsyncIterable[pb.StreamEventsResponse]) -> int:
    count = 0
    async for frame in frames:
        count += len(frame.batch.events)
    return count
