"""A StreamEvents call as it comes over the wire, with the rules that every frame must keep checked as it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

import grpc

from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.event_pb2 import Event
from tests.support.refusals import Refusal, read

READ_S = 20.0
"""How long a test waits for a frame before it has failed."""


class Following:
    """One call. Entering it waits for the first frame, or raises the refusal; leaving it cancels the call."""

    def __init__(
        self, call: grpc.aio.UnaryStreamCall[pb.StreamEventsRequest, pb.StreamEventsResponse]
    ) -> None:
        self._call = call
        self.frames: list[pb.StreamEventsResponse] = []
        self.refusal: Refusal | None = None
        self.over = False
        self._error: grpc.aio.AioRpcError | None = None

    async def __aenter__(self) -> Self:
        if await self.frame() is None and self._error is not None:
            raise self._error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Goes away, as a browser does."""
        self._call.cancel()

    @property
    def opened(self) -> pb.StreamOpened:
        """What the first frame showed."""
        return self.frames[0].opened

    @property
    def closing(self) -> pb.StreamClosing | None:
        """The last frame, if it is one that closes."""
        last = self.frames[-1] if self.frames else None
        return last.closing if last is not None and last.HasField("closing") else None

    @property
    def ended_by(self) -> str:
        """The reason of the closing frame, in one word; empty without one."""
        return (
            pb.ClosingReason.Name(self.closing.reason).removeprefix("CLOSING_REASON_") if self.closing else ""
        )

    @property
    def token(self) -> str:
        """The newest resume token."""
        return self.frames[-1].resume_token

    @property
    def events(self) -> list[Event]:
        """All events so far."""
        return [event for frame in self.frames for event in frame.batch.events]

    async def frame(self) -> pb.StreamEventsResponse | None:
        """Read one frame; None at the end, whose status is in `refusal` unless it was OK."""
        try:
            async with asyncio.timeout(READ_S):
                frame = await self._call.read()
        except grpc.aio.AioRpcError as error:
            self.over, self.refusal, self._error = True, read(error), error
            return None
        if not isinstance(frame, pb.StreamEventsResponse):
            self.over = True
            return None
        self._check(frame)
        self.frames.append(frame)
        return frame

    async def until(self, wanted: Callable[[Event], bool]) -> Event:
        """Read on until an event that is wanted has come; return it."""
        seen = 0
        while True:
            for event in self.events[seen:]:
                if wanted(event):
                    return event
            seen = len(self.events)
            assert await self.frame() is not None, f"the stream ended first: {self.refusal}"

    async def through(self, sequence: int) -> Self:
        """Read on until everything up to a sequence was accounted for."""
        while self.frames[-1].through_sequence < sequence:
            assert await self.frame() is not None, f"the stream ended first: {self.refusal}"
        return self

    async def rest(self) -> Self:
        """Read to the end."""
        while await self.frame() is not None:
            continue
        return self

    def _check(self, frame: pb.StreamEventsResponse) -> None:
        """Hold a frame against the rules."""
        assert self.closing is None, "a frame came behind the closing one"
        assert frame.HasField("opened") == (not self.frames), "`opened` comes first and once"
        assert frame.resume_token, "a frame without a token"
        assert frame.after_sequence <= frame.through_sequence
        if self.frames:
            assert frame.after_sequence == self.frames[-1].through_sequence, "a range begins where none ended"
        numbers = [event.sequence for event in frame.batch.events]
        assert numbers == sorted(set(numbers))
        if frame.after_sequence == frame.through_sequence:
            # The terminal of a run that retention removed: second frame, and from before the floor.
            lost = [event.HasField("run_terminal") for event in frame.batch.events]
            assert not lost or (
                lost == [True] and len(self.frames) == 1 and numbers[0] <= frame.after_sequence
            )
            return
        assert all(frame.after_sequence < number <= frame.through_sequence for number in numbers)
