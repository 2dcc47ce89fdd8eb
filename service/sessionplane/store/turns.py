"""Turns: a busy event loop lets the store's threads run.

Owns when the loop gives the interpreter away. It must never decide anything by time but that, and holds no lock.

Theory of operation. A thread of the store gives the interpreter's lock up with each step of SQLite and asks for it
again. A loop that always has something to do gives it up too, for the microsecond in which it polls its sockets, and
takes it back before the waiting thread has woken up. Worse, CPython forces a switch only for a thread that has
waited a whole interval undisturbed, and each of these polls disturbs it. So a thread that needs fifty turns
for a commit got none for seconds (measured: 17 s for one of 16 publications, beside a loop that spun).

So whatever the loop hands to a thread is counted here. If nothing of it ends within `_PATIENCE_S`, the loop stops for
`_TURN_S` in each of its rounds, or until something ends: then the thread runs alone, at full speed. A loop that
has time to sleep never comes to this, since its threads have long finished.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from threading import Event

_PATIENCE_S = 0.003
_TURN_S = 0.001


class Turns:
    """All methods but `ending` belong to the loop's thread."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._open = 0
        self._ended = 0
        self._seen = 0
        self._watching = False
        # Set by any thread whose work is about to be handed to the loop; cleared by the loop.
        self._ending = Event()

    def began(self) -> None:
        """Count a piece of work that was handed to a thread."""
        self._open += 1
        if not self._watching:
            self._watching = True
            self._watch()

    def ending(self) -> None:
        """Wake the loop if it waits; on the thread, when it hands its work back."""
        self._ending.set()

    def ended(self) -> None:
        """Count a piece of work that came back."""
        self._open -= 1
        self._ended += 1

    def _watch(self) -> None:
        self._seen = self._ended
        self._loop.call_later(_PATIENCE_S, self._look)

    def _look(self) -> None:
        if not self._open:
            self._watching = False
        elif self._ended != self._seen:
            self._watch()
        else:
            self._ending.wait(_TURN_S)
            self._ending.clear()
            self._loop.call_soon(self._look)
