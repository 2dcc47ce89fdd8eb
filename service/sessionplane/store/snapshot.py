"""One snapshot of a file, for those who only look: a server may be running on it.

It opens the file for reading only and never takes the owner's lock. While it lasts, the server's log is not folded
into the file, so it is for questions that end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sessionplane.store import connections
from sessionplane.store import statements as sql
from sessionplane.store.contract import ReadTx
from sessionplane.store.failures import StoreUnusable
from sessionplane.store.reading import SqliteReadTx


@contextmanager
def snapshot(database: Path) -> Iterator[ReadTx]:
    """Open a file as it is now. Raises StoreUnusable if it is not ours, or cannot be read."""
    connections.require(database)
    try:
        with closing(connections.open_reader(database)) as connection:
            (store_id,) = connection.execute(sql.META, ("store_id",)).fetchone()
            connection.execute(sql.BEGIN_READ)
            yield SqliteReadTx(connection, store_id)
    except sqlite3.Error as error:
        raise StoreUnusable(f"{database} cannot be read: {error}.") from error
