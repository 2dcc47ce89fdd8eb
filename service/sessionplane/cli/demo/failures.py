"""The chapters in which something dies, freezes, closes or comes back."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

from sessionplane.cli.demo.chapters import some_text, texts
from sessionplane.cli.demo.stage import Process
from sessionplane.cli.demo.story import LEASE_S, Story
from sessionplane.v1.event_pb2 import Event
from sessionplane.v1.session_pb2 import Route, SessionState

LOST_WITHIN_S = LEASE_S + 1 + 1
"""The promise about a dead runner: its lease, one sweep, and a second."""


def ended(reader: Process) -> set[str]:
    """The runs whose end a subscriber has seen."""
    return {line["run"] for line in reader.lines if "outcome" in line}


def state_name(state: SessionState.ValueType) -> str:
    """A session's state as people say it."""
    return SessionState.Name(state).removeprefix("SESSION_STATE_")


def route_name(route: Route.ValueType) -> str:
    """What a new run would meet."""
    return Route.Name(route).removeprefix("ROUTE_")


async def a_dead_runner(story: Story) -> None:
    """A runner is killed -9: nobody is left waiting, and nothing that it said is lost."""
    story.chapter(f"A runner is killed -9 (its lease is {LEASE_S:.0f} s)")
    await story.start("lost-run")
    readers = [await story.subscriber("lost-run") for _ in range(2)]
    runner = await story.runner("lost-run")
    await asyncio.gather(*(some_text(reader) for reader in readers))
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
        and all(end["output"] == texts(reader.lines) for end, reader in zip(ends, readers, strict=True)),
    )


async def a_zombie(story: Story) -> None:
    """A runner freezes for longer than its lease and comes back as if nothing had been: it is told to stop."""
    story.chapter("A runner freezes, its run ends without it, and it wakes up")
    await story.start("frozen-run")
    reader = await story.subscriber("frozen-run")
    runner = await story.runner("frozen-run")
    await some_text(reader)
    runner.freeze()
    story.line("frozen: its connection stands, and it says nothing")
    await reader.rest()
    end = reader.lines[-1]
    story.line(f"its run is {end['outcome']} by {end['cause']}; the session is free for the next one")
    runner.thaw()
    await runner.rest()
    told = [line["told"] for line in runner.lines if "told" in line]
    terminal = (await story.client.get_run("frozen-run")).terminal
    story.check(
        "a zombie is told to stop, and nothing that it still says counts",
        f"it woke up, was told {' '.join(told) or 'nothing'}, and left; the run's text is as it was",
        kept=told in (["RUN_FINISHED"], ["LEASE_LOST"]) and terminal.output_text == end["output"],
    )


async def a_dead_server(story: Story) -> None:
    """The server is killed -9 in the middle of a run, comes back, and everything goes on."""
    story.chapter("The server is killed -9 in mid-run and comes back")
    await story.start("long-run")
    reader = await story.subscriber("long-run")
    runner = await story.runner("long-run")
    await some_text(reader)
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
        kept=texts(reader.lines) == story.text
        and len(sequences) == len(set(sequences))
        and reader.lines[-1].get("outcome") == "SUCCEEDED",
    )
    again = (await story.client.resolve(key="SETTINGS2")).session
    story.check(
        "a restart orphans nothing",
        f"the key still is {again.session_id[:12]}…",
        kept=again.session_id == story.session_id,
    )


async def the_first_message_after_it(story: Story) -> None:
    """A message that comes right after a reconnect is routed by what is on disk, not by what memory thinks."""
    story.chapter("The first message after the restart, with the key as people write it")
    await story.stage.kill_server()
    await story.stage.start_server()
    reader = await story.subscriber_of("Settings2 ")
    await story.start("first-message")
    await story.start("second-message")
    answer = await story.client.resolve(key="Settings2 ")
    queued = answer.session.queued_run_count
    story.line(f"two messages sent at once: one runs, {queued} waits; route {route_name(answer.route)}")
    for run_id in ("first-message", "second-message"):
        runner = await story.runner(run_id)
        await runner.rest()
    wanted = {"first-message", "second-message"}
    await reader.until(lambda _: wanted <= ended(reader))
    story.check(
        "the first message after a reconnect is not swallowed",
        "both messages were run, in order, in the session that was there before",
        kept=answer.session.session_id == story.session_id,
    )


async def a_closing_session(story: Story) -> None:
    """A session that closes is not live: it lets its run wind down, and the next message begins its next life."""
    story.chapter("A session is closed while a run is under way")
    await story.start("last-run")
    reader = await story.subscriber("last-run")
    runner = await story.runner("last-run")
    await some_text(reader)
    closing = (await story.client.close_session(key="settings2", reason="the demo closes it")).session
    answer = await story.client.resolve(key="settings2")
    story.line(f"it is {state_name(closing.state)}; a new message would: {route_name(answer.route)}")
    await asyncio.gather(runner.rest(), reader.rest())
    over = (await story.client.get_session(key="settings2")).session
    story.line(
        f"its run was told and ended {reader.lines[-1]['outcome']}; now it is {state_name(over.state)}"
    )
    await story.start("next-life")
    runner = await story.runner("next-life")
    await runner.rest()
    again = (await story.client.get_session(key="settings2")).session
    story.check(
        "a closing session is never routed as live",
        f"closed, ended, and back as generation {again.generation} of the same session",
        kept=(state_name(closing.state), state_name(over.state)) == ("CLOSING", "ENDED")
        and route_name(answer.route) == "END_THEN_RESUME"
        and (again.session_id, again.generation) == (story.session_id, closing.generation + 1),
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
