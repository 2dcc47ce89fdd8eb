"""`sessionplane demo`: the product's main job on real input, told as a story, in about half a minute.

Owns the command only. Who acts is in `actors` (real processes, so that they can be killed), the stage that they stand
on in `stage`, the chapters in `story`. It ends with a table of what was promised and what was seen.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import distribution
from pathlib import Path

import click


@click.command()
@click.option(
    "--text",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The text that the runners stream.  [default: the software's own licence]",
)
def demo(text: Path | None) -> None:
    """Watch the product work: races, kills and restarts, on a temporary database.

    Starts a server of its own on a free port of this machine, and removes everything again. Exits with 1 if
    anything that was promised was not seen.
    """
    from sessionplane.cli.demo.story import tell

    words = text.read_text(encoding="utf-8") if text else _licence()
    raise SystemExit(0 if asyncio.run(tell(words)) else 1)


def _licence() -> str:
    """Return a real text that is wherever this software is installed."""
    files = distribution("sessionplane").files or []
    for file in files:
        if file.name == "LICENSE":
            return file.read_text(encoding="utf-8")
    raise click.ClickException("this installation has no LICENSE file; name a text with --text FILE")
