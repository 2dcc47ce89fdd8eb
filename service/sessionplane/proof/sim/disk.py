"""The disk of a simulation: real SQLite files, in memory.

A `FreshDisk` is opened as a server opens it. What is on it at a crash is the database and its log as the kernel has
them, and the next process opens a copy of both, so that SQLite recovers as it does after kill -9. That takes longer
than everything else, so most seeds use a `KeptDisk`: one file whose connections stay open. A crash takes back what is
not committed and nothing else, which is what recovery comes to; and a new seed begins with every row deleted.

Whether unflushed pages survive a power cut is not asked here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Protocol

from sessionplane.domain.limits import Limits
from sessionplane.proof.sim.trouble import Connection, Troubles
from sessionplane.proof.sim.writing import stepped
from sessionplane.store import connections
from sessionplane.store.ownership import Whereabouts
from sessionplane.store.sqlite import Reader, SqliteStore, open_store

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder with a name that nobody guesses is made in it
STORE_ID = "5e" * 16

_ARCHIVE = """
CREATE TEMP TABLE archive AS SELECT session_id, sequence, data FROM main.events WHERE 0;
CREATE TEMP TRIGGER archiving BEFORE DELETE ON main.events
BEGIN INSERT INTO archive VALUES (OLD.session_id, OLD.sequence, OLD.data); END;
"""
"""Keeps what retention removes, so that whole histories can be judged. It is undone with the transaction."""

Removed = list[tuple[str, int, bytes]]


class Disk(Protocol):
    """Where one seed's database is."""

    troubles: Troubles

    def open(self, loop: AbstractEventLoop, limits: Limits, chance: Random) -> SqliteStore:
        """Open the store, as a process does that starts."""

    def crash(self) -> None:
        """Keep what is committed: the process is dead."""

    def reading(self) -> sqlite3.Connection:
        """Return a connection that reads what is there now; the disk closes it."""

    def removed(self) -> Removed:
        """Return the events that were removed: session id, sequence, entry."""

    def close(self) -> None:
        """Be used no more."""


class FreshDisk:
    """See the module."""

    def __init__(self, folder: Path, template: bytes) -> None:
        self.troubles = Troubles()
        self._folder = folder
        self._number = 0
        self._closing = ExitStack()
        self._removed: Removed = []
        self._open: sqlite3.Connection | None = None
        self._path = self._next()
        self._path.write_bytes(template)

    def _next(self) -> Path:
        self._number += 1
        return self._folder / f"{self._number}.db"

    def open(self, loop: AbstractEventLoop, limits: Limits, chance: Random) -> SqliteStore:
        """See `Disk.open`."""
        footing = replace(stepped(loop, chance, self.troubles), open_writer=self._open_writer)
        store = open_store(self._path, limits=limits, loop=loop, footing=footing)
        if self._open is not None:
            self._open.executescript(_ARCHIVE)
        self._closing.callback(store.abandon)
        return store

    def _open_writer(self, database: Path) -> sqlite3.Connection:
        real = connections.open_writer(database)
        if not database.is_relative_to(MEMORY):
            # Nothing here asks what a power cut leaves, and flushing takes most of the time.
            real.execute("PRAGMA synchronous = OFF")
        self._open = real
        return Connection(real, self.troubles, close=self._close_writer)  # type: ignore[return-value]

    def _close_writer(self) -> None:
        """Close the connection, and keep what it has archived."""
        real, self._open = self._open, None
        if real is None:
            return
        if real.in_transaction:
            real.execute("ROLLBACK")
        if real.execute("SELECT 1 FROM temp.sqlite_schema").fetchone():
            self._removed += real.execute("SELECT * FROM archive").fetchall()
        real.close()

    def removed(self) -> Removed:
        """See `Disk.removed`."""
        return self._removed

    def crash(self) -> None:
        """See `Disk.crash`."""
        before, self._path = self._path, self._next()
        for suffix in ("", "-wal"):
            old = Path(f"{before}{suffix}")
            if old.exists():
                shutil.copyfile(old, f"{self._path}{suffix}")

    def reading(self) -> sqlite3.Connection:
        """See `Disk.reading`."""
        self._closing.close()
        connection = connections.open_writer(self._path)
        self._closing.callback(connection.close)
        return connection

    def close(self) -> None:
        """See `Disk.close`."""
        self._closing.close()
        for number in range(1, self._number + 1):
            for suffix in ("", "-wal", "-shm", ".lock"):
                (self._folder / f"{number}.db{suffix}").unlink(missing_ok=True)


class Spindle:
    """The file of all kept disks of one process, and its connections."""

    def __init__(self, database: Path) -> None:
        self._connection = connections.open_writer(database)
        self._connection.executescript(_ARCHIVE)
        self.readers = [Reader(database, STORE_ID) for _ in range(2)]
        self.whereabouts = Whereabouts(database)
        tables = self._connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB '_*' AND name NOT GLOB 'sqlite_*'"
        ).fetchall()
        self._tables = [name for (name,) in tables]
        self._meta = self._connection.execute("SELECT name, value FROM meta").fetchall()

    @property
    def connection(self) -> sqlite3.Connection:
        """The writer's."""
        return self._connection

    def wipe(self) -> None:
        """Delete every row but what a new file has."""
        execute = self._connection.execute
        execute("PRAGMA foreign_keys = OFF")
        execute("BEGIN")
        for table in self._tables:
            execute(f"DELETE FROM {table}")  # noqa: S608 - the schema's own names
        execute("DELETE FROM archive")
        self._connection.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", self._meta)
        execute("COMMIT")
        execute("PRAGMA foreign_keys = ON")

    def close(self) -> None:
        """Close all connections."""
        for reader in self.readers:
            reader.close()
        self._connection.close()


class KeptDisk:
    """See the module."""

    def __init__(self, spindle: Spindle) -> None:
        self.troubles = Troubles()
        self._spindle = spindle
        spindle.wipe()

    def open(self, loop: AbstractEventLoop, limits: Limits, chance: Random) -> SqliteStore:
        """See `Disk.open`."""
        connection = Connection(self._spindle.connection, self.troubles, close=self.crash)
        return SqliteStore(
            writer=connection,  # type: ignore[arg-type]
            readers=self._spindle.readers,
            store_id=STORE_ID,
            whereabouts=self._spindle.whereabouts,
            limits=limits,
            loop=loop,
            footing=stepped(loop, chance, self.troubles),
            resources=ExitStack(),
        )

    def crash(self) -> None:
        """See `Disk.crash`."""
        if self._spindle.connection.in_transaction:
            self._spindle.connection.execute("ROLLBACK")

    def reading(self) -> sqlite3.Connection:
        """See `Disk.reading`."""
        return self._spindle.connection

    def removed(self) -> Removed:
        """See `Disk.removed`."""
        return self._spindle.connection.execute("SELECT * FROM archive").fetchall()

    def close(self) -> None:
        """Nothing to do: the next seed wipes it."""
        self.crash()


class Cabinet:
    """The disks of one process: a folder with a template and a spindle."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        made = folder / "template.db"
        asyncio.run(_make(made))
        self._template = made.read_bytes()
        self._spindle = Spindle(made)

    def disk(self, *, fresh: bool) -> Disk:
        """Return a disk with an empty database."""
        return FreshDisk(self._folder, self._template) if fresh else KeptDisk(self._spindle)

    def close(self) -> None:
        """Close what is open."""
        self._spindle.close()


async def _make(database: Path) -> None:
    await open_store(database, new_store_id=lambda: STORE_ID).close()


@contextmanager
def memory() -> Iterator[Path]:
    """Make a folder, in memory where there is such a place, and remove it in the end."""
    parent = MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None
    made = Path(mkdtemp(prefix="sessionplane-sim-", dir=parent))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def cabinet() -> Iterator[Cabinet]:
    """Make disks, and remove them in the end."""
    with memory() as folder, closing(Cabinet(folder)) as disks:
        yield disks
