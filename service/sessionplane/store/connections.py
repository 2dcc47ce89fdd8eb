"""Connections to the database file and their settings.

Owns every PRAGMA. It must never run a statement of a use case, and nobody else may connect.

There is one read-write connection, the writer's; it alone checkpoints. All others are opened read-only and
are forbidden to checkpoint, so that of the connections of this process one writes the file and the rest never
do.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from sessionplane.store import failures, schema, wal
from sessionplane.store.failures import StoreUnusable

_BUSY_TIMEOUT_MS = 2_000
_STATEMENTS_MAX = 256
_WRITER_CACHE_KIB = 32 * 1024
_READER_CACHE_KIB = 8 * 1024
_WAL_AUTOCHECKPOINT_PAGES = 1_000
_WAL_KEPT_BYTES_MAX = 64 * 1024 * 1024

_EVERY = (
    f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}",
    "PRAGMA foreign_keys = ON",
    # Functions with side effects cannot be planted in the schema of a file that came from elsewhere.
    "PRAGMA trusted_schema = OFF",
    # An I/O error on a mapped page is a signal that kills the process; on a read it is an error.
    "PRAGMA mmap_size = 0",
    # What savepoints need to undo stays in memory.
    "PRAGMA temp_store = MEMORY",
)
_WRITER = (
    *_EVERY,
    # Every commit is flushed before anybody hears of it. NORMAL loses acknowledged commits at a power cut.
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",
    f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}",
    f"PRAGMA wal_autocheckpoint = {_WAL_AUTOCHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES_MAX}",
)
_READER = (
    *_EVERY,
    "PRAGMA query_only = ON",
    f"PRAGMA cache_size = -{_READER_CACHE_KIB}",
    "PRAGMA wal_autocheckpoint = 0",
)


def open_writer(database: Path) -> sqlite3.Connection:
    """Open the one read-write connection. What it reads from the beginning on is on the disk.

    Raises StoreUnusable if the file cannot have a write-ahead log.
    """
    # A new file is its owner's alone: it holds what people say. An old one keeps the mode it was given.
    try:
        os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnusable(f"{database} cannot be opened for writing: {error.strerror}.") from error
    connection = _connect(database, "rw")
    try:
        for statement in _WRITER:
            connection.execute(statement).fetchall()
        _adopt(connection)
        _keep_log(connection, database)
        _flush_log(database)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(database: Path) -> sqlite3.Connection:
    """Open a read-only connection. The writer's must be open, since it makes the file and its log."""
    connection = _connect(database, "ro")
    try:
        for statement in _READER:
            connection.execute(statement).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def roll_back(database: Path) -> None:
    """Roll back what a power cut left half done in a file that has no write-ahead log yet: the making of a database.

    A connection that only reads cannot do that, and could not look at the file. Any program that opens it would do the
    same. What is no database is left alone, for `inspect` to refuse.
    """
    journal = Path(f"{database.resolve()}-journal")
    if not journal.exists() or not database.exists() or database.stat().st_size == 0:
        return
    with suppress(sqlite3.DatabaseError), closing(_connect(database, "rw")) as connection:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()


def inspect(database: Path) -> None:
    """Look at a file before anything is written to it.

    Raises StoreUnusable if it is no SQLite database, is another program's, or was changed by a later release, and
    what `failures.opening` raises.
    """
    if database.is_dir():
        raise StoreUnusable(f"{database} is a folder. Name a file.")
    if not database.exists() or database.stat().st_size == 0:
        return
    with failures.opening(database), closing(_connect(database, "ro")) as connection:
        _refuse_foreign(connection, database)
        _refuse_cut(connection, database)
        if schema.is_newer(connection):
            raise StoreUnusable(
                f"{database} was written by a later release of sessionplane. Use that release, or a"
                " backup from before it; this one has changed nothing."
            )


def require(database: Path) -> None:
    """Make sure that a file is a database of this release, for those who only read it.

    Raises StoreUnusable if there is none, or what `inspect` raises.
    """
    if not database.exists() or database.stat().st_size == 0:
        raise StoreUnusable(f"{database} holds no database. Name the file that a server uses.")
    inspect(database)
    with failures.opening(database), closing(_connect(database, "ro")) as connection:
        if schema.is_older(connection):
            raise StoreUnusable(
                f"{database} was written by an earlier release of sessionplane. Serve it once with this one."
            )


def refuse_damaged_log(database: Path) -> None:
    """Raise StoreUnusable if commits are behind damage in the log: SQLite would go on without them, and say nothing."""
    damage = wal.damage(database)
    if damage:
        raise StoreUnusable(
            f"{damage}, which were acknowledged. Restore a backup. Or, to go on with what was committed before the"
            f" damage, have SQLite fold that into the file: sqlite3 {database} 'PRAGMA wal_checkpoint(TRUNCATE)'."
        )


def refuse_other_tables(connection: sqlite3.Connection, database: Path) -> None:
    """Raise StoreUnusable unless the tables are those of this release: what they mean is nowhere but in their text."""
    name = schema.difference(connection)
    if name:
        raise StoreUnusable(
            f"{database} is damaged: its table or index {name} is not as this release makes it. Restore a backup."
        )


def verdict(version: str = sqlite3.sqlite_version) -> str:
    """Say which SQLite is in use and whether its WAL-reset bug concerns us: one sentence for the log.

    https://sqlite.org/wal.html#walresetbug: two connections that write or checkpoint can damage the database.
    """
    parts = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if not _has_wal_reset_bug(parts):
        return f"SQLite {version}: without the WAL-reset bug."
    return (
        f"SQLite {version}: has the WAL-reset bug (fixed in 3.51.3, 3.50.7 and 3.44.6), which takes two"
        " connections that write or checkpoint; this server has one, so nothing but another program that"
        " writes the file can bring it about."
    )


def _has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    backported = (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return (3, 7) <= version < (3, 51, 3) and not backported


def _connect(database: Path, mode: str) -> sqlite3.Connection:
    # Which thread uses a connection is the business of its owner; SQLite is built for more than one.
    return sqlite3.connect(
        f"file:{quote(str(database))}?mode={mode}",
        uri=True,
        isolation_level=None,
        cached_statements=_STATEMENTS_MAX,
        check_same_thread=False,
    )


def _refuse_foreign(connection: sqlite3.Connection, database: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application_id != schema.APPLICATION_ID and (application_id or tables):
        raise StoreUnusable(f"{database} is another program's database. Name a file of sessionplane's own.")


def _refuse_cut(connection: sqlite3.Connection, database: Path) -> None:
    """Refuse a file without its end: SQLite would read zeros there. With a log beside it a crash may have left that,
    and the log has the page.
    """
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    log = Path(f"{database.resolve()}-wal")
    if database.stat().st_size % page_bytes and not (log.exists() and log.stat().st_size):
        raise StoreUnusable(f"{database} ends within a page: its end is missing. Restore a backup.")


def _keep_log(connection: sqlite3.Connection, database: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnusable(f"{database} cannot have a write-ahead log here: SQLite answers {mode}.")


def _flush_log(database: Path) -> None:
    """Flush the log that another process may have left. If that was killed between writing a commit and flushing it,
    SQLite reads the commit from here on, and callers would hear of what a power cut may still take.
    """
    log = Path(f"{database.resolve()}-wal")
    try:
        for path in (log, log.parent):
            flush(path)
    except FileNotFoundError:
        return  # There is no log yet, and so no commit in it.
    except OSError as error:
        raise StoreUnusable(f"{database} cannot be flushed to the disk: {error.strerror}.") from error


def flush(path: Path) -> None:
    """Flush a file or a folder. Never the database itself while it is open: closing a handle drops its locks."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _adopt(connection: sqlite3.Connection) -> None:
    """Mark an empty file as ours before the first table: a crash in between leaves one that is known."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if not application_id:
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
