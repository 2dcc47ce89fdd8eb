"""The bench that these tests read from."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.planes import Bench, open_bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path / "plane.db") as made:
        yield made
