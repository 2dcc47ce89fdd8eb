"""One of the processes that hold many idle streams open, with as little work of their own as can be.

Run as `python -m tests.faults.support.idle <address> <first> <streams> <connections>`: each stream follows a session of
its own, `idle-<number>`. It says `ready` when all are open, and `done` once each has seen an event that was published
since. HTTP/2 is spoken by the benchmarks' client, since ten thousand calls of grpc.aio would measure themselves.
"""

from __future__ import annotations

import asyncio
import sys

from benchmarks.http2 import Connection
from sessionplane.v1.session_pb2 import SessionRef
from sessionplane.v1.session_service_pb2 import STREAM_START_LATEST, StreamEventsRequest, StreamEventsResponse

PATH = "/sessionplane.v1.SessionService/StreamEvents"
AT_ONCE = 200


class _Stream:
    """One stream: when it was opened, and when it saw an event."""

    def __init__(self, number: int, opened: asyncio.Semaphore, seen: asyncio.Semaphore) -> None:
        self._number = number
        self._opened = opened
        self._seen = seen

    def message(self, data: bytes) -> None:
        frame = StreamEventsResponse.FromString(data)
        if frame.HasField("opened"):
            self._opened.release()
        if frame.HasField("batch"):
            self._seen.release()

    def end(self, status: str) -> None:
        sys.exit(f"stream {self._number} ended with status {status}")


async def main(address: str, first: int, streams: int, connections: int) -> None:
    """Open them, say so, wait for an event on each, say so, and stay until the end of standard input."""
    opened, seen = asyncio.Semaphore(0), asyncio.Semaphore(0)
    lines = [await Connection.open(address) for _ in range(connections)]
    for begin in range(first, first + streams, AT_ONCE):
        numbers = range(begin, min(begin + AT_ONCE, first + streams))
        for number in numbers:
            request = StreamEventsRequest(session=SessionRef(key=f"idle-{number}"), start=STREAM_START_LATEST)
            stream = _Stream(number, opened, seen)
            lines[number % connections].call(PATH, stream, request.SerializeToString())
        for _ in numbers:
            await opened.acquire()
    print("ready", flush=True)  # noqa: T201
    for _ in range(streams):
        await seen.acquire()
    print("done", flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *(int(argument) for argument in sys.argv[2:])))
