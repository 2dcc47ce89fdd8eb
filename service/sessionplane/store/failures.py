"""What an error of SQLite means for the calls behind it and for the process.

Owns the one mapping from SQLite's codes to our refusals. It must never retry and never guess that something
was kept.

Why IOERR_WRITE counts as a full disk. SQLite turns ENOSPC into SQLITE_FULL, but reports EDQUOT and EFBIG (a
quota, a limit on file sizes) as SQLITE_IOERR_WRITE, and Python does not give us errno to tell them from a bad
disk. In WAL mode it can be believed all the same: pages are appended behind the last commit, and a
transaction counts only when its last page, the commit frame, is there whole. A failed write therefore means
that there is none; SQLite rolls back, the next transaction writes over the same place, and a crash in between
finds frames without a commit and drops them. The writer still asks the connection whether it can be used
before it goes on. A disk that turned read-only looks the same and is answered the same: nothing is lost, and
somebody has to look.

Why the other IOERRs do not. A failed fsync may have lost pages that the kernel has already dropped, and an
error after the commit frame (the shared index, the fsync itself) leaves a commit that was reported as failed
and comes back at the next start. Both are unknown outcomes: the process ends, and recovery reads what is on
the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sessionplane.domain.errors import Damaged, SessionPlaneError, StorageFull, StoreBusy, StoreFailed
from sessionplane.store import damage

_REFUSALS: dict[int, type[SessionPlaneError]] = {
    sqlite3.SQLITE_FULL: StorageFull,
    sqlite3.SQLITE_IOERR_WRITE: StorageFull,
    sqlite3.SQLITE_BUSY: StoreBusy,
    sqlite3.SQLITE_LOCKED: StoreBusy,
    sqlite3.SQLITE_IOERR: StoreFailed,
    sqlite3.SQLITE_CORRUPT: StoreFailed,
    sqlite3.SQLITE_NOTADB: StoreFailed,
    sqlite3.SQLITE_CANTOPEN: StoreFailed,
    sqlite3.SQLITE_READONLY: StoreFailed,
    sqlite3.SQLITE_PERM: StoreFailed,
}
"""Extended code, or else primary code -> what callers hear. All else is a bug of ours and stays as it is."""

_PRIMARY = 0xFF
_TAKEN = frozenset({sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE})


_NO_SPACE = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
"""What a full disk comes to while a database is opened: then its shared memory is made as well."""
_CLOSED_FOLDER = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})


class StoreUnusable(Exception):
    """The file cannot be this server's database. The message is for the operator who started it."""


class FileLost(Exception):
    """A file of an open database was removed or replaced."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} was removed or replaced while the server used it. The server stops before more is written where"
            " nobody would find it."
        )


@contextmanager
def opening(database: Path) -> Iterator[None]:
    """Say what an error of SQLite means for whoever opens a database.

    Raises StoreBusy if another program holds it, StorageFull if there is no space for what an opening writes, else
    StoreUnusable with a sentence.
    """
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        # The latter, where SQLite quotes a schema that is no text.
        code = getattr(error, "sqlite_errorcode", None)
        if code in _NO_SPACE:
            raise StorageFull from error
        refused = _kind(code)
        if refused is not None and refused is not StoreFailed:
            raise refused(path=database) from error
        if code is not None and code & _PRIMARY in _CLOSED_FOLDER:
            raise StoreUnusable(
                f"{database} cannot be opened: {error}. The file and its folder must be writable for this user,"
                " since SQLite keeps its log beside the file."
            ) from error
        raise StoreUnusable(
            f"{database} cannot be read as an SQLite database: {error}. If it was one, it is damaged: restore a"
            " backup, and keep this file and the ones beside it."
        ) from error


def refusal(error: BaseException) -> Exception:
    """Return what the callers behind an error hear: a refusal of ours, or the error itself if it is a bug."""
    if isinstance(error, StopIteration):
        # A future cannot carry one.
        return _caused(RuntimeError("a use case raised StopIteration"), error)
    if not isinstance(error, Exception):
        return _caused(StoreFailed(), error)
    if damage.is_not_text(error):
        return _caused(Damaged(what="text of", name="a row"), error)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return error
    refused = _kind(code)
    return error if refused is None else _caused(refused(), error)


def _kind(code: int | None) -> type[SessionPlaneError] | None:
    return None if code is None else _REFUSALS.get(code) or _REFUSALS.get(code & _PRIMARY)


def is_taken(error: sqlite3.IntegrityError) -> bool:
    """Say whether a row was refused because its key is there already."""
    return error.sqlite_errorcode in _TAKEN


def another(error: Exception) -> Exception:
    """Return an equal refusal: one exception raised in two tasks would mix their tracebacks."""
    if not isinstance(error, SessionPlaneError):
        return error
    return _caused(type(error)(**error.details), error.__cause__)


def _caused(error: Exception, cause: BaseException | None) -> Exception:
    error.__cause__ = cause
    return error
