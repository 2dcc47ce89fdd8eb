"""Fan-out: one run is published as quickly as it is acknowledged, and 1, 10 or 100 subscribers follow it.

The floor is the bare stream: as many streams, to which a handler writes a prebuilt frame as often as each subscriber
was sent one in the same round, of the same size. It is fair since those frames have to go out anyhow; what is missing
to it is the whole product: publishing, committing, waking, putting frames together. Under load, what arrives while a
frame is being written goes out as the next one, so frames are larger than batches; the table says how large.
"""

from __future__ import annotations

import asyncio

from driving import Held, driving, hold_run, publication
from http2 import Listener
from load import Bench, connected, patiently
from samples import Line, Sample, at_most, measured
from subscribing import Subscriber, frame_of

BATCH = 16
WINDOW = 8
BATCHES = {1: 1_000, 10: 800, 100: 300}
FLOOR_TIMES = {1: 20, 10: 5, 100: 1}
FRAMES = "/floor/Frames"


async def fan_out(bench: Bench, subscribers: int) -> Line:
    """One run, many subscribers, each on a connection of its own."""
    targets = (at_most("server_us", 2.5),) if subscribers == 100 else ()
    line = Line(f"fan-out to {subscribers}", "delivered event", "bare stream, same frames", targets)
    count = bench.size(BATCHES[subscribers])
    for _ in range(bench.rounds):
        sample, held, frames = await _follow(bench, subscribers, count)
        per_frame = max(1, round(sample.operations / frames))
        line.results.append(sample)
        # A floor that is over at once cannot be measured, so a few streams get it several times over.
        bare = count * BATCH * FLOOR_TIMES[subscribers] // per_frame
        line.floors.append(await _bare(bench, subscribers, frame_of(held, per_frame), bare, per_frame))
        line.note = f"{per_frame} events a frame"
    return line


async def _follow(bench: Bench, subscribers: int, count: int) -> tuple[Sample, Held, int]:
    """Publish and follow; returns the frames that were delivered, too."""
    data = publication(BATCH)
    async with connected(bench.ours, 1) as (connection,), connected(bench.ours, subscribers) as connections:
        held = await hold_run(connection)
        streams = [Subscriber(each, held) for each in connections]
        await asyncio.gather(*(stream.opened() for stream in streams))
        with measured(bench.ours) as sample:
            async with driving(connection, held) as drive:
                await drive.publish(data, events=BATCH, count=count, window=WINDOW)
            await asyncio.gather(*(stream.ended() for stream in streams))
            sample.operations = sum(stream.events for stream in streams)
    assert all(stream.events >= count * BATCH for stream in streams), "every subscriber gets every event"
    return sample, held, sum(stream.frames for stream in streams)


async def _bare(bench: Bench, subscribers: int, frame: bytes, count: int, per_frame: int) -> Sample:
    request = count.to_bytes(4, "big") + frame
    async with connected(bench.floor, subscribers) as connections:
        with measured(bench.floor) as sample:
            ends = []
            for connection in connections:
                ended = asyncio.get_running_loop().create_future()
                connection.call(FRAMES, Listener(_nothing, ended.set_result), request)
                ends.append(ended)
            statuses = await patiently(asyncio.gather(*ends))
            sample.operations = subscribers * count * per_frame
    assert set(statuses) == {"0"}, "the floor's streams end well"
    return sample


def _nothing(_data: bytes) -> None:
    """Take a frame and look away."""
