"""`sessionplane label`: what people gave a session, shown and changed without undoing what somebody else changes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from .calls import talk
from .usage import agent_option, asks_server, examples, json_option, label_of, one_of, session_option

if TYPE_CHECKING:
    from sessionplane.v1.session_pb2 import Session
    from sessionplane_client import Client

_ATTEMPTS_MAX = 10
_REMOVAL = re.compile(r"-[^-].*")
_TAKE_A_VALUE = frozenset({"--name", "--session-id", "--agent", "--target"})


class _LabelCommand(click.Command):
    """A command whose `-name` is no option but the removal of a label."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Moves removals behind `--`, where click takes them as they are."""
        behind = args.index("--") if "--" in args else len(args)
        options: list[str] = []
        removals: list[str] = []
        for place, each in enumerate(args[:behind]):
            is_value = place > 0 and args[place - 1] in _TAKE_A_VALUE
            removes = _REMOVAL.fullmatch(each) and each != "-h" and not is_value
            (removals if removes else options).append(each)
        return super().parse_args(ctx, [*options, "--", *removals, *args[behind + 1 :]])


@click.command(
    cls=_LabelCommand,
    options_metavar="[OPTIONS]",
    epilog=examples(
        "sessionplane label settings2 team=billing -trial",
        'sessionplane label settings2 --name "The settings page"',
        "sessionplane label settings2",
    ),
)
@click.argument("key", required=False)
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE | -NAME]...")
@session_option
@agent_option
@click.option("--name", help="A name for people; an empty one removes it.")
@json_option
@asks_server
def label(
    key: str | None,
    changes: Sequence[str],
    session_id: str | None,
    agent: str,
    name: str | None,
    *,
    as_lines: bool,
) -> None:
    """Set, remove and print the labels of KEY's session.

    NAME=VALUE sets one, -NAME removes one. What there is then is printed.
    """
    if session_id is not None and key is not None:
        changes, key = (key, *changes), None
    one_of(KEY=key, session_id=session_id)
    removed = [each[1:] for each in changes if each.startswith("-")]
    added = dict(label_of(each) for each in changes if not each.startswith("-"))

    async def work(client: Client) -> None:
        from . import show

        named: dict[str, Any] = {"key": key, "session_id": session_id, "agent": agent}
        session = (await client.get_session(**named)).session
        if added or removed or name is not None:
            session = await _change(client, session, added, removed, name)
        if as_lines:
            click.echo(show.as_json(session))
            return
        show.session(session)
        for each, value in sorted(session.labels.items()):
            click.echo(f"{show.quoted(each)[1:-1]}={show.quoted(value)}")

    talk(work)


async def _change(
    client: Client, session: Session, added: dict[str, str], removed: Sequence[str], name: str | None
) -> Session:
    """Change the labels that the session has by now; if somebody else was quicker, look again."""
    from sessionplane_client import EtagMismatch

    for attempt in range(_ATTEMPTS_MAX):
        labels = {each: value for each, value in session.labels.items() if each not in removed} | added
        try:
            return await client.update_session(
                session_id=session.session_id, labels=labels, display_name=name, etag=session.etag
            )
        except EtagMismatch:
            if attempt == _ATTEMPTS_MAX - 1:
                raise
            session = (await client.get_session(session_id=session.session_id)).session
    return session
