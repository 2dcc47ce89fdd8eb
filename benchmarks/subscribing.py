"""Subscribers of the load generator: they follow a stream, check that nothing is missing, and look at nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from driving import Held, session_of
from http2 import CallFailed, Connection
from load import patiently
from sessionplane.domain.events import OutputDelta
from sessionplane.rpc.streams import BATCH_TAG
from sessionplane.store import codec
from sessionplane.v1 import session_service_pb2 as pb
from texts import TEXT

STREAM = "/sessionplane.v1.SessionService/StreamEvents"
TOKEN_TAG, AFTER_TAG, THROUGH_TAG = 0x0A, 0x10, 0x18


class Subscriber:
    """One stream until the end of a run."""

    def __init__(
        self, connection: Connection, held: Held, took: Callable[[bytes], None] | None = None
    ) -> None:
        self.events = 0
        self.frames = 0
        self._took = took
        self._through: int | None = None
        self._opened = asyncio.Event()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        request = pb.StreamEventsRequest(
            session=session_of(held), start=pb.STREAM_START_LATEST, until=pb.STREAM_UNTIL_RUN_END
        )
        connection.call(STREAM, self, request.SerializeToString())

    def message(self, data: bytes) -> None:
        """Take a frame: it must begin where the one before ended."""
        after, through, tag = places(data)
        if self._through is not None and after != self._through:
            self.end(f"a gap: {self._through} to {after}")
        if tag == BATCH_TAG[0]:
            self.events += through - after
            self.frames += 1
        self._through = through
        self._opened.set()
        if self._took is not None:
            self._took(data)

    def end(self, status: str) -> None:
        """Take the end."""
        self._opened.set()
        if not self._ended.done():
            self._ended.set_result(status)

    async def opened(self) -> None:
        """Wait for the first frame."""
        await patiently(self._opened.wait())

    async def ended(self) -> None:
        """Wait for the end. Raises CallFailed if it is not OK."""
        status = await patiently(self._ended)
        if status != "0":
            raise CallFailed(f"StreamEvents ended with status {status}")


def places(data: bytes) -> tuple[int, int, int]:
    """Return where a frame begins and ends, and the tag of what it holds; its events are left alone."""
    at, after, through = 0, 0, 0
    if data[at] == TOKEN_TAG:
        at += 2 + data[at + 1]
    if data[at] == AFTER_TAG:
        after, at = _number(data, at + 1)
    if data[at] == THROUGH_TAG:
        through, at = _number(data, at + 1)
    return after, through, data[at]


def _number(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] & 0x80:
        number |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return number | data[at] << shift, at + 1


def frame_of(held: Held, events: int) -> bytes:
    """Make a frame of the bytes that the product would send for so many events."""
    entry = codec.encode(
        held.session_id, 1_000, held.run_id, 1_000, 1_790_000_000_123, OutputDelta(text=TEXT, offset=80_000)
    )
    head = pb.StreamEventsResponse(
        resume_token="t" * 72, after_sequence=1_000, through_sequence=1_000 + events
    )
    return head.SerializeToString() + BATCH_TAG + codec.varint(len(entry) * events) + entry * events
