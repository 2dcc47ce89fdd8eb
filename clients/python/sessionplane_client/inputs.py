"""What others send into a run under way, as its runner takes it: one after the other.

Owns what was handed out by the server and not yet taken by the body. An input is acknowledged when the body comes back
for the next one, or ends: a body that fails before has not worked it in, and the input becomes a run of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from sessionplane.v1.run_pb2 import InputCommand, Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """An input that was sent to the run; `input_id` is the id of the run that it would have started."""

    input_id: str
    payload: Payload

    @property
    def text(self) -> str:
        """The input's text; empty if it is not text."""
        return self.payload.text


class Inputs:
    """The inputs of a run, oldest first: `async for more in run.inputs`, or `run.inputs.take()` between two steps.

    The loop waits for the next one and ends when the run is interrupted; leave it when the work is done. Whatever was
    handed out is acknowledged when the next one is asked for, and when the run's body ends without an error.
    """

    def __init__(
        self,
        *,
        acknowledge: Callable[[str], None],
        until: Callable[[Callable[[], bool]], Awaitable[None]],
        is_interrupted: Callable[[], bool],
    ) -> None:
        self._acknowledge = acknowledge
        self._until = until
        self._is_interrupted = is_interrupted
        self._waiting: deque[Input] = deque()
        self._handed_out: Input | None = None

    def __len__(self) -> int:
        """Returns how many wait to be taken."""
        return len(self._waiting)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Input:
        """Waits for the next input. Raises what `Runner.write` raises."""
        self.done()
        await self._until(lambda: bool(self._waiting) or self._is_interrupted())
        taken = None if self._is_interrupted() else self.take()
        if taken is None:
            raise StopAsyncIteration
        return taken

    def take(self) -> Input | None:
        """Returns the next input if one waits, without waiting for one."""
        self.done()
        self._handed_out = self._waiting.popleft() if self._waiting else None
        return self._handed_out

    def done(self) -> None:
        """Acknowledges what was handed out last, at once."""
        if self._handed_out is not None:
            self._acknowledge(self._handed_out.input_id)
        self._handed_out = None

    def add(self, command: InputCommand) -> None:
        """Takes a command of the server. For the runner."""
        self._waiting.append(Input(input_id=command.input_id, payload=command.input))
