"""`sessionplane serve`: flags to settings, settings to a running server."""

from __future__ import annotations

from pathlib import Path

import click

from .calls import EXIT_USAGE, say
from .usage import examples


@click.command(
    epilog=examples(
        "sessionplane serve",
        "sessionplane serve --listen 127.0.0.1:6000 --db /var/lib/sessionplane/main.db --log-format json",
    )
)
@click.option("--listen", metavar="HOST:PORT", help="Where to listen.  [default: 127.0.0.1:50051]")
@click.option(
    "--db",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The database file, created if it is missing.  [default: sessionplane.db]",
)
@click.option(
    "--insecure-bind",
    is_flag=True,
    default=None,
    help="Allow a bind that is not loopback without transport security.",
)
@click.option(
    "--log-format", type=click.Choice(["console", "json"]), help="Log lines for people or for programs."
)
def serve(listen: str | None, db: Path | None, insecure_bind: bool | None, log_format: str | None) -> None:  # noqa: FBT001
    """Run a server until SIGTERM or ctrl-C.

    Each flag overrides its environment variable (SESSIONPLANE_LISTEN, SESSIONPLANE_DB, ...), which overrides
    the default. A bind that other machines can reach is refused without --insecure-bind.

    Exit codes of its own: 75, another server has the database; 78, the database or the address cannot be
    used; 70, the server broke while it ran.
    """
    try:
        from sessionplane import app
        from sessionplane.settings import Settings, SettingsInvalid
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("sessionplane"):
            raise
        say(f"{missing.name} is missing: pip install 'sessionplane[server]'.")
        raise SystemExit(EXIT_USAGE) from None
    try:
        settings = Settings.load(listen=listen, db=db, insecure_bind=insecure_bind, log_format=log_format)
    except SettingsInvalid as invalid:
        for problem in invalid.problems:
            say(problem)
        raise SystemExit(EXIT_USAGE) from None
    raise SystemExit(app.main(settings))
