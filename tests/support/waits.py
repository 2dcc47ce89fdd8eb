"""Calls that wait, begun by a test and brought to where they wait."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.support.planes import Bench

T = TypeVar("T")

LONG_S = 30.0
"""How long a waiting call would wait: longer than any test takes."""


async def waiting(
    tasks: list[asyncio.Task[Any]], bench: Bench, call: Coroutine[Any, Any, T]
) -> asyncio.Task[T]:
    """Begin a call and let it come to where it waits: everything it submitted is committed, and it listens."""
    task = asyncio.ensure_future(call)
    tasks.append(task)
    listening = len(bench.plane.bells)
    while len(bench.plane.bells) == listening and not task.done():  # noqa: ASYNC110 - turn by turn of the loop
        await asyncio.sleep(0)
    await bench.settled()
    await asyncio.sleep(0)
    return task
