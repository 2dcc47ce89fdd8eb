"""Kill -9 under load: nothing that was acknowledged is lost, and everybody who comes back sees each event once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.processes import server_process
from tests.support.traffic import KINDS, traffic


async def _kill_and_restart(database: Path, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    async with server_process(database) as server, traffic(server.address) as clients:
        for _ in range(rounds):
            await clients.ledger.more(KINDS, chance.randint(1, 6))
            await server.kill()
            await server.start()
        await clients.ledger.more(KINDS, 1)


@pytest.mark.timeout(120)
async def test_three_kills_under_load_lose_nothing(tmp_path: Path) -> None:
    """No acknowledged event is lost, no log has a gap, each run has one terminal, and every view equals its log."""
    await _kill_and_restart(tmp_path / "plane.db", rounds=3, seed=5)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_sixty_kills_under_load_lose_nothing(tmp_path: Path) -> None:
    """The same, sixty times on the same file."""
    await _kill_and_restart(tmp_path / "plane.db", rounds=60, seed=60)
