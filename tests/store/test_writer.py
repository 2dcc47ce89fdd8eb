"""The writer: one commit for many commands, and what a failing disk does to them."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sessionplane.domain.errors import RunNotFound, SessionPlaneError, StorageFull, StoreFailed
from sessionplane.domain.events import Place
from sessionplane.domain.limits import Limits
from sessionplane.store.contract import Tx
from sessionplane.store.sqlite import Footing, SqliteStore, open_store
from sessionplane.store.writer import Writer
from tests.support.stores import HeldWriter, fail_the_commit, overwrite_events
from tests.support.values import NAMESPACE, NOW_MS, created, run, session, session_id

ONE = session_id(1)
ROOT = Path(__file__).parents[2]
LARGE = b"x" * 1_000_000


def statements(store: SqliteStore) -> list[str]:
    """Return what the writer's connection runs from now on."""
    seen: list[str] = []
    store._connection.set_trace_callback(seen.append)
    return seen


def submit(store: SqliteStore) -> asyncio.Future[int]:
    return store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS))


async def append(store: SqliteStore) -> int:
    return await submit(store)


def events(store: SqliteStore) -> int:
    found = store.read(lambda tx: tx.entries(ONE, after=Place(0, b""), limit=1_000, bytes_max=1 << 20))
    return len(found)


async def leave_room_for_pages(store: SqliteStore, pages: int) -> None:
    """Let the database grow by so many pages and no further: a disk that is nearly full."""

    def use_case(tx: Tx) -> None:
        connection: sqlite3.Connection = tx._connection  # type: ignore[attr-defined]
        (used,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {used + pages}")

    await store.submit(use_case)


def too_large(tx: Tx) -> None:
    """Write one row that does not fit."""
    tx.add_run(run(1, input=LARGE))


async def together(store: SqliteStore, *use_cases: Callable[[Tx], object]) -> list[object | BaseException]:
    """Run use cases in one group."""
    async with HeldWriter(store):
        futures = [store.submit(each) for each in use_cases]
    return await asyncio.gather(*futures, return_exceptions=True)


async def test_what_waits_shares_one_commit(store: SqliteStore) -> None:
    """A transaction that takes the lock first, a savepoint for each command, one COMMIT."""
    await store.submit(lambda tx: tx.add_session(session(1)))
    seen = statements(store)
    commits: list[object] = []
    store.on_commit(commits.append)
    await together(store, *[lambda tx: tx.append(ONE, created(), at_ms=NOW_MS)] * 10)
    held, group = [index for index, each in enumerate(seen) if each == "BEGIN IMMEDIATE"]
    assert seen[held:group].count("SAVEPOINT use_case") == 1
    assert seen[group:].count("SAVEPOINT use_case") == 10
    assert seen[group:].count("COMMIT") == 1
    assert len(commits) == 1


async def test_a_group_is_bounded(database: Path) -> None:
    """What is over the bound goes into the next commit."""
    store = open_store(database, limits=Limits(group_commands_max=4))
    seen = statements(store)
    await together(store, *[lambda _: None] * 10)
    assert seen.count("COMMIT") == 1 + 3
    await store.close()


class Stepped(Writer):
    """A writer without a thread."""

    def _start(self) -> None:
        pass


async def test_who_steps_the_writer_decides_when_it_commits(database: Path) -> None:
    """Without a thread nothing is written unless somebody steps; an abandoned store leaves what was committed."""
    store = open_store(database, footing=Footing(make_writer=Stepped))
    first = store.submit(lambda tx: tx.add_session(session(1)))
    assert store._writer.step()
    await first
    second = submit(store)
    store.abandon()
    assert not second.done()
    store = open_store(database)
    assert store.read(lambda tx: tx.session(NAMESPACE, ONE)) is not None
    assert events(store) == 0
    await store.close()


async def test_many_events_are_one_statement(store: SqliteStore) -> None:
    """So that a busy loop takes the interpreter away seldom."""
    await store.submit(lambda tx: tx.add_session(session(1)))
    seen = statements(store)
    await store.submit(lambda tx: [tx.append(ONE, created(), at_ms=NOW_MS) for _ in range(16)])
    assert sum(each.startswith("INSERT INTO events") for each in seen) == 1
    assert events(store) == 16


async def test_a_full_disk_fails_the_whole_group_and_nothing_is_handed_out(store: SqliteStore) -> None:
    """SQLite ends the transaction with the statement, so those before it are lost as well."""
    await store.submit(lambda tx: tx.add_session(session(1)))
    await leave_room_for_pages(store, 20)
    commits: list[object] = []
    store.on_commit(commits.append)
    undone: list[str] = []

    def first(tx: Tx) -> None:
        tx.on_undo(lambda: undone.append("first"))
        tx.append(ONE, created(), at_ms=NOW_MS)

    def also_first(tx: Tx) -> None:
        tx.on_undo(lambda: undone.append("also first"))

    def second(tx: Tx) -> None:
        tx.on_undo(lambda: undone.append("second 1"))
        tx.on_undo(lambda: undone.append("second 2"))
        too_large(tx)

    results = await together(store, first, also_first, second, first)
    assert [type(each) for each in results] == [StorageFull] * 4
    assert undone == ["second 2", "second 1", "also first", "first"]
    assert (commits, events(store)) == ([], 0)


async def test_a_store_whose_disk_was_full_goes_on(store: SqliteStore) -> None:
    """Small writes still fit, sequences have no gap, and with room the large one fits too."""
    await store.submit(lambda tx: tx.add_session(session(1)))
    await leave_room_for_pages(store, 20)
    with pytest.raises(StorageFull):
        await store.submit(too_large)
    assert await append(store) == 1
    await leave_room_for_pages(store, 10_000)
    await store.submit(too_large)
    found = store.read(lambda tx: tx.run(NAMESPACE, run(1).run_id))
    assert found is not None
    assert found.input == LARGE
    assert not store.failed.done()


async def test_a_commit_that_fails_was_told_to_nobody(store: SqliteStore) -> None:
    """Every use case of the group had run: neither their results nor their events came out before the COMMIT."""
    await store.submit(lambda tx: tx.add_session(session(1)))
    heard: list[object] = []
    store.on_commit(heard.append)
    results = await together(store, lambda tx: tx.append(ONE, created(), at_ms=NOW_MS), fail_the_commit)
    assert [type(each) for each in results] == [sqlite3.IntegrityError] * 2
    assert (heard, events(store)) == ([], 0)
    assert await append(store) == 1


async def test_an_error_that_a_use_case_keeps_to_itself_still_fails_its_group(store: SqliteStore) -> None:
    """Nothing after it is written, since SQLite would commit each statement by itself."""
    await store.submit(lambda tx: tx.add_session(session(1)))
    await leave_room_for_pages(store, 20)

    def hiding(tx: Tx) -> None:
        with pytest.raises(sqlite3.OperationalError):
            too_large(tx)
        with pytest.raises(sqlite3.OperationalError):
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.floor(ONE)

    results = await together(store, lambda tx: tx.append(ONE, created(), at_ms=NOW_MS), hiding)
    assert all(isinstance(each, sqlite3.OperationalError) for each in results)
    assert events(store) == 0
    assert await append(store) == 1


async def test_a_lost_group_takes_its_refusals_back(store: SqliteStore) -> None:
    """What was refused beside it was judged by rows that are not there: it may be tried again."""
    await store.submit(lambda tx: tx.add_session(session(1)))
    await leave_room_for_pages(store, 20)

    def refusing(_: Tx) -> None:
        raise RunNotFound

    results = await together(store, refusing, too_large)
    assert [type(each) for each in results] == [StorageFull, StorageFull]
    assert results[0] is not results[1]


async def test_a_damaged_file_ends_the_store(database: Path) -> None:
    """The outcome is told to all of the group, to the process, and to every later caller."""
    store = open_store(database)
    await store.submit(lambda tx: tx.add_session(session(1)))
    await append(store)
    await store.close()
    overwrite_events(database)

    store = open_store(database)
    undone: list[str] = []

    def mirrored(tx: Tx) -> None:
        tx.on_undo(lambda: undone.append("mirrored"))
        tx.touch_session(NAMESPACE, ONE, interaction_at_ms=NOW_MS)

    results = await together(store, mirrored, lambda tx: tx.append(ONE, created(), at_ms=NOW_MS))
    assert [type(each) for each in results] == [StoreFailed, StoreFailed]
    assert undone == ["mirrored"]
    assert isinstance(await store.failed, StoreFailed)
    with pytest.raises(StoreFailed):
        store.submit(lambda _: None)
    await store.close()


async def test_what_waits_for_a_dead_writer_fails_too(database: Path) -> None:
    """Commands that were accepted before the failure was known do not hang."""
    store = open_store(database, limits=Limits(group_commands_max=1))

    def dying(_: Tx) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    results = await together(store, dying, lambda _: 1, lambda _: 2)
    assert [type(each) for each in results] == [StoreFailed] * 3
    await store.close()


async def test_undoing_memory_that_fails_ends_the_store(store: SqliteStore) -> None:
    """Memory that mirrors rows is in doubt: only a new process has it right."""

    def failing() -> None:
        raise ZeroDivisionError

    def use_case(tx: Tx) -> None:
        tx.on_undo(failing)
        raise RunNotFound

    with pytest.raises(StoreFailed):
        await store.submit(use_case)
    assert isinstance(await store.failed, SessionPlaneError)


FILE_SIZE_LIMIT = """
import asyncio, resource, sys
from pathlib import Path
from sessionplane.domain.errors import StorageFull
from sessionplane.domain.events import Place
from sessionplane.store.sqlite import open_store
from tests.support.values import NOW_MS, delta, session, session_id

async def main():
    store = open_store(Path(sys.argv[1]))
    await store.submit(lambda tx: tx.add_session(session(1)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
    say = lambda tx: tx.append(session_id(1), delta("x" * 100_000), at_ms=NOW_MS)
    kept = 0
    try:
        while True:
            kept = await store.submit(say)
    except StorageFull:
        pass
    try:
        await store.submit(say)
    except StorageFull:
        pass
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert await store.submit(say) == kept + 1
    await store.close()
    store = open_store(Path(sys.argv[1]))
    entries = store.read(lambda tx: tx.entries(session_id(1), after=Place(0, b""), limit=1000, bytes_max=1 << 30))
    assert [each.sequence for each in entries] == list(range(1, kept + 2))
    check = store.read(lambda tx: tx._connection.execute("PRAGMA integrity_check").fetchall())
    assert check == [("ok",)], check
    await store.close()
    print("kept", kept)

asyncio.run(main())
"""


def test_a_file_that_may_not_grow_is_a_full_disk(database: Path) -> None:
    """A quota reaches us as an I/O error; the transaction is gone, the file is whole, and the store goes on."""
    done = subprocess.run(
        [sys.executable, "-c", FILE_SIZE_LIMIT, str(database)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[1]) > 5
