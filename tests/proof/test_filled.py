"""A file that is written past the server is one that a server could have written."""

from __future__ import annotations

from pathlib import Path

from sessionplane.proof import filled
from sessionplane.store.verifying import Verifier
from tests.support.planes import NAMESPACE, open_bench
from tests.support.rows import broken


async def test_a_file_that_is_filled_past_the_server_is_whole(tmp_path: Path) -> None:
    """No invariant is broken, every hash fits, every row is what its log adds up to, and sessions go on."""
    database = tmp_path / "filled.db"
    filled.build(database, 30)
    assert broken(database) == {}
    with Verifier(database) as verifier:
        checked = list(verifier.sessions())
    assert {(each.events, each.problem) for each in checked} == {(filled.EVENTS, "")}
    assert len(checked) == 30
    async with open_bench(database) as bench:
        assert (await bench.resolve(filled.key_text(29))).resolution == "EXISTING"
        run = await bench.running(filled.key_text(7), run_id="run_new")
        assert bench.session(filled.key_text(7)).head_sequence == filled.EVENTS + 3
        assert bench.plane.read(lambda tx: tx.run(NAMESPACE, run.run_id))
