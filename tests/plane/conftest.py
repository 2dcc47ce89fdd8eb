"""The bench that most of these tests use, and the tasks that some of them begin."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.planes import Bench, open_bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path / "plane.db") as made:
        yield made


@pytest.fixture
async def tasks() -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Tasks that are cancelled and awaited when the test is over."""
    begun: list[asyncio.Task[Any]] = []
    yield begun
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)
