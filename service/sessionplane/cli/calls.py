"""The way of a command to its server: one client, one event loop, one exit code.

Expected failures end here, as a sentence on stderr and an exit code; anything else is a bug and keeps its
traceback.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import click

if TYPE_CHECKING:
    from sessionplane_client import Client, SessionPlaneError

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130

# What to do about a refusal, where the command line has more to say than the server.
_HINTS = {
    (
        "NOT_FOUND",
        "KEY_NOT_BOUND",
    ): "`sessionplane resolve KEY` creates the session; so does `stream` with --create.",
    ("OUT_OF_RANGE", "TOKEN_COMPACTED"): "`--from oldest` begins with the oldest event that is kept.",
    ("FAILED_PRECONDITION", "STORE_REPLACED"): "`--from oldest` begins with the oldest event that is kept.",
}

Work: TypeAlias = "Callable[[Client], Awaitable[int | None]]"


def say(line: str) -> None:
    """Tells the person, on stderr: stdout is for what was asked for."""
    click.echo(line, err=True)


def talk(work: Work) -> None:
    """Runs `work` with a client of the command's target and exits with what it returns (None: 0)."""
    from sessionplane_client import SessionPlaneError

    target: str = click.get_current_context().obj
    try:
        code = asyncio.run(_with_client(target, work))
    except SessionPlaneError as error:
        code = refused(error, target)
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = EXIT_INTERRUPTED
    raise SystemExit(code or 0)


def refused(error: SessionPlaneError, target: str) -> int:
    """Says what the server said, or that there is none, and returns the exit code."""
    if error.code.name not in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
        say(f"{_reason(error)}: {error.message}")
        hint = _HINTS.get((error.code.name, error.reason))
        if hint:
            say(hint)
        return EXIT_REFUSED
    if error.reason:
        say(f"{_reason(error)}: {error.message}")
    else:
        say(f"No server answers at {target} ({error.message}).")
        say("Start one with `sessionplane serve`, or name another one with --target.")
    return EXIT_UNREACHABLE


def _reason(error: SessionPlaneError) -> str:
    return error.reason or error.code.name


async def _with_client(target: str, work: Work) -> int | None:
    from sessionplane_client import Client

    # Who is told to stop leaves what ctrl-C would leave: a token to go on from, say.
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  a coroutine of asyncio.run
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with Client(target) as client:
        return await work(client)
