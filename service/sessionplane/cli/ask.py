"""The commands that ask one thing and print the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .calls import talk
from .usage import agent_option, asks_server, examples, json_option, one_of

if TYPE_CHECKING:
    from sessionplane.v1.run_pb2 import Run
    from sessionplane_client import Client


@click.command(
    epilog=examples(
        'sessionplane interrupt settings2 --reason "wrong question" --wait',
        "sessionplane interrupt --run-id run_0198c0de-... --force",
        'sessionplane interrupt settings2 --drop-queued --then "Start over, in French."',
    )
)
@click.argument("key", required=False)
@click.option("--session-id", help="Stop the active run of this session instead.")
@click.option("--run-id", help="Stop this run instead, in whatever state it is.")
@agent_option
@click.option("--force", is_flag=True, help="End it now, without waiting for the runner.")
@click.option("--grace", "grace_s", type=click.FloatRange(0, 300), help="Seconds that the runner may take.")
@click.option("--drop-queued", is_flag=True, help="End what waits behind it as well.")
@click.option(
    "--then", metavar="TEXT", help="Start a run with this input instead, before everything that waits."
)
@click.option("--pool", default="", help="The pool of that run.")
@click.option("--reason", default="", help="Why: shown to the runner and kept in the log.")
@click.option("--wait", is_flag=True, help="Wait until the run has ended and print how.")
@json_option
@asks_server
def interrupt(
    key: str | None,
    session_id: str | None,
    run_id: str | None,
    agent: str,
    *,
    grace_s: float | None,
    then: str | None,
    pool: str,
    reason: str,
    force: bool,
    drop_queued: bool,
    wait: bool,
    as_lines: bool,
) -> None:
    """Ask that the active run of KEY stop.

    Something else may be started instead. Nothing to stop is no error.
    """
    one_of(KEY=key, session_id=session_id, run_id=run_id)
    if pool and then is None:
        raise click.UsageError("--pool is for the run of --then.")

    async def work(client: Client) -> None:
        from sessionplane.v1 import run_pb2

        from . import show

        answer = await client.interrupt(
            key=key,
            session_id=session_id,
            run_id=run_id,
            agent=agent,
            grace_period_s=grace_s,
            drop_queued=drop_queued,
            follow_up=None if then is None else run_pb2.RunSpec(input=run_pb2.Payload(text=then), pool=pool),
            reason=reason,
            mode=run_pb2.INTERRUPT_MODE_FORCE if force else run_pb2.INTERRUPT_MODE_GRACEFUL,
        )
        stopped = answer.interrupt
        run = await client.wait_run(stopped.run_id) if wait and stopped.run_id else None
        if as_lines:
            click.echo(show.as_json(run or answer))
            return
        show.facts(
            interrupt=stopped.interrupt_id,
            run=stopped.run_id or "none: there was nothing to stop",
            stage=show.word(run_pb2.InterruptStage, stopped.stage),
            ended=show.terminal(run.terminal) if run else "",
            dropped=answer.dropped_run_count or "",
            then=f"{answer.follow_up_run.run_id}, {_standing(answer.follow_up_run)}"
            if then is not None
            else "",
        )

    talk(work)


def _standing(run: Run) -> str:
    from sessionplane.v1 import run_pb2

    from . import show

    place = f", place {run.queue_position} in line" if run.queue_position else ""
    return f"{show.word(run_pb2.RunState, run.state)}{place}"


@click.command("explain-key", epilog=examples("sessionplane explain-key 'Agent:MAIN:Settings2'"))
@click.argument("key")
@agent_option
@json_option
@asks_server
def explain_key(key: str, agent: str, as_lines: bool) -> None:  # noqa: FBT001
    """Show the canonical form of KEY and each rule that led to it."""

    async def work(client: Client) -> None:
        from . import show

        answer = await client.explain_key(key, agent=agent)
        if as_lines:
            click.echo(show.as_json(answer))
            return
        show.facts(key=answer.canonical_key, agent=answer.agent, kind=answer.kind)
        for rule in answer.rules:
            click.echo(f"\n{rule.name}: {rule.description}")
            click.echo(f"  {show.quoted(rule.before)} -> {show.quoted(rule.after)}")

    talk(work)


@click.command()
@click.option("--server", is_flag=True, help="Ask the server too.")
@asks_server
def version(*, server: bool) -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    click.echo(f"sessionplane {installed('sessionplane')}")
    if not server:
        return

    async def work(client: Client) -> None:
        from . import show

        info = await client.server_info()
        show.facts(
            server=info.version,
            store=info.store_id,
            schema=info.schema_version,
            sqlite=info.sqlite_verdict.removeprefix("SQLite "),
            ready_since=show.clock(info.ready_time),
            streams=info.open_stream_count,
        )

    talk(work)
