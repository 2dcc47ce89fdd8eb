"""What is left of a deleted session, and how it goes once its time is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionplane.domain.errors import SessionNotFound
from sessionplane.domain.sessions import Session
from sessionplane.plane import retention
from sessionplane.plane.retention import SessionName
from tests.support.planes import KEY, NAMESPACE, Bench, open_bench, ref
from tests.support.retained import BOUNDS, WINDOW_MS, finished, retain


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """A plane whose retention is quick and takes small steps."""
    async with open_bench(tmp_path / "plane.db", **BOUNDS) as made:
        yield made


async def deleted(bench: Bench, name: str = KEY) -> Session:
    session = bench.session(name)
    await bench.delete(session.session_id)
    return session


def traces(bench: Bench, session_id: str) -> list[str]:
    """The tables in which something of the session stands."""
    found = {
        name: [row for row in table if session_id in row]
        for name, table in bench.contents().items()
        if isinstance(table, list)
    }
    return [name for name, table in found.items() if table]


async def test_everything_goes_once_its_time_is_over(bench: Bench) -> None:
    """Events, runs, inputs, interrupts and the row, in steps; nothing of another session."""
    for name in (KEY, "other"):
        await finished(bench, name, *"abcdefghijklmnopqrstuvwxyz")
        await bench.running(name)
        await bench.start(name, "waits")
        await bench.interrupt(name)
    other = traces(bench, bench.session("other").session_id)
    session = await deleted(bench)
    assert set(traces(bench, session.session_id)) >= {
        "events",
        "inputs",
        "interrupts",
        "runs",
        "sessions",
    }
    await retain(bench, WINDOW_MS - 1)
    assert "runs" in traces(bench, session.session_id)
    await retain(bench, 1)
    assert traces(bench, session.session_id) == []
    assert traces(bench, bench.session("other").session_id) == other


async def test_a_crash_between_two_steps_is_taken_up_again(bench: Bench) -> None:
    """The row goes last and stays due until then."""
    await finished(bench, KEY, *"abcdefghijklmnopqrstuvwxyz")
    session = await deleted(bench)
    bench.clock.advance(WINDOW_MS)
    steps = 0
    while (await bench.do(retention.look, SessionName(NAMESPACE, session.session_id))).more:
        steps += 1
        await bench.reopen()
    assert steps > 4
    assert traces(bench, session.session_id) == []


async def test_its_change_number_is_remembered(bench: Bench) -> None:
    """Who watches from below it cannot learn of it any more."""
    await bench.resolve("kept")
    await finished(bench)
    session = await deleted(bench)
    number = bench.plane.read(lambda tx: tx.session(NAMESPACE, session.session_id))
    assert number is not None
    await bench.resolve("later")
    await retain(bench, WINDOW_MS)
    assert bench.contents()["namespaces"] == [(NAMESPACE, number.change_number + 1, number.change_number)]


async def test_it_is_not_compacted_by_hand(bench: Bench) -> None:
    """It is hidden from whoever asks; a compaction under way stops."""
    session = await finished(bench)
    begun = await bench.do(lambda tx, use: retention.begin(tx, NAMESPACE, ref(KEY), 0, use))
    await deleted(bench)
    with pytest.raises(SessionNotFound):
        await bench.plane.compactor.compact(NAMESPACE, ref(session.session_id), 0)
    assert not (await bench.do(retention.compact, begun.compaction)).more


async def test_a_damaged_log_goes_as_well(bench: Bench) -> None:
    """What nobody can read any more need not fit."""
    session = await finished(bench)
    await bench.write(lambda tx, _: tx._connection.execute("DELETE FROM events WHERE sequence = 4"))  # type: ignore[attr-defined]
    await deleted(bench)
    await retain(bench, WINDOW_MS)
    assert traces(bench, session.session_id) == []


async def test_a_session_s_life_has_an_end(tmp_path: Path) -> None:
    """Left alone it ends, is deleted once nobody wanted it back, and then everything of it is removed."""
    bounds = {"detached_ttl_ms": WINDOW_MS, "ended_ttl_ms": WINDOW_MS, "deleted_ttl_ms": WINDOW_MS}
    async with open_bench(tmp_path / "plane.db", **bounds) as bench:
        await finished(bench)
        lasts = []
        for _ in range(4):
            lasts.append([name for name in ("keys", "runs", "sessions", "events") if bench.contents()[name]])
            bench.clock.advance(WINDOW_MS)
            await bench.plane.sweeper.sweep()
            await bench.plane.compactor.retain()
        assert lasts == [["keys", "runs", "sessions", "events"]] * 2 + [["runs", "sessions", "events"], []]
