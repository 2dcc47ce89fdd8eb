"""An event loop whose time is a number and whose every choice is a seed's: one thread, no sleep, no sockets.

It keeps what asyncio promises (callbacks that are ready run in the order in which they became so) and chooses where
asyncio promises nothing: how long a thread takes to hand its work back, and which of several due timers fires first.
Time stands still while anything can run, and then jumps to the next timer; a pause jumps over many at once.

Each callback belongs to the process in whose context it was scheduled. A process that is dead runs no further step of
its own, not even what stands in a `finally`: what kill -9 leaves is the file, and what the network had already taken.
"""

from __future__ import annotations

import heapq
import sys
from asyncio import AbstractEventLoop, Future, Handle, Task, TimerHandle, events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

_FINALLY_MAX = 20
_IN_TURN = 2.0

HAND_OVER_S = 0.001
"""At most so long does a thread take to hand something to the loop."""


class Process:
    """Whose steps these are. `steps` counts what it has run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.steps = 0
        self.tasks: list[Task[Any]] = []


OWNER: ContextVar[Process | None] = ContextVar("OWNER", default=None)


class Stuck(Exception):
    """Nobody can go on: no callback is ready, and no timer will fire."""


class SeededLoop(AbstractEventLoop):
    """See the module. `on_step` is called before each step of a process, and may kill it."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._now_s = 1_000.0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, float, int, TimerHandle]] = []
        self._count = 0
        self._handed_over_s = 0.0
        self.burying = False
        self._graves: list[Process] = []
        self.complaints: list[str] = []
        self.on_step: Callable[[Process], None] = lambda _: None

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._now_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> Future[Any]:
        future: Future[Any] = Future(loop=self)
        future.owner = OWNER.get()  # type: ignore[attr-defined]
        return future

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> Task[T]:
        if self.burying:
            coro.close()
            return Future(loop=self)  # type: ignore[return-value]
        task = Task(coro, loop=self, name=name, context=context)
        owner = OWNER.get() if context is None else context.get(OWNER)
        task.owner = owner  # type: ignore[attr-defined]
        if owner is not None:
            owner.tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, self, context)
        if not self.burying:
            self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Take what a thread hands over: in its order, and after a while."""
        delay_s = self._chance.random() * HAND_OVER_S
        self._handed_over_s = max(self._handed_over_s, self._now_s + delay_s)
        return self.call_in_turn(self._handed_over_s, callback, *args, context=context)

    def call_in_turn(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """Call at a time, and behind whatever was to be called in turn at that time before."""
        return self._at(when, _IN_TURN, callback, args, context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        return self._at(self._now_s + max(0.0, delay), self._chance.random(), callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        return self._at(when, self._chance.random(), callback, args, context)

    def _at(
        self,
        when: float,
        turn: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> TimerHandle:
        handle = TimerHandle(when, callback, args, self, context)
        if not self.burying:
            self._count += 1
            heapq.heappush(self._timers, (when, turn, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """A cancelled timer is skipped when its time comes."""

    def run_in_executor(  # type: ignore[override]
        self,
        _executor: object,
        func: Callable[..., T],
        *args: Any,
    ) -> Future[T]:
        """Run a function as a thread would: some time later, and its result comes later still."""
        future: Future[T] = self.create_future()

        def work() -> None:
            try:
                result, error = func(*args), None
            except Exception as raised:  # noqa: BLE001 - it is whoever awaits this that is told
                result, error = None, raised
            self.call_soon_threadsafe(settle, result, error)

        def settle(result: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.call_later(self._chance.random() * HAND_OVER_S, work)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody caught, unless it is the dead's, which may be collected long after them."""
        owner = getattr(context.get("future"), "owner", None)
        if not self.burying and (owner is None or owner.alive):
            self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    # What a simulation asks of it.

    def run_until(self, main: Future[T], *, until_s: float) -> T:
        """Run until `main` is done. Raises what it raises, Stuck, and TimeoutError if its time is over."""
        before, hooks = events._get_running_loop(), sys.get_asyncgen_hooks()
        events._set_running_loop(self)
        # A generator that is collected belonged to the dead, and they do nothing any more.
        sys.set_asyncgen_hooks(finalizer=lambda _: None)
        try:
            self._turn()
            while not main.done():
                self._wait(until_s)
                self._turn()
            return main.result()
        finally:
            events._set_running_loop(before)
            sys.set_asyncgen_hooks(*hooks)

    def settle(self) -> None:
        """Bury the dead, and drop whatever is left to do."""
        self._bury()
        self._ready.clear()
        self._timers.clear()

    def _turn(self) -> None:
        """Run what is ready, each in its turn."""
        ready = self._ready
        while ready:
            handle = ready.popleft()
            if handle._cancelled:
                continue
            owner = handle._context.get(OWNER)  # type: ignore[attr-defined]
            if owner is None:
                handle._run()
            elif owner.alive:
                owner.steps += 1
                self.on_step(owner)
                if owner.alive:
                    handle._run()
            if self._graves:
                self._bury()

    def _wait(self, until_s: float) -> None:
        """Let time pass to the next timer."""
        timers = self._timers
        while timers and timers[0][3]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Stuck
        self._now_s = max(self._now_s, timers[0][0])
        if self._now_s > until_s:
            raise TimeoutError
        due = []
        while timers and timers[0][0] <= self._now_s:
            due.append(heapq.heappop(timers))
        due.sort(key=lambda each: each[1])
        self._ready.extend(each[3] for each in due)

    def pause(self, span_s: float) -> None:
        """Let time pass in which nothing runs: the machine was asleep. Everything that is due then, is due at once."""
        self._now_s += span_s

    def kill(self, process: Process) -> None:
        """Let a process run no further step."""
        if process.alive:
            process.alive = False
            self._graves.append(process)

    def _bury(self) -> None:
        """Take the coroutines of the dead apart; nothing that they schedule meanwhile counts."""
        self.burying = True
        while self._graves:
            process = self._graves.pop()
            for task in process.tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _close(task.get_coro())
            process.tasks.clear()
        self.burying = False


def _close(coro: Any) -> None:
    """Leave every `finally` that waits for something at that very place."""
    for _ in range(_FINALLY_MAX):
        try:
            coro.close()
        except RuntimeError:
            continue
        except BaseException:  # noqa: S110, BLE001 - last words of the dead
            pass
        return


def owned(process: Process) -> Context:
    """Return a context in which everything belongs to the process."""
    context = Context()
    context.run(OWNER.set, process)
    return context
