"""How a run is let into a session whose lane is taken: the three parts of the line, and what each policy does."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionplane.domain.errors import RunIdReused, RunInProgress, RunQueueFull
from sessionplane.domain.interrupts import InterruptMode, InterruptStage
from sessionplane.domain.runs import RunDisposition, RunPolicy, RunState
from sessionplane.domain.sessions import Interaction, SessionState
from tests.support.planes import KEY, Bench, open_bench
from tests.support.story import ending

INTERRUPT = RunPolicy.INTERRUPT


def line(bench: Bench, name: str = KEY) -> list[str]:
    """The waiting runs of a session, by their places."""
    waiting = {}
    for event in bench.log(name):
        if event.run_id and bench.run(event.run_id).state is RunState.QUEUED:
            waiting[event.run_id] = bench.view(event.run_id).queue_position
    assert sorted(waiting.values()) == list(range(1, len(waiting) + 1))
    return sorted(waiting, key=waiting.__getitem__)


async def test_an_interrupting_run_goes_first(bench: Bench) -> None:
    """INTERRUPT asks the active run to stop, gracefully, and the new run stands before those that wait."""
    active = await bench.running()
    await bench.start(run_id="waits")
    started = await bench.start(text="instead", run_id="instead", policy=INTERRUPT)
    assert (started.disposition, started.run.state) == (RunDisposition.INTERRUPTING, RunState.QUEUED)
    assert started.shown.queue_position == 1
    assert (started.input_id, line(bench)) == ("instead", ["instead", "waits"])
    made = bench.interrupt_of(active.run_id)
    assert (made.interrupt_id, made.stage, made.mode) == (
        started.interrupt_id,
        InterruptStage.ACCEPTED,
        InterruptMode.GRACEFUL,
    )
    assert made.escalate_at_ms == bench.clock.wall_ms() + bench.limits.interrupt_grace_ms_default
    await bench.finish(active.run_id)
    assert bench.run("instead").state is RunState.PENDING


async def test_the_newest_interrupting_run_goes_first(bench: Bench) -> None:
    """Among runs that interrupt, whoever came last goes next; they all join the one interrupt."""
    await bench.running()
    await bench.start(run_id="waits")
    ids = {
        (await bench.start(run_id=name, policy=INTERRUPT)).interrupt_id for name in ("one", "two", "three")
    }
    assert len(ids) == 1
    assert line(bench) == ["three", "two", "one", "waits"]


async def test_an_active_run_without_a_runner_gives_way_at_once(bench: Bench) -> None:
    """A pending run ends in the call that interrupts it, and the new one, which is in line by then, may be claimed;
    the session goes on.
    """
    pending = await bench.start()
    await bench.start(run_id="waits")
    started = await bench.start(text="instead", policy=INTERRUPT, run_id="instead")
    assert (started.disposition, started.run.state) == (RunDisposition.INTERRUPTING, RunState.PENDING)
    assert ending(bench.check_end(pending.run.run_id).run_terminal) == "INTERRUPTED/INTERRUPT"
    session = bench.session()
    assert (session.state, session.active_run_id, line(bench)) == (SessionState.CREATED, "instead", ["waits"])
    assert bench.story(behind=6) == [
        "input instead",
        "run none>QUEUED",
        "interrupt ACCEPTED",
        "interrupt COMPLETED",
        "run PENDING>FINISHED",
        "terminal INTERRUPTED/INTERRUPT",
        "run QUEUED>PENDING",
    ]


async def test_where_the_lane_is_free_nothing_is_interrupted(bench: Bench) -> None:
    """In an idle session INTERRUPT starts an ordinary run."""
    started = await bench.start(policy=INTERRUPT)
    assert (started.disposition, started.interrupt_id) == (RunDisposition.PENDING, "")


async def test_a_repeated_start_interrupts_nothing_more(bench: Bench) -> None:
    """A repeat by request id gives the same run, disposition and interrupt; one by run id is DUPLICATE."""
    await bench.running()
    first = await bench.start(text="instead", policy=INTERRUPT, request_id="r1", run_id="instead")
    before = bench.contents()
    again = await bench.start(text="instead", policy=INTERRUPT, request_id="r1", run_id="instead")
    assert again == first
    known = await bench.start(text="instead", policy=INTERRUPT, run_id="instead")
    assert (known.disposition, known.interrupt_id) == (RunDisposition.DUPLICATE, "")
    assert bench.contents() == before
    await bench.refused(RunIdReused, bench.start(text="instead", run_id="instead"))


async def test_an_interrupting_start_is_an_interaction(bench: Bench) -> None:
    """Whoever interrupts was there, unless it was the system."""
    await bench.running()
    bench.clock.advance(1_000)
    await bench.start(policy=INTERRUPT, interaction=Interaction.SYSTEM)
    assert bench.session().last_interaction_at_ms == bench.clock.wall_ms() - 1_000
    await bench.start(policy=INTERRUPT)
    assert bench.session().last_interaction_at_ms == bench.clock.wall_ms()


async def test_reject_is_refused_while_the_lane_is_taken(bench: Bench) -> None:
    """Policy REJECT names the active run and changes nothing, and starts where the lane is free."""
    active = await bench.start()
    error = await bench.refused(RunInProgress, bench.start(policy=RunPolicy.REJECT))
    assert error.details == {"active_run_id": active.run.run_id}
    assert (await bench.start("other", policy=RunPolicy.REJECT)).disposition is RunDisposition.PENDING


async def test_each_part_of_the_line_has_its_bound(tmp_path: Path) -> None:
    """A full last part refuses ENQUEUE, a full first part INTERRUPT; neither counts the other's runs, and nothing is
    interrupted by a call that is refused.
    """
    async with open_bench(tmp_path / "plane.db", run_queue_max=2, run_first_max=1) as bench:
        active = await bench.running()
        for _ in range(2):
            await bench.start()
        error = await bench.refused(RunQueueFull, bench.start())
        assert error.details == {"limit": "2", "what": "runs", "bound": "run_queue_max"}
        await bench.start(policy=INTERRUPT)
        error = await bench.refused(RunQueueFull, bench.start(policy=INTERRUPT))
        assert (error.details["limit"], error.details["bound"]) == ("1", "run_first_max")
        await bench.finish(active.run_id)
        assert (await bench.start(policy=INTERRUPT)).disposition is RunDisposition.INTERRUPTING


async def test_a_refused_interrupt_interrupts_nothing(tmp_path: Path) -> None:
    """Over the bound the active run goes on as it was."""
    async with open_bench(tmp_path / "plane.db", run_first_max=0) as bench:
        active = await bench.running()
        await bench.refused(RunQueueFull, bench.start(policy=INTERRUPT))
        assert bench.run(active.run_id).state is RunState.RUNNING


@pytest.mark.parametrize("policy", [RunPolicy.ENQUEUE, INTERRUPT])
async def test_each_part_of_the_line_holds_twenty(bench: Bench, policy: RunPolicy) -> None:
    """By default twenty runs may wait in each part."""
    await bench.running()
    for _ in range(20):
        await bench.start(policy=policy)
    await bench.refused(RunQueueFull, bench.start(policy=policy))


async def test_a_free_lane_is_never_refused_for_the_line(tmp_path: Path) -> None:
    """A run that need not wait is let in whatever the bounds say."""
    async with open_bench(tmp_path / "plane.db", run_queue_max=0, run_first_max=0) as bench:
        for policy in RunPolicy:
            assert (await bench.start(f"{policy}", policy=policy)).disposition is RunDisposition.PENDING
