"""The side of gRPC that a handler sees, for tests of what stands between the two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.rpc import status_pb2


class Aborted(grpc.aio.AbortError):
    """What the transport raises in a handler whose call was ended."""


class FakeContext:
    """Keeps what a handler writes, and the status it ends with."""

    def __init__(self, *incoming: Any, remaining_s: float | None = None) -> None:
        self.incoming = list(incoming)
        self.written: list[Any] = []
        self.on_done: list[Callable[[Any], None]] = []
        self.status: status_pb2.Status | None = None
        self._remaining_s = remaining_s

    def time_remaining(self) -> float | None:
        """How long the caller waits; None without a deadline."""
        return self._remaining_s

    def add_done_callback(self, done: Callable[[Any], None]) -> None:
        """Who wants to hear of the call's end: the test says when that is."""
        self.on_done.append(done)

    async def read(self) -> Any:
        """The next message, or the end."""
        return self.incoming.pop(0) if self.incoming else grpc.aio.EOF

    async def write(self, message: Any) -> None:
        """Take a message."""
        self.written.append(message)

    async def abort_with_status(self, status: Any) -> None:
        """End the call, as the transport does: by raising."""
        ((_, packed),) = [pair for pair in status.trailing_metadata if pair[0] == "grpc-status-details-bin"]
        self.status = status_pb2.Status.FromString(packed)
        assert (status.code.value[0], status.details) == (self.status.code, self.status.message)
        raise Aborted
