"""The server that most of these tests talk to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.serving import Served, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path / "plane.db") as served:
        yield served
