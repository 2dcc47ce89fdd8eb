"""Append to delivery: 200 events a second, each published alone; the time until each subscriber holds each of them.

Every event is flushed to the disk before it is delivered. The floor is the bare relay: a stream in, one flushed commit
of the same row, the message to as many streams out, without a queue, a check or a thread. It is fair since none of
that can be left out; no target is set against it, but it shows what this machine and its disk allow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from driving import driving, hold_run, publication
from http2 import Call, Connection, Listener
from load import Bench, connected, patiently
from samples import Line, Sample, at_most, measured, percentile
from sessionplane.v1 import session_service_pb2 as pb
from subscribing import Subscriber

EVENTS_PER_S = 200
EVENTS = 200
TARGETS = (at_most("p50_ms", 1.0), at_most("p99_ms", 5.0))


async def delivery(bench: Bench, subscribers: int) -> Line:
    """One run at a steady pace."""
    name = f"append to delivery, {EVENTS_PER_S}/s, {subscribers} subscriber{'s' * (subscribers > 1)}"
    line = Line(name, "delivered event", "bare relay", TARGETS)
    count = bench.size(EVENTS)
    for _ in range(bench.rounds):
        line.floors.append(await _relay(bench, subscribers, count))
        line.results.append(await _drive(bench, subscribers, count))
    return line


class _Watch:
    """When each event was sent, and how long each took to arrive."""

    def __init__(self) -> None:
        self.sent_s: list[float] = []
        self.took_ms: list[float] = []

    def send(self) -> None:
        self.sent_s.append(time.perf_counter())

    def arrive(self, number: int) -> None:
        self.took_ms.append((time.perf_counter() - self.sent_s[number]) * 1000)

    def fill(self, sample: Sample, expected: int) -> None:
        assert len(self.took_ms) == expected, "every subscriber gets every event"
        sample.operations = expected
        sample.p50_ms = percentile(self.took_ms, 0.50)
        sample.p99_ms = percentile(self.took_ms, 0.99)


async def _paced(count: int) -> AsyncIterator[int]:
    """Count events, each when its time has come."""
    begin_s = asyncio.get_running_loop().time()
    for number in range(count):
        yield number
        await asyncio.sleep(max(0, begin_s + (number + 1) / EVENTS_PER_S - asyncio.get_running_loop().time()))


async def _drive(bench: Bench, subscribers: int, count: int) -> Sample:
    watch, data = _Watch(), publication(1)

    def took(frame: bytes) -> None:
        for event in pb.StreamEventsResponse.FromString(frame).batch.events:
            if event.HasField("output_delta"):
                watch.arrive(event.run_sequence - 1)

    async with connected(bench.ours, 1) as (connection,), connected(bench.ours, subscribers) as connections:
        held = await hold_run(connection)
        streams = [Subscriber(each, held, took) for each in connections]
        await asyncio.gather(*(stream.opened() for stream in streams))
        async with driving(connection, held) as drive:
            with measured(bench.ours) as sample:
                async for _ in _paced(count):
                    watch.send()
                    drive.publish_one(data)
                await drive.acknowledged(count)
        await asyncio.gather(*(stream.ended() for stream in streams))
    watch.fill(sample, count * subscribers)
    return sample


class _Follower:
    """A stream of the relay: its first message says that it is open, the others are events in order."""

    def __init__(self, connection: Connection, watch: _Watch) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._watch = watch
        self._count = 0
        connection.call("/floor/Follow", self, b"")

    def message(self, _data: bytes) -> None:
        if not self.opened.done():
            self.opened.set_result(None)
            return
        self._watch.arrive(self._count)
        self._count += 1

    def end(self, status: str) -> None:
        self.ended.set_result(status)


async def _relay(bench: Bench, subscribers: int, count: int) -> Sample:
    watch, data = _Watch(), publication(1)
    async with connected(bench.floor, 1) as (connection,), connected(bench.floor, subscribers) as connections:
        followers = [_Follower(each, watch) for each in connections]
        await patiently(asyncio.gather(*(follower.opened for follower in followers)))
        ended = asyncio.get_running_loop().create_future()
        listener = Listener(lambda _data: None, ended.set_result)
        call: Call = connection.call("/floor/Relay", listener, closing=False)
        with measured(bench.floor) as sample:
            async for _ in _paced(count):
                watch.send()
                connection.send(call, data)
            connection.send(call, closing=True)
            await patiently(asyncio.gather(*(follower.ended for follower in followers)))
    watch.fill(sample, count * subscribers)
    return sample
