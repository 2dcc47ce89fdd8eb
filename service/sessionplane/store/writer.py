"""The writer's thread: every change of the database, in groups of one commit each.

Owns the only read-write connection while it runs. It must never touch the event loop, a future or a listener:
what became of a group goes to `tell`, once.

Theory of operation. `submit` puts a command into the queue and returns. The thread takes what waits, up to
the bound of a group, into one BEGIN IMMEDIATE; each command runs in a savepoint, so that its failure undoes
its own work only. Then one COMMIT flushes the log to the disk, and only then is the group told. So:

* a crash before COMMIT returns loses commands that nobody was told about;
* a crash after it loses the telling: the rows and events are there for whoever asks again;
* while one group is told, the next may be running: its events come later in the same order.

A command that fails is undone in memory first, then in the database, and the group goes on. If an error ended
the transaction itself, or COMMIT fails, nothing of the group is there: all its commands fail with that one
error, and nothing is handed out. If it cannot be known what is on the disk, the writer is dead: it fails what
waits and what still comes, runs nothing, and its owner ends the process.
"""

from __future__ import annotations

import sqlite3
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

from sessionplane.domain.errors import StorageFull, StoreFailed
from sessionplane.domain.events import Entry
from sessionplane.store import failures
from sessionplane.store import statements as sql
from sessionplane.store.contract import Topic, Tx
from sessionplane.store.transaction import Effects, SqliteTx


class Command(NamedTuple):
    """A use case that waits for the writer; the future is its owner's and only carried here."""

    run: Callable[[Tx], Any]
    future: Future[Any]
    size: int


class Outcome(NamedTuple):
    """What became of a command: a result, or an error."""

    command: Command
    result: Any
    error: Exception | None


@dataclass(slots=True)
class Group:
    """The commands of one transaction and what they brought."""

    outcomes: list[Outcome] = field(default_factory=list)
    kept: list[Effects] = field(default_factory=list)
    fatal: Exception | None = None

    def entries(self) -> dict[str, list[Entry]]:
        """The new entries of each session, in order."""
        if len(self.kept) == 1:
            return self.kept[0].entries
        merged: dict[str, list[Entry]] = {}
        for effects in self.kept:
            for session_id, entries in effects.entries.items():
                merged.setdefault(session_id, []).extend(entries)
        return merged

    def namespaces(self) -> frozenset[str]:
        """The namespaces whose sessions got new change numbers."""
        return frozenset().union(*(effects.namespaces for effects in self.kept))

    def topics(self) -> tuple[Topic, ...]:
        """The topics to wake, in order and as often as it was asked for."""
        return tuple(topic for effects in self.kept for topic in effects.topics)


class Writer:
    """The thread. `tell` is called on it, once for each group, after the group's commit or its failure."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        tx: SqliteTx,
        *,
        commands_max: int,
        tell: Callable[[Group], None],
    ) -> None:
        self._connection = connection
        self._tx = tx
        self._commands_max = commands_max
        self._tell = tell
        # Commands from the loop to this thread; None is the last. Its bound is kept by who submits.
        self._queue: SimpleQueue[Command | None] = SimpleQueue()
        self._stopping = False
        self._fatal: Exception | None = None
        self._start()

    def _start(self) -> None:
        """Begin to take steps. A writer that somebody else steps has no thread."""
        # A daemon, since a process whose owner never closed the store must still be able to exit: what is
        # not committed then was not told to anybody.
        self._thread = Thread(target=self._main, name="sessionplane-writer", daemon=True)
        self._thread.start()

    def submit(self, command: Command) -> None:
        """Queue a command. Nothing may be submitted after `stop`."""
        self._queue.put(command)

    def stop(self) -> None:
        """Let the thread end after what is queued now."""
        self._queue.put(None)

    def join(self) -> None:
        """Wait for the thread's end."""
        self._thread.join()

    def _main(self) -> None:
        while self.step():
            pass

    def step(self) -> bool:
        """Wait for commands, commit them as a group and tell; False at the end. Belongs to whoever steps."""
        commands = self._next()
        if commands:
            group = self._commit(commands) if self._fatal is None else self._refuse(commands, self._fatal)
            self._tell(group)
        return bool(commands)

    def _next(self) -> list[Command]:
        """Wait for a command and take what else is there; empty at the end."""
        commands: list[Command] = []
        while not self._stopping and len(commands) < self._commands_max:
            if commands and self._queue.empty():
                break
            command = self._queue.get()
            if command is None:
                self._stopping = True
            else:
                commands.append(command)
        return commands

    def _commit(self, commands: list[Command]) -> Group:
        group = Group()
        try:
            self._connection.execute(sql.BEGIN_WRITE)
            for command in commands:
                self._apply(command, group)
            self._connection.execute(sql.COMMIT)
        except BaseException as error:  # noqa: BLE001 - it ends this group, never the thread
            return self._abandon(commands, group, error)
        return group

    def _apply(self, command: Command, group: Group) -> None:
        """Run a command in its savepoint. Raises only what ends the whole group."""
        self._connection.execute(sql.SAVEPOINT)
        try:
            result = command.run(self._tx)
            effects = self._tx.finish()
        except Exception as error:
            self._tx.undo()
            refusal = failures.refusal(error)
            if not self._connection.in_transaction or isinstance(refusal, StoreFailed):
                raise
            self._connection.execute(sql.UNDO)
            self._connection.execute(sql.RELEASE)
            group.outcomes.append(Outcome(command, None, refusal))
            return
        self._connection.execute(sql.RELEASE)
        group.kept.append(effects)
        group.outcomes.append(Outcome(command, result, None))

    def _abandon(self, commands: list[Command], group: Group, error: BaseException) -> Group:
        """Undo a group, and decide whether there can be another."""
        refusal = failures.refusal(error)
        try:
            self._tx.forget()
            for effects in reversed(group.kept):
                effects.undo()
            if self._connection.in_transaction:
                self._connection.execute(sql.ROLLBACK)
            if isinstance(refusal, StorageFull):
                self._connection.execute(sql.META, ("store_id",)).fetchall()
        except Exception as second:  # noqa: BLE001 - whatever it is, memory or file are in doubt
            refusal = StoreFailed()
            refusal.__cause__ = second
        if isinstance(refusal, StoreFailed):
            self._fatal = refusal
        return self._refuse(commands, refusal)

    def _refuse(self, commands: list[Command], refusal: Exception) -> Group:
        outcomes = [Outcome(command, None, failures.another(refusal)) for command in commands]
        return Group(outcomes=outcomes, fatal=self._fatal)
