"""The store on SQLite: opening, the queue's bounds, reads, telling, closing.

Owns the file through its lock, and everything that happens on the event loop's side. It must never write:
that is the writer's, and never from here.

Theory of operation. `submit`, `read` and `on_commit` belong to the loop's thread, as do the counters of what
waits. The writer calls `_hand_over` once for each group, which schedules `_deliver` on the loop: first the
listener hears of the commit, then the futures are done, in the order of submission. So whoever awaits a
future finds its events already published. Point reads run on the loop's own connection: a thread hop would
cost more than they do. Longer ones run on two threads with a connection each, and a cancelled one runs to its
end.

Closing goes the other way: nothing new is accepted, the writer finishes what is queued and is told, readers
are closed, the log is folded into the file, and the lock is given up last. A crash between any two of these
is what the next start recovers from anyway.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from asyncio import AbstractEventLoop, Future, Task
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from sessionplane.domain.errors import Draining, Overloaded, StoreFailed
from sessionplane.domain.limits import DEFAULT, Limits
from sessionplane.store import connections, failures, schema
from sessionplane.store import statements as sql
from sessionplane.store.contract import Committed, ReadTx, Tx
from sessionplane.store.failures import FileLost
from sessionplane.store.ownership import (
    OwnerLock,
    Whereabouts,
    refuse_network_file_system,
    refuse_second_name,
)
from sessionplane.store.reading import SqliteReadTx
from sessionplane.store.transaction import SqliteTx
from sessionplane.store.turns import Turns
from sessionplane.store.writer import Command, Group, Writer

T = TypeVar("T")

_SCAN_THREADS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Footing:
    """What a store stands on: the writer's connection, the writer, and the watch over the loop's turns.

    A simulation gives its own, in which one thread does everything in an order that it decides, and the disk fails
    when it says so. Nothing else in the store knows the difference.
    """

    open_writer: Callable[[Path], sqlite3.Connection] = connections.open_writer
    make_writer: Callable[..., Writer] = Writer
    make_turns: Callable[[AbstractEventLoop], Turns] = Turns


FOOTING = Footing()
"""A server's: a connection of this release's settings, and threads."""


def open_store(
    database: Path,
    *,
    limits: Limits = DEFAULT,
    loop: AbstractEventLoop | None = None,
    new_store_id: Callable[[], str] = lambda: secrets.token_hex(16),
    footing: Footing = FOOTING,
) -> SqliteStore:
    """Open a database, or make it, and own it until `close`.

    Call it on the loop's thread; it blocks for as long as migrations take. `new_store_id` is asked for 32
    hexadecimal digits when the database is new; `footing` is a server's unless it is said otherwise.

    Raises StoreBusy (another process owns it), StorageFull (no space for what opening writes) and StoreUnusable (a
    network file system, a file with two names, not our database, damaged, of a later release).
    """
    refuse_network_file_system(database)
    refuse_second_name(database)
    with ExitStack() as stack, failures.opening(database):
        stack.callback(OwnerLock(database).release)
        connections.refuse_damaged_log(database)
        connections.roll_back(database)
        connections.inspect(database)
        writer = footing.open_writer(database)
        stack.callback(writer.close)
        schema.migrate(writer)
        connections.refuse_other_tables(writer, database)
        store_id = _identify(writer, new_store_id)
        readers = [Reader(database, store_id) for _ in range(1 + _SCAN_THREADS)]
        for reader in readers:
            stack.callback(reader.close)
        return SqliteStore(
            writer=writer,
            readers=readers,
            store_id=store_id,
            whereabouts=Whereabouts(database),
            limits=limits,
            loop=loop or asyncio.get_running_loop(),
            footing=footing,
            resources=stack.pop_all(),
        )
    raise AssertionError  # pragma: no cover - ExitStack swallows nothing


class SqliteStore:
    """See `contract.Store`. Made by `open_store`."""

    def __init__(
        self,
        *,
        writer: sqlite3.Connection,
        readers: list[Reader],
        store_id: str,
        whereabouts: Whereabouts,
        limits: Limits,
        loop: AbstractEventLoop,
        footing: Footing,
        resources: ExitStack,
    ) -> None:
        self._store_id = store_id
        self._whereabouts = whereabouts
        self._limits = limits
        self._loop = loop
        self._resources = resources
        self._connection = writer
        self._listener: Callable[[Committed], None] | None = None
        self._closing: Task[None] | None = None
        self._closed = False
        self._failed: Future[Exception] = loop.create_future()
        # What was submitted and is not settled: written on the loop only, bounded by the limits.
        self._waiting = 0
        self._waiting_bytes = 0
        self._turns = footing.make_turns(loop)
        self._points, *scanners = readers
        # The idle connections for scans, owned by whoever took one out: never more waits than threads.
        self._scanners: SimpleQueue[Reader] = SimpleQueue()
        for scanner in scanners:
            self._scanners.put(scanner)
        # Scans that wait are bounded by the calls and streams that await them, one each.
        self._threads = ThreadPoolExecutor(len(scanners), thread_name_prefix="sessionplane-reader")
        self._writer = footing.make_writer(
            writer, SqliteTx(writer, store_id), commands_max=limits.group_commands_max, tell=self._hand_over
        )

    @property
    def store_id(self) -> str:
        """The identity of the database: 32 hexadecimal digits, given once."""
        return self._store_id

    @property
    def failed(self) -> Future[Exception]:
        """Done, with the cause, once the database can no longer be trusted: the process must end."""
        return self._failed

    def submit(self, command: Callable[[Tx], T], *, size: int = 0) -> Future[T]:
        """See `contract.Store.submit`."""
        if self._failed.done():
            raise StoreFailed
        if self._closing is not None:
            raise Draining
        bytes_over = self._waiting_bytes + size > self._limits.writer_bytes_max
        if self._waiting >= self._limits.writer_commands_max or bytes_over:
            raise Overloaded
        self._waiting += 1
        self._waiting_bytes += size
        self._turns.began()
        future: Future[T] = self._loop.create_future()
        self._writer.submit(Command(command, future, size))
        return future

    def read(self, query: Callable[[ReadTx], T]) -> T:
        """See `contract.Store.read`. Raises Draining after `close`, StoreFailed if it cannot be read."""
        if self._closed:
            raise Draining
        try:
            return self._points.run(query)
        except sqlite3.Error as error:
            raise self._read_refusal(error) from error

    async def scan(self, query: Callable[[ReadTx], T]) -> T:
        """See `contract.Store.scan`. Raises Draining after `close`, StoreFailed if it cannot be read."""
        if self._closing is not None:
            raise Draining
        self._turns.began()
        try:
            return await self._loop.run_in_executor(self._threads, self._scan, query)
        except sqlite3.Error as error:
            raise self._read_refusal(error) from error
        finally:
            self._turns.ended()

    def on_commit(self, listener: Callable[[Committed], None]) -> None:
        """See `contract.Store.on_commit`."""
        self._listener = listener

    async def look_for_files(self) -> None:
        """Make sure that what was opened still stands under its names: a look at four names, no handle is opened.

        Raises FileLost, after which nothing is accepted any more.
        """
        path = self._whereabouts.lost()
        if path is not None:
            lost = FileLost(path)
            self._fail(lost)
            raise lost

    async def close(self) -> None:
        """Settle what is queued, fold the log into the file, and give it up. Later calls join the first."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    def abandon(self) -> None:
        """Let go of the file as a process does that dies: what is queued is not done, and nobody is told. For a store
        without threads of its own (see `Footing`); nothing else may be asked of it then.
        """
        self._resources.close()

    async def _close(self) -> None:
        self._writer.stop()
        # Ends after the last group was handed over; what it scheduled on the loop runs before this goes on.
        await asyncio.to_thread(self._writer.join)
        self._closed = True
        await asyncio.to_thread(self._give_up)

    def _give_up(self) -> None:
        self._threads.shutdown()
        if self._failed.done():
            # SQLite folds the log into the file as its last connection closes, and removes it by its name. The readers'
            # cannot: what a failure left behind stays as it is, and so does a file that took the place of ours.
            self._connection.close()
        else:
            # Not vital: the next start reads a log that is left behind.
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._resources.close()

    def _hand_over(self, group: Group) -> None:
        """Pass a group to the loop; on the writer's thread. A closed loop has nobody left to tell."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, group)
        self._turns.ending()

    def _deliver(self, group: Group) -> None:
        """Tell the listener, then whoever waits; on the loop."""
        if group.kept:
            self._publish(group)
        if group.fatal is not None:
            self._fail(group.fatal)
        for command, result, error in group.outcomes:
            self._waiting -= 1
            self._waiting_bytes -= command.size
            self._turns.ended()
            if command.future.done():
                continue
            if error is None:
                command.future.set_result(result)
            else:
                command.future.set_exception(error)

    def _publish(self, group: Group) -> None:
        committed = Committed(entries=group.entries(), topics=group.topics(), namespaces=group.namespaces())
        news = committed.entries or committed.topics or committed.namespaces
        if self._listener is None or not news:
            return
        try:
            self._listener(committed)
        except Exception as error:  # noqa: BLE001 - the commit stands, and its callers must hear of it
            context = {"message": "The listener of the store failed.", "exception": error}
            self._loop.call_exception_handler(context)

    def _scan(self, query: Callable[[ReadTx], T]) -> T:
        """Run a query on an idle connection; on a reader's thread."""
        scanner = self._scanners.get()
        try:
            return scanner.run(query)
        finally:
            self._scanners.put(scanner)
            self._turns.ending()

    def _read_refusal(self, error: sqlite3.Error) -> Exception:
        refusal = failures.refusal(error)
        if isinstance(refusal, StoreFailed):
            self._fail(error)
        return refusal

    def _fail(self, cause: Exception) -> None:
        if not self._failed.done():
            self._failed.set_result(cause)


class Reader:
    """A read-only connection, used by one thread at a time."""

    def __init__(self, database: Path, store_id: str) -> None:
        self._connection = connections.open_reader(database)
        self._tx = SqliteReadTx(self._connection, store_id)

    def run(self, query: Callable[[ReadTx], T]) -> T:
        """Run a query in one snapshot, which ends with it."""
        self._connection.execute(sql.BEGIN_READ)
        try:
            return query(self._tx)
        finally:
            # An error may have ended the transaction already.
            if self._connection.in_transaction:
                self._connection.execute(sql.COMMIT)

    def close(self) -> None:
        self._connection.close()


def _identify(connection: sqlite3.Connection, new_store_id: Callable[[], str]) -> str:
    """Return the database's identity, which is given to it once."""
    row = connection.execute(sql.META, ("store_id",)).fetchone()
    if row is None:
        connection.execute(sql.SEED_META, ("store_id", new_store_id()))
        row = connection.execute(sql.META, ("store_id",)).fetchone()
    return str(row[0])
