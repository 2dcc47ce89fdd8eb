"""`sessionplane serve`: flags to settings, settings to a running server."""

from __future__ import annotations

from pathlib import Path

import click

from .local import db_option, load_settings
from .usage import examples


@click.command(
    epilog=examples(
        "sessionplane serve",
        "sessionplane serve --listen 127.0.0.1:6000 --db /var/lib/sessionplane/main.db --log-format json",
    )
)
@click.option("--listen", metavar="HOST:PORT", help="Where to listen.  [default: 127.0.0.1:50051]")
@db_option("The database file, created if it is missing.  [default: sessionplane.db]")
@click.option(
    "--insecure-bind",
    is_flag=True,
    default=None,
    help="Allow a bind that is not loopback without transport security.",
)
@click.option(
    "--accept-key-changes",
    is_flag=True,
    help="Move the keys that other key settings give another form; `sessionplane keys check` lists them.",
)
@click.option(
    "--log-format", type=click.Choice(["console", "json"]), help="Log lines for people or for programs."
)
def serve(
    listen: str | None,
    db: Path | None,
    insecure_bind: bool | None,  # noqa: FBT001
    log_format: str | None,
    *,
    accept_key_changes: bool,
) -> None:
    """Run a server until SIGTERM or ctrl-C.

    Each flag overrides its environment variable (SESSIONPLANE_LISTEN, SESSIONPLANE_DB, ...), which overrides
    the default. A bind that other machines can reach is refused without --insecure-bind.

    Exit codes of its own: 75, another server has the database, or the disk is full; 78, the database or the
    address cannot be used, or other key settings would change its keys; 70, the server broke while it ran.
    """
    settings = load_settings(listen=listen, db=db, insecure_bind=insecure_bind, log_format=log_format)
    from sessionplane import app

    raise SystemExit(app.main(settings, accept_key_changes=accept_key_changes))
