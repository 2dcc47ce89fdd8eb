"""`sessionplane keys`: what other key settings would do to the keys of a database."""

from __future__ import annotations

from pathlib import Path

import click

from .calls import EXIT_REFUSED, say
from .local import db_option, load_settings
from .usage import examples


@click.group()
def keys() -> None:
    """Look after the keys of a database."""


@keys.command(
    epilog=examples(
        "SESSIONPLANE_DEFAULT_AGENT=ops sessionplane keys check --db /var/lib/sessionplane/main.db"
    )
)
@db_option("The database file.  [default: sessionplane.db]")
def check(db: Path | None) -> None:
    """Show what the key settings of the environment would change in a database.

    The settings are read as `sessionplane serve` reads them: SESSIONPLANE_DEFAULT_AGENT, _MAIN_KEY, _AGENTS and
    _OPAQUE_PEERS. Nothing is changed, and a server may be running on the file.

    Exits with 0 if a server would start with these settings, with 1 if it would refuse to.
    """
    settings = load_settings(db=db)
    from sessionplane import app
    from sessionplane.store.failures import StoreUnusable

    try:
        changes = app.look_at_keys(settings)
    except StoreUnusable as error:
        say(str(error))
        raise SystemExit(EXIT_REFUSED) from None
    if not changes.touched:
        click.echo(f"None of {changes.key_count:,} keys would change.")
        return
    for line in changes.report():
        click.echo(line)
    say("`sessionplane serve --accept-key-changes` does all of this in one transaction.")
    raise SystemExit(EXIT_REFUSED)
