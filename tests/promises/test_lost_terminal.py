"""lost-terminal: every run ends once, and everybody who cares sees its end, with the text so far.

Seen in the wild: the final event was not sent when the session's key could not be resolved at that moment, and the
buffered text went with it; a runner that crashed sent nothing; clients waited for ever.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.run_pb2 import RUN_OUTCOME_FAILED
from sessionplane.v1.session_service_pb2 import STREAM_START_OLDEST, STREAM_UNTIL_RUN_END
from tests.support.frames import Following
from tests.support.serving import Served, serving
from tests.support.story import check_log, ending, story, terminals
from tests.support.wire import Wire, span


def _follow(wire: Wire, target: str, started: pb.StartRunResponse) -> Following:
    """Wait for the end of a run by one of its three names."""
    names: dict[str, dict[str, Any]] = {
        "session": {"session_id": started.session.session_id, "until_run_id": started.run.run_id},
        "key": {"key": started.session.key, "until_run_id": started.run.run_id},
        "run": {"run_id": started.run.run_id},
    }
    return wire.stream(start=STREAM_START_OLDEST, until=STREAM_UNTIL_RUN_END, **names[target])


@pytest.mark.parametrize("target", ["session", "key", "run"])
async def test_a_terminal_is_seen_by_all_who_come_before_during_and_after(
    server: Served, target: str
) -> None:
    """Whenever and by whatever name a subscriber comes, its last event is the terminal, and its status is OK."""
    wire = server.wire
    started = await wire.start("chat")
    before = _follow(wire, target, started)
    await before.frame()
    held = await wire.hold(started.run.run_id)
    await wire.publish(held, "hel")
    during = _follow(wire, target, started)
    await during.frame()
    await wire.publish(held, "lo")
    await wire.finish(held)
    after = _follow(wire, target, started)
    for stream in (before, during, after):
        await stream.rest()
        assert (stream.ended_by, stream.refusal) == ("RUN_END", None)
        assert ending(stream.events[-1].run_terminal) == "SUCCEEDED/RUNNER"
        assert stream.events[-1].run_terminal.output_text == "hello"
        assert story(stream.events, run_id=started.run.run_id) == [
            "input hello",
            "run none>PENDING",
            "run PENDING>RUNNING",
            "text hel",
            "text lo",
            "run RUNNING>FINISHED",
            "terminal SUCCEEDED/RUNNER",
        ]


async def test_a_run_that_began_before_its_key_was_known_is_whole_under_the_key(server: Served) -> None:
    """Events hang on the session's id: a key that is bound later finds all of them, and so does its subscriber."""
    wire = server.wire
    started = await wire.start()
    assert not started.session.key
    held = await wire.hold(started.run.run_id)
    await wire.publish(held, "before the key")
    bound = await wire.resolve("chat", bind_session_id=started.session.session_id)
    assert bound.resolution == session_pb2.RESOLUTION_BOUND
    async with wire.stream("chat", start=STREAM_START_OLDEST, until=STREAM_UNTIL_RUN_END) as by_key:
        await wire.publish(held, ", and after")
        await wire.finish(held)
        await by_key.rest()
    log = await wire.log("chat")
    check_log(log)
    assert by_key.events == log
    assert log == await wire.log(session_id=started.session.session_id)
    assert log[-1].run_terminal.output_text == "before the key, and after"
    assert story(log).count("key BOUND") == 1


async def test_a_run_whose_key_is_never_known_ends_for_those_who_know_its_id(server: Served) -> None:
    """The terminal asks for no key: it is there without one, for session and run subscribers and for WaitRun."""
    wire = server.wire
    started = await wire.start()
    waiting = asyncio.create_task(wire.wait(started.run.run_id))
    await wire.heartbeat(await wire.hold(started.run.run_id, lease_s=0.4))
    assert ending((await waiting).terminal) == "LOST/LEASE_EXPIRED"
    for target in ("session", "run"):
        stream = await _follow(wire, target, started).rest()
        assert terminals(stream.events) == ["LOST/LEASE_EXPIRED"]


async def test_a_runner_that_throws_before_any_event_is_seen_to_have_failed(server: Served) -> None:
    """The class and message of what it threw reach subscribers who came early, late, and with a token."""
    client, wire = server.client, server.wire
    started = await client.start_run(key="chat", input="hello")
    claim = await client.claim_run(started.run.run_id)
    assert claim is not None
    async with _follow(wire, "key", started) as early:
        with pytest.raises(ValueError, match="no model"):
            async with client.run(claim):
                raise ValueError("no model for this")
        await early.rest()
    late = await _follow(wire, "run", started).rest()
    resumed = await wire.stream("chat", resume_token=started.resume_token, until=STREAM_UNTIL_RUN_END).rest()
    waited = await client.wait_run(started.run.run_id)
    seen = [stream.events[-1].run_terminal for stream in (early, late, resumed)]
    for terminal in (*seen, waited.terminal):
        assert ending(terminal) == "FAILED/RUNNER"
        assert (terminal.failure.reason, terminal.failure.message) == ("ValueError", "no model for this")


async def test_a_runner_that_dies_after_some_text_is_lost_with_that_text(server: Served) -> None:
    """The lease of a runner that was heard runs out, and the terminal carries what it had written."""
    wire = server.wire
    started = await wire.start("chat")
    held = await wire.hold(started.run.run_id, lease_s=0.4)
    await wire.publish(held, "the answer ", "is")
    terminal = (await wire.wait(started.run.run_id)).terminal
    assert ending(terminal) == "LOST/LEASE_EXPIRED"
    assert (terminal.output_text, terminal.output_complete) == ("the answer is", False)


async def _lost(wire: Wire, run_id: str) -> None:
    await wire.publish(await wire.hold(run_id, lease_s=0.4), "so far")


async def _forced(wire: Wire, run_id: str) -> None:
    await wire.publish(await wire.hold(run_id), "so far")
    await wire.interrupt(run_id=run_id, mode=run_pb2.INTERRUPT_MODE_FORCE)


async def _out_of_grace(wire: Wire, run_id: str) -> None:
    await wire.publish(await wire.hold(run_id), "so far")
    await wire.interrupt(run_id=run_id, grace_period=span(0.1))


async def _out_of_time(wire: Wire, run_id: str) -> None:
    await wire.publish(await wire.hold(run_id), "so far")


async def _failed(wire: Wire, run_id: str) -> None:
    held = await wire.hold(run_id)
    await wire.publish(held, "so far")
    await wire.finish(held, RUN_OUTCOME_FAILED)


@pytest.mark.parametrize(
    ("fate", "ended"),
    [
        (_lost, "LOST/LEASE_EXPIRED"),
        (_forced, "INTERRUPTED/FORCED"),
        (_out_of_grace, "INTERRUPTED/FORCED"),
        (_out_of_time, "TIMED_OUT/DEADLINE"),
        (_failed, "FAILED/RUNNER"),
    ],
)
async def test_every_end_has_one_terminal_with_the_text_so_far(server: Served, fate: Any, ended: str) -> None:
    """However a run ends, its terminal is its last event, the only one, and says what was written so far."""
    wire = server.wire
    timeout = span(0.5) if fate is _out_of_time else None
    started = await wire.start("chat", run_timeout=timeout)
    async with wire.stream("chat", start=STREAM_START_OLDEST, until=STREAM_UNTIL_RUN_END) as stream:
        await fate(wire, started.run.run_id)
        await stream.rest()
    terminal = stream.events[-1].run_terminal
    assert (ending(terminal), terminal.output_text, terminal.output_complete) == (ended, "so far", False)
    log = await wire.log("chat")
    check_log(log)
    assert terminals(log) == [ended]
    assert (await wire.get_run(started.run.run_id)).terminal == terminal


async def test_a_run_whose_runner_stays_away_over_a_restart_is_lost_with_its_text(tmp_path: Path) -> None:
    """A restart grants the lease again in full; a runner that does not come back is found out by it."""
    async with serving(tmp_path / "plane.db") as server:
        started = await server.wire.start("chat")
        held = await server.wire.hold(started.run.run_id, lease_s=0.5)
        await server.wire.publish(held, "so far")
    async with serving(tmp_path / "plane.db") as server:
        stream = await _follow(server.wire, "key", started).rest()
    assert stream.ended_by == "RUN_END"
    assert stream.events[-1].run_terminal.output_text == "so far"
    assert terminals(stream.events) == ["LOST/LEASE_EXPIRED"]


async def test_a_run_whose_runner_comes_back_after_a_restart_goes_on(tmp_path: Path) -> None:
    """The server's restart kills no run: the same lease publishes and finishes afterwards."""
    async with serving(tmp_path / "plane.db") as server:
        started = await server.wire.start("chat")
        held = await server.wire.hold(started.run.run_id)
        await server.wire.publish(held, "before ")
    async with serving(tmp_path / "plane.db") as server:
        await server.wire.publish(held, "after", first=2)
        finished = await server.wire.finish(held)
        assert finished.terminal.output_text == "before after"
        assert terminals(await server.wire.log("chat")) == ["SUCCEEDED/RUNNER"]


async def test_a_terminal_survives_a_restart_as_it_was(tmp_path: Path) -> None:
    """What WaitRun and a late subscriber are told before and after a restart is the same terminal."""
    async with serving(tmp_path / "plane.db") as server:
        started = await server.wire.start("chat")
        await server.wire.run_through(started.run.run_id, "done")
        told = (await server.wire.wait(started.run.run_id)).terminal
    async with serving(tmp_path / "plane.db") as server:
        assert (await server.wire.wait(started.run.run_id)).terminal == told
        stream = await _follow(server.wire, "run", started).rest()
        assert stream.events[-1].run_terminal == told


async def test_waiting_for_a_run_never_changes_it(server: Served) -> None:
    """A WaitRun that has waited long enough says that the run goes on, and that is all it does."""
    started = await server.wire.start("chat")
    before = await server.wire.log("chat")
    request = pb.WaitRunRequest(run_id=started.run.run_id)
    answer = await server.wire.sessions.WaitRun(request, timeout=0.5)
    assert not answer.finished
    assert answer.run.state == run_pb2.RUN_STATE_PENDING
    assert await server.wire.log("chat") == before
