"""A storm: callers in many processes, with nothing but generated stubs, resolve one new key at the same moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionplane.proof import storm
from sessionplane.proof.parts import Outcome


async def _all_get_its_one_session(folder: Path, calls: int, processes: int) -> Outcome:
    outcome = await storm.storm(calls, folder=folder, progress=lambda *_: None, processes=processes)
    assert not outcome.failures
    assert outcome.checked == calls
    return outcome


async def test_a_thousand_resolves_of_a_new_key_at_once_all_get_its_one_session(tmp_path: Path) -> None:
    """Of 1,000 calls from eight processes, in five spellings, none fails; all name one session, created once."""
    await _all_get_its_one_session(tmp_path, 1_000, 8)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_ten_thousand_resolves_of_a_new_key_at_once_all_get_its_one_session(tmp_path: Path) -> None:
    """The same with 10,000 calls, and ten seconds are enough."""
    outcome = await _all_get_its_one_session(tmp_path, 10_000, 8)
    assert float(outcome.measured["storm_s"]) <= 10


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_hundred_processes_at_once_all_get_its_one_session(tmp_path: Path) -> None:
    """10,000 calls over a hundred connections, each of a process of its own: none fails, and all name one session."""
    await _all_get_its_one_session(tmp_path, 10_000, 100)
