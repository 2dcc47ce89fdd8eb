"""The desk that most of these tests use."""

import pytest

from tests.support.desks import Desk


@pytest.fixture
async def desk() -> Desk:
    return Desk()
