"""What the benchmarks stand on: a file that they write past the server is one that a server could have written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sessionplane.store.verifying import Verifier
from tests.support.planes import NAMESPACE, open_bench
from tests.support.rows import broken

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


async def test_the_file_of_the_growth_benchmark_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No invariant is broken, every hash fits, every row is what its log adds up to, and sessions go on."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    import growth_file

    database = tmp_path / "growth.db"
    growth_file.build(database, 30)
    assert broken(database) == {}
    with Verifier(database) as verifier:
        checked = list(verifier.sessions())
    assert {(each.events, each.problem) for each in checked} == {(growth_file.EVENTS, "")}
    assert len(checked) == 30
    async with open_bench(database) as bench:
        assert (await bench.resolve(growth_file.key_text(29))).resolution == "EXISTING"
        run = await bench.running(growth_file.key_text(7), run_id="run_new")
        assert bench.session(growth_file.key_text(7)).head_sequence == growth_file.EVENTS + 3
        assert bench.plane.read(lambda tx: tx.run(NAMESPACE, run.run_id))
