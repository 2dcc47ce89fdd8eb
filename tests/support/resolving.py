"""What tests of resolving begin with: a session that has ended, and calls that race."""

from __future__ import annotations

import asyncio
from typing import Any

from sessionplane.domain.sessions import SessionState
from sessionplane.plane.resolving import Resolved
from tests.support.planes import KEY, Bench
from tests.support.stores import HeldWriter


async def ended(bench: Bench, name: str = KEY) -> str:
    """A key whose session has ended and keeps it."""
    started = await bench.start(name)
    await bench.interrupt(run_id=started.run.run_id)
    assert bench.session(name).state is SessionState.ENDED
    return started.view.session.session_id


async def at_once(bench: Bench, *asked: Any) -> list[Resolved | BaseException]:
    """Make calls that all have looked before one of them writes."""
    async with HeldWriter(bench.store):
        calls = [asyncio.ensure_future(each) for each in asked]
        await asyncio.sleep(0)
    return await asyncio.gather(*calls, return_exceptions=True)
