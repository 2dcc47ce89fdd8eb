"""A real server in this process, on a free port of the loopback, over a real file, with what tests talk to it by.

The bounds are the documented ones, but for those that a test would otherwise wait for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sessionplane import app
from sessionplane.domain.limits import Limits
from sessionplane.settings import Settings
from sessionplane_client import Backoff, Client
from tests.support.clock import FakeClock
from tests.support.rows import broken
from tests.support.stores import lay_out
from tests.support.wire import Wire, wired

BOUNDS: dict[str, int] = {
    # One that comes later than two periods grants every lease again, so it must outlast a busy machine's pauses.
    "sweep_ms": 100,
    "lease_ms_min": 100,
    "timeout_ms_min": 50,
    # No test that is not about it shall see a session detach because it took its time.
    "detach_linger_ms": 60_000,
}

AT_ONCE = Backoff(first_s=0.01, max_s=0.1, attempts_max=None)
"""How the Python client waits in tests: hardly, and never for the last time."""


@dataclass(frozen=True)
class Served:
    """A running server: its address, its file, raw stubs, the Python client, and the server itself."""

    address: str
    database: Path
    wire: Wire
    client: Client
    running: app.Running


@asynccontextmanager
async def serving(
    database: Path,
    *,
    limits: dict[str, int] | None = None,
    accept_key_changes: bool = False,
    clock: FakeClock | None = None,
    **given: Any,
) -> AsyncIterator[Served]:
    """Serve a file until the context is left, then stop as SIGTERM does. `given` are further settings. Nothing may be
    broken in the file then.
    """
    bounds = Limits(**(BOUNDS | (limits or {})))
    settings = Settings(listen="127.0.0.1:0", db=database, limits=bounds, **given)
    lay_out(database)
    async with (
        app.running(settings, accept_key_changes=accept_key_changes, clock=clock) as server,
        wired(server.address) as wire,
        Client(server.address, backoff=AT_ONCE) as client,
    ):
        yield Served(address=server.address, database=database, wire=wire, client=client, running=server)
    assert broken(database) == {}
