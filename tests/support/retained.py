"""A retention that is quick and takes small steps, and what there is for it to remove."""

from __future__ import annotations

from sessionplane.domain.sessions import Session
from tests.support.planes import KEY, Bench

WINDOW_MS = 60_000
STEP = 10
BOUNDS = {"log_window_ms": WINDOW_MS, "compact_step_events_max": STEP, "deleted_ttl_ms": WINDOW_MS}
"""Retention is quick and takes small steps."""


async def finished(bench: Bench, name: str = KEY, *texts: str) -> Session:
    """Let a run of a session come and go; return the session behind it."""
    run = await bench.running(name)
    await bench.publish(run.run_id, *(texts or "a"))
    await bench.finish(run.run_id)
    return bench.session(name)


async def retain(bench: Bench, after_ms: int = 0) -> None:
    """Let time pass at once, and retention look."""
    bench.clock.advance(after_ms)
    await bench.plane.compactor.retain()
