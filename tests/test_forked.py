"""Processes that are forked instead of started, on which the tests of commands and of servers rest."""

from __future__ import annotations

import os
import signal
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from tests.support.forked import Forked, forked


async def _begin(code: str, **streams: Any) -> Forked:
    """Start some code: `timeit` runs what it is given."""
    return await forked("timeit", "-n1", "-r1", "-simport os, random, secrets, uuid_utils", code, **streams)


async def _printed(expression: str, **streams: Any) -> str:
    """Return what an expression is in another process."""
    process = await _begin(f"print({expression})", stdout=PIPE, **streams)
    return (await process.communicate())[0].decode().splitlines()[0]


@pytest.mark.parametrize("chance", ["random.random()", "secrets.token_hex(8)", "uuid_utils.uuid7().hex[16:]"])
async def test_chance_is_not_inherited(chance: str) -> None:
    """Two processes mint different ids, although they were one a moment before."""
    assert await _printed(chance) != await _printed(chance)


async def test_variables_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has those that it is given, or else those of the tests as they are now."""
    seen = "os.environ.get('SEEN')"
    assert await _printed(seen) == "None"
    monkeypatch.setenv("SEEN", "here")
    assert await _printed(seen) == "here"
    assert await _printed(seen, env=os.environ | {"SEEN": "there"}) == "there"


async def test_an_end_is_told_as_asyncio_tells_it() -> None:
    """The code of an exit, or minus the number of the signal; then it is gone, and signals find nobody."""
    assert await (await _begin("os._exit(7)")).wait() == 7
    waiting = await _begin("print(flush=True); input()", stdin=PIPE, stdout=PIPE)
    assert waiting.stdout is not None
    await waiting.stdout.readline()
    assert waiting.returncode is None
    waiting.kill()
    assert await waiting.wait() == waiting.returncode == -signal.SIGKILL
    await waiting.communicate()
    with pytest.raises(ProcessLookupError):
        waiting.send_signal(signal.SIGTERM)
