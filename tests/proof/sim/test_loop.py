"""The loop of a simulation: asyncio's order, a seed's choices, time that jumps, and processes that die."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from sessionplane.proof.sim.loop import Process, SeededLoop, Stuck, owned

LATE_S = 1e9


def new_loop(seed: int = 1) -> SeededLoop:
    return SeededLoop(Random(seed))  # type: ignore[abstract]


def run(loop: SeededLoop, coro: Any) -> Any:
    return loop.run_until(loop.create_task(coro), until_s=LATE_S)


def test_time_jumps_to_the_next_timer() -> None:
    """An hour of sleep costs nothing, and comes out exact."""
    loop = new_loop()
    before_s = loop.time()
    run(loop, asyncio.sleep(3_600))
    assert loop.time() - before_s == 3_600


def test_what_is_ready_runs_in_its_order() -> None:
    """As asyncio promises it, whatever the seed."""
    for seed in range(20):
        loop = new_loop(seed)
        order: list[int] = []
        for number in range(10):
            loop.call_soon(order.append, number)
        run(loop, asyncio.sleep(0))
        assert order == list(range(10))


def test_due_timers_fire_in_an_order_that_the_seed_decides() -> None:
    """Timers of one moment come in any order, and in the same one for the same seed."""

    def order(seed: int) -> tuple[int, ...]:
        loop, fired = new_loop(seed), []
        for number in range(5):
            loop.call_later(1, fired.append, number)
        run(loop, asyncio.sleep(2))
        return tuple(fired)

    orders = {order(seed) for seed in range(30)}
    assert len(orders) > 10
    assert [order(seed) for seed in range(30)] == [order(seed) for seed in range(30)]


def test_what_a_thread_hands_over_keeps_its_order() -> None:
    """However long it takes."""
    loop, handed = new_loop(), []
    for number in range(20):
        loop.call_soon_threadsafe(handed.append, number)
    run(loop, asyncio.sleep(1))
    assert handed == list(range(20))


def test_the_dead_do_nothing_any_more() -> None:
    """Neither the next step nor what stands in a `finally`: kill -9 asks nobody."""
    loop, done = new_loop(), []

    async def work() -> None:
        try:
            await asyncio.sleep(1)
            done.append("step")
        finally:
            await asyncio.sleep(0)
            done.append("finally")

    process = Process("victim")
    owned(process).run(loop.create_task, work())
    loop.call_later(0.5, loop.kill, process)
    run(loop, asyncio.sleep(5))
    assert done == []
    assert loop.complaints == []


def test_a_loop_without_anything_to_come_says_so() -> None:
    """Waiting for ever would hang the whole suite."""
    loop = new_loop()
    with pytest.raises(Stuck):
        loop.run_until(loop.create_future(), until_s=LATE_S)


def test_a_loop_stops_when_its_time_is_over() -> None:
    """Something that goes on for ever is told from something that ends."""
    loop = new_loop()

    def tick() -> None:
        loop.call_later(1, tick)

    tick()
    with pytest.raises(TimeoutError):
        loop.run_until(loop.create_future(), until_s=loop.time() + 10)
    loop.settle()


def test_an_error_that_nobody_takes_is_kept() -> None:
    """A future's error that is never retrieved is a complaint, but not if its process is dead."""
    loop = new_loop()
    process = Process("victim")
    for owner in (process, Process("survivor")):
        future = owned(owner).run(loop.create_future)
        future.set_exception(ZeroDivisionError())
        loop.kill(process)
        del future
    assert len(loop.complaints) == 1
