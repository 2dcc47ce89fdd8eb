"""Turns: a loop that never sleeps still lets the writer finish."""

from __future__ import annotations

import asyncio
import threading

from sessionplane.store.sqlite import SqliteStore
from sessionplane.store.turns import Turns
from tests.support.values import NOW_MS, created, session, session_id


async def test_a_loop_that_never_sleeps_stops_for_a_thread() -> None:
    """It waits in its rounds until the thread says that it is done."""
    loop = asyncio.get_running_loop()
    turns = Turns(loop)
    waiting = threading.Event()
    rounds = 0

    class Noting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waiting.set()
            return super().wait(timeout)

    turns._ending = Noting()
    turns.began()
    while not waiting.is_set():
        rounds += 1
        await asyncio.sleep(0)
    assert rounds > 1
    turns.ending()
    turns.ended()
    while turns._watching:  # noqa: ASYNC110 - a loop that never sleeps is the subject
        await asyncio.sleep(0)


async def test_a_loop_without_work_is_not_watched() -> None:
    """Nothing is left scheduled once all has come back."""
    turns = Turns(asyncio.get_running_loop())
    turns.began()
    turns.began()
    turns.ended()
    turns.ended()
    while turns._watching:  # noqa: ASYNC110 - a loop that never sleeps is the subject
        await asyncio.sleep(0)
    assert turns._open == 0


async def test_commits_are_made_beside_a_busy_loop(store: SqliteStore) -> None:
    """One that spins from before the first command to behind the last."""
    await store.submit(lambda tx: tx.add_session(session(1)))
    future = None
    for expected in range(1, 6):
        future = store.submit(
            lambda tx: [tx.append(session_id(1), created(), at_ms=NOW_MS) for _ in range(16)][-1]
        )
        while not future.done():
            sum(range(5_000))
            await asyncio.sleep(0)
        assert future.result() == 16 * expected
