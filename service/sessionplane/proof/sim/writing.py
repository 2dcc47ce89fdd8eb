"""The store's writer without its thread: a step of the loop that comes some time after a command did."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from random import Random
from typing import Any

from sessionplane.proof.sim.trouble import Troubles
from sessionplane.store.sqlite import Footing
from sessionplane.store.turns import Turns
from sessionplane.store.writer import Command, Group, Writer


class SteppedWriter(Writer):
    """Commits groups as the thread does, whenever chance gives it a turn: within the disk's `commit_s`."""

    def __init__(
        self,
        *given: Any,
        loop: AbstractEventLoop,
        chance: Random,
        troubles: Troubles,
        **named: Any,
    ) -> None:
        self._loop = loop
        self._chance = chance
        self._troubles = troubles
        self._due = False
        super().__init__(*given, **named)

    def _start(self) -> None:
        """There is no thread."""

    def submit(self, command: Command) -> None:
        """Queue a command, and a turn if none is coming."""
        super().submit(command)
        self._plan()

    def _plan(self) -> None:
        if not self._due and not self._queue.empty():
            self._due = True
            self._loop.call_later(self._chance.random() * self._troubles.commit_s, self._turn)

    def _turn(self) -> None:
        self._due = False
        if not self._queue.empty():
            self.step()
        self._plan()

    def join(self) -> None:
        """Do what is left, here and now."""
        while self.step():
            pass


class NoTurns(Turns):
    """Nobody waits for the interpreter where there is one thread."""

    def began(self) -> None:
        """Nothing to watch."""

    def ended(self) -> None:
        """Nothing was watched."""


def stepped(loop: AbstractEventLoop, chance: Random, troubles: Troubles) -> Footing:
    """Return what a store stands on in a simulation; the connection is the disk's business."""

    def make_writer(*given: Any, tell: Callable[[Group], None], **named: Any) -> Writer:
        return SteppedWriter(*given, loop=loop, chance=chance, troubles=troubles, tell=tell, **named)

    return Footing(make_writer=make_writer, make_turns=NoTurns)
