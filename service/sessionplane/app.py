"""The one place where the parts are joined, started and stopped. The command line and the tests start the same thing.

Start: lock and open the file, migrate, judge its keys by the settings, recover, loops, bind, SERVING. Stop, in
reverse: NOT_SERVING, streams are told to come again, what is being answered is answered, the writer settles what it
has, the file is given up. Nothing that was acknowledged can be lost by stopping, at any of these steps or by kill -9
between them.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import structlog
import uuid_utils

from sessionplane.domain.errors import SessionPlaneError, StorageFull, StoreBusy
from sessionplane.domain.key_changes import KeyRecord
from sessionplane.domain.key_report import KeyChanges
from sessionplane.domain.limits import Limits
from sessionplane.live.loops import every
from sessionplane.plane import rehoming
from sessionplane.plane.context import Clock
from sessionplane.plane.plane import ControlPlane
from sessionplane.rpc.admin_service import ServerFacts
from sessionplane.rpc.server import Edge
from sessionplane.rpc.streams import read_mark
from sessionplane.settings import Settings
from sessionplane.store import connections, schema
from sessionplane.store.failures import StoreUnusable
from sessionplane.store.snapshot import snapshot
from sessionplane.store.sqlite import SqliteStore, open_store

log = structlog.get_logger(__name__)

# Exit codes of `serve`, after sysexits.h.
OK = 0
SOFTWARE = 70
TEMPORARY = 75
CONFIGURATION = 78

_NOTE_KEYS_S = 5.0
_HOW_TO_GO_ON = (
    "Nothing has been changed. Set the settings back, or accept all of it with"
    " `sessionplane serve --accept-key-changes`."
)


class SystemClock:
    """The clocks of this machine."""

    def wall_ms(self) -> int:
        """Return Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Return milliseconds that never go back."""
        return time.monotonic_ns() // 1_000_000


class BindFailed(Exception):
    """The address cannot be listened on."""


class KeysWouldChange(Exception):
    """The key settings are others than those of the database, and that touches keys in it."""

    def __init__(self, changes: KeyChanges) -> None:
        self.changes = changes
        super().__init__("\n".join(changes.report()))


@dataclass(slots=True)
class Running:
    """A server that serves. `broken` is done, with the cause, when it cannot go on. `key_changes` is what was accepted
    at the start, if anything was.
    """

    address: str
    plane: ControlPlane
    store: SqliteStore
    broken: asyncio.Future[BaseException]
    key_changes: KeyChanges | None = None


def new_id(prefix: str) -> str:
    """Mint an id: the prefix and a UUIDv7, so that ids sort by the time of their birth."""
    return prefix + uuid_utils.uuid7().hex


@asynccontextmanager
async def running(
    settings: Settings, *, accept_key_changes: bool = False, clock: Clock | None = None
) -> AsyncIterator[Running]:
    """Start a server, and stop it as the context is left. Its clock is the machine's unless another one is given.

    Raises StoreBusy, StoreUnusable, BindFailed and, unless they are accepted, KeysWouldChange, with nothing left
    behind.
    """
    store = open_store(settings.db, limits=settings.limits)
    try:
        plane = ControlPlane(
            store,
            clock=clock or SystemClock(),
            new_id=new_id,
            new_secret=lambda: f"lse_{secrets.token_urlsafe(18)}",
            read_mark=read_mark,
            limits=settings.limits,
            keys=settings.key_settings(),
            freshness=settings.freshness_settings(),
        )
        working = at_work(plane, store, accept_key_changes=accept_key_changes)
        async with working as work, _edge(plane, settings) as address:
            yield Running(
                address=address,
                plane=plane,
                store=store,
                broken=work.broken,
                key_changes=work.key_changes,
            )
    finally:
        await store.close()


@dataclass(frozen=True, slots=True)
class Work:
    """What keeps a plane at work. See `Running` for its parts."""

    broken: asyncio.Future[BaseException]
    key_changes: KeyChanges | None


@asynccontextmanager
async def at_work(
    plane: ControlPlane, store: SqliteStore, *, accept_key_changes: bool = False
) -> AsyncIterator[Work]:
    """Make a plane ready to be served, by whatever transport, and run its loops until the context is left.

    Raises KeysWouldChange unless changes are accepted.
    """
    changes = await _settle_keys(plane, accept=accept_key_changes)
    await plane.start()
    try:
        async with _loops(plane, plane.limits, store) as broken:
            yield Work(broken=broken, key_changes=changes)
    finally:
        await plane.stop()


def look_at_keys(settings: Settings) -> KeyChanges:
    """Say what these key settings would change in the database, which a server may be using.

    Raises StoreUnusable.
    """
    with snapshot(settings.db) as tx:
        return rehoming.survey(tx, KeyRecord(settings=settings.key_settings()))


async def _settle_keys(plane: ControlPlane, *, accept: bool) -> KeyChanges | None:
    """Make sure that the keys of the database are canonical under these settings; return what changed in them.

    Raises KeysWouldChange, unless changes are accepted.
    """
    record = KeyRecord(settings=plane.keys)
    if plane.read(lambda tx: rehoming.is_recorded(tx, record)):
        return None
    changes = await plane.store.scan(lambda tx: rehoming.survey(tx, record, note=_note_keys()))
    if changes.touched and not accept:
        raise KeysWouldChange(changes)
    await plane.execute(lambda tx, context: rehoming.accept(tx, changes, context))
    # A new database has nothing to say.
    if changes.before is not None or changes.key_count:
        log.info(
            "keys.settled",
            keys=changes.key_count,
            changed=len(changes.moves),
            merged=len(changes.meetings),
            refused=changes.refused.count,
        )
    return changes if changes.touched else None


def _note_keys() -> Callable[[int], None]:
    """Return what says every few seconds how far a look at all keys has come."""
    said_s = time.monotonic()

    def note(count: int) -> None:
        nonlocal said_s
        if time.monotonic() - said_s > _NOTE_KEYS_S:
            said_s = time.monotonic()
            log.info("keys.checking", keys=count)

    return note


@asynccontextmanager
async def _edge(plane: ControlPlane, settings: Settings) -> AsyncIterator[str]:
    """Bind and serve; on the way out, drain and stop within the bound."""
    facts = ServerFacts(
        version=version("sessionplane"),
        schema_version=schema.version(),
        sqlite_version=sqlite3.sqlite_version,
        sqlite_verdict=connections.verdict(),
        ready_at_ms=plane.clock.wall_ms(),
    )
    edge = Edge(plane, facts, limits=settings.limits, with_reflection=settings.reflection)
    try:
        port = edge.bind(settings.listen)
    except RuntimeError as error:
        raise BindFailed(f"{settings.listen} cannot be listened on. Is another server there?") from error
    await edge.start()
    address = settings.listen if settings.address.path else f"{settings.listen.rpartition(':')[0]}:{port}"
    try:
        yield address
    finally:
        # The grace for what is being answered leaves room for the writer's last flush.
        await edge.drain()
        await edge.stop(settings.limits.drain_ms / 1000 / 2)


@asynccontextmanager
async def _loops(
    plane: ControlPlane, limits: Limits, store: SqliteStore
) -> AsyncIterator[asyncio.Future[BaseException]]:
    """Run the background loops; a loop that dies and a store that fails break the server."""
    stop = asyncio.Event()
    broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def break_with(cause: BaseException | None) -> None:
        if cause is not None and not broken.done():
            broken.set_result(cause)

    store.failed.add_done_callback(lambda failed: break_with(None if failed.cancelled() else failed.result()))
    works = {
        "sweep": plane.sweeper.sweep,
        "pauses": plane.sweeper.look_for_pauses,
        "retention": plane.compactor.retain,
        "files": store.look_for_files,
    }
    loops = [
        asyncio.create_task(every(limits.sweep_ms / 1000, work, name=name, stop=stop), name=name)
        for name, work in works.items()
    ]
    for loop in loops:
        loop.add_done_callback(lambda task: break_with(None if task.cancelled() else task.exception()))
    try:
        yield broken
    finally:
        stop.set()
        await asyncio.gather(*loops, return_exceptions=True)
        broken.cancel()


def main(settings: Settings, *, accept_key_changes: bool = False) -> int:
    """Serve on the quickest event loop that is installed; returns the exit code."""
    _configure_logs(settings)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(serve(settings, accept_key_changes=accept_key_changes))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return uvloop where it is installed: 10 to 25 % less CPU a call. Everything works without it."""
    if find_spec("uvloop") is None:
        return asyncio.new_event_loop
    import uvloop  # noqa: PLC0415 - optional

    return uvloop.new_event_loop


def _configure_logs(settings: Settings) -> None:
    """Log to standard error: lines for people, or JSON for machines. Never payloads, tokens or whole keys."""
    people = settings.log_format == "console"
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not people),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=people and sys.stderr.isatty())
            if people
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


async def serve(settings: Settings, *, accept_key_changes: bool = False) -> int:
    """Serve until SIGTERM or SIGINT, or until the server breaks; returns the exit code."""
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    try:
        async with running(settings, accept_key_changes=accept_key_changes) as server:
            log.info("server.sqlite", verdict=connections.verdict())
            if server.key_changes is not None:
                sys.stderr.write(
                    "\n".join([*server.key_changes.report(), "This was accepted and is done.", ""])
                )
            log.info("server.ready", address=server.address, db=str(settings.db), store=server.store.store_id)
            return await _stopped(server, asked)
    except (StoreBusy, StorageFull) as error:
        sys.stderr.write(f"sessionplane: {settings.db}: {error}\n")
        return TEMPORARY
    except KeysWouldChange as error:
        sys.stderr.write(f"sessionplane: {settings.db}: {error}\n{_HOW_TO_GO_ON}\n")
        return CONFIGURATION
    except (StoreUnusable, BindFailed) as error:
        sys.stderr.write(f"sessionplane: {error}\n")
        return CONFIGURATION
    except SessionPlaneError as error:
        # Damage that is met before anybody is served.
        sys.stderr.write(f"sessionplane: {settings.db}: {error.__cause__ or error}\n")
        return CONFIGURATION


async def _stopped(server: Running, asked: asyncio.Event) -> int:
    """Wait until stopping is asked for, or for a break; returns the exit code."""
    server.broken.add_done_callback(lambda _: asked.set())
    await asked.wait()
    if server.broken.done():
        cause = server.broken.result()
        # What callers are told is not what operators want to know.
        log.error("server.broken", cause=repr(cause.__cause__ or cause))
        return SOFTWARE
    log.info("server.stopping")
    return OK
