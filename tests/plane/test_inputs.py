"""Inputs that are injected into a run under way: they are handed to its runner until it has taken them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sessionplane.domain.errors import InputNotFound, LogFull, RunIdReused, RunNotFound, RunQueueFull
from sessionplane.domain.inputs import InputStage
from sessionplane.domain.runs import RunDisposition, RunPolicy, RunState
from sessionplane.plane import inputs
from sessionplane.plane.context import run_topic
from tests.support.planes import NAMESPACE, Bench, open_bench

INTERRUPT, INJECT = RunPolicy.INTERRUPT, RunPolicy.INJECT


async def test_an_input_waits_for_the_active_run(bench: Bench) -> None:
    """INJECT hands the input to the active run: no run of its own, and an event under that run's id."""
    active = await bench.running()
    head = bench.session().head_sequence
    sent = await bench.inject("more", "mine")
    assert (sent.disposition, sent.input_id) == (RunDisposition.INJECTED, "mine")
    assert sent.run.run_id == active.run_id
    assert (sent.shown.waiting_input_ids, sent.shown.taken_input_ids) == (["mine"], [])
    assert bench.session().queued_run_count == 0
    assert bench.story(behind=head) == ["injected more"]
    event = bench.log()[-1]
    assert (event.run_id, event.input_recorded.input_id) == (active.run_id, "mine")
    with pytest.raises(RunNotFound):
        bench.run("mine")


async def test_an_input_gets_an_id_as_a_run_does(bench: Bench) -> None:
    """Without an id of the caller's it is minted, and is the id of the run that may follow."""
    active = await bench.running()
    sent = await bench.inject("more")
    assert sent.input_id.startswith("run_")
    await bench.finish(active.run_id)
    assert bench.run(sent.input_id).state is RunState.PENDING


async def test_where_the_lane_is_free_an_input_starts_a_run(bench: Bench) -> None:
    """In an idle session INJECT is an ordinary start."""
    sent = await bench.inject("more", "mine")
    assert (sent.disposition, sent.run.run_id, sent.input_id) == (RunDisposition.PENDING, "mine", "mine")


async def test_a_run_without_a_runner_is_given_inputs_too(bench: Bench) -> None:
    """An input may wait for a run that nobody has claimed yet; whoever claims it is told."""
    pending = (await bench.start()).run
    await bench.inject("more", "mine")
    await bench.claim(pending.run_id)
    assert [each.input_id for each in (await bench.heartbeat(pending.run_id)).inputs] == ["mine"]


async def test_inputs_are_repeated_until_they_are_acknowledged(bench: Bench) -> None:
    """Each answer to the runner has what waits, oldest first, whole; what it acknowledged is not in the next one."""
    active = await bench.running()
    for name in ("one", "two", "three"):
        await bench.inject(name, name)
    for _ in range(2):
        heard = await bench.heartbeat(active.run_id)
        assert [each.input_id for each in heard.inputs] == ["one", "two", "three"]
    heard = await bench.publish(active.run_id, "a", taken=["two"])
    assert [each.input_id for each in heard.inputs] == ["one", "three"]
    assert b"one" in heard.inputs[0].input
    heard = await bench.heartbeat(active.run_id, taken=["three", "one"])
    assert not heard.inputs


async def test_what_a_runner_takes_is_an_event_of_its_run(bench: Bench) -> None:
    """Acknowledging moves the input to TAKEN, in the log before what is published with it, for good."""
    active = await bench.running()
    await bench.inject("more", "mine")
    head = bench.session().head_sequence
    await bench.publish(active.run_id, "answer", taken=["mine"])
    assert bench.story(behind=head, run_id=active.run_id) == ["taken mine", "text answer"]
    assert bench.stage("mine") is InputStage.TAKEN
    view = bench.view(active.run_id)
    assert (view.waiting_input_ids, view.taken_input_ids) == ([], ["mine"])
    await bench.finish(active.run_id)
    assert bench.session().running is False


async def test_inputs_are_shown_in_the_order_in_which_they_were_taken(bench: Bench) -> None:
    """A run's taken inputs are listed as its runner took them, the waiting ones as they came."""
    active = await bench.running()
    for name in "abcd":
        await bench.inject(name, name)
    await bench.heartbeat(active.run_id, taken=["c", "a"])
    view = bench.view(active.run_id)
    assert (view.waiting_input_ids, view.taken_input_ids) == (["b", "d"], ["c", "a"])


async def test_acknowledging_twice_changes_nothing(bench: Bench) -> None:
    """A repeated acknowledgement, also in one call, is no further event."""
    active = await bench.running()
    await bench.inject("more", "mine")
    await bench.heartbeat(active.run_id, taken=["mine", "mine"])
    before = bench.contents()
    await bench.heartbeat(active.run_id, taken=["mine"])
    assert bench.contents() == before
    assert bench.story().count("taken mine") == 1


async def test_an_unknown_input_is_refused(bench: Bench) -> None:
    """What the run was never given is INPUT_NOT_FOUND, with nothing published: no id, no run's own, no other run's."""
    before = await bench.running()
    await bench.inject("more", "taken before")
    await bench.heartbeat(before.run_id, taken=["taken before"])
    await bench.finish(before.run_id)
    active = await bench.running()
    other = await bench.running("other")
    await bench.inject("more", "theirs", name="other")
    for unknown in ("nothing", active.run_id, other.run_id, "theirs", "taken before"):
        error = await bench.refused(
            InputNotFound,
            bench.publish(active.run_id, "a", taken=[unknown], token=bench.tokens[active.run_id]),
        )
        assert error.details == {"run_id": active.run_id, "input_id": unknown}
    assert bench.stage("theirs") is InputStage.RECORDED


async def test_an_answer_has_at_most_a_mebibyte_of_inputs(tmp_path: Path) -> None:
    """More than the bound is left to the next answer, and one input comes however large it is."""
    async with open_bench(tmp_path / "plane.db", command_inputs_bytes_max=100) as bench:
        active = await bench.running()
        for name in ("one", "two", "three"):
            await bench.inject(name * 12, name)
        assert [each.input_id for each in (await bench.heartbeat(active.run_id)).inputs] == ["one", "two"]
        await bench.inject("x" * 200, "large")
        heard = await bench.heartbeat(active.run_id, taken=["one", "two", "three"])
        assert [each.input_id for each in heard.inputs] == ["large"]


async def test_the_id_of_an_input_means_a_run(bench: Bench) -> None:
    """By an input's id a run is read: whom it waits for, who took it, or what it became."""
    active = await bench.running()
    await bench.inject("one", "taken")
    await bench.inject("two", "left")
    assert bench.view("taken").run.run_id == active.run_id
    await bench.heartbeat(active.run_id, taken=["taken"])
    await bench.finish(active.run_id)
    assert bench.view("taken").run.run_id == active.run_id
    assert bench.view("left").run.run_id == "left"
    with pytest.raises(RunNotFound):
        bench.view("neither")


async def test_only_the_run_itself_is_claimed_and_stopped(bench: Bench) -> None:
    """An input's id is no run to claim or to interrupt."""
    await bench.running()
    await bench.inject("more", "mine")
    await bench.refused(RunNotFound, bench.claim("mine"))
    await bench.refused(RunNotFound, bench.interrupt(run_id="mine"))


async def test_a_known_input_with_the_same_work_is_a_duplicate(bench: Bench) -> None:
    """The same id with equal content shows the run that has it, at every stage; other content is RUN_ID_REUSED."""
    active = await bench.running()
    sent = await bench.inject("more", "mine")
    for _ in range(2):
        before = bench.contents()
        again = await bench.inject("more", "mine")
        assert (again.disposition, again.run.run_id) == (RunDisposition.DUPLICATE, active.run_id)
        assert again.input_id == "mine"
        error = await bench.refused(RunIdReused, bench.start(text="more", run_id="mine"))
        assert error.details["session_id"] == sent.run.session_id
        assert bench.contents() == before
        await bench.heartbeat(active.run_id, taken=["mine"])
    await bench.inject("", "other")
    await bench.finish(active.run_id)
    again = await bench.inject("", "other")
    assert (again.disposition, again.run.run_id) == (RunDisposition.DUPLICATE, "other")


async def test_a_repeated_request_id_injects_nothing(bench: Bench) -> None:
    """A repeat gives the same input id, and the run that it means by now."""
    active = await bench.running()
    await bench.inject("more", request_id="r1")
    sent = await bench.inject("more", request_id="r1")
    assert (sent.disposition, sent.run.run_id) == (RunDisposition.INJECTED, active.run_id)
    await bench.finish(active.run_id)
    again = await bench.inject("more", request_id="r1")
    assert (again.disposition, again.input_id, again.run.run_id) == (
        RunDisposition.INJECTED,
        sent.input_id,
        sent.input_id,
    )
    assert len(bench.contents()["inputs"]) == 2


async def test_what_waits_and_what_goes_first_have_one_bound(tmp_path: Path) -> None:
    """Interrupting runs, inputs that came back and inputs that wait are counted together; nothing is injected, or
    interrupted, over the bound, and room is there again when one was taken.
    """
    async with open_bench(tmp_path / "plane.db", run_first_max=2) as bench:
        active = await bench.running()
        await bench.inject("", "one")
        await bench.inject("", "two")
        for policy in (INJECT, INTERRUPT):
            error = await bench.refused(RunQueueFull, bench.start(policy=policy))
            assert error.details["bound"] == "run_first_max"
        await bench.start()
        await bench.heartbeat(active.run_id, taken=["one"])
        await bench.start(policy=INTERRUPT)
        await bench.refused(RunQueueFull, bench.inject())
        await bench.finish(active.run_id)
        await bench.inject()
        await bench.refused(RunQueueFull, bench.inject())


async def test_a_full_log_is_given_no_inputs(tmp_path: Path) -> None:
    """What a run is given is a part of its log: beyond the reserve it is LOG_FULL, and the end is accepted, with what
    came back.
    """
    bounds = {"log_events_max": 4, "log_reserve_events_max": 2}
    async with open_bench(tmp_path / "plane.db", **bounds) as bench:
        active = await bench.running()
        await bench.inject("", "one")
        await bench.inject("", "two")
        await bench.refused(LogFull, bench.inject())
        await bench.finish(active.run_id)
        assert [bench.run(each).state for each in ("one", "two")] == [RunState.PENDING, RunState.QUEUED]


async def test_an_input_is_an_interaction(bench: Bench) -> None:
    """Whoever sends an input was there."""
    await bench.running()
    bench.clock.advance(1_000)
    await bench.inject()
    assert bench.session().last_interaction_at_ms == bench.clock.wall_ms()


async def test_the_runners_stream_hears_of_an_input(bench: Bench) -> None:
    """An input rings for whoever watches the run that it is for, and for whoever waits for its id."""
    active = await bench.running()
    for subject in (active.run_id, "mine"):
        with bench.plane.bells.listen(run_topic(NAMESPACE, subject)) as ticket:
            await bench.inject(subject, "mine" if subject == "mine" else "")
            assert ticket.rung


async def test_inputs_are_handed_to_a_stream_one_by_one(bench: Bench) -> None:
    """A stream goes from place to place: what is acknowledged meanwhile is passed over, what is new comes last."""
    active = await bench.running()
    for name in "abc":
        await bench.inject("", name)

    def after(place: int | None) -> tuple[str, int]:
        run = bench.run(active.run_id)
        found = bench.plane.read(lambda tx: inputs.next_to_hand_out(tx, run, after=place))
        return (found.input_id, found.place) if found else ("", 0)

    first, place = after(None)
    await bench.heartbeat(active.run_id, taken=["b"])
    second, place = after(place)
    assert (first, second, after(place)) == ("a", "c", ("", 0))
    await bench.inject("", "d")
    assert after(place)[0] == "d"


async def test_waiting_for_an_input_waits_for_what_becomes_of_it(bench: Bench) -> None:
    """WaitRun by an input's id goes on from the run that did not take it to the run that it became."""
    active = await bench.running()
    await bench.inject("", "mine")
    waiting = asyncio.create_task(bench.plane.wait_run(NAMESPACE, "mine", wait_s=20))
    await bench.settled()
    await bench.finish(active.run_id)
    await bench.claim("mine")
    assert not waiting.done()
    await bench.finish("mine")
    assert (await waiting).run.run_id == "mine"


async def test_waiting_for_a_taken_input_waits_for_the_run_that_took_it(bench: Bench) -> None:
    """The end of the run that took an input is the end of the wait."""
    active = await bench.running()
    await bench.inject("", "mine")
    waiting = asyncio.create_task(bench.plane.wait_run(NAMESPACE, "mine", wait_s=20))
    await bench.heartbeat(active.run_id, taken=["mine"])
    assert not waiting.done()
    await bench.finish(active.run_id)
    assert (await waiting).run.run_id == active.run_id


async def test_waiting_for_an_input_ends_as_it_is_dropped(bench: Bench) -> None:
    """An input that ends while the run that it waited for goes on is told to whoever waits by its id."""
    over = await bench.running()
    await bench.finish(over.run_id)
    active = await bench.running()
    await bench.inject("", "mine")
    waiting = asyncio.create_task(bench.plane.wait_run(NAMESPACE, "mine", wait_s=20))
    await bench.settled()
    await bench.interrupt(run_id=over.run_id, drop_queued=True)
    found = await asyncio.wait_for(waiting, timeout=10)
    assert (found.run.run_id, found.run.state) == ("mine", RunState.FINISHED)
    assert bench.run(active.run_id).state is RunState.RUNNING
