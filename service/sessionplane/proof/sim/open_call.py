"""One call as the server's process sees it, and as the network does: a context that writes into callbacks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from sessionplane.proof.history.records import Refusal


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the server said: an answer, or a refusal. Neither is OK without a word."""

    answer: Any = None
    refusal: Refusal | None = None


class OpenCall:
    """See the module. Without `until_s` the call has no deadline; `window` frames may wait to be read."""

    def __init__(
        self,
        on_done: Callable[[Outcome], None],
        on_cut: Callable[[], None],
        *,
        until_s: float | None = None,
        on_frame: Callable[[bytes], None] | None = None,
        window: int = 1,
    ) -> None:
        self.on_done = on_done
        self.on_cut = on_cut
        self.until_s = until_s
        self.task: asyncio.Task[Any] | None = None
        self._status: Any = None
        self._on_frame = on_frame
        self._room = window
        self._window = window
        self._waiting: asyncio.Future[None] | None = None
        # What the client has sent on a stream of its own and nobody has read; None is its end.
        self._sent: deque[bytes | None] = deque()
        self._reading: asyncio.Future[None] | None = None
        self._decode: Callable[[bytes], Any] = bytes
        self._encode: Callable[[Any], bytes] | None = None

    # As handlers use it.

    def time_remaining(self) -> float | None:
        """Return how long the client will wait; None is for ever."""
        if self.until_s is None:
            return None
        return max(0.0, self.until_s - asyncio.get_running_loop().time())

    def add_done_callback(self, done: Callable[[Any], None]) -> None:
        """Tell nobody of the end: only a server that stops politely asks, and here it is cut."""

    def peer(self) -> str:
        """Return where the client is."""
        return "sim"

    async def read(self) -> Any:
        """Return what the client sent next; EOF is its end."""
        while not self._sent:
            self._reading = asyncio.get_running_loop().create_future()
            await self._reading
        data = self._sent.popleft()
        return grpc.aio.EOF if data is None else self._decode(data)

    async def write(self, frame: Any) -> None:
        """Send a frame; wait while those before it are not read."""
        while not self._room:
            await self._wait()
        self._room -= 1
        if self._on_frame is not None:
            self._on_frame(frame if self._encode is None else self._encode(frame))

    async def abort_with_status(self, status: Any) -> None:
        """End the call. The status stands behind data that is not read, but once it was said nothing else counts."""
        self._status = status
        while self._room < self._window and self._on_frame is not None:
            await self._wait()
        raise grpc.aio.AbortError

    async def _wait(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        await self._waiting

    # As the server's transport and the network use it.

    def serve(self, decode: Callable[[bytes], Any], encode: Callable[[Any], bytes] | None) -> None:
        """Read and write as the method does it."""
        self._decode, self._encode = decode, encode

    def receive(self, data: bytes | None) -> None:
        """The client has sent something, or its last word."""
        self._sent.append(data)
        _ring(self._reading)

    def taken(self) -> None:
        """The client has read a frame."""
        self._room += 1
        _ring(self._waiting)

    def cancel(self) -> None:
        """The client is gone."""
        if self.task is not None:
            self.task.cancel()

    def refusal(self, error: BaseException | None) -> Refusal | None:
        """Read the status that the handler left; None is OK."""
        if self._status is None:
            return Refusal("UNKNOWN", repr(error)) if error is not None else None
        status = status_pb2.Status.FromString(self._status.trailing_metadata[0][1])
        info = error_details_pb2.ErrorInfo()
        status.details[0].Unpack(info)
        return Refusal(self._status.code.name, info.reason, dict(sorted(info.metadata.items())))


def _ring(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
