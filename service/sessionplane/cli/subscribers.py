"""The commands about who reads: which streams are open, and the end of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .calls import say, talk
from .usage import agent_option, asks_server, examples, json_option

if TYPE_CHECKING:
    from sessionplane.v1.admin_service_pb2 import Subscriber
    from sessionplane_client import Client

_HEADINGS = ("NAME", "FOLLOWS", "PRESENCE", "THROUGH", "LAG", "SINCE", "FROM", "SUBSCRIBER")


@click.command(
    epilog=examples("sessionplane subscribers", "sessionplane subscribers settings2 --json | jq -r .lag")
)
@click.argument("key", required=False)
@click.option("--session-id", help="Those of this session instead.")
@agent_option
@json_option
@asks_server
def subscribers(key: str | None, session_id: str | None, agent: str, *, as_lines: bool) -> None:
    """List the open streams, oldest first: of KEY, or all.

    LAG is how many events are committed and not accounted for to the subscriber yet.
    """
    if key is not None and session_id is not None:
        raise click.UsageError("Give KEY or --session-id, or neither.")

    async def work(client: Client) -> None:
        from . import show
        from .tables import print_table

        found = [each async for each in client.subscribers(key=key, session_id=session_id, agent=agent)]
        if as_lines:
            for each in found:
                click.echo(show.as_json(each))
        elif found:
            print_table(_HEADINGS, [_cells(each) for each in found])
        else:
            say("There are no open streams.")

    talk(work)


def _cells(subscriber: Subscriber) -> tuple[str, ...]:
    from sessionplane.v1 import session_pb2

    from . import show

    follows = subscriber.session_key or subscriber.session_id or ("" if subscriber.run_id else "sessions")
    run = f"run {subscriber.run_id}" if subscriber.run_id else ""
    return (
        show.quoted(subscriber.subscriber_name) if subscriber.subscriber_name else "-",
        " ".join(part for part in (follows, run) if part),
        show.word(session_pb2.Presence, subscriber.presence),
        str(subscriber.through_sequence),
        str(subscriber.lag),
        show.clock(subscriber.connect_time),
        subscriber.peer,
        subscriber.subscriber_id,
    )


@click.command(epilog=examples("sessionplane disconnect sub_0198c0de..."))
@click.argument("subscriber_id")
@asks_server
def disconnect(subscriber_id: str) -> None:
    """End one open stream; `subscribers` has their ids.

    Nothing else changes, and the subscriber may come back.
    """

    async def work(client: Client) -> None:
        await client.disconnect(subscriber_id)

    talk(work)
