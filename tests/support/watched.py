"""A WatchSessions call as it comes over the wire, and what somebody who keeps a copy of all sessions makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

import grpc

from sessionplane.domain.tokens import parse_watch_token
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import Session
from tests.support.frames import READ_S
from tests.support.refusals import Refusal, read


class Watching:
    """One call. Entering it waits for the first frame, or raises the refusal; leaving it cancels the call."""

    def __init__(
        self, call: grpc.aio.UnaryStreamCall[pb.WatchSessionsRequest, pb.WatchSessionsResponse]
    ) -> None:
        self._call = call
        self.frames: list[pb.WatchSessionsResponse] = []
        self.copy: dict[str, Session] = {}
        self.refusal: Refusal | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._read()
        except grpc.aio.AioRpcError:
            self.leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Goes away."""
        self._call.cancel()

    @property
    def token(self) -> str:
        """The newest resume token."""
        return self.frames[-1].resume_token

    def told(self) -> list[str]:
        """What each frame was about: a key (with a minus if it is gone), or that all was told."""
        return [_told(frame) for frame in self.frames]

    async def frame(self) -> pb.WatchSessionsResponse | None:
        """Read one frame; None at the end, whose status is in `refusal`. A watch never ends with OK."""
        try:
            return await self._read()
        except grpc.aio.AioRpcError as error:
            self.refusal = read(error)
            return None

    async def until(self, wanted: Callable[[pb.WatchSessionsResponse], bool]) -> Self:
        """Read on until a frame that is wanted has come."""
        while not wanted(self.frames[-1]):
            assert await self.frame() is not None, f"the watch ended first: {self.refusal}"
        return self

    async def caught_up(self) -> Self:
        """Read on until all was told."""
        return await self.until(lambda frame: frame.HasField("caught_up"))

    async def rest(self) -> Self:
        """Read to the end."""
        while await self.frame() is not None:
            continue
        return self

    async def _read(self) -> pb.WatchSessionsResponse:
        async with asyncio.timeout(READ_S):
            frame = await self._call.read()
        assert isinstance(frame, pb.WatchSessionsResponse), "a watch ended with OK"
        number = parse_watch_token(frame.resume_token, namespace="default").number
        before = parse_watch_token(self.token, namespace="default").number if self.frames else 0
        assert number >= before, "a token went back"
        if not frame.HasField("caught_up"):
            assert number > before, "two rows with one number"
        self.frames.append(frame)
        self.keep(frame)
        return frame

    def keep(self, frame: pb.WatchSessionsResponse) -> None:
        """Bring the copy up to date with a frame."""
        match frame.WhichOneof("frame"):
            case "session":
                self.copy[frame.session.session_id] = frame.session
            case "removed":
                self.copy.pop(frame.removed.session_id, None)


def _told(frame: pb.WatchSessionsResponse) -> str:
    match frame.WhichOneof("frame"):
        case "session":
            return frame.session.key.removeprefix("agent:main:")
        case "removed":
            return f"-{frame.removed.key.removeprefix('agent:main:')}"
    return "caught up"
