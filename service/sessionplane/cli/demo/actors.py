"""The processes of the demo: callers that race, a runner that streams a text, a subscriber that writes it down.

Each is started as `python -m sessionplane.cli.demo.actors ROLE TARGET JSON`, talks to the server through the Python
client like anybody else, and prints one JSON object a line. They are real processes so that kill -9 is real.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from sessionplane.v1.event_pb2 import EventKind
from sessionplane.v1.run_pb2 import RunCause, RunOutcome
from sessionplane.v1.session_pb2 import Resolution
from sessionplane.v1.session_service_pb2 import StreamUntil
from sessionplane_client import Client, LeaseLost, RunFinished


def say(**line: Any) -> None:
    """Print one line for the storyteller."""
    print(json.dumps(line), flush=True)


async def race(client: Client, *, key: str, calls: int) -> None:
    """Wait for the starting gun on standard input, then resolve one key many times at once."""
    await client.server_info()  # the connection stands before the race begins
    say(ready=True)
    await asyncio.to_thread(sys.stdin.readline)
    answers = await asyncio.gather(*(client.resolve(key=key) for _ in range(calls)))
    ids = Counter(answer.session.session_id for answer in answers)
    how = Counter(Resolution.Name(answer.resolution) for answer in answers)
    say(ids=ids, how=how)


async def runner(client: Client, *, run_id: str, pieces: list[str], pause_s: float, lease_s: float) -> None:
    """Claim a run and stream the pieces as deltas, until they end or somebody asks to stop."""
    claim = await client.claim_run(run_id, runner_id="demo", lease_s=lease_s)
    if claim is None:
        say(error="the run cannot be claimed")
        return
    try:
        async with client.run(claim) as run:
            say(claimed=claim.lease.epoch)
            for piece in pieces:
                if run.interrupted.is_set():
                    break
                await run.write(piece)
                await asyncio.sleep(pause_s)
    except (LeaseLost, RunFinished) as stop:
        say(told=stop.reason)
        return
    terminal = run.terminal
    say(outcome=RunOutcome.Name(terminal.outcome) if terminal else "none")


async def subscriber(client: Client, *, run_id: str = "", key: str = "", token: str = "") -> None:
    """Follow a run to its end or a session for ever, or go on from a token, and print every event.

    The line that completes a frame carries its token, which covers all lines up to it.
    """
    stream = client.stream(
        run_id=run_id or None,
        key=key or None,
        resume_token=token,
        until=StreamUntil.STREAM_UNTIL_RUN_END if run_id else StreamUntil.STREAM_UNTIL_UNSPECIFIED,
        on_reconnect=lambda error, _delay_s: say(reconnect=error.reason or error.code.name),
    )
    async with stream as events:
        say(opened=run_id or key)
        covered = token
        async for event in events:
            line: dict[str, Any] = {"sequence": event.sequence, "kind": EventKind.Name(event.kind)}
            if events.token != covered:
                line["token"] = covered = events.token
            if event.HasField("output_delta"):
                line["text"] = event.output_delta.text
            if event.HasField("run_terminal"):
                terminal = event.run_terminal
                line["run"] = event.run_id
                line["outcome"] = RunOutcome.Name(terminal.outcome).removeprefix("RUN_OUTCOME_")
                line["cause"] = RunCause.Name(terminal.cause).removeprefix("RUN_CAUSE_")
                line["output"] = terminal.output_text
            say(**line)


ROLES: dict[str, Callable[..., Awaitable[None]]] = {"race": race, "runner": runner, "subscriber": subscriber}


async def _main(role: str, target: str, arguments: dict[str, Any]) -> None:
    async with Client(target) as client:
        await ROLES[role](client, **arguments)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
