"""`sessionplane sessions --watch`: a table that is always current, or a line for each change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

import click

from .outages import Outage

if TYPE_CHECKING:
    from sessionplane.v1.session_pb2 import Session
    from sessionplane.v1.session_service_pb2 import SessionRemoved
    from sessionplane_client import Client

    Item: TypeAlias = Session | SessionRemoved

_ROOM = 2  # lines of the screen that are not rows: the headings, and the one that the cursor stands in


async def watch(client: Client, *, show_internal: bool, rows_max: int, as_lines: bool) -> None:
    """Follows all sessions until it is stopped."""
    from rich.console import Console

    outage = Outage()
    watching = client.watch_sessions(
        show_internal=show_internal, subscriber_name="sessionplane sessions", on_reconnect=outage.told
    )
    console = Console()
    screen = console.is_terminal and not as_lines
    with _screen(console, rows_max) if screen else _lines(as_lines=as_lines) as show_item:
        async with watching as items:
            async for item in items:
                outage.over()
                show_item(item)


@contextmanager
def _lines(*, as_lines: bool) -> Iterator[Callable[[Item], None]]:
    from . import show

    yield lambda item: click.echo(show.as_json(item) if as_lines else line(item))


def line(item: Item) -> str:
    """One line for a change: a session as it is now, or that it is gone."""
    from sessionplane.v1.session_pb2 import Session

    from .tables import session_cells

    if isinstance(item, Session):
        key, state, run, queued, _, events, changed, session_id = session_cells(item)
        facts = f"{state}, run {run}, {queued} queued, {events} events"
        return f"{changed or '-':8}  {session_id}  {key}  {facts}"
    return f"{datetime.now().astimezone():%H:%M:%S}  {item.session_id}  {item.key or '-'}  gone"


@contextmanager
def _screen(console: object, rows_max: int) -> Iterator[Callable[[Item], None]]:
    """A table on the screen, drawn again a few times a second: what changes in between costs nothing."""
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from sessionplane.v1.session_pb2 import Session

    from .tables import SESSION_HEADINGS, session_cells, table

    assert isinstance(console, Console)  # noqa: S101
    sessions: dict[str, Session] = {}

    def newest() -> Table:
        shown = sorted(sessions.values(), key=lambda each: each.update_time.ToNanoseconds(), reverse=True)
        room = max(1, min(rows_max, console.height - _ROOM))
        return table(SESSION_HEADINGS, [session_cells(each) for each in shown[:room]])

    def keep(item: Item) -> None:
        if isinstance(item, Session):
            sessions[item.session_id] = item
        else:
            sessions.pop(item.session_id, None)

    with Live(console=console, get_renderable=newest, refresh_per_second=4, transient=False):
        yield keep
