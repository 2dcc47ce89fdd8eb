"""A server's stream that goes on by itself, whatever it carries.

Owns one call at a time, the wait between two calls, and what was received but not handed out. It never leaves a call
behind: the call is cancelled when it ends, when the reader is cancelled in the middle of a read, and when it is
closed. Where the next call begins is known to whoever inherits from here.

A reader that is cancelled (by asyncio.timeout, say) loses nothing: the frame that may have been on its way was not
taken, so the next read opens a new call with the newest token and gets it again.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeAlias, TypeVar, cast

import grpc
from grpc.aio import AioRpcError

from .calls import was_cancelled
from .errors import SessionPlaneError, client_closed, from_rpc_error

if TYPE_CHECKING:
    from grpc.aio import UnaryStreamCall

_Request = TypeVar("_Request")
_Frame = TypeVar("_Frame")
_Item = TypeVar("_Item")

OnReconnect: TypeAlias = Callable[[SessionPlaneError, float], None]


class Followed(Generic[_Request, _Frame, _Item]):
    """Iterate it inside `async with`; entering waits for the first frame. Every wait may be cancelled."""

    def __init__(
        self,
        open_call: Callable[[_Request], UnaryStreamCall[_Request, _Frame]],
        *,
        on_reconnect: OnReconnect | None,
    ) -> None:
        self._open_call = open_call
        self._on_reconnect = on_reconnect
        self._call: UnaryStreamCall[_Request, _Frame] | None = None
        self._waiting: deque[_Item] = deque()  # bounded by one frame: nothing is read while it holds an item
        self._begun = False
        self._over = False

    @abstractmethod
    def _request(self) -> _Request:
        """What the next call sends."""

    @abstractmethod
    def _receive(self, frame: _Frame) -> None:
        """Takes a frame; what it raises is final."""

    @abstractmethod
    def _failed(self, error: SessionPlaneError) -> float:
        """Returns how long to wait before the next call. Raises the error if there is none to be made."""

    async def __aenter__(self) -> Self:
        try:
            while not self._begun and not self._over:
                await self._advance()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Item:
        while not self._waiting:
            if self._over:
                raise StopAsyncIteration
            await self._advance()
        return self._waiting.popleft()

    async def aclose(self) -> None:
        """Ends the call. The token stays readable, a further read ends the iteration."""
        self._over = True
        self._drop_call()

    async def _advance(self) -> None:
        """Takes one frame; or the end of a call, and waits for the next. What it raises is final."""
        try:
            frame = await self._read()
        except SessionPlaneError as error:
            self._drop_call()
            await self._wait(error)
            return
        if frame is None:
            await self.aclose()
            return
        try:
            self._receive(frame)
        except SessionPlaneError:
            await self.aclose()
            raise
        self._begun = True

    async def _read(self) -> _Frame | None:
        if self._call is None:
            self._call = self._open_call(self._request())
        try:
            frame = await self._call.read()
        except AioRpcError as error:
            raise from_rpc_error(error) from None
        except asyncio.CancelledError:
            self._drop_call()
            if was_cancelled():
                raise
            if self._over:
                return None
            raise client_closed() from None
        return None if frame is grpc.aio.EOF else cast("_Frame", frame)

    async def _wait(self, error: SessionPlaneError) -> None:
        try:
            delay_s = self._failed(error)
        except SessionPlaneError:
            self._over = True
            raise
        if self._on_reconnect:
            self._on_reconnect(error, delay_s)
        await asyncio.sleep(delay_s)

    def _drop_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
