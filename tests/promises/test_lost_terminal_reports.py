"""lost-terminal, the reports: the first one stands, a repeat is nothing new, another one is kept beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from sessionplane.v1.run_pb2 import (
    FINISH_RESULT_DUPLICATE,
    FINISH_RESULT_RECORDED,
    FINISH_RESULT_SUPERSEDED,
    INTERRUPT_MODE_FORCE,
    RUN_OUTCOME_FAILED,
    RUN_OUTCOME_INTERRUPTED,
    RUN_OUTCOME_SUCCEEDED,
    Payload,
    RunFailure,
)
from tests.support.refusals import refused
from tests.support.rows import rows
from tests.support.serving import Served
from tests.support.story import check_log, ending, story, terminals
from tests.support.wire import Held, Wire


async def _held(wire: Wire, *texts: str) -> Held:
    """A run under way, with some text."""
    held = await wire.hold((await wire.start("chat")).run.run_id)
    await wire.publish(held, *texts)
    return held


async def test_a_report_that_is_sent_again_is_a_duplicate_of_the_first(server: Served) -> None:
    """The second answer returns the first one's terminal and place, and the log stays as it was."""
    held = await _held(server.wire, "done")
    first = await server.wire.finish(held, result=Payload(text="42"))
    assert first.finish_result == FINISH_RESULT_RECORDED
    before = rows(server.database)
    again = await server.wire.finish(held, result=Payload(text="42"))
    assert again.finish_result == FINISH_RESULT_DUPLICATE
    assert (again.terminal, again.terminal_sequence) == (first.terminal, first.terminal_sequence)
    assert rows(server.database) == before


async def test_reports_that_race_leave_one_terminal(server: Served) -> None:
    """Of equal reports at the same time one is recorded, and all are told the same terminal."""
    held = await _held(server.wire, "done")
    answers = await asyncio.gather(*[server.wire.finish(held) for _ in range(20)])
    results = [answer.finish_result for answer in answers]
    assert results.count(FINISH_RESULT_RECORDED) == 1
    assert results.count(FINISH_RESULT_DUPLICATE) == 19
    assert len({answer.terminal_sequence for answer in answers}) == 1
    assert terminals(await server.wire.log("chat")) == ["SUCCEEDED/RUNNER"]


@pytest.mark.parametrize(
    ("outcome", "report"),
    [
        (RUN_OUTCOME_FAILED, {"failure": RunFailure(reason="TOO_LATE", message="It broke after all.")}),
        (RUN_OUTCOME_INTERRUPTED, {}),
        (RUN_OUTCOME_SUCCEEDED, {"output_text": "another text"}),
        (RUN_OUTCOME_SUCCEEDED, {"result": Payload(text="43")}),
    ],
)
async def test_another_report_is_kept_as_a_late_result_and_never_a_second_terminal(
    server: Served, outcome: Any, report: dict[str, Any]
) -> None:
    """A report that differs comes too late: the outcome stands, and what it said is in the log without the run's id."""
    held = await _held(server.wire, "done")
    first = await server.wire.finish(held)
    late = await server.wire.finish(held, outcome, **report)
    assert late.finish_result == FINISH_RESULT_SUPERSEDED
    assert (late.terminal, late.terminal_sequence) == (first.terminal, first.terminal_sequence)
    log = await server.wire.log("chat")
    check_log(log)
    assert terminals(log) == ["SUCCEEDED/RUNNER"]
    kept = log[-1].late_result
    assert (kept.run_id, kept.outcome) == (held.run_id, outcome)
    assert kept.output_text == report.get("output_text", "")
    assert kept.result.text == (report["result"].text if "result" in report else "")
    assert kept.failure.message == (report["failure"].message if "failure" in report else "")


async def test_a_late_result_that_is_sent_again_is_kept_once(server: Served) -> None:
    """A retry of a late report adds nothing to the log."""
    held = await _held(server.wire, "done")
    await server.wire.finish(held)
    for _ in range(3):
        late = await server.wire.finish(held, RUN_OUTCOME_FAILED)
        assert late.finish_result == FINISH_RESULT_SUPERSEDED
    assert story(await server.wire.log("chat")).count("late FAILED") == 1


async def test_a_runner_that_was_given_up_too_early_leaves_its_answer_as_a_late_result(
    server: Served,
) -> None:
    """A runner that was lost and comes back with its answer is told that the run was lost; its text is kept."""
    wire = server.wire
    held = await wire.hold((await wire.start("chat")).run.run_id, lease_s=0.4)
    await wire.publish(held, "so far")
    assert ending((await wire.wait(held.run_id)).terminal) == "LOST/LEASE_EXPIRED"
    late = await wire.finish(held, output_text="so far, so good")
    assert late.finish_result == FINISH_RESULT_SUPERSEDED
    assert ending(late.terminal) == "LOST/LEASE_EXPIRED"
    log = await wire.log("chat")
    check_log(log)
    assert terminals(log) == ["LOST/LEASE_EXPIRED"]
    assert log[-1].late_result.output_text == "so far, so good"


async def test_the_report_of_a_fenced_runner_does_not_undo_the_force(server: Served) -> None:
    """FORCE is final: the runner's own success afterwards is a late result."""
    wire = server.wire
    held = await _held(wire, "so far")
    await wire.interrupt("chat", mode=INTERRUPT_MODE_FORCE)
    late = await wire.finish(held)
    assert (late.finish_result, ending(late.terminal)) == (FINISH_RESULT_SUPERSEDED, "INTERRUPTED/FORCED")
    assert terminals(await wire.log("chat")) == ["INTERRUPTED/FORCED"]


async def test_nothing_is_published_behind_a_terminal(server: Served) -> None:
    """Publishing to a run that has ended is refused with its outcome and the terminal's place, and adds nothing."""
    held = await _held(server.wire, "done")
    finished = await server.wire.finish(held)
    before = rows(server.database)
    for call in (server.wire.publish(held, "more"), server.wire.heartbeat(held), server.wire.release(held)):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_FINISHED")
        assert refusal.metadata is not None
        assert refusal.metadata["outcome"] == "SUCCEEDED"
        assert refusal.metadata["terminal_sequence"] == str(finished.terminal_sequence)
    assert rows(server.database) == before


async def test_a_report_under_an_older_lease_is_refused(server: Served) -> None:
    """Only the last lease may report late: one from before it changes nothing and leaves no late result."""
    wire = server.wire
    started = await wire.start("chat")
    older = await wire.hold(started.run.run_id)
    await wire.release(older)
    newer = await wire.hold(started.run.run_id)
    before = rows(server.database)
    refusal = await refused(wire.finish(older))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LEASE_LOST")
    assert (refusal.metadata or {})["current_epoch"] == "2"
    assert rows(server.database) == before
    await wire.work(newer, "done")
    assert (await refused(wire.finish(older))).reason == "LEASE_LOST"
    assert terminals(await wire.log("chat")) == ["SUCCEEDED/RUNNER"]


async def test_a_given_text_stands_for_the_joined_one(server: Served) -> None:
    """A runner that gives the whole text is believed; one that does not has its deltas joined."""
    given = await server.wire.finish(await _held(server.wire, "dra", "ft"), output_text="final")
    assert (given.terminal.output_text, given.terminal.output_complete) == ("final", True)
    joined = await server.wire.finish(await _held(server.wire, "dra", "ft"))
    assert (joined.terminal.output_text, joined.terminal.output_complete) == ("draft", True)
    empty = await server.wire.finish(await _held(server.wire, "draft"), output_text="")
    assert (empty.terminal.output_text, empty.terminal.output_complete) == ("", True)


async def test_a_text_too_long_for_a_terminal_is_cut_between_two_characters(server: Served) -> None:
    """The first 256 KiB are kept, no character is cut in half, and the terminal says that it is not all."""
    limit = 256 * 1024
    held = await _held(server.wire, "x" + "\N{EURO SIGN}" * 50_000, "\N{EURO SIGN}" * 50_000)
    terminal = (await server.wire.finish(held)).terminal
    assert not terminal.output_complete
    assert limit - 3 < len(terminal.output_text.encode()) <= limit
    assert terminal.output_text == "x" + "\N{EURO SIGN}" * ((limit - 1) // 3)
