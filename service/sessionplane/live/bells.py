"""Wake-ups: somebody waits for a subject, somebody rings for it.

A ring carries no data and is never the truth: whoever is woken looks again. A waiter listens *before* it looks, so
that no ring can fall between the look and the wait. Everything here belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from types import TracebackType
from typing import Self

from sessionplane.domain.errors import Draining, Overloaded


class Bells:
    """Who listens to what. Bounded by `waiters_max` tickets in all."""

    def __init__(self, *, waiters_max: int) -> None:
        self._tickets: dict[Hashable, dict[Ticket, None]] = {}
        self._waiters_max = waiters_max
        self._count = 0
        self.closed = False
        """Whether nobody is to wait any more."""

    def __len__(self) -> int:
        """Return how many tickets are out."""
        return self._count

    def listen(self, subject: Hashable, *, in_turn: bool = False, most: int | None = None) -> Ticket:
        """Return a ticket for a subject, to be used as a context manager.

        `in_turn` tickets are rung one at a time, longest waiting first: for work that only one can take.
        Raises Overloaded when too many are out, in all or, with `most`, for this subject.
        """
        crowded = most is not None and len(self._tickets.get(subject, ())) >= most
        if crowded or self._count >= self._waiters_max:
            raise Overloaded
        return Ticket(self, subject, in_turn=in_turn)

    def ring(self, subject: Hashable) -> None:
        """Wake whoever listens; of those in turn, the first that was not woken yet."""
        passed_on = False
        for ticket in list(self._tickets.get(subject, ())):
            if ticket.in_turn and (passed_on or ticket.rung):
                continue
            passed_on = passed_on or ticket.in_turn
            ticket.set()

    def ring_all(self) -> None:
        """Wake everybody: something about all subjects changed."""
        for tickets in self._tickets.values():
            for ticket in tickets:
                ticket.set()

    def close(self) -> None:
        """Let nobody wait any more: the server stops."""
        self.closed = True
        self.ring_all()

    async def rung(self, ticket: Ticket, *, until_s: float) -> bool:
        """Wait for a ring until the loop's clock says `until_s`; False if none came. Raises Draining once closed."""
        left_s = until_s - asyncio.get_running_loop().time()
        rung = left_s > 0 and await ticket.wait(timeout_s=left_s)
        if self.closed:
            raise Draining
        return rung

    def add(self, subject: Hashable, ticket: Ticket) -> None:
        """Count a ticket in."""
        self._tickets.setdefault(subject, {})[ticket] = None
        self._count += 1

    def remove(self, subject: Hashable, ticket: Ticket) -> None:
        """Count a ticket out; the last one takes its subject along."""
        tickets = self._tickets[subject]
        del tickets[ticket]
        self._count -= 1
        if not tickets:
            del self._tickets[subject]


class Ticket:
    """One waiter's place. A ring that comes while nobody waits on it is kept for the next wait."""

    def __init__(self, bells: Bells, subject: Hashable, *, in_turn: bool) -> None:
        self.in_turn = in_turn
        self._bells = bells
        self._subject = subject
        self._event = asyncio.Event()

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._bells.add(self._subject, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening. A ring in turn that this waiter did not use goes to the next one."""
        self._bells.remove(self._subject, self)
        if self.in_turn and self.rung:
            self._bells.ring(self._subject)

    @property
    def rung(self) -> bool:
        """Whether a ring came that no wait has used."""
        return self._event.is_set()

    def set(self) -> None:
        """Ring this one."""
        self._event.set()

    async def wait(self, *, timeout_s: float | None = None) -> bool:
        """Wait for a ring and use it; False if none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
