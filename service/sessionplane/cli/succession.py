"""The commands that decide who holds a key: resolve, reset and delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .calls import say, talk
from .usage import agent_option, asks_server, examples, json_option, label_of, one_of, session_option

if TYPE_CHECKING:
    from sessionplane_client import Client


@click.command(
    epilog=examples(
        "sessionplane resolve settings2",
        "sessionplane resolve agent:support:telegram:direct:42 --json",
        "sessionplane resolve settings2 --conflict replace --run 'Begin anew.'",
    )
)
@click.argument("key")
@agent_option
@click.option(
    "--missing", type=click.Choice(["create", "fail"]), help="If nobody holds KEY.  [default: create]"
)
@click.option(
    "--conflict",
    type=click.Choice(["use-existing", "fail", "replace"]),
    help="If its session has not ended.  [default: use-existing]",
)
@click.option(
    "--ended",
    type=click.Choice(["resume", "create-new", "fail"]),
    help="If its session has ended.  [default: resume]",
)
@click.option("--expect", "expected", default="", metavar="ID", help="Replace only this session.")
@click.option("--hidden", is_flag=True, help="Create a session that no list shows before a user comes.")
@click.option("--system", is_flag=True, help="It is not a user who asks: keep nothing alive.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="For a new one. Repeatable.")
@click.option("--name", default="", help="A name for people, for a new one.")
@click.option("--run", "text", metavar="TEXT", help="Start a run with this input in the same commit.")
@click.option("--pool", default="", help="The pool of that run.")
@json_option
@asks_server
def resolve(
    key: str,
    agent: str,
    *,
    missing: str | None,
    conflict: str | None,
    ended: str | None,
    expected: str,
    labels: Sequence[str],
    name: str,
    text: str | None,
    pool: str,
    hidden: bool,
    system: bool,
    as_lines: bool,
) -> None:
    """Print the one session of KEY, a new one if there is none."""
    if expected and conflict != "replace":
        raise click.UsageError("--expect is for --conflict replace.")
    if pool and text is None:
        raise click.UsageError("--pool is for the run of --run.")
    given = dict(label_of(each) for each in labels)

    async def work(client: Client) -> None:
        from sessionplane.v1 import run_pb2, session_pb2

        from . import show

        answer = await client.resolve(
            key=key,
            agent=agent,
            missing=session_pb2.MissingPolicy.Value(f"MISSING_POLICY_{_enum(missing)}"),
            conflict=session_pb2.ConflictPolicy.Value(f"CONFLICT_POLICY_{_enum(conflict)}"),
            ended=session_pb2.EndedPolicy.Value(f"ENDED_POLICY_{_enum(ended)}"),
            expected_session_id=expected,
            visibility=session_pb2.VISIBILITY_INTERNAL if hidden else session_pb2.VISIBILITY_VISIBLE,
            interaction=session_pb2.INTERACTION_SYSTEM if system else session_pb2.INTERACTION_USER,
            labels=given,
            display_name=name,
            run=None if text is None else run_pb2.RunSpec(input=run_pb2.Payload(text=text), pool=pool),
        )
        if as_lines:
            click.echo(show.as_json(answer))
            return
        show.session(
            answer.session,
            resolution=show.word(session_pb2.Resolution, answer.resolution),
            previous=answer.previous_session_id,
            route=show.word(session_pb2.Route, answer.route),
            run=f"{answer.run.run_id}, {show.word(run_pb2.RunDisposition, answer.run_disposition)}"
            if text is not None
            else "",
            active_run=answer.session.active_run_id,
            events=answer.session.head_sequence,
            token=answer.resume_token,
        )

    talk(work)


@click.command(
    epilog=examples("sessionplane reset settings2", "sessionplane reset --session-id ses_0198c0de...")
)
@click.argument("key", required=False)
@session_option
@agent_option
@click.option("--expect", "expected", default="", metavar="ID", help="Only if this session holds the key.")
@json_option
@asks_server
def reset(key: str | None, session_id: str | None, agent: str, expected: str, *, as_lines: bool) -> None:
    """Give KEY a new session. The old one's runs end; it can be read, and never runs again."""
    one_of(KEY=key, session_id=session_id)

    async def work(client: Client) -> None:
        from . import show

        answer = await client.reset_session(
            key=key, session_id=session_id, agent=agent, expected_session_id=expected
        )
        if as_lines:
            click.echo(show.as_json(answer))
        else:
            show.session(answer.session, previous=answer.previous_session_id, token=answer.resume_token)

    talk(work)


@click.command(
    epilog=examples("sessionplane delete settings2", "sessionplane delete --session-id ses_0198c0de...")
)
@click.argument("key", required=False)
@session_option
@agent_option
@json_option
@asks_server
def delete(key: str | None, session_id: str | None, agent: str, *, as_lines: bool) -> None:
    """Delete the session of KEY, which is free then. Nothing to delete is no error."""
    one_of(KEY=key, session_id=session_id)

    async def work(client: Client) -> None:
        from . import show

        answer = await client.delete_session(key=key, session_id=session_id, agent=agent)
        if as_lines:
            click.echo(show.as_json(answer))
        elif answer.deleted:
            show.facts(deleted=answer.session_id)
        elif answer.session_id:
            say(f"{answer.session_id} was deleted before, at {show.clock(answer.delete_time)}.")
        else:
            say("There was nothing to delete.")

    talk(work)


def _enum(choice: str | None) -> str:
    return choice.replace("-", "_").upper() if choice else "UNSPECIFIED"
