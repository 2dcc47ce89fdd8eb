"""A copy of a database that is in use: consistent, whole, and known as a copy.

Owns how a copy is made. It never opens the database for writing, so a server may be running on it: the copy is one
snapshot of what was committed when it began. The copy has an identity of its own, since it and the original go
different ways from here: a resume token of the one must not be believed by the other.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from sessionplane.store import connections
from sessionplane.store import statements as sql
from sessionplane.store.failures import StoreUnusable

_PAGES_A_STEP = 2_000


def backup(
    database: Path,
    target: Path,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    new_store_id: Callable[[], str] = lambda: secrets.token_hex(16),
) -> str:
    """Copy a database to a file that does not exist; returns the copy's identity. Blocks until it is on the disk.
    `progress` hears how many pages are copied, of how many.

    Raises StoreUnusable if the one cannot be read or the other cannot be written; then there is no copy.
    """
    connections.require(database)
    if target.exists():
        raise StoreUnusable(f"{target} exists. Name a new file: a backup never writes over another one.")
    if not target.absolute().parent.is_dir():
        raise StoreUnusable(f"There is no folder for {target}. Make it first, or name another one.")
    # Made under another name, so that a file with the wanted one is always whole.
    unfinished = target.with_name(f"{target.name}.unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        _copy(database, unfinished, progress)
        store_id = _adopt(unfinished, new_store_id())
        unfinished.replace(target)
        connections.flush(target.parent)
    except (sqlite3.Error, OSError) as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise StoreUnusable(f"{database} could not be copied to {target}: {error}.") from error
    return store_id


def _copy(database: Path, target: Path, progress: Callable[[int, int], None]) -> None:
    """Copy one snapshot, in steps. It is taken before the first one and held, so that no commit of a server that runs
    meanwhile makes the copy begin again.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(connections.open_reader(database)) as source, closing(sqlite3.connect(target)) as copy:
        source.execute(sql.BEGIN_READ)
        source.execute(sql.META, ("store_id",)).fetchall()
        source.backup(
            copy, pages=_PAGES_A_STEP, progress=lambda _, left, total: progress(total - left, total)
        )


def _adopt(copy: Path, store_id: str) -> str:
    """Give the copy its own identity, and flush it."""
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL").fetchall()
        connection.execute(sql.SAVE_META, ("store_id", store_id))
    connections.flush(copy)
    return store_id
