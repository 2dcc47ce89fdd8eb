"""What stands in a server's file, read beside it: to show that a refused call changed nothing and nothing is broken."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sessionplane.store.invariants import INVARIANTS


def broken(database: Path) -> dict[str, list[str]]:
    """Return what breaks an invariant, by its name."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found = {
            name: [row[0] for row in connection.execute(each.query)] for name, each in INVARIANTS.items()
        }
    return {name: rows for name, rows in found.items() if rows}


def rows(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
        ).fetchall()
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in names}
