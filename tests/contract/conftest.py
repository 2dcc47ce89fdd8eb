"""A store for each test of the contract, on every backend there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sessionplane.domain.limits import DEFAULT, Limits
from tests.support.stores import OPENERS, ClosableStore, OpenStore


@pytest.fixture(params=sorted(OPENERS))
async def open_any(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Open the test's database; whatever is open at the end is closed."""
    opener = OPENERS[request.param]
    async with AsyncExitStack() as stack:

        async def open_it(limits: Limits = DEFAULT) -> ClosableStore:
            store = await opener(tmp_path, limits)
            stack.push_async_callback(store.close)
            return store

        yield open_it


@pytest.fixture
async def store(open_any: OpenStore) -> ClosableStore:
    """A new, empty store."""
    return await open_any()
