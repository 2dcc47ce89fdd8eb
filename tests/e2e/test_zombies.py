"""A runner whose run ended without it is told to stop, on every way it may ask, and nothing that it sends is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from sessionplane.v1.run_pb2 import FINISH_RESULT_SUPERSEDED, INTERRUPT_MODE_FORCE
from sessionplane.v1.session_pb2 import CONFLICT_POLICY_REPLACE
from tests.support.driving import driving
from tests.support.refusals import refused
from tests.support.rows import rows
from tests.support.serving import Served, serving
from tests.support.story import check_log, ending, terminals
from tests.support.wire import Held, Wire, span

KEY = "chat"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    """A server that does not wait long for a runner that is silent."""
    async with serving(tmp_path / "plane.db") as served:
        yield served


@dataclass(frozen=True)
class Way:
    """How a run ends under its runner, and what its terminal then says."""

    end: Callable[[Wire], Awaitable[object]]
    ending: str
    heard: bool = True
    gone: bool = False
    run_timeout_s: float = 60
    lease_s: float = 60


async def _close_then_start(wire: Wire) -> None:
    await wire.close(KEY)
    await wire.start(KEY, text="next")


async def _nothing(_: Wire) -> None:
    """What has to happen happens by itself."""


WAYS = {
    "force": Way(lambda wire: wire.interrupt(KEY, mode=INTERRUPT_MODE_FORCE), "INTERRUPTED/FORCED"),
    "grace": Way(lambda wire: wire.interrupt(KEY, grace_period=span(0.1)), "INTERRUPTED/FORCED"),
    "close deadline": Way(lambda wire: wire.close(KEY, close_timeout=span(0.1)), "INTERRUPTED/SESSION_ENDED"),
    "message to a closing session": Way(_close_then_start, "INTERRUPTED/SESSION_ENDED"),
    "close before the first word": Way(
        lambda wire: wire.close(KEY), "INTERRUPTED/SESSION_ENDED", heard=False
    ),
    "reset": Way(lambda wire: wire.reset(KEY), "INTERRUPTED/SESSION_ENDED"),
    "replacement": Way(
        lambda wire: wire.resolve(KEY, conflict_policy=CONFLICT_POLICY_REPLACE), "INTERRUPTED/SESSION_ENDED"
    ),
    "deletion": Way(lambda wire: wire.delete(KEY), "INTERRUPTED/SESSION_ENDED", gone=True),
    "run timeout": Way(_nothing, "TIMED_OUT/DEADLINE", run_timeout_s=1),
    "lease": Way(_nothing, "LOST/LEASE_EXPIRED", lease_s=1),
}


async def _held(wire: Wire, way: Way) -> tuple[Held, str]:
    """A run under way, and its session's id."""
    started = await wire.start(KEY, run_timeout=span(way.run_timeout_s))
    return await wire.hold(started.run.run_id, lease_s=way.lease_s), started.session.session_id


@pytest.mark.parametrize("name", WAYS)
async def test_a_driving_runner_is_shown_the_end_of_its_run(server: Served, name: str) -> None:
    """`finished` with the terminal as it is in the log, then RUN_FINISHED; a new stream begins the same way."""
    way, wire = WAYS[name], server.wire
    held, session_id = await _held(wire, way)
    async with driving(wire, held) as drive:
        if way.heard:
            await drive.publish("so far")
            await drive.published(1)
        await way.end(wire)
        answer = await drive.read()
        while answer.HasField("command"):
            answer = await drive.read()
        assert ending(answer.finished.terminal) == way.ending
        assert answer.finished.terminal.output_text == ("so far" if way.heard else "")
        refusal = await drive.refused()
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_FINISHED")
    if way.gone:
        return
    log = await wire.log(session_id=session_id)
    assert log[answer.finished.terminal_sequence - 1].run_terminal == answer.finished.terminal


@pytest.mark.parametrize("name", WAYS)
async def test_a_runner_that_asks_is_told_that_its_run_has_ended(server: Served, name: str) -> None:
    """Publish, heartbeat and release are RUN_FINISHED and change nothing; a report is SUPERSEDED, and kept as such
    unless its session is deleted.
    """
    way, wire = WAYS[name], server.wire
    held, session_id = await _held(wire, way)
    if way.heard:
        await wire.publish(held, "so far")
    await way.end(wire)
    terminal = (await wire.wait(held.run_id)).terminal
    assert ending(terminal) == way.ending
    before = rows(server.database)
    for call in (wire.publish(held, "too late"), wire.heartbeat(held), wire.release(held)):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_FINISHED")
        assert (refusal.metadata or {})["outcome"] == way.ending.split("/")[0]
    assert rows(server.database) == before
    late = await wire.finish(held, output_text="too late")
    assert (late.finish_result, late.terminal) == (FINISH_RESULT_SUPERSEDED, terminal)
    if way.gone:
        assert rows(server.database) == before
        return
    log = await wire.log(session_id=session_id)
    check_log(log)
    assert terminals(log) == [way.ending]
    assert log[-1].late_result.output_text == "too late"


async def test_a_closing_session_s_runner_hears_of_it_on_its_stream(server: Served) -> None:
    """The command is a graceful interrupt with the reason and the close deadline; what it reports then stands."""
    wire = server.wire
    held, _ = await _held(wire, WAYS["force"])
    async with driving(wire, held) as drive:
        await drive.publish("so far")
        await drive.published(1)
        closing = await wire.close(KEY, reason="The user left.", close_timeout=span(60))
        command = (await drive.read()).command.interrupt
        assert command.reason == "The user left."
        assert command.interrupt_id == closing.active_run.interrupt_id
    terminal = await wire.work(held, " and the rest")
    assert (ending(terminal), terminal.output_text) == ("SUCCEEDED/RUNNER", "so far and the rest")


async def test_a_runner_hears_again_when_a_close_leaves_it_less_time(server: Served) -> None:
    """An interrupt with a long grace that a close joins is the same one, with a nearer deadline."""
    wire = server.wire
    held, _ = await _held(wire, WAYS["force"])
    async with driving(wire, held) as drive:
        await drive.publish("so far")
        await drive.published(1)
        await wire.interrupt(KEY, grace_period=span(300))
        first = (await drive.read()).command.interrupt
        await wire.close(KEY, close_timeout=span(60))
        second = (await drive.read()).command.interrupt
    assert second.interrupt_id == first.interrupt_id
    assert second.deadline.ToMilliseconds() < first.deadline.ToMilliseconds() - 200_000
