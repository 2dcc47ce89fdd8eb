"""A storm: callers in many processes, with nothing but generated stubs, resolve one new key at the same moment."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path

import pytest

from tests.support.processes import server_process
from tests.support.rows import rows

PROCESSES = 8


async def _caller(address: str, key: str, calls: int) -> Process:
    """Start a process of callers, and wait until it is connected."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.storm", address, key, str(calls), stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def _storm(address: str, key: str, calls: int) -> tuple[Counter[str], float]:
    """Let all processes go at once; returns how the calls ended, and after how long."""
    processes = await asyncio.gather(*[_caller(address, key, calls // PROCESSES) for _ in range(PROCESSES)])
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    outputs = await asyncio.gather(*[process.communicate(b"go\n") for process in processes])
    took_s = loop.time() - began_s
    total: Counter[str] = Counter()
    for output, _ in outputs:
        total.update(json.loads(output))
    return total, took_s


async def _one_session_for_all(database: Path, calls: int) -> float:
    async with server_process(database) as server:
        outcomes, took_s = await _storm(server.address, "storm", calls)
    assert sum(outcomes.values()) == calls
    (outcome,) = outcomes
    assert outcome.startswith("OK ses_")
    assert len(rows(database)["sessions"]) == 1
    return took_s


async def test_a_thousand_resolves_of_a_new_key_at_once_all_get_its_one_session(tmp_path: Path) -> None:
    """Of 1,000 calls from eight processes none fails, and all of them name the same session."""
    await _one_session_for_all(tmp_path / "plane.db", 1_000)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_ten_thousand_resolves_of_a_new_key_at_once_all_get_its_one_session(tmp_path: Path) -> None:
    """Of 10,000 calls from eight processes none fails, all name the same session, and ten seconds are enough."""
    assert await _one_session_for_all(tmp_path / "plane.db", 10_000) <= 10
