"""Rows that no value can be made of: only a release of ours writes rows, so the file is damaged.

Owns how that is told. It must never guess at what the row may have been.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from sessionplane.domain.errors import Damaged

T = TypeVar("T")

_NOT_TEXT = "Could not decode to UTF-8"
"""How Python says that a text is none; it has no code for it."""


def reads(
    what: str, *, named_by: int
) -> Callable[[Callable[[tuple[Any, ...]], T]], Callable[[tuple[Any, ...]], T]]:
    """Return a decorator for what makes values of rows: it raises Damaged where a value cannot be. The row's name is
    in the column `named_by`.
    """

    def decorated(make: Callable[[tuple[Any, ...]], T]) -> Callable[[tuple[Any, ...]], T]:
        @wraps(make)
        def made(row: tuple[Any, ...]) -> T:
            try:
                return make(row)
            except (KeyError, ValueError, TypeError) as error:
                raise Damaged(what=what, name=row[named_by]) from error

        return made

    return decorated


def is_not_text(error: BaseException) -> bool:
    """Say whether an error of SQLite means that a column of text holds none."""
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith(_NOT_TEXT)
