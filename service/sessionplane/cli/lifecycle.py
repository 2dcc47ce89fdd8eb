"""The commands by which a session is put to rest: suspend and close."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .calls import talk
from .usage import agent_option, asks_server, examples, json_option, one_of, session_option

if TYPE_CHECKING:
    from sessionplane.v1.session_pb2 import Session
    from sessionplane_client import Client


@click.command(
    epilog=examples("sessionplane suspend settings2", "sessionplane suspend settings2 --grace 600")
)
@click.argument("key", required=False)
@session_option
@agent_option
@click.option("--grace", "grace_s", type=click.FloatRange(0, 3600), help="Seconds that it may last.")
@json_option
@asks_server
def suspend(
    key: str | None, session_id: str | None, agent: str, grace_s: float | None, *, as_lines: bool
) -> None:
    """Say that nobody will follow KEY for a while. Its client goes to the background.

    Whoever attaches ends the suspension. Runs go on meanwhile. A session that is suspended stays as it is.
    """
    one_of(KEY=key, session_id=session_id)

    async def work(client: Client) -> None:
        from . import show

        answer = await client.suspend_session(
            key=key, session_id=session_id, agent=agent, grace_period_s=grace_s
        )
        if as_lines:
            click.echo(show.as_json(answer))
        else:
            _print(answer.session)

    talk(work)


@click.command(
    epilog=examples(
        "sessionplane close settings2",
        'sessionplane close settings2 --reason "The user left." --timeout 10 --wait',
    )
)
@click.argument("key", required=False)
@session_option
@agent_option
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0, 3600), help="Seconds that a run under way may take."
)
@click.option("--reason", default="", help="Why: shown to the runner and kept in the log.")
@click.option("--wait", is_flag=True, help="Wait until the run under way has ended and print how.")
@json_option
@asks_server
def close(
    key: str | None,
    session_id: str | None,
    agent: str,
    timeout_s: float | None,
    reason: str,
    *,
    wait: bool,
    as_lines: bool,
) -> None:
    """End the session of KEY. The key stays; the next run brings the session back.

    Runs that wait end at once; one that is under way may finish until the timeout is over.
    """
    one_of(KEY=key, session_id=session_id)

    async def work(client: Client) -> None:
        from . import show

        answer = await client.close_session(
            key=key, session_id=session_id, agent=agent, close_timeout_s=timeout_s, reason=reason
        )
        waits = wait and answer.HasField("active_run")
        run = await client.wait_run(answer.active_run.run_id) if waits else None
        if as_lines:
            click.echo(show.as_json(run or answer))
        elif run is None:
            _print(answer.session)
        else:
            click.echo(f"Run {run.run_id}: {show.terminal(run.terminal)}")

    talk(work)


def _print(session: Session) -> None:
    from sessionplane.v1 import session_pb2

    from . import show

    show.facts(
        key=session.key,
        session=session.session_id,
        state=show.word(session_pb2.SessionState, session.state),
        active_run=session.active_run_id,
        attached=session.attached_count,
    )
