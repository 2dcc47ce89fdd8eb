"""`sessionplane demo`: the product's main job on real input, told as a story, in about half a minute.

Owns the command and the order of the chapters. Who acts is in `actors` (real processes, so that they can be killed),
the stage that they stand on in `stage`; `story` keeps what was promised and seen, and ends with a table of it.
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
    """Watch promises being kept: races, kills and restarts.

    It works on a temporary database. Starts a server of its own on a free port of this machine, and removes
    everything again. Exits with 1 if anything that was promised was not seen.
    """
    words = text.read_text(encoding="utf-8") if text else _licence()
    raise SystemExit(0 if asyncio.run(_play(words)) else 1)


async def _play(words: str) -> bool:
    """Set the stage and tell the story; returns whether everything promised was seen."""
    from sessionplane.cli.demo import chapters, failures
    from sessionplane.cli.demo.stage import stage
    from sessionplane.cli.demo.story import Story, cut, tell
    from sessionplane_client import Client

    order = (
        chapters.one_key_one_session,
        chapters.every_spelling,
        chapters.three_subscribers,
        chapters.a_wish_to_stop,
        failures.a_dead_runner,
        failures.a_zombie,
        failures.a_dead_server,
        failures.the_first_message_after_it,
        failures.a_closing_session,
        failures.the_log,
    )
    async with stage() as built, Client(built.target) as client:
        story = Story(built, client, cut(words))
        story.console.print(f"A server listens on {built.target}, over {built.database}.", highlight=False)
        return await tell(story, order)


def _licence() -> str:
    """Return a real text that is wherever this software is installed."""
    files = distribution("sessionplane").files or []
    for file in files:
        if file.name == "LICENSE":
            return file.read_text(encoding="utf-8")
    raise click.ClickException("this installation has no LICENSE file; name a text with --text FILE")
