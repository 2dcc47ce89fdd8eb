"""What the commands share in their usage: options, checks and the form of --help."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_lines", is_flag=True, help="JSON, one object on each line.")
session_option = click.option("--session-id", help="Name the session by its id instead.")
agent_option = click.option("--agent", default="", help="The agent that a bare key belongs to.")


_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60}


def age(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """How long ago, in seconds; a usage error says how to write it."""
    if value is None:
        return None
    found = _AGE.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r}: write a number and its unit, such as 1d, 12h, 30m or 45s.")
    return float(found[1]) * _SECONDS[found[2]]


def asks_server(command: _Command) -> _Command:
    """Gives a command `--target` too, so that it may stand behind the command as well as before it."""

    def remember(context: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            context.obj = value

    option = click.option(
        "--target",
        expose_value=False,
        callback=remember,
        metavar="HOST:PORT",
        help="The server to talk to; see sessionplane --help.",
    )
    return option(command)


def examples(*lines: str) -> str:
    """The end of a --help text: lines that are shown as they are."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def one_of(**names: str | None) -> None:
    """Raises a usage error unless exactly one of these was given."""
    if sum(name is not None for name in names.values()) != 1:
        spelled = [name if name.isupper() else f"--{name.replace('_', '-')}" for name in names]
        raise click.UsageError(f"Give exactly one of {', '.join(spelled)}.")


def label_of(text: str) -> tuple[str, str]:
    """A label as NAME=VALUE; a usage error if it is not written so."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{text!r} is no label: write NAME=VALUE.")
    return name, value


def progress_bar(work: Iterable[object], *, label: str, length: int | None = None) -> Any:
    """A bar on stderr, for people: into a pipe it says nothing."""
    hidden = not sys.stderr.isatty()
    return click.progressbar(work, label=label, length=length, file=sys.stderr, hidden=hidden)
