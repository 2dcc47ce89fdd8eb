"""A copy of a database in use is whole, consistent, and another database from then on."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sessionplane.store.backup import backup
from sessionplane.store.failures import StoreUnusable
from sessionplane.store.verifying import Verifier
from tests.support.planes import open_bench
from tests.support.rows import broken, rows


def files(folder: Path, beginning: str) -> list[str]:
    """The files whose names begin so."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(beginning))


async def test_a_copy_holds_what_was_committed(tmp_path: Path) -> None:
    """Every row but the identity."""
    async with open_bench(tmp_path / "plane.db") as bench:
        await bench.running(run_id="r")
        await bench.publish("r", "text")
        store_id = backup(bench.database, tmp_path / "copy.db")
        original = rows(bench.database)
        assert files(tmp_path, "copy") == ["copy.db"]
        assert store_id != bench.store.store_id
    copied = rows(tmp_path / "copy.db")
    assert dict(copied.pop("meta"))["store_id"] == store_id
    assert copied.items() <= original.items()
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600


async def test_a_copy_that_is_made_under_load_is_one_moment(tmp_path: Path) -> None:
    """Commits go on meanwhile; the copy is whole, and neither waits for the other."""
    async with open_bench(tmp_path / "plane.db") as bench:
        await bench.running(run_id="r")
        steps: list[tuple[int, int]] = []
        copying = asyncio.create_task(
            asyncio.to_thread(
                backup, bench.database, tmp_path / "copy.db", progress=lambda *step: steps.append(step)
            )
        )
        published = 0
        while not copying.done():
            await bench.publish("r", "x" * 1_000)
            published += 1
        await copying
        assert published
    done, total = steps[-1]
    assert done == total > 0
    assert broken(tmp_path / "copy.db") == {}
    with Verifier(tmp_path / "copy.db") as verifier:
        assert not [each for each in verifier.sessions() if each.problem]


async def test_a_copy_serves(tmp_path: Path) -> None:
    """A server on it goes on where the original was."""
    async with open_bench(tmp_path / "plane.db") as bench:
        await bench.running(run_id="r")
        session_id = bench.session().session_id
        backup(bench.database, tmp_path / "copy.db")
    async with open_bench(tmp_path / "copy.db") as again:
        again.tokens = bench.tokens
        assert (await again.resolve()).view.session.session_id == session_id
        await again.finish("r", "done")


async def test_a_copy_is_never_written_over_another_file(tmp_path: Path) -> None:
    """Whatever stands there stays, and nothing unfinished is left."""
    async with open_bench(tmp_path / "plane.db") as bench:
        await bench.resolve()
        (tmp_path / "copy.db").write_text("precious")
        with pytest.raises(StoreUnusable, match="exists"):
            backup(bench.database, tmp_path / "copy.db")
        with pytest.raises(StoreUnusable, match="There is no folder for"):
            backup(bench.database, tmp_path / "no" / "folder.db")
        (tmp_path / "stuck.db.unfinished").mkdir()
        with pytest.raises(StoreUnusable, match="could not be copied"):
            backup(bench.database, tmp_path / "stuck.db")
    assert (tmp_path / "copy.db").read_text() == "precious"
    assert files(tmp_path, "copy") == ["copy.db"]


def test_only_a_database_of_ours_is_copied(tmp_path: Path) -> None:
    """Another program's file is refused, and so is none."""
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE t (x)")
    for name in ("other.db", "none.db"):
        with pytest.raises(StoreUnusable):
            backup(tmp_path / name, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
