"""Each invariant is broken by hand, in a file where everything else holds, and is the one that says so."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sessionplane.store.contract import Violations
from sessionplane.store.invariants import INVARIANTS
from tests.support.planes import open_bench
from tests.support.rows import broken

BREAKS = {
    "pointer_names_its_session": "UPDATE keys SET session_id = 'ses_none' WHERE key = 'agent:main:idle'",
    "keyed_session_has_its_pointer": "DELETE FROM keys WHERE key = 'agent:main:idle'",
    "final_session_has_ended": "UPDATE sessions SET superseded_by = 'ses_x' WHERE key = 'agent:main:idle'",
    "key_is_canonical": """
        UPDATE keys SET key = 'agent:Main:idle' WHERE key = 'agent:main:idle';
        UPDATE sessions SET key = 'agent:Main:idle' WHERE key = 'agent:main:idle'
    """,
    "lane_holds_one_run": "UPDATE sessions SET active_run_id = '' WHERE key = 'agent:main:busy'",
    "line_is_counted": "UPDATE sessions SET queued_run_count = 2 WHERE key = 'agent:main:busy'",
    "ended_session_has_no_unfinished_run": "UPDATE sessions SET state = 'ENDED' WHERE key = 'agent:main:busy'",
    "run_ends_by_itself": "UPDATE runs SET due_at_ms = NULL WHERE run_id = 'active'",
    "finished_run_has_its_terminal": "UPDATE runs SET terminal = x'' WHERE run_id = 'done'",
    "terminal_is_in_the_log": "UPDATE events SET kind = 'CUSTOM' WHERE kind = 'RUN_TERMINAL'",
    "terminal_is_the_last_of_its_run": """
        UPDATE events SET run_id = 'done' WHERE run_id = 'active' AND kind = 'OUTPUT_DELTA'
    """,
    "input_is_never_lost": """
        INSERT INTO inputs SELECT namespace, 'late', session_id, 'done', 'RECORDED', 0, 0, x'', '{}', x''
        FROM runs WHERE run_id = 'done'
    """,
    "log_has_no_gap": "DELETE FROM events WHERE kind = 'OUTPUT_DELTA'",
    "log_size_is_known": "UPDATE sessions SET floor_log_bytes = 1 WHERE key = 'agent:main:idle'",
    "log_belongs_to_a_session": "INSERT INTO events VALUES ('ses_none', 1, '', 'CUSTOM', x'', x'')",
    "head_is_the_newest_event": "UPDATE sessions SET head_hash = x'00' WHERE key = 'agent:main:idle'",
    "held_run_has_a_lease": "UPDATE runs SET lease_token = '' WHERE run_id = 'active'",
    "interrupt_has_one_outcome": "UPDATE interrupts SET stage = 'COMPLETED' WHERE run_id = 'active'",
    "change_number_is_known": "UPDATE namespaces SET change_number = 0",
}
ALONG = {
    "log_has_no_gap": {"log_size_is_known"},
    "lane_holds_one_run": {"line_is_counted"},
    "pointer_names_its_session": {"keyed_session_has_its_pointer"},
}
"""What breaks with it, since one row breaks both."""


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """A closed file with sessions and runs of many kinds."""
    async with open_bench(tmp_path / "plane.db") as bench:
        await bench.resolve("idle")
        await bench.running("busy", run_id="done")
        await bench.finish("done", "text")
        await bench.running("busy", run_id="active")
        await bench.publish("active", "some text")
        await bench.start("busy", run_id="queued")
        await bench.interrupt(run_id="active")
    return bench.database


async def test_every_invariant_has_a_test() -> None:
    """A new one needs a row here."""
    assert set(BREAKS) == set(INVARIANTS)


async def test_nothing_is_broken_in_a_file_that_is_whole(database: Path) -> None:
    """None of them fires for nothing."""
    assert broken(database) == {}


@pytest.mark.parametrize("name", BREAKS)
async def test_an_invariant_fires_alone(database: Path, name: str) -> None:
    """The one that was broken, and no other that is not broken by the same row."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(BREAKS[name])
        connection.commit()
    found = set(broken(database))
    assert name in found
    assert found <= {name} | ALONG.get(name, set())


async def test_a_store_counts_what_is_broken_and_names_some(database: Path) -> None:
    """The count is the whole, the examples are as many as were asked for."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE runs SET due_at_ms = NULL, terminal = x''")
        connection.commit()
    async with open_bench(database) as bench:
        bench.forged = True
        found = bench.plane.read(lambda tx: tx.violations("finished_run_has_its_terminal", limit=1))
        whole = bench.plane.read(lambda tx: tx.violations("pointer_names_its_session", limit=1))
    assert found == Violations(1, ["done"])
    assert whole == Violations(0, [])


async def test_each_invariant_names_a_promise_of_the_docs() -> None:
    """Whoever sees it broken can read what was promised."""
    promises = (Path(__file__).parents[2] / "docs" / "promises.md").read_text()
    assert all(f"## {each.promise}\n" in promises for each in INVARIANTS.values())
