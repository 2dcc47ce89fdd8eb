"""`sessionplane run`: be the runner of one run, with standard input as its output.

Standard input is read by a thread of its own, since it may be a terminal, a pipe or a file. The thread is a
daemon: a read that never returns must not keep the process, so it holds no lock (os.read, not the buffered
stdin) and hands over one chunk at a time.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import platform
import sys
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from .calls import EXIT_INTERRUPTED, EXIT_REFUSED, say, talk
from .usage import agent_option, asks_server, examples, json_option, one_of

if TYPE_CHECKING:
    from sessionplane.v1.run_pb2 import RunTerminal
    from sessionplane.v1.session_service_pb2 import StartRunResponse
    from sessionplane_client import Claim, Client, Runner

_CHUNK_BYTES_MAX = 64 * 1024


@click.command(
    epilog=examples(
        "echo hello | sessionplane run settings2",
        'my-agent "$question" | sessionplane run settings2 --input "$question"',
        "echo sorry | sessionplane run settings2 --policy interrupt",
        'sessionplane run settings2 --policy inject --input "In French, please." < /dev/null',
    )
)
@click.argument("key", required=False)
@click.option("--session-id", help="Run in this session instead.")
@agent_option
@click.option("--input", "text", default="", help="The input of the run, recorded before it starts.")
@click.option("--run-id", default="", help="An id of your own for the run.")
@click.option(
    "--policy",
    type=click.Choice(["enqueue", "reject", "interrupt", "inject"]),
    default="enqueue",
    show_default=True,
    help="When another run is active: wait, give up, stop it, or hand it the input.",
)
@click.option("--lease", "lease_s", type=click.FloatRange(2, 600), help="Seconds this runner may be silent.")
@json_option
@asks_server
def run(
    key: str | None,
    session_id: str | None,
    agent: str,
    text: str,
    run_id: str,
    *,
    policy: str,
    lease_s: float | None,
    as_lines: bool,
) -> None:
    """Start a run of KEY and be its runner; stdin is its output.

    Each line (or chunk) is published as it comes. The end of input ends the run: SUCCEEDED. Ctrl-C, or an
    interrupt from elsewhere, ends it: INTERRUPTED, exit code 130. With --policy inject and an active run there is no
    run of its own: the input is that one's.
    """
    one_of(KEY=key, session_id=session_id)

    async def work(client: Client) -> int:
        from sessionplane.v1 import run_pb2

        started = await client.start_run(
            key=key,
            session_id=session_id,
            agent=agent,
            input=text,
            run_id=run_id,
            policy=run_pb2.RunPolicy.Value(f"RUN_POLICY_{policy.upper()}"),
        )
        if started.input_id != started.run.run_id:
            return _print_input(started, as_lines=as_lines)
        claim = await _claim(client, started.run.run_id, lease_s)
        if claim is None:
            run = await client.get_run(started.run.run_id)
            ended = run.HasField("terminal")
            what = "ended before it was this runner's" if ended else "has another runner"
            say(f"Run {run.run_id} {what}. Standard input was not published.")
            terminal = run.terminal if ended else None
            return _print(run.run_id, terminal, as_lines=as_lines) or EXIT_REFUSED
        return await _drive(client, claim, as_lines=as_lines)

    talk(work)


def _print_input(started: StartRunResponse, *, as_lines: bool) -> int:
    """Prints which run an input went to; it is not this process's run, so nothing else is done."""
    from . import show

    if as_lines:
        click.echo(show.as_json(started))
    else:
        click.echo(
            f"Input {started.input_id} is with run {started.run.run_id}. Standard input was not published."
        )
    return 0


async def _claim(client: Client, run_id: str, lease_s: float | None) -> Claim | None:
    """Waits in line; returns None if the run ended before it was this runner's, or has another one."""
    from sessionplane.v1 import run_pb2

    name = f"{platform.node()} {os.getpid()}"[:128]
    asked = False
    while True:
        run = await client.get_run(run_id)
        claimable = run.state in {run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_PENDING}
        # One that has a runner may still come back: that its runner was heard is what the first claim waits for.
        if run.state == run_pb2.RUN_STATE_FINISHED or (asked and not claimable):
            return None
        if run.state == run_pb2.RUN_STATE_QUEUED:
            say(f"Run {run_id} waits: another run of the session is active.")
        claim = await client.claim_run(run_id, runner_id=name, lease_s=lease_s)
        if claim is not None:
            return claim
        asked = True


async def _drive(client: Client, claim: Claim, *, as_lines: bool) -> int:
    from sessionplane_client import RunFinished

    run = client.run(claim)
    try:
        async with run:
            say(f"Run {run.run_id} is running{'; end its output with ctrl-D' if sys.stdin.isatty() else ''}.")
            await _publish(run)
    except RunFinished as ended:
        say(ended.message)
    finally:
        code = _print(run.run_id, run.terminal, as_lines=as_lines)
    return code


async def _publish(run: Runner) -> None:
    """Writes standard input until it ends or somebody interrupts the run."""
    reading = asyncio.create_task(_copy(run))
    stopping = asyncio.create_task(run.interrupted.wait())
    try:
        await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
        elif run.interrupt is not None:
            from . import show

            say(f"Interrupted{f': {show.quoted(run.interrupt.reason)}' if run.interrupt.reason else ''}.")
    finally:
        reading.cancel()
        stopping.cancel()
        await asyncio.gather(reading, stopping, return_exceptions=True)


async def _copy(run: Runner) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    async for chunk in _stdin():
        await run.write(decoder.decode(chunk))
    await run.write(decoder.decode(b"", final=True))


async def _stdin() -> AsyncIterator[bytes]:
    loop, chunks = asyncio.get_running_loop(), asyncio.Queue[bytes](maxsize=1)
    descriptor = sys.stdin.fileno()

    def read() -> None:
        chunk = b"first"
        try:
            while chunk:
                chunk = os.read(descriptor, _CHUNK_BYTES_MAX)
                asyncio.run_coroutine_threadsafe(chunks.put(chunk), loop).result()
        except (RuntimeError, OSError, asyncio.CancelledError):
            pass  # the loop is gone, and with it whoever would have wanted this

    threading.Thread(target=read, daemon=True, name="stdin").start()
    while chunk := await chunks.get():
        yield chunk


def _print(run_id: str, terminal: RunTerminal | None, *, as_lines: bool) -> int:
    """Prints how the run ended, if that is known, and returns the exit code."""
    from sessionplane.v1 import run_pb2

    from . import show

    if terminal is None:
        return EXIT_REFUSED
    if as_lines:
        click.echo(show.as_json(terminal))
    else:
        click.echo(f"Run {run_id}: {show.terminal(terminal)}")
    codes = {run_pb2.RUN_OUTCOME_SUCCEEDED: 0, run_pb2.RUN_OUTCOME_INTERRUPTED: EXIT_INTERRUPTED}
    return codes.get(terminal.outcome, EXIT_REFUSED)
