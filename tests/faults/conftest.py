"""Where a fault's server has its file, and a server that refuses to start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sessionplane import app
from sessionplane.settings import Settings
from tests.support.processes import READY_S, Exited

Start = Callable[[Path], Awaitable[Exited]]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the test's database is, or will be."""
    return tmp_path / "plane.db"


@pytest.fixture
def start(capsys: pytest.CaptureFixture[str]) -> Start:
    """Start a server that refuses, and return what it exits with and what it says."""

    async def start(database: Path) -> Exited:
        async with asyncio.timeout(READY_S):
            code = await app.serve(Settings(listen="127.0.0.1:0", db=database))
        return Exited(code, capsys.readouterr().err)

    return start
