"""A server that dies at a named place: `python -m tests.faults.launch WHEN:POINT:N serve ...`.

WHEN is `before` or `after`; POINT is one of `POINTS`, or `migration`, each statement of which is a passage; N counts
the passages from 1. The N-th one ends in SIGKILL, which nothing in the process can see or delay. Everything else is
the product: it knows nothing of this, and there is no switch in it.

What a point means stands in `POINTS` by name. A name that the product no longer has is an error here, before the server
starts, so that no test goes on proving nothing.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

from sessionplane.store import connections, schema
from sessionplane.store import statements as sql

POINTS = {
    # The event loop's side and the writer's thread, in the order in which a call meets them.
    "hand-over": "sessionplane.store.sqlite:SqliteStore._hand_over",
    "publish": "sessionplane.plane.plane:ControlPlane._committed",
    "reply": "sessionplane.rpc.guard:Guarded.serve",
    # Inside the writer's transaction.
    "claim": "sessionplane.plane.claims:_grant",
    "interrupt": "sessionplane.plane.interrupts:interrupt",
    "finish": "sessionplane.store.transaction:SqliteTx.finish_run",
    "lapse": "sessionplane.plane.upkeep:lapse",
    "compaction": "sessionplane.plane.retention:compact",
    "removal": "sessionplane.store.transaction:SqliteTx.remove_events",
    # What the server does by itself.
    "sweep": "sessionplane.plane.sweeper:Sweeper.sweep",
    "recovery": "sessionplane.plane.upkeep:recover_leases",
}
"""point -> the function whose passages are counted, as `module:name`."""

STATEMENTS = {"begin": sql.BEGIN_WRITE, "commit": sql.COMMIT}
"""point -> the statement of the writer's connection whose executions are counted."""


class Trigger:
    """Counts passages and ends the process at the wanted one."""

    def __init__(self, when: str, passage: int) -> None:
        self.when = when
        self._left = passage
        self._lock = threading.Lock()

    def pass_by(self, when: str) -> None:
        """Note a passage of one side of the point."""
        if when != self.when:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()


def wrapped(function: Callable[..., Any], trigger: Trigger) -> Callable[..., Any]:
    """Return the function with a trigger on both of its sides. `after` means that it returned."""

    @functools.wraps(function)
    def plain(*given: Any, **named: Any) -> Any:
        trigger.pass_by("before")
        result = function(*given, **named)
        trigger.pass_by("after")
        return result

    @functools.wraps(function)
    async def waiting(*given: Any, **named: Any) -> Any:
        trigger.pass_by("before")
        result = await function(*given, **named)
        trigger.pass_by("after")
        return result

    return waiting if inspect.iscoroutinefunction(function) else plain


def replied(serve: Callable[..., Any], trigger: Trigger) -> Callable[..., Any]:
    """Count answers: `before` one is handed to gRPC, and `after` the call is over, answer and status sent."""

    @functools.wraps(serve)
    async def counted(guarded: object, request: object, context: Any) -> Any:
        context.add_done_callback(lambda _: trigger.pass_by("after"))
        answer = await serve(guarded, request, context)
        trigger.pass_by("before")
        return answer

    return counted


def arm_function(name: str, trigger: Trigger) -> None:
    """Put a trigger on a function of the product. Raises SystemExit if there is none of that name."""
    module, _, path = POINTS[name].partition(":")
    *holders, last = path.split(".")
    try:
        holder = functools.reduce(getattr, holders, import_module(module))
        function = getattr(holder, last)
    except (ImportError, AttributeError) as error:
        raise SystemExit(f"{POINTS[name]}, the failpoint {name!r}, is no longer there: {error}") from error
    setattr(holder, last, (replied if name == "reply" else wrapped)(function, trigger))


def arm_statements(is_meant: Callable[[str], bool], trigger: Trigger) -> None:
    """Put a trigger on statements of the writer's connection, which are all that is executed on it."""

    class Watched(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if not is_meant(statement):
                return super().execute(statement, *values)
            return wrapped(super().execute, trigger)(statement, *values)

    connect = connections.sqlite3.connect

    def watched(name: str, **given: Any) -> sqlite3.Connection:
        return connect(name, **given, factory=Watched if "mode=rw" in name else sqlite3.Connection)

    connections.sqlite3.connect = watched


def arm_migration(trigger: Trigger) -> None:
    """Put a trigger on each statement of a start up to the last one that makes or changes the tables."""
    migrated = threading.Event()
    migrate = schema.migrate

    def counted(connection: sqlite3.Connection) -> None:
        migrate(connection)
        migrated.set()

    schema.migrate = counted
    arm_statements(lambda _: not migrated.is_set(), trigger)


def arm(point: str) -> None:
    """Arm `WHEN:POINT:N`."""
    when, name, passage = point.split(":")
    if when not in {"before", "after"}:
        raise SystemExit(f"{when!r} is neither before nor after")
    trigger = Trigger(when, int(passage))
    if name == "migration":
        arm_migration(trigger)
    elif name in STATEMENTS:
        arm_statements(STATEMENTS[name].__eq__, trigger)
    elif name in POINTS:
        arm_function(name, trigger)
    else:
        raise SystemExit(f"{name!r} is no failpoint: {', '.join([*POINTS, *STATEMENTS, 'migration'])}")


def main() -> int:
    """Arm the point and be the command line."""
    from sessionplane import app  # noqa: F401 - whatever binds a name early has bound it now
    from sessionplane.cli import root

    arm(sys.argv.pop(1))
    return root.main()


if __name__ == "__main__":
    sys.exit(main())
