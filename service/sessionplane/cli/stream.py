"""`sessionplane stream`: follow a session or a run and print what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .calls import say, talk
from .outages import Outage
from .usage import agent_option, asks_server, examples, json_option, one_of

if TYPE_CHECKING:
    from sessionplane_client import Client, EventStream

_UNTIL = click.Choice(["run-end", "session-end", "caught-up"])
_STARTS = ("oldest", "latest", "active-run")


@click.command(
    epilog=examples(
        "sessionplane stream settings2 --create",
        "sessionplane stream settings2 --from oldest --until caught-up --json",
        "sessionplane stream --run-id run_0198c0de-... --until run-end",
        "sessionplane stream settings2 --type tool.call --type tool.result",
    )
)
@click.argument("key", required=False)
@click.option("--session-id", help="Follow this session instead.")
@click.option("--run-id", help="Follow this run instead.")
@agent_option
@click.option("--create", is_flag=True, help="Create the session if KEY has none.")
@click.option("--until", type=_UNTIL, help="Stop when this was delivered. Without it: follow until ctrl-C.")
@click.option(
    "--from",
    "begin",
    metavar="oldest|latest|active-run|TOKEN",
    help="Where to begin. A token is what `resolve` prints, and what this command leaves at its end.",
)
@click.option(
    "--type", "types", multiple=True, help="Of custom events only this type. May be given more than once."
)
@click.option("--observer", is_flag=True, help="Only look on: do not count as somebody being there.")
@json_option
@asks_server
def stream(
    key: str | None,
    session_id: str | None,
    run_id: str | None,
    agent: str,
    until: str | None,
    begin: str | None,
    *,
    types: tuple[str, ...],
    create: bool,
    observer: bool,
    as_lines: bool,
) -> None:
    """Follow the events of KEY, each once and in order.

    A stream goes on by itself when the server restarts. Events go to stdout, everything else to stderr.
    """
    one_of(KEY=key, session_id=session_id, run_id=run_id)

    async def work(client: Client) -> None:
        from sessionplane.v1 import session_pb2
        from sessionplane.v1 import session_service_pb2 as service

        outage = Outage()
        events = client.stream(
            key=key,
            session_id=session_id,
            run_id=run_id,
            agent=agent,
            create=create and key is not None,
            until=service.StreamUntil.Value(f"STREAM_UNTIL_{_enum(until)}"),
            start=service.StreamStart.Value(f"STREAM_START_{_enum(begin if begin in _STARTS else None)}"),
            resume_token=begin if begin and begin not in _STARTS else "",
            custom_types=types,
            presence=session_pb2.PRESENCE_OBSERVER if observer else session_pb2.PRESENCE_ATTACHED,
            subscriber_name="sessionplane stream",
            on_reconnect=outage.told,
            on_progress=outage.over,
        )
        await _follow(events, outage, as_lines=as_lines)

    talk(work)


async def _follow(events: EventStream, outage: Outage, *, as_lines: bool) -> None:
    from . import show

    try:
        async with events:
            if events.session is not None:
                key = events.session.key or "a session without a key"
                say(f"Following {key}, {events.session.session_id}.")
            async for event in events:
                outage.over()
                click.echo(show.as_json(event) if as_lines else show.event(event))
    except BaseException:
        if events.session is not None:
            say(f"To go on from here: --from {events.token}")
        raise


def _enum(choice: str | None) -> str:
    return choice.replace("-", "_").upper() if choice else "UNSPECIFIED"
