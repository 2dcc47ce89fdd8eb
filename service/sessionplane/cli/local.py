"""What the commands share that work on a database here, without asking a server: its file, its settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .calls import EXIT_USAGE, say

if TYPE_CHECKING:
    from sessionplane.settings import Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])


def db_option(meaning: str) -> Callable[[_Command], _Command]:
    """Gives a command `--db`."""
    return click.option("--db", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help=meaning)


def load_settings(**given: Any) -> Settings:
    """Reads the settings as a server would, or says what is wrong with them, or missing here, and exits."""
    try:
        from sessionplane.settings import Settings, SettingsInvalid
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("sessionplane"):
            raise
        say(f"{missing.name} is missing: pip install 'sessionplane[server]'.")
        raise SystemExit(EXIT_USAGE) from None
    try:
        return Settings.load(**given)
    except SettingsInvalid as invalid:
        for problem in invalid.problems:
            say(problem)
        raise SystemExit(EXIT_USAGE) from None
