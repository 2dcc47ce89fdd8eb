"""Use cases of interrupts: durable intent with exactly one outcome, whatever the run is doing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessionplane.domain.errors import (
    InterruptNotFound,
    KeyNotBound,
    RequestIdReused,
    RunFinished,
    RunNotFound,
    SessionNotFound,
)
from sessionplane.domain.interrupts import InterruptMode, InterruptStage
from sessionplane.domain.runs import RunState
from sessionplane.domain.sessions import SessionState
from sessionplane.plane import interrupts, stopping
from sessionplane.plane.context import run_topic
from tests.support.planes import GRACE_MS, KEY, NAMESPACE, Bench
from tests.support.story import ending

FORCE = InterruptMode.FORCE


async def finished_run(bench: Bench) -> str:
    run = await bench.running()
    await bench.finish(run.run_id)
    return run.run_id


async def test_a_claimed_run_is_asked_to_stop(bench: Bench) -> None:
    """GRACEFUL leaves the run to its runner until the grace is over: ACCEPTED, INTERRUPTING."""
    run = await bench.running()
    made = await bench.interrupt(KEY, reason="changed my mind")
    asked = made.interrupt
    assert (asked.run_id, asked.stage, asked.mode) == (
        run.run_id,
        InterruptStage.ACCEPTED,
        InterruptMode.GRACEFUL,
    )
    assert (asked.reason, asked.escalate_at_ms) == ("changed my mind", bench.clock.wall_ms() + GRACE_MS)
    after = bench.run(run.run_id)
    assert (after.state, after.interrupt_id, after.due_at_ms) == (
        RunState.INTERRUPTING,
        asked.interrupt_id,
        asked.escalate_at_ms,
    )
    assert bench.story(behind=6) == ["interrupt ACCEPTED", "run RUNNING>INTERRUPTING"]
    assert made.run is not None
    assert made.run.run == after


async def test_a_nearer_deadline_stays_the_nearer_one(bench: Bench) -> None:
    """A grace that ends behind the run's own deadline does not move that."""
    run = await bench.running(run_timeout_ms=5_000)
    await bench.interrupt(KEY)
    assert bench.run(run.run_id).due_at_ms == bench.clock.wall_ms() + 5_000


async def test_force_ends_a_claimed_run_now(bench: Bench) -> None:
    """FORCE writes the terminal over the runner's head with the text so far, and fences the runner."""
    run = await bench.running()
    await bench.publish(run.run_id, "so far")
    made = await bench.interrupt(KEY, mode=FORCE)
    assert made.interrupt.stage is InterruptStage.COMPLETED
    terminal = bench.check_end(run.run_id).run_terminal
    assert (ending(terminal), terminal.output_text) == ("INTERRUPTED/FORCED", "so far")
    assert not terminal.output_complete
    assert terminal.interrupt_id == made.interrupt.interrupt_id
    await bench.refused(RunFinished, bench.publish(run.run_id, "more"))


@pytest.mark.parametrize("mode", InterruptMode)
async def test_a_run_without_a_runner_ends_at_once(bench: Bench, mode: InterruptMode) -> None:
    """A pending run, and one in line, end INTERRUPTED/INTERRUPT in either mode, and the interrupt is COMPLETED."""
    active, queued = await bench.start(), await bench.start()
    for run_id in (queued.run.run_id, active.run.run_id):
        made = await bench.interrupt(run_id=run_id, mode=mode)
        assert made.interrupt.stage is InterruptStage.COMPLETED
        assert made.interrupt.escalate_at_ms is None
        assert ending(bench.check_end(run_id).run_terminal) == "INTERRUPTED/INTERRUPT"
    assert bench.story(run_id=active.run.run_id)[-4:] == [
        "interrupt ACCEPTED",
        "interrupt COMPLETED",
        "run PENDING>FINISHED",
        "terminal INTERRUPTED/INTERRUPT",
    ]
    assert bench.session().state is SessionState.ENDED


async def test_a_run_that_went_back_has_no_runner(bench: Bench) -> None:
    """A released run ends at once, like one that was never claimed."""
    run = await bench.running()
    await bench.release(run.run_id)
    await bench.interrupt(KEY)
    assert ending(bench.check_end(run.run_id).run_terminal) == "INTERRUPTED/INTERRUPT"


async def test_a_session_without_a_run_is_a_no_op(bench: Bench) -> None:
    """With nothing to stop the intent is written all the same: row, request id and one event without a run id."""
    await bench.resolve()
    made = await bench.interrupt(KEY, request_id="r1")
    assert (made.interrupt.stage, made.interrupt.run_id, made.run) == (InterruptStage.NO_OP, "", None)
    assert bench.story(behind=2) == ["interrupt NO_OP"]
    assert bench.log()[-1].run_id == ""
    assert len(bench.contents()["interrupts"]) == len(bench.contents()["requests"]) == 1


async def test_a_finished_run_is_a_no_op(bench: Bench) -> None:
    """A run that has ended stays as it ended, and its terminal stays its last event."""
    run_id = await finished_run(bench)
    before = bench.run(run_id)
    made = await bench.interrupt(run_id=run_id, mode=FORCE)
    assert made.interrupt.stage is InterruptStage.NO_OP
    assert bench.run(run_id) == before
    bench.check_end(run_id)


async def test_the_next_run_is_protected(bench: Bench) -> None:
    """With expected_run_id another active run is left alone: NO_OP."""
    one, two = await bench.running(), await bench.start()
    await bench.finish(one.run_id)
    made = await bench.interrupt(KEY, expected_run_id=one.run_id)
    assert made.interrupt.stage is InterruptStage.NO_OP
    assert bench.run(two.run.run_id).state is RunState.PENDING
    made = await bench.interrupt(KEY, expected_run_id=two.run.run_id)
    assert made.interrupt.run_id == two.run.run_id


async def test_an_expected_run_id_holds_for_a_named_run_too(bench: Bench) -> None:
    """A request that contradicts itself stops nothing."""
    run = await bench.running()
    made = await bench.interrupt(run_id=run.run_id, expected_run_id="another")
    assert made.interrupt.stage is InterruptStage.NO_OP
    assert bench.run(run.run_id).state is RunState.RUNNING


@pytest.mark.parametrize("final", [False, True])
async def test_an_ended_session_is_a_no_op(bench: Bench, final: bool) -> None:
    """Also the log of an ended or final session says that somebody wanted to stop it."""
    session = (await bench.resolve()).view.session
    ended = replace(session, state=SessionState.ENDED, final=final)
    await bench.write(lambda tx, _: tx.save_session(ended))
    made = await bench.interrupt(session.session_id)
    assert made.interrupt.stage is InterruptStage.NO_OP
    assert bench.story(session.session_id)[-1] == "interrupt NO_OP"


async def test_a_second_interrupt_joins_the_first(bench: Bench) -> None:
    """A run has one interrupt: a further GRACEFUL one returns it, and moves nothing."""
    await bench.running()
    first = await bench.interrupt(KEY)
    bench.clock.advance(1_000)
    before = bench.contents()
    second = await bench.interrupt(KEY, grace_ms=1)
    assert second.interrupt == first.interrupt
    assert bench.contents() == before


async def test_force_escalates_a_graceful_interrupt(bench: Bench) -> None:
    """FORCE joins the first interrupt, makes it one by force, and ends the run now."""
    run = await bench.running()
    first = await bench.interrupt(KEY)
    second = await bench.interrupt(KEY, mode=FORCE)
    assert second.interrupt.interrupt_id == first.interrupt.interrupt_id
    assert (second.interrupt.stage, second.interrupt.mode) == (InterruptStage.COMPLETED, FORCE)
    assert ending(bench.check_end(run.run_id).run_terminal) == "INTERRUPTED/FORCED"
    changed = [event.interrupt_changed for event in bench.log() if event.HasField("interrupt_changed")]
    assert [change.mode for change in changed] == [1, 2]


async def test_the_grace_ends_by_force(bench: Bench) -> None:
    """When the grace is over the next sweep writes INTERRUPTED/FORCED, not earlier."""
    run = await bench.running()
    await bench.interrupt(KEY, grace_ms=3_000)
    bench.clock.advance(2_999)
    await bench.plane.sweeper.sweep()
    assert bench.run(run.run_id).state is RunState.INTERRUPTING
    bench.clock.advance(1)
    await bench.plane.sweeper.sweep()
    assert ending(bench.check_end(run.run_id).run_terminal) == "INTERRUPTED/FORCED"


async def test_a_grace_of_nothing_is_over_with_the_next_sweep(bench: Bench) -> None:
    """A grace of 0 gives the runner until the server looks again."""
    run = await bench.running()
    await bench.interrupt(KEY, grace_ms=0)
    await bench.plane.sweeper.sweep()
    bench.check_end(run.run_id)


async def test_each_stage_is_durable(bench: Bench) -> None:
    """ACCEPTED, DELIVERED, ACKNOWLEDGED and COMPLETED are in the log, in this order, once each."""
    run = await bench.running()
    made = (await bench.interrupt(KEY)).interrupt
    for _ in range(2):
        await bench.do(stopping.deliver, NAMESPACE, run.run_id)
        await bench.heartbeat(run.run_id, acknowledged=made.interrupt_id)
    await bench.finish(run.run_id)
    assert [line for line in bench.story() if line.startswith("interrupt")] == [
        "interrupt ACCEPTED",
        "interrupt DELIVERED",
        "interrupt ACKNOWLEDGED",
        "interrupt COMPLETED",
    ]


async def test_a_stage_never_goes_back(bench: Bench) -> None:
    """What was acknowledged before it was noted as delivered stays acknowledged."""
    run = await bench.running()
    made = (await bench.interrupt(KEY)).interrupt
    await bench.heartbeat(run.run_id, acknowledged=made.interrupt_id)
    before = bench.contents()
    await bench.do(stopping.deliver, NAMESPACE, run.run_id)
    assert bench.contents() == before


async def test_delivering_behind_the_end_does_nothing(bench: Bench) -> None:
    """A delivery that is noted after the run ended writes nothing behind its terminal."""
    run = await bench.running()
    await bench.interrupt(KEY)
    await bench.finish(run.run_id)
    before = bench.contents()
    await bench.do(stopping.deliver, NAMESPACE, run.run_id)
    assert bench.contents() == before


async def test_a_repeated_request_id_is_the_same_interrupt(bench: Bench) -> None:
    """A repeat gives the interrupt at its present stage, and stops nothing else."""
    run = await bench.running()
    first = await bench.interrupt(KEY, request_id="r1")
    await bench.finish(run.run_id)
    following = await bench.start()
    again = await bench.interrupt(KEY, request_id="r1")
    assert again.interrupt.interrupt_id == first.interrupt.interrupt_id
    assert again.interrupt.stage is InterruptStage.COMPLETED
    assert bench.run(following.run.run_id).state is RunState.PENDING


async def test_a_repeated_no_op_is_the_same_no_op(bench: Bench) -> None:
    """A NO_OP that is repeated when there is something to stop stays what it was."""
    await bench.resolve()
    first = await bench.interrupt(KEY, request_id="r1")
    run = await bench.running()
    again = await bench.interrupt(KEY, request_id="r1")
    assert again.interrupt == first.interrupt
    assert bench.run(run.run_id).state is RunState.RUNNING


async def test_a_request_id_interrupts_one_thing(bench: Bench) -> None:
    """The same request id in another mode is REQUEST_ID_REUSED."""
    await bench.running()
    await bench.interrupt(KEY, request_id="r1")
    await bench.refused(RequestIdReused, bench.interrupt(KEY, request_id="r1", mode=FORCE))


async def test_what_does_not_exist_is_refused(bench: Bench) -> None:
    """An unknown session, key, run or interrupt is refused by its own error."""
    await bench.refused(SessionNotFound, bench.interrupt("ses_" + "f" * 32))
    await bench.refused(KeyNotBound, bench.interrupt("nobody"))
    await bench.refused(RunNotFound, bench.interrupt(run_id="run_unknown"))
    with pytest.raises(InterruptNotFound):
        bench.plane.read(lambda tx: interrupts.get_interrupt(tx, NAMESPACE, "int_unknown"))


async def test_an_interrupt_is_read_with_its_run(bench: Bench) -> None:
    """GetInterrupt shows the interrupt as it is, with its session and run."""
    run = await bench.running()
    made = (await bench.interrupt(KEY)).interrupt
    read = bench.plane.read(lambda tx: interrupts.get_interrupt(tx, NAMESPACE, made.interrupt_id))
    assert (read.interrupt, read.session) == (made, bench.session())
    assert read.run is not None
    assert read.run.run == bench.run(run.run_id)
    with pytest.raises(InterruptNotFound):
        bench.plane.read(lambda tx: interrupts.get_interrupt(tx, "other", made.interrupt_id))


async def test_the_runners_stream_hears_of_it(bench: Bench) -> None:
    """Interrupting a run rings for whoever watches it."""
    run = await bench.running()
    with bench.plane.bells.listen(run_topic(NAMESPACE, run.run_id)) as ticket:
        await bench.interrupt(KEY)
        assert ticket.rung
