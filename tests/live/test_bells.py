"""Wake-ups: no ring is missed, and of those in turn each ring wakes one."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from sessionplane.domain.errors import Overloaded
from sessionplane.live.bells import Bells


@pytest.fixture
async def bells() -> Bells:
    return Bells(waiters_max=10)


async def test_a_ring_before_the_wait_is_kept(bells: Bells) -> None:
    """Who listens before it looks misses nothing: a ring in between ends the next wait at once."""
    with bells.listen("door") as ticket:
        bells.ring("door")
        assert ticket.rung
        assert await ticket.wait(timeout_s=0.001)
        assert not ticket.rung


async def test_a_ring_ends_the_wait(bells: Bells) -> None:
    """Who waits is woken."""
    with bells.listen("door") as ticket:
        waiting = asyncio.ensure_future(ticket.wait(timeout_s=5))
        await asyncio.sleep(0)
        bells.ring("door")
        assert await waiting


async def test_a_wait_ends_with_its_time(bells: Bells) -> None:
    """Without a ring in time the answer is False, and the ticket still listens."""
    with bells.listen("door") as ticket:
        assert not await ticket.wait(timeout_s=0.001)
        bells.ring("door")
        assert ticket.rung


async def test_several_rings_are_one(bells: Bells) -> None:
    """A ring says only: look again."""
    with bells.listen("door") as ticket:
        bells.ring("door")
        bells.ring("door")
        assert await ticket.wait()
        assert not ticket.rung


async def test_a_ring_wakes_everybody_at_that_subject(bells: Bells) -> None:
    """All who listen to the subject are woken, and nobody else."""
    with bells.listen("door") as one, bells.listen("door") as two, bells.listen("window") as other:
        bells.ring("door")
        assert (one.rung, two.rung, other.rung) == (True, True, False)


async def test_nobody_listening_is_fine(bells: Bells) -> None:
    """A ring that nobody hears leaves nothing behind."""
    bells.ring("door")
    with bells.listen("door") as ticket:
        assert not ticket.rung


async def test_in_turn_a_ring_wakes_the_longest_waiting(bells: Bells) -> None:
    """Each ring wakes one more, first come first."""
    with ExitStack() as stack:
        tickets = [stack.enter_context(bells.listen("pool", in_turn=True)) for _ in range(3)]
        woken = []
        for _ in range(4):
            bells.ring("pool")
            woken.append([ticket.rung for ticket in tickets])
    assert woken == [[True, False, False], [True, True, False], [True, True, True], [True, True, True]]


async def test_a_ring_that_was_used_is_not_passed_on(bells: Bells) -> None:
    """A waiter that used its ring and leaves wakes nobody."""
    with bells.listen("pool", in_turn=True) as two:
        bells.remove("pool", two)
        with bells.listen("pool", in_turn=True) as one:
            bells.add("pool", two)
            bells.ring("pool")
            assert await one.wait()
        assert not two.rung


async def test_a_ring_that_was_not_used_is_passed_on(bells: Bells) -> None:
    """A waiter that leaves with its ring gives it to the next in turn."""
    first = bells.listen("pool", in_turn=True)
    first.__enter__()
    with bells.listen("pool", in_turn=True) as second, bells.listen("pool", in_turn=True) as third:
        bells.ring("pool")
        first.__exit__(None, None, None)
        assert (second.rung, third.rung) == (True, False)


async def test_a_cancelled_waiter_passes_its_ring_on(bells: Bells) -> None:
    """A waiter that is cancelled in the moment of its ring gives it to the next in turn."""

    async def wait() -> bool:
        with bells.listen("pool", in_turn=True) as ticket:
            return await ticket.wait()

    first, second = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    bells.ring("pool")
    first.cancel()
    assert await second
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_those_in_turn_do_not_keep_others_waiting(bells: Bells) -> None:
    """Beside those in turn, everybody else at the subject is woken by each ring."""
    with (
        bells.listen("x", in_turn=True) as first,
        bells.listen("x", in_turn=True) as second,
        bells.listen("x") as watcher,
    ):
        bells.ring("x")
        assert (first.rung, second.rung, watcher.rung) == (True, False, True)


async def test_all_can_be_woken(bells: Bells) -> None:
    """ring_all wakes everybody at every subject, those in turn too."""
    with (
        bells.listen("a") as one,
        bells.listen("b", in_turn=True) as two,
        bells.listen("b", in_turn=True) as three,
    ):
        bells.ring_all()
        assert (one.rung, two.rung, three.rung) == (True, True, True)


async def test_tickets_are_bounded() -> None:
    """Over waiters_max listening is refused, and a ticket that was given back can be had again."""
    bells = Bells(waiters_max=1)
    with bells.listen("door"):
        assert len(bells) == 1
        with pytest.raises(Overloaded):
            bells.listen("window")
    with bells.listen("window"):
        pass


async def test_a_subject_without_listeners_is_forgotten(bells: Bells) -> None:
    """Subjects cost nothing once their last listener is gone."""
    with bells.listen("door"):
        pass
    assert len(bells) == 0
    assert bells._tickets == {}
