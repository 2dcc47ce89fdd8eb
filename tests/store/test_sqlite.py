"""The store's side on the event loop: telling, reading damaged logs, closing, and coming back."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessionplane.domain.errors import Checksum, StoreFailed
from sessionplane.domain.events import Entry, Place
from sessionplane.store.contract import Committed, ReadTx
from sessionplane.store.sqlite import SqliteStore, open_store
from tests.support.stores import newest, overwrite_events
from tests.support.values import NOW_MS, created, delta, session, session_id

ONE = session_id(1)
START = Place(0, b"")
ROOT = Path(__file__).parents[2]


def log(tx: ReadTx, after: Place = START) -> list[Entry]:
    return tx.entries(ONE, after=after, limit=100, bytes_max=1 << 20)


async def write_log(store: SqliteStore, *texts: str) -> None:
    def use_case(tx: Any) -> None:
        tx.add_session(session(1))
        for text in texts:
            tx.append(ONE, delta(text), at_ms=NOW_MS)

    await store.submit(use_case)


async def test_a_new_store_asks_once_for_its_identity(database: Path) -> None:
    """Opened again, it keeps what it has."""
    store = open_store(database, new_store_id=lambda: "a" * 32)
    assert store.store_id == "a" * 32
    await store.close()
    store = open_store(database, new_store_id=lambda: "b" * 32)
    assert store.store_id == "a" * 32
    await store.close()


async def test_a_failing_listener_does_not_keep_callers_waiting(
    store: SqliteStore, complaints: list[dict[str, Any]]
) -> None:
    """The commit stands; the loop is told of the failure."""

    def failing(_: Committed) -> None:
        raise ZeroDivisionError

    store.on_commit(failing)
    await write_log(store, "a")
    assert [type(each["exception"]) for each in complaints] == [ZeroDivisionError]
    assert len(store.read(log)) == 1


DAMAGE: dict[str, tuple[str, int]] = {
    "a changed byte": ("UPDATE events SET data = CAST(data || 'x' AS BLOB) WHERE sequence = 2", 2),
    "a changed hash": ("UPDATE events SET chain = zeroblob(16) WHERE sequence = 2", 2),
    "a missing event": ("DELETE FROM events WHERE sequence = 2", 2),
    "an event at another sequence": ("UPDATE events SET sequence = 9 WHERE sequence = 4", 4),
    "a missing end": ("DELETE FROM events WHERE sequence >= 2", 2),
    "an event of another place": (
        "UPDATE events SET data = e.data FROM events e WHERE events.sequence = 2",
        2,
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_log_is_not_served(store: SqliteStore, database: Path, damage: str) -> None:
    """The refusal names the session and the sequence, live and on a scan; what is before it can be read."""
    statement, sequence = DAMAGE[damage]
    await write_log(store, "a", "b", "c", "d")
    first = store.read(log)[0]
    await store.close()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(statement)
        connection.commit()

    store = open_store(database)
    with pytest.raises(Checksum) as refusal:
        store.read(log)
    assert refusal.value.details == {"session_id": ONE, "sequence": str(sequence)}
    with pytest.raises(Checksum):
        await store.scan(lambda tx: log(tx, Place(1, first.chain)))
    before = store.read(lambda tx: tx.entries(ONE, after=START, limit=1, bytes_max=1 << 20))
    assert before == [first]
    assert not store.failed.done()
    await store.close()


async def test_a_place_that_never_was_is_a_damaged_log(store: SqliteStore) -> None:
    """A hash from elsewhere does not lead into this log."""
    await write_log(store, "a", "b")
    with pytest.raises(Checksum):
        store.read(lambda tx: log(tx, Place(1, b"?" * 16)))


async def test_a_file_that_cannot_be_read_ends_the_store(database: Path) -> None:
    """Readers find it out as well as the writer."""
    store = open_store(database)
    await write_log(store, "a")
    await store.close()
    overwrite_events(database)

    store = open_store(database)
    with pytest.raises(StoreFailed):
        store.read(log)
    with pytest.raises(StoreFailed):
        await store.scan(log)
    assert isinstance(await store.failed, sqlite3.DatabaseError)
    with pytest.raises(StoreFailed):
        store.submit(lambda _: None)
    await store.close()


async def test_a_failed_query_leaves_no_snapshot_behind(store: SqliteStore) -> None:
    """The next read sees what was committed since."""
    await write_log(store, "a")

    def failing(tx: ReadTx) -> None:
        log(tx)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.read(failing)
    await store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS))
    assert len(store.read(log)) == 2


async def test_closing_folds_the_log_into_the_file(store: SqliteStore, database: Path) -> None:
    """What is left is the database and the lock's file."""
    await write_log(store, "a")
    await asyncio.gather(store.close(), store.close())
    names = sorted(each.name for each in database.parent.iterdir())
    assert names == ["sessionplane.db", "sessionplane.db.lock"]


async def test_no_statement_stays_open_behind_a_read(store: SqliteStore) -> None:
    """An open one would keep the log from being folded into the file."""
    await write_log(store, "a", "b", "c")
    queries: list[Callable[[ReadTx], object]] = [
        lambda tx: tx.entries(ONE, after=START, limit=9, bytes_max=1),
        lambda tx: tx.head(ONE),
        lambda tx: newest(tx, limit=1),
    ]
    for query in queries:
        store.read(query)
        await store.scan(query)
    row = await store.submit(
        lambda tx: tx._connection.execute("SELECT 1").fetchone()  # type: ignore[attr-defined]
    )
    assert row == (1,)
    busy, pages, folded = store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert (busy, pages, folded) == (0, 0, 0)


def test_a_closed_loop_leaves_nobody_waiting(database: Path) -> None:
    """The writer finishes and ends, though there is nobody to tell."""
    loop = asyncio.new_event_loop()
    store = open_store(database, loop=loop)
    store.submit(lambda tx: tx.add_session(session(1)))
    loop.close()
    store._writer.stop()
    store._writer.join()
    store._give_up()
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (1,)


KILLED = """
import asyncio, os, sys
from pathlib import Path
from sessionplane.store.sqlite import open_store
from tests.support.stores import overwrite_events
from tests.support.values import NOW_MS, created, session, session_id

async def main():
    store = open_store(Path(sys.argv[1]))
    await store.submit(lambda tx: tx.add_session(session(1)))
    for _ in range(20):
        acknowledged = await store.submit(lambda tx: tx.append(session_id(1), created(), at_ms=NOW_MS))
    print(store.store_id, acknowledged, flush=True)
    os._exit(9)

asyncio.run(main())
"""


async def test_what_a_killed_process_acknowledged_is_there(database: Path) -> None:
    """Its lock is gone with it, and the next start reads the log that it left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(database), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 9
    assert database.with_name("sessionplane.db-wal").stat().st_size > 0
    store = open_store(database)
    identity, acknowledged = printed.decode().split()
    assert store.store_id == identity
    assert len(store.read(log)) == int(acknowledged) == 20
    await store.close()
