"""A store on SQLite for each test, and what happens on its event loop besides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sessionplane.store.sqlite import SqliteStore, open_store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the test's database is, or will be."""
    return tmp_path / "sessionplane.db"


@pytest.fixture
async def store(database: Path) -> AsyncIterator[SqliteStore]:
    """A new store, closed at the end."""
    store = open_store(database)
    yield store
    await store.close()


@pytest.fixture
async def complaints() -> list[dict[str, Any]]:
    """What the event loop was told to complain about."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found
