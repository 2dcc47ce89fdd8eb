"""The commands that list: sessions, by flags that become the text of a filter, and the runs of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from .calls import say, talk
from .usage import agent_option, asks_server, examples, json_option, one_of

if TYPE_CHECKING:
    from sessionplane.v1.run_pb2 import Run
    from sessionplane.v1.session_pb2 import Session
    from sessionplane_client import Client

_PAGE_MAX = 1_000
_SPAN = re.compile(r"(\d{1,5})([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_RUN_HEADINGS = ("RUN", "STATE", "PLACE", "EVENTS", "INPUTS", "POOL", "STARTED", "ENDED", "HOW")


@click.command(
    epilog=examples(
        "sessionplane sessions --running --since 2h",
        "sessionplane sessions --state detached --state suspended --label team=billing",
        "sessionplane sessions --filter 'kind != cron AND create_time >= 2026-01-31T00:00:00Z'",
        "sessionplane sessions --limit 1000 --json | jq -r .key",
    )
)
@click.option("--filter", "wish", default="", help="Which ones, in the filter language of docs/protocol.md.")
@click.option("--state", "states", multiple=True, help="In this state. Repeatable: in one of these.")
@click.option("--kind", "kinds", multiple=True, help="With a key of this kind. Repeatable.")
@click.option("--agent", "agents", multiple=True, help="Of this agent. Repeatable.")
@click.option(
    "--prefix", "prefixes", multiple=True, help="With a canonical key that begins like this. Repeatable."
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="With this label. Repeatable: with all of them.",
)
@click.option(
    "--running/--idle",
    "running",
    default=None,
    help="With an unfinished run, or without one; queued ones count.",
)
@click.option(
    "--since", metavar="SPAN|TIME", help="Changed in this span (90s, 15m, 2h, 3d) or since this time."
)
@click.option("--show-internal", is_flag=True, help="Sessions of internal hand-overs too.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@click.option(
    "--watch", "follow", is_flag=True, help="Stay, and show each change: all sessions, whatever they are."
)
@json_option
@asks_server
def sessions(*, limit: int, as_lines: bool, show_internal: bool, follow: bool, **asked: Any) -> None:
    """List sessions, last changed first. What several options ask for holds at once.

    With --watch it is a table that is always current until ctrl-C, or a line for each change if stdout is no terminal.
    """
    wanted = filter_text(**asked, now=datetime.now(UTC))
    if follow and wanted:
        raise click.UsageError("--watch shows all sessions. Leave out --filter and all else that chooses.")

    async def work(client: Client) -> None:
        from . import show
        from .watching import watch

        if follow:
            await watch(client, show_internal=show_internal, rows_max=limit, as_lines=as_lines)
            return

        found: list[Session] = []
        pages = client.sessions(
            filter=wanted, show_internal=show_internal, page_size=min(limit + 1, _PAGE_MAX)
        )
        async for session in pages:
            if len(found) == limit:
                say(f"There are more than {limit}: --limit shows them.")
                break
            found.append(session)
        if as_lines:
            for session in found:
                click.echo(show.as_json(session))
        else:
            _table(found)

    talk(work)


@click.command(
    epilog=examples("sessionplane runs settings2", "sessionplane runs settings2 --state queued --json")
)
@click.argument("key", required=False)
@click.option("--session-id", help="The runs of this session instead.")
@agent_option
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["queued", "pending", "running", "interrupting", "finished"]),
    help="In this state. Repeatable: in one of these.",
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@json_option
@asks_server
def runs(
    key: str | None,
    session_id: str | None,
    agent: str,
    states: tuple[str, ...],
    limit: int,
    *,
    as_lines: bool,
) -> None:
    """List the runs of KEY, newest first."""
    one_of(KEY=key, session_id=session_id)

    async def work(client: Client) -> None:
        from sessionplane.v1 import run_pb2

        from . import show
        from .tables import print_table

        found: list[Run] = []
        pages = client.list_runs(
            key=key,
            session_id=session_id,
            agent=agent,
            states=[run_pb2.RunState.Value(f"RUN_STATE_{state.upper()}") for state in states],
            page_size=min(limit + 1, _PAGE_MAX),
        )
        async for run in pages:
            if len(found) == limit:
                say(f"There are more than {limit}: --limit shows them.")
                break
            found.append(run)
        if as_lines:
            for run in found:
                click.echo(show.as_json(run))
        elif found:
            print_table(_RUN_HEADINGS, [_run_cells(run) for run in found])
        else:
            say("There are no such runs.")

    talk(work)


def filter_text(
    *,
    now: datetime,
    wish: str = "",
    states: Sequence[str] = (),
    kinds: Sequence[str] = (),
    agents: Sequence[str] = (),
    prefixes: Sequence[str] = (),
    labels: Sequence[str] = (),
    running: bool | None = None,
    since: str | None = None,
) -> str:
    """Returns the filter that the flags ask for. `wish` comes first, so that the places in a refusal are its own."""
    from sessionplane.domain.listing import quote

    groups = [
        [wish] if wish.strip() else [],
        [f"state = {quote(state.upper())}" for state in states],
        [f"kind = {quote(kind.lower())}" for kind in kinds],
        [f"agent = {quote(agent)}" for agent in agents],
        [f"key : {quote(prefix, begins=True)}" for prefix in prefixes],
        *([_label(label)] for label in labels),
        [f"running = {str(running).lower()}"] if running is not None else [],
        [f"update_time >= {quote(_moment(since, now))}"] if since else [],
    ]
    return " AND ".join(_joined(group) for group in groups if group)


def _joined(group: Sequence[str]) -> str:
    return group[0] if len(group) == 1 else f"({' OR '.join(group)})"


def _label(label: str) -> str:
    from sessionplane.domain.listing import quote

    name, given, value = label.partition("=")
    return f"labels.{quote(name)} = {quote(value)}" if given else f"labels.{quote(name)}:*"


def _moment(since: str, now: datetime) -> str:
    """Returns the moment that a span ended at `now` began with; a time is left for the server to read.

    A usage error for what is neither, in words of the flag: the server would speak of a filter that nobody wrote.
    """
    span = _SPAN.fullmatch(since)
    if span is None:
        try:
            told = datetime.fromisoformat(since.upper())
        except ValueError:
            told = None
        if told is None or told.tzinfo is None:
            problem = f"--since: {since!r}: write a span, such as 90s or 2h, or a time, such as 2026-01-31T12:00:00Z."
            raise click.UsageError(problem)
        return since
    began = now - timedelta(seconds=int(span[1]) * _UNIT_S[span[2]])
    return began.isoformat(timespec="milliseconds")


def _table(found: Iterable[Session]) -> None:
    from .tables import SESSION_HEADINGS, print_table, session_cells

    rows = [session_cells(session) for session in found]
    if rows:
        print_table(SESSION_HEADINGS, rows)
    else:
        say("There are no such sessions.")


def _run_cells(run: Run) -> tuple[str, ...]:
    from sessionplane.v1 import run_pb2

    from . import show

    injected = len(run.waiting_input_ids) + len(run.taken_input_ids)
    return (
        run.run_id,
        show.word(run_pb2.RunState, run.state),
        str(run.queue_position) if run.queue_position else "",
        str(run.last_run_sequence),
        f"{len(run.taken_input_ids)} of {injected}" if injected else "",
        run.pool,
        show.clock(run.create_time),
        show.clock(run.end_time),
        show.terminal(run.terminal) if run.HasField("terminal") else "",
    )
