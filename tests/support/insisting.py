"""Calls that are made until they are answered, however often the server goes away meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

T = TypeVar("T")

_LOST = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})


async def insist(method: Callable[..., Awaitable[T]], request: object) -> T:
    """Make a call until it is answered."""
    while True:
        try:
            return await method(request, timeout=30, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _LOST:
                raise
