"""The first chapters: a key and its session, a run and those who follow it, a wish to stop."""

from __future__ import annotations

import asyncio
from typing import Any

from sessionplane.cli.demo.stage import Process
from sessionplane.cli.demo.story import PIECES, Story
from sessionplane.v1.run_pb2 import InterruptStage

PROCESSES, CALLS = 4, 50


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
    whole = [texts(reader.lines) for reader in readers]
    whole.append(texts(handed_out) + texts(heir.lines))
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


def texts(lines: list[dict[str, Any]]) -> str:
    return "".join(str(line["text"]) for line in lines if "text" in line)


async def a_wish_to_stop(story: Story) -> None:
    """An interrupt stops a run, and what was said so far is kept."""
    story.chapter("An interrupt stops a run; its text so far is kept")
    await story.start("stopped-run")
    reader = await story.subscriber("stopped-run")
    runner = await story.runner("stopped-run")
    await some_text(reader)
    wish = (await story.client.interrupt(key="settings2", reason="the demo wants it")).interrupt
    story.line(f"the wish is on disk: stage {stage_name(wish.stage)}")
    await asyncio.gather(runner.rest(), reader.rest())
    end = reader.lines[-1]
    stage_reached = stage_name((await story.client.get_interrupt(wish.interrupt_id)).stage)
    story.check(
        "an interrupt is durable intent with one outcome",
        f"{end['outcome']} by {end['cause']}, {len(end['output']):,} characters kept, interrupt {stage_reached}",
        kept=end["outcome"] == "INTERRUPTED"
        and bool(end["output"])
        and end["output"] == texts(reader.lines)
        and stage_reached == "COMPLETED",
    )


def stage_name(stage_number: InterruptStage.ValueType) -> str:
    return InterruptStage.Name(stage_number).removeprefix("INTERRUPT_STAGE_")


async def some_text(reader: Process) -> None:
    """Wait until a subscriber has a good part of the text."""
    await reader.until(lambda _: sum("text" in line for line in reader.lines) > PIECES // 4)
