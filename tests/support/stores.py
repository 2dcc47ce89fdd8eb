"""Stores for tests: which ones there are, and how a test holds their writer still."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Protocol

from sessionplane.domain.limits import Limits
from sessionplane.domain.listing import ALL_SESSIONS
from sessionplane.store import connections, schema
from sessionplane.store.contract import ReadTx, SessionPage, Store, Tx
from sessionplane.store.sqlite import open_store
from tests.support.values import NAMESPACE


class ClosableStore(Store, Protocol):
    """A store that a test can end."""

    async def close(self) -> None:
        """Settle what is queued and let go of the database."""


OpenStore = Callable[..., Awaitable[ClosableStore]]
"""(limits=...) -> the test's one database, opened; again after it was closed."""


async def _open_sqlite(folder: Path, limits: Limits) -> ClosableStore:
    database = folder / "sessionplane.db"
    lay_out(database)
    return open_store(database, limits=limits)


OPENERS = {"sqlite": _open_sqlite}
"""Another backend joins the contract's tests by an entry here."""


def lay_out(database: Path) -> None:
    """Make a database with all of its tables, if there is none: as the migrations would, but in no time."""
    if not database.exists():
        database.write_bytes(_laid_out())


@cache
def _laid_out() -> bytes:
    with TemporaryDirectory() as folder:
        database = Path(folder) / "empty.db"
        with closing(connections.open_writer(database)) as connection:
            schema.migrate(connection)
        return database.read_bytes()


def newest(tx: ReadTx, namespace: str = NAMESPACE, **asked: Any) -> SessionPage:
    """Return a page of all that a namespace shows, where `asked` says nothing else."""
    everything = {
        "wanted": ALL_SESSIONS,
        "show_internal": False,
        "before": None,
        "limit": 100,
        "examine_max": 1_000,
    }
    return tx.sessions(namespace, **everything | asked)


class HeldWriter:
    """Hold a store's writer inside a use case, so that what is submitted meanwhile is one group.

    It is certain that the writer took this use case alone: what comes next is the first of a new group.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._free = threading.Event()

    async def __aenter__(self) -> None:
        inside = threading.Event()

        def use_case(_: object) -> None:
            inside.set()
            if not self._free.wait(timeout=10):
                raise TimeoutError("what was done meanwhile waited for the writer")

        self._future = self._store.submit(use_case)
        inside.wait(timeout=10)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._free.set()
        await self._future


def fail_the_commit(tx: Tx) -> None:
    """A use case after which all of its group runs to the end, and then COMMIT itself fails: a row of no session, whose
    foreign key is asked for only there.
    """
    connection: sqlite3.Connection = tx._connection  # type: ignore[attr-defined]
    connection.execute("PRAGMA defer_foreign_keys = ON")
    connection.execute(
        "INSERT INTO interrupts (namespace, interrupt_id, session_id, run_id, stage, mode, reason, created_at_ms)"
        " VALUES ('', '', 'nobody', '', '', '', '', 0)"
    )


def overwrite_events(database: Path) -> None:
    """Damage a closed database as a bad disk does: the first page of the events is garbage."""
    with closing(sqlite3.connect(database)) as connection:
        found = "SELECT rootpage FROM sqlite_schema WHERE name = 'events'"
        (page,) = connection.execute(found).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
