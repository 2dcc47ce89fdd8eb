"""The chapters of the demo: each does something that goes wrong elsewhere, and writes down what it saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.table import Table

from sessionplane.cli.demo.stage import Process, Stage, stage
from sessionplane.v1.event_pb2 import Event
from sessionplane.v1.run_pb2 import InterruptStage
from sessionplane_client import Client, SessionPlaneError

PROCESSES, CALLS = 4, 50
PIECES = 60
PAUSE_S = 0.03
LEASE_S = 2.0
LOST_WITHIN_S = LEASE_S + 1 + 1
"""The promise about a dead runner: its lease, one sweep, and a second."""


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


async def tell(text: str) -> bool:
    """Tell the story; returns whether everything promised was seen."""
    async with stage() as built, Client(built.target) as client:
        story = Story(built, client, _pieces(text))
        story.console.print(f"A server listens on {built.target}, over {built.database}.", highlight=False)
        for chapter in (
            one_key_one_session,
            every_spelling,
            three_subscribers,
            a_wish_to_stop,
            a_dead_runner,
            a_dead_server,
            the_log,
        ):
            await _told(chapter, story)
        return _conclude(story)


async def _told(chapter: Callable[[Story], Awaitable[None]], story: Story) -> None:
    """Tell a chapter; one that cannot be told is a promise that was not seen."""
    try:
        await chapter(story)
    except (TimeoutError, EOFError, SessionPlaneError) as error:
        story.check((chapter.__doc__ or "").strip(), f"{type(error).__name__}: {error}", kept=False)


def _pieces(text: str) -> list[str]:
    """Cut the text into about PIECES pieces, each at a line's end."""
    lines = text.splitlines(keepends=True)
    size = max(1, -(-len(lines) // PIECES))
    return ["".join(lines[at : at + size]) for at in range(0, len(lines), size)]


async def one_key_one_session(story: Story) -> None:
    """Many callers in many processes race for a key that nobody has seen."""
    story.chapter(f"{PROCESSES * CALLS} callers in {PROCESSES} processes race for one new key")
    racers = await asyncio.gather(
        *(story.stage.act("race", key="settings2", calls=CALLS) for _ in range(PROCESSES))
    )
    await asyncio.gather(*(racer.until(lambda line: "ready" in line) for racer in racers))
    story.line("all connections stand: go")
    await asyncio.gather(*(racer.start_gun() for racer in racers))
    results = await asyncio.gather(*(racer.until(lambda line: "ids" in line) for racer in racers))
    ids = {session_id for result in results for session_id in result["ids"]}
    answers = sum(count for result in results for count in result["ids"].values())
    created = sum(result["how"].get("RESOLUTION_CREATED", 0) for result in results)
    story.session_id = next(iter(ids))
    story.check(
        "one key, one session",
        f"{answers} answers, {len(ids)} session id, created {created} time",
        kept=answers == PROCESSES * CALLS and len(ids) == 1 and created == 1,
    )


async def every_spelling(story: Story) -> None:
    """The same key, written as people write it."""
    story.chapter("The same key in other spellings")
    spellings = ["  Settings2 ", "AGENT:Main:Settings2", "agent:main:agent:main:settings2"]
    reached = [(await story.client.resolve(key=spelling)).session for spelling in spellings]
    for spelling, session in zip(spellings, reached, strict=True):
        story.line(f"{spelling!r} is {session.key}")
    story.check(
        "one spelling on every path",
        f"{len(spellings)} spellings reached the one session",
        kept={session.session_id for session in reached} == {story.session_id},
    )


async def three_subscribers(story: Story) -> None:
    """A runner streams a text; one of three subscribers is killed and goes on from its token."""
    story.chapter("A runner streams a text to three subscribers; one is killed and resumes")
    await story.start("first-run")
    readers = [await story.subscriber("first-run") for _ in range(3)]
    runner = await story.runner("first-run")
    victim = readers.pop()
    await victim.until(lambda line: line.get("sequence", 0) > PIECES // 3)
    await victim.kill()
    token, handed_out = _covered(victim)
    story.line(f"subscriber 3 killed -9 after event {handed_out[-1]['sequence']}; a new one takes its token")
    heir = await story.subscriber("first-run", token)
    await asyncio.gather(runner.rest(), heir.rest(), *(reader.rest() for reader in readers))
    whole = [_texts(reader.lines) for reader in readers]
    whole.append(_texts(handed_out) + _texts(heir.lines))
    sequences = [line["sequence"] for line in (*handed_out, *heir.lines) if "sequence" in line]
    story.check(
        "everyone sees every event, once, in order",
        f"3 subscribers have the same {len(story.text):,} characters; the resumed one has no gap and no repeat",
        kept=all(text == story.text for text in whole) and len(sequences) == len(set(sequences)),
    )
    ends = [line["outcome"] for process in (*readers, heir) for line in process.lines if "outcome" in line]
    story.check(
        "every run ends, once, for everyone",
        f"terminals seen: {', '.join(ends)}",
        kept=ends == ["SUCCEEDED"] * 3,
    )


def _covered(reader: Process) -> tuple[str, list[dict[str, Any]]]:
    """Return the newest token that a subscriber wrote down, and the events that it covers."""
    last = max(at for at, line in enumerate(reader.lines) if "token" in line)
    return reader.lines[last]["token"], [line for line in reader.lines[: last + 1] if "sequence" in line]


def _texts(lines: list[dict[str, Any]]) -> str:
    return "".join(str(line["text"]) for line in lines if "text" in line)


async def a_wish_to_stop(story: Story) -> None:
    """An interrupt stops a run, and what was said so far is kept."""
    story.chapter("An interrupt stops a run; its text so far is kept")
    await story.start("stopped-run")
    reader = await story.subscriber("stopped-run")
    runner = await story.runner("stopped-run")
    await _some_text(reader)
    wish = (await story.client.interrupt(key="settings2", reason="the demo wants it")).interrupt
    story.line(f"the wish is on disk: stage {_stage(wish.stage)}")
    await asyncio.gather(runner.rest(), reader.rest())
    end = reader.lines[-1]
    stage_reached = _stage((await story.client.get_interrupt(wish.interrupt_id)).stage)
    story.check(
        "an interrupt is durable intent with one outcome",
        f"{end['outcome']} by {end['cause']}, {len(end['output']):,} characters kept, interrupt {stage_reached}",
        kept=end["outcome"] == "INTERRUPTED"
        and bool(end["output"])
        and end["output"] == _texts(reader.lines)
        and stage_reached == "COMPLETED",
    )


def _stage(stage_number: InterruptStage.ValueType) -> str:
    return InterruptStage.Name(stage_number).removeprefix("INTERRUPT_STAGE_")


async def _some_text(reader: Process) -> None:
    """Wait until a subscriber has a good part of the text."""
    await reader.until(lambda _: sum("text" in line for line in reader.lines) > PIECES // 4)


async def a_dead_runner(story: Story) -> None:
    """A runner is killed -9: nobody is left waiting, and nothing that it said is lost."""
    story.chapter(f"A runner is killed -9 (its lease is {LEASE_S:.0f} s)")
    await story.start("lost-run")
    readers = [await story.subscriber("lost-run") for _ in range(2)]
    runner = await story.runner("lost-run")
    await asyncio.gather(*(_some_text(reader) for reader in readers))
    await runner.kill()
    killed_s = time.monotonic()
    story.line("killed; nobody says anything to the server")
    await asyncio.gather(*(reader.rest() for reader in readers))
    took_s = time.monotonic() - killed_s
    ends = [reader.lines[-1] for reader in readers]
    story.check(
        f"a dead runner's run ends within {LOST_WITHIN_S:.0f} s, with the text so far",
        f"{ends[0]['outcome']} by {ends[0]['cause']} after {took_s:.1f} s, {len(ends[0]['output']):,} characters",
        kept=took_s <= LOST_WITHIN_S
        and all(end["outcome"] == "LOST" for end in ends)
        and all(end["output"] == _texts(reader.lines) for end, reader in zip(ends, readers, strict=True)),
    )


async def a_dead_server(story: Story) -> None:
    """The server is killed -9 in the middle of a run, comes back, and everything goes on."""
    story.chapter("The server is killed -9 in mid-run and comes back")
    await story.start("long-run")
    reader = await story.subscriber("long-run")
    runner = await story.runner("long-run")
    await _some_text(reader)
    await story.stage.kill_server()
    story.line("killed; runner and subscriber keep trying")
    await story.stage.start_server()
    story.line("back, over the same file")
    await asyncio.gather(runner.rest(), reader.rest())
    sequences = [line["sequence"] for line in reader.lines if "sequence" in line]
    reconnects = sum("reconnect" in line for line in reader.lines)
    story.check(
        "acknowledged means on disk; resume never lies",
        f"{reader.lines[-1].get('outcome')}, {len(sequences)} events, {reconnects} reconnects, no gap, no repeat",
        kept=_texts(reader.lines) == story.text
        and len(sequences) == len(set(sequences))
        and reader.lines[-1].get("outcome") == "SUCCEEDED",
    )
    again = (await story.client.resolve(key="SETTINGS2")).session
    story.check(
        "a restart orphans nothing",
        f"the key still is {again.session_id[:12]}…",
        kept=again.session_id == story.session_id,
    )


async def the_log(story: Story) -> None:
    """Read the whole log once more, as a latecomer would."""
    story.chapter("The log, read from the beginning")
    log: list[Event] = [event async for event in story.client.list_events(key="settings2")]
    dense = all(after.sequence == before.sequence + 1 for before, after in pairwise(log))
    ends = [event.run_id for event in log if event.HasField("run_terminal")]
    last = {event.run_id: event for event in log if event.run_id}
    story.check(
        "order without gaps, one terminal each",
        f"{len(log)} events without a gap, {len(ends)} runs with one terminal each, always the last word",
        kept=dense
        and log[0].sequence == 1
        and sorted(ends) == sorted(story.runs)
        and all(event.HasField("run_terminal") for event in last.values()),
    )


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
