"""A scripted server with a client that talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sessionplane_client import Client
from tests.support.drives import Drives
from tests.support.scripted import Scripted, scripted


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as server:
        yield server


@pytest.fixture
async def client(server: Scripted) -> AsyncIterator[Client]:
    async with Client(server.target, options=[("grpc.enable_retries", 0)]) as client:
        yield client


@pytest.fixture
def drives(server: Scripted) -> Drives:
    return Drives(server)
