"""Rated load on one server: runners, subscribers and callers that go on until they are told to end.

Every publication carries the moment at which it was written, so whoever receives it knows how long it took. Runners
and subscribers are those of the Python client, which come back by themselves when the server was away; a load
therefore lasts across restarts. It must never judge: it keeps what it saw.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from sessionplane.v1.session_service_pb2 import STREAM_START_LATEST
from sessionplane_client import Client, SessionPlaneError

from .bounds import PUBLICATIONS_PER_S, RESOLVES_PER_S, RUNS, SUBSCRIBERS_EACH

NEW_KEY_EVERY = 5
CATCH_UP_S, LOOK_S = 60.0, 0.01


class EventsLost(Exception):
    """What was acknowledged is not in the log, or a subscriber has not seen it."""


class Load:
    """Who is at work on one server, and what they saw. `took_ms` holds deliveries since the last `collect`."""

    def __init__(self, callers: Client, followers: Client) -> None:
        self.took_ms: list[float] = []
        self._callers = callers
        self._followers = followers
        self._ending = asyncio.Event()
        self._acknowledged: dict[str, list[str]] = defaultdict(list)
        self._seen: dict[tuple[str, int], list[str]] = defaultdict(list)
        self._opened = asyncio.Semaphore(0)

    def collect(self) -> list[float]:
        """Hand out what was measured since the last time."""
        took_ms, self.took_ms = self.took_ms, []
        return took_ms

    async def work(self, key: str, per_s: float) -> None:
        """Be the runner of one run that publishes at a steady pace."""
        run_id = (await self._callers.start_run(key=key, input="hello")).run.run_id
        claim = await self._callers.claim_run(run_id)
        if claim is None:
            raise EventsLost(f"{run_id} could not be claimed")
        async with self._callers.run(claim) as run:
            self._opened.release()
            async for _ in self._paced(per_s):
                text = f"{time.perf_counter()!r} "
                await run.write(text)
                await run.flush()
                self._acknowledged[key].append(text)

    async def follow(self, key: str, number: int) -> None:
        """Receive everything that is published under a key from now on."""
        seen = self._seen[key, number]
        async with self._followers.stream(key=key, create=True, start=STREAM_START_LATEST) as stream:
            self._opened.release()
            async for event in stream:
                if event.HasField("output_delta"):
                    seen.append(event.output_delta.text)
                    self.took_ms.append((time.perf_counter() - float(event.output_delta.text)) * 1000)

    async def resolve(self, per_s: float) -> None:
        """Resolve keys at a steady pace, whatever became of the one before."""
        async for number in self._paced(per_s):
            key = f"new-{number}" if number % NEW_KEY_EVERY == 0 else "load-0"
            try:
                await self._callers.resolve(key=key)
            except SessionPlaneError:
                continue  # The server is away. Whether it may be is not asked here.

    async def begun(self, parties: int) -> None:
        """Wait until so many runners and subscribers are at work."""
        for _ in range(parties):
            await self._opened.acquire()

    def end(self) -> None:
        """Let runs come to their end."""
        self._ending.set()

    async def check(self) -> None:
        """Find everything that was acknowledged in the logs and at the subscribers. Raises EventsLost."""
        for key, texts in self._acknowledged.items():
            log = [
                event.output_delta.text
                async for event in self._callers.list_events(key=key)
                if event.HasField("output_delta")
            ]
            if missing := [text for text in texts if text not in set(log)]:
                raise EventsLost(f"{len(missing)} of {len(texts)} acknowledged events are not in {key}")
            for number in range(SUBSCRIBERS_EACH):
                await self._caught_up(key, number, len(log))
                if self._seen[key, number] != log:
                    raise EventsLost(f"subscriber {number} of {key} saw another log")

    async def _caught_up(self, key: str, number: int, count: int) -> None:
        """Wait until a subscriber has so many events. Raises EventsLost if they do not come."""
        for _ in range(round(CATCH_UP_S / LOOK_S)):
            if len(self._seen[key, number]) >= count:
                return
            await asyncio.sleep(LOOK_S)
        raise EventsLost(f"subscriber {number} of {key} has {len(self._seen[key, number])} of {count} events")

    async def _paced(self, per_s: float) -> AsyncIterator[int]:
        """Count, each number when its time has come, until the load is to end."""
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        for number in count():
            if self._ending.is_set():
                return
            yield number
            await asyncio.sleep(max(0.0, begin_s + (number + 1) / per_s - loop.time()))


def keys() -> Sequence[str]:
    """Return the keys under which rated load works."""
    return [f"load-{number}" for number in range(RUNS)]


@asynccontextmanager
async def rated_load(address: str) -> AsyncIterator[Load]:
    """Keep a server under rated load until the context is left; then everything is looked for that was acknowledged.

    Raises EventsLost.
    """
    async with (
        Client(address) as callers,
        Client(address) as followers,
    ):
        load = Load(callers, followers)
        async with asyncio.TaskGroup() as following:
            tasks = [
                following.create_task(load.follow(key, number))
                for key in keys()
                for number in range(SUBSCRIBERS_EACH)
            ]
            await load.begun(len(tasks))
            async with asyncio.TaskGroup() as working:
                for work in _works(load):
                    working.create_task(work)
                await load.begun(RUNS)
                yield load
                load.end()
            await load.check()
            for task in tasks:
                task.cancel()


def _works(load: Load) -> Sequence[Coroutine[Any, Any, None]]:
    return [
        *(load.work(key, PUBLICATIONS_PER_S / RUNS) for key in keys()),
        load.resolve(RESOLVES_PER_S),
    ]
