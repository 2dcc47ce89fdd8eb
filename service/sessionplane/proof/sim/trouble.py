"""What can go wrong at a statement of the writer, and a connection on which it does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sessionplane.store import statements as sql


class Trouble(Enum):
    """What goes wrong. SQLite may or may not take the whole transaction back with a full disk, and after a failed
    flush nobody knows what is on the disk.
    """

    FULL = "full"
    FULL_LOST = "full, and the transaction is gone"
    BUSY = "busy"
    BROKEN = "broken, and not done"
    BROKEN_AFTER_ALL = "broken, but done"
    CRASH = "crash before a statement"
    CRASH_AFTER = "crash behind a statement"


CODES = {
    Trouble.FULL: sqlite3.SQLITE_FULL,
    Trouble.FULL_LOST: sqlite3.SQLITE_FULL,
    Trouble.BUSY: sqlite3.SQLITE_BUSY,
    Trouble.BROKEN: sqlite3.SQLITE_IOERR_FSYNC,
    Trouble.BROKEN_AFTER_ALL: sqlite3.SQLITE_IOERR_FSYNC,
}

AT_COMMIT = frozenset({Trouble.BROKEN, Trouble.BROKEN_AFTER_ALL})
"""Flushing is what these fail at, so nothing but a COMMIT meets them."""

_NEVER = frozenset({sql.ROLLBACK, sql.UNDO})
"""Taking back needs no room and no flush."""


@dataclass
class Planned:
    """A trouble at one of the writer's next statements: `after` that could meet it pass."""

    trouble: Trouble
    after: int = 0
    at: str = ""

    def meets(self, statement: str) -> bool:
        """Say whether it could come at this statement."""
        if statement in _NEVER or (self.trouble in AT_COMMIT and statement != sql.COMMIT):
            return False
        if self.trouble is Trouble.BUSY and statement != sql.BEGIN_WRITE:
            return False
        return self.at in {"", statement}


QUICK_S = 0.002
"""How long a commit takes on a disk that is well."""


class Troubles:
    """What is planned for a disk, and how slow it is: within `commit_s` the writer gets its turn. `on_trouble` hears of
    what is planned as it comes.
    """

    def __init__(self) -> None:
        self.commit_s = QUICK_S
        self.planned: Planned | None = None
        self.on_trouble: Callable[[Trouble], None] = lambda _: None


class Connection:
    """The writer's connection with a finger on each statement."""

    def __init__(self, real: sqlite3.Connection, troubles: Troubles, *, close: Callable[[], None]) -> None:
        self._real = real
        self._troubles = troubles
        self._execute = real.execute
        self.close = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        planned = self._troubles.planned
        if planned is not None and planned.meets(statement):
            self._strike(planned, statement, values)
        return self._execute(statement, values)

    def _strike(self, planned: Planned, statement: str, values: Any) -> None:
        planned.after -= 1
        if planned.after >= 0:
            return
        self._troubles.planned = None
        trouble = planned.trouble
        if trouble in {Trouble.BROKEN_AFTER_ALL, Trouble.CRASH_AFTER}:
            self._execute(statement, values).fetchall()
        if trouble in {Trouble.FULL_LOST, Trouble.BROKEN} and self._real.in_transaction:
            self._execute(sql.ROLLBACK)
        self._troubles.on_trouble(trouble)
        error = sqlite3.OperationalError(trouble.value)
        error.sqlite_errorcode = CODES.get(trouble, sqlite3.SQLITE_IOERR)
        raise error
