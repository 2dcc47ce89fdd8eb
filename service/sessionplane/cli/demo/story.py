"""What is told: the order of the chapters, what each promised and what was seen, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from sessionplane.cli.demo.stage import Process, Stage
from sessionplane_client import Client, SessionPlaneError

PIECES = 60
PAUSE_S = 0.03
LEASE_S = 2.0

Chapter = Callable[["Story"], Awaitable[None]]


@dataclass
class Story:
    """What is told, and what was promised and seen on the way."""

    stage: Stage
    client: Client
    pieces: list[str]
    console: Console = field(default_factory=Console)
    began_s: float = field(default_factory=time.monotonic)
    seen: list[tuple[str, str, bool]] = field(default_factory=list)
    session_id: str = ""
    runs: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self.console.print(f"\n[bold]{title}[/bold]")

    def line(self, text: str) -> None:
        """Tell one thing."""
        self.console.print(f"  [dim]{time.monotonic() - self.began_s:5.1f} s[/dim]  {text}", highlight=False)

    def check(self, promised: str, seen: str, *, kept: bool) -> None:
        """Write down a promise and what became of it."""
        self.seen.append((promised, seen, kept))
        self.line(f"[green]✓[/green] {seen}" if kept else f"[red]✗[/red] {seen} (promised: {promised})")

    async def start(self, run_id: str) -> None:
        """Start a run in the demo's session."""
        await self.client.start_run(key="settings2", input=f"please read: {run_id}", run_id=run_id)
        self.runs.append(run_id)

    async def runner(self, run_id: str) -> Process:
        """Start a runner for it and wait until it holds the run."""
        process = await self.stage.act(
            "runner", run_id=run_id, pieces=self.pieces, pause_s=PAUSE_S, lease_s=LEASE_S
        )
        await process.until(lambda line: "claimed" in line)
        return process

    async def subscriber(self, run_id: str, token: str = "") -> Process:
        """Start a subscriber for it and wait until its stream stands."""
        process = await self.stage.act("subscriber", run_id=run_id, token=token)
        await process.until(lambda line: "opened" in line)
        return process

    async def subscriber_of(self, key: str) -> Process:
        """Start a subscriber for a whole session and wait until its stream stands."""
        process = await self.stage.act("subscriber", key=key)
        await process.until(lambda line: "opened" in line)
        return process


async def tell(story: Story, chapters: Sequence[Chapter]) -> bool:
    """Tell the chapters; returns whether everything promised was seen."""
    for chapter in chapters:
        await _told(chapter, story)
    return _conclude(story)


async def _told(chapter: Chapter, story: Story) -> None:
    """Tell a chapter; one that cannot be told is a promise that was not seen."""
    try:
        await chapter(story)
    except (TimeoutError, EOFError, SessionPlaneError) as error:
        story.check((chapter.__doc__ or "").strip(), f"{type(error).__name__}: {error}", kept=False)


def cut(text: str) -> list[str]:
    """Cut the text into about PIECES pieces, each at a line's end."""
    lines = text.splitlines(keepends=True)
    size = max(1, -(-len(lines) // PIECES))
    return ["".join(lines[at : at + size]) for at in range(0, len(lines), size)]


def _conclude(story: Story) -> bool:
    """Show the table; returns whether every promise was kept."""
    table = Table(title="\nPromised and seen", title_justify="left", show_lines=False)
    table.add_column("promised")
    table.add_column("seen")
    table.add_column("")
    for promised, seen, kept in story.seen:
        table.add_row(promised, seen, "[green]kept[/green]" if kept else "[red]BROKEN[/red]")
    story.console.print(table)
    broken = sum(not kept for *_, kept in story.seen)
    took_s = time.monotonic() - story.began_s
    verdict = "every promise was kept" if not broken else f"{broken} promises were broken"
    story.console.print(f"{verdict}, in {took_s:.0f} s", highlight=False)
    return not broken
