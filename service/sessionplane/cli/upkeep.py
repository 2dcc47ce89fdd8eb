"""The commands of whoever looks after a database: is it whole, and a copy of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from .calls import EXIT_REFUSED, say, talk
from .usage import age, agent_option, asks_server, examples, json_option, one_of, progress_bar

if TYPE_CHECKING:
    from sessionplane.store.failures import StoreUnusable
    from sessionplane.v1.admin_service_pb2 import InvariantResult
    from sessionplane_client import Client

_SHOWN_MAX = 20  # problems that are printed one by one

_db_option = click.option(
    "--db",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="SESSIONPLANE_DB",
    default="sessionplane.db",
    show_default=True,
    show_envvar=True,
    metavar="FILE",
    help="The database file. A server may be running on it.",
)


@click.command(epilog=examples("sessionplane check", "sessionplane check --only log_has_no_gap --json"))
@click.option("--only", multiple=True, metavar="NAME", help="Check this invariant only. Repeatable.")
@json_option
@asks_server
def check(only: tuple[str, ...], as_lines: bool) -> None:  # noqa: FBT001
    """Have a running server check what must always hold.

    Each invariant is one question to the database, and belongs to one promise. All of them walk whole tables; callers
    of the server do not wait for them. Exits with 1 if one does not hold.
    """

    async def work(client: Client) -> int:
        from sessionplane.store.invariants import INVARIANTS

        from . import show

        results: list[InvariantResult] = []
        with progress_bar(list(only or INVARIANTS), label="Checking") as names:
            for name in names:
                results += await client.check_invariants([name])
        for result in results:
            click.echo(show.as_json(result) if as_lines else _judgement(result))
        return EXIT_REFUSED if any(result.violation_count for result in results) else 0

    talk(work)


def _judgement(result: InvariantResult) -> str:
    """One line for an invariant that holds; for another one also where it does not."""
    if not result.violation_count:
        return f"holds   {result.name}"
    examples = "".join(f"\n          {example}" for example in result.examples)
    return (
        f"BROKEN  {result.name}: {result.violation_count} times. {result.description}"
        f" It belongs to the promise: {result.promise}.{examples}"
    )


@click.command(
    epilog=examples("sessionplane compact settings2", "sessionplane compact settings2 --older-than 1d")
)
@click.argument("key", required=False)
@click.option("--session-id", help="Compact this session instead.")
@agent_option
@click.option(
    "--older-than",
    "older_than_s",
    callback=age,
    metavar="AGE",
    help="How long ago runs must have ended, such as 1d, 12h, 30m, 45s; 0s: all that have ended."
    " Without it: as long as the server keeps them by itself.",
)
@json_option
@asks_server
def compact(
    key: str | None,
    session_id: str | None,
    agent: str,
    older_than_s: float | None,
    as_lines: bool,  # noqa: FBT001
) -> None:
    """Remove the oldest events of KEY now, before retention does.

    What runs ended with stays with them; a run under way keeps all of its events. Nobody waits for it.
    """
    one_of(KEY=key, session_id=session_id)

    async def work(client: Client) -> None:
        from . import show

        done = await client.compact_events(
            key=key, session_id=session_id, agent=agent, older_than_s=older_than_s
        )
        if as_lines:
            click.echo(show.as_json(done))
        elif done.removed_event_count:
            click.echo(
                f"{done.removed_event_count} events of {done.removed_bytes} bytes removed;"
                f" the log begins behind {done.floor_sequence} now."
            )
        else:
            click.echo(f"Nothing could go; the log begins behind {done.floor_sequence}.")

    talk(work)


@click.command(epilog=examples("sessionplane verify --db /var/lib/sessionplane/main.db"))
@_db_option
def verify(db: Path) -> None:
    """Read a whole database and hold it against its hashes.

    Pages and indexes are held against each other, rows against what must always hold, and every session, input and
    terminal against its log. Every event carries a hash over all events before it, so one changed bit is found, also
    one that SQLite's own check does not see. Exits with 1 if something does not fit.
    """
    from sessionplane.store.failures import StoreUnusable
    from sessionplane.store.verifying import Verifier

    sessions = events = 0
    problems: list[str] = []
    try:
        with Verifier(db) as verifier:
            whole = list(verifier.problems())
            total = verifier.session_count()
            with progress_bar(verifier.sessions(), label="Reading", length=total) as found:
                for each in found:
                    sessions, events = sessions + 1, events + each.events
                    if each.problem:
                        problems.append(f"{each.session_id}: {each.problem}")
    except StoreUnusable as unusable:
        _unusable(unusable)
    for problem in (whole + problems)[:_SHOWN_MAX]:
        click.echo(problem)
    if whole or problems:
        say(f"{len(problems)} of {sessions} sessions are damaged. Restore a backup from before the damage.")
        raise SystemExit(EXIT_REFUSED)
    click.echo(f"{sessions} sessions with {events} events: every hash fits, every row is what its log says.")


@click.command(epilog=examples("sessionplane backup /var/backups/sessionplane-monday.db"))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@_db_option
def backup(target: Path, db: Path) -> None:
    """Copy a database to TARGET, also while a server uses it.

    The copy is one moment of it, and whole: everything that was acknowledged before the command began is there. It
    has an identity of its own, so a resume token of the original is refused by a server on the copy.
    """
    from sessionplane.store import backup as store_backup
    from sessionplane.store.failures import StoreUnusable

    with progress_bar(range(1), label="Copying") as bar:

        def progress(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        try:
            store_id = store_backup.backup(db, target, progress=progress)
        except StoreUnusable as unusable:
            _unusable(unusable)
    click.echo(f"{target} is a copy of {db}, with the identity {store_id}.")


def _unusable(unusable: StoreUnusable) -> NoReturn:
    say(f"{unusable}")
    raise SystemExit(EXIT_REFUSED)
