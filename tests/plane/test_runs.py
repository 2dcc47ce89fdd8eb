"""Use cases that begin and end runs: what StartRun does in each state, the lane, and the one terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessionplane.domain.errors import (
    RequestIdReused,
    RunIdReused,
    RunInProgress,
    RunNotFound,
    SessionEnded,
    SessionNotFound,
)
from sessionplane.domain.runs import RunDisposition, RunOutcome, RunPolicy, RunState
from sessionplane.domain.sessions import Interaction, SessionCause, SessionState
from sessionplane.plane import runs
from sessionplane.plane.lane import cut_text
from sessionplane.v1.session_pb2 import SESSION_CAUSE_CLOSED, SESSION_STATE_ENDED
from tests.support.planes import KEY, RUN_MS, START_MS, Bench
from tests.support.story import ending

UNKNOWN = "ses_" + "f" * 32


async def test_a_start_creates_the_session_of_a_new_key(bench: Bench) -> None:
    """An unknown key gets its session and the run in one transaction."""
    started = await bench.start("settings2", "hello")
    assert (started.disposition, started.run.state) == (RunDisposition.PENDING, RunState.PENDING)
    assert bench.session("settings2").active_run_id == started.run.run_id
    assert bench.story("settings2") == [
        "session none>CREATED",
        "key CREATED",
        "input hello",
        "run none>PENDING",
    ]


async def test_a_start_without_a_name_makes_a_session_without_a_key(bench: Bench) -> None:
    """Work that begins before its key is known has a session of its own each time."""
    one, two = await bench.start(None), await bench.start(None)
    assert one.view.session.key is None
    assert one.view.session.session_id != two.view.session.session_id
    assert bench.story(one.view.session.session_id) == ["session none>CREATED", "input ", "run none>PENDING"]


async def test_a_start_in_an_unknown_session_is_refused(bench: Bench) -> None:
    """An id that nobody was given starts nothing."""
    await bench.refused(SessionNotFound, bench.start(UNKNOWN))


async def test_a_new_run_is_as_it_was_asked_for(bench: Bench) -> None:
    """The row holds what the request said, and the deadline of its wait."""
    run = (await bench.start(pool="gpu", labels={"a": "b"}, run_id="my-run")).run
    assert (run.run_id, run.pool, run.labels, run.generation) == ("my-run", "gpu", {"a": "b"}, 1)
    assert (run.start_timeout_ms, run.run_timeout_ms) == (START_MS, RUN_MS)
    assert run.due_at_ms == run.deadline_ms == bench.clock.wall_ms() + START_MS
    assert (run.first_sequence, run.lane_sequence, run.lease_token) == (3, 4, "")


async def test_the_answer_ends_where_the_log_ends(bench: Bench) -> None:
    """The view after a start is the row as it was written, with its head."""
    started = await bench.start()
    assert started.view.session == bench.session()
    assert started.view.head.sequence == 4
    assert started.view.active_run == started.shown


async def test_a_second_run_stands_in_line(bench: Bench) -> None:
    """While the lane is taken, ENQUEUE puts a run into the line, first come first."""
    await bench.start(text="one")
    positions = []
    for text in ("two", "three"):
        started = await bench.start(text=text)
        assert started.disposition is RunDisposition.QUEUED
        assert started.run.due_at_ms is None
        positions.append(started.shown.queue_position)
    assert positions == [1, 2]
    assert bench.session().queued_run_count == 2
    assert bench.story(behind=4) == ["input two", "run none>QUEUED", "input three", "run none>QUEUED"]


async def test_a_known_run_id_with_the_same_work_is_a_duplicate(bench: Bench) -> None:
    """The same run id, session, input and policy is DUPLICATE with the run as it is now, and writes nothing."""
    await bench.running(text="hello", run_id="mine")
    before = bench.contents()
    again = await bench.start(text="hello", run_id="mine", pool="elsewhere")
    assert (again.disposition, again.run.state) == (RunDisposition.DUPLICATE, RunState.RUNNING)
    assert bench.contents() == before


async def test_a_duplicate_shows_its_own_session(bench: Bench) -> None:
    """A run started without a session is found again by its id, in the session that it got."""
    first = await bench.start(None, "hello", run_id="mine")
    again = await bench.start(None, "hello", run_id="mine")
    assert again.disposition is RunDisposition.DUPLICATE
    assert again.view.session == first.view.session


async def test_a_duplicate_in_line_shows_its_place(bench: Bench) -> None:
    """A run that still waits is shown with where it stands."""
    await bench.start()
    await bench.start(text="hello", run_id="mine")
    assert (await bench.start(text="hello", run_id="mine")).shown.queue_position == 1


async def test_a_duplicate_is_looked_up_before_anything_else(bench: Bench) -> None:
    """A finished run's id is DUPLICATE even when its session would be resumed, refused or full."""
    run = await bench.running(text="hello", run_id="mine", policy=RunPolicy.REJECT)
    await bench.start()
    again = await bench.start(text="hello", run_id="mine", policy=RunPolicy.REJECT)
    assert again.disposition is RunDisposition.DUPLICATE
    await bench.finish(run.run_id)
    again = await bench.start(text="hello", run_id="mine", policy=RunPolicy.REJECT)
    assert again.run.state is RunState.FINISHED


@pytest.mark.parametrize(
    ("name", "text", "policy"),
    [
        (KEY, "other", RunPolicy.ENQUEUE),
        ("other", "hello", RunPolicy.ENQUEUE),
        (KEY, "hello", RunPolicy.REJECT),
    ],
    ids=["input", "session", "policy"],
)
async def test_a_known_run_id_with_other_work_is_refused(
    bench: Bench, name: str, text: str, policy: RunPolicy
) -> None:
    """The same run id with another input, session or policy is RUN_ID_REUSED, with the session that has it."""
    first = await bench.start(KEY, "hello", run_id="mine")
    error = await bench.refused(RunIdReused, bench.start(name, text, run_id="mine", policy=policy))
    assert error.details == {"run_id": "mine", "session_id": first.view.session.session_id}


async def test_a_repeated_request_id_starts_nothing(bench: Bench) -> None:
    """A repeat gives the same run at its present state, with what the first call did."""
    first = await bench.start(text="hello", request_id="r1")
    await bench.claim(first.run.run_id)
    before = bench.contents()
    again = await bench.start(text="hello", request_id="r1")
    assert (again.run.run_id, again.disposition) == (first.run.run_id, RunDisposition.PENDING)
    assert again.run.state is RunState.RUNNING
    assert bench.contents() == before


async def test_a_request_id_starts_one_thing(bench: Bench) -> None:
    """The same request id with another input is REQUEST_ID_REUSED."""
    await bench.start(text="hello", request_id="r1")
    await bench.refused(RequestIdReused, bench.start(text="other", request_id="r1"))


async def test_a_refused_start_leaves_its_request_id_free(bench: Bench) -> None:
    """What changed nothing is not remembered."""
    await bench.start()
    await bench.refused(RunInProgress, bench.start(policy=RunPolicy.REJECT, request_id="r1", content="a"))
    await bench.start(request_id="r1", content="b")


async def test_only_people_interact(bench: Bench) -> None:
    """A start by a user is an interaction, one by the system is none."""
    await bench.start()
    at_ms = bench.clock.wall_ms()
    bench.clock.advance(1_000)
    await bench.start(interaction=Interaction.SYSTEM)
    assert bench.session().last_interaction_at_ms == at_ms
    await bench.start()
    assert bench.session().last_interaction_at_ms == at_ms + 1_000


async def test_an_ended_session_is_resumed(bench: Bench) -> None:
    """StartRun on an ENDED session makes it CREATED again, one generation later, in the same log."""
    first = await bench.start()
    await bench.interrupt(run_id=first.run.run_id)
    ended = bench.session()
    assert (ended.state, ended.generation) == (SessionState.ENDED, 1)
    bench.clock.advance(1_000)
    second = await bench.start(text="again")
    session = bench.session()
    assert (session.session_id, session.state, session.generation) == (
        ended.session_id,
        SessionState.CREATED,
        2,
    )
    assert (session.ended_at_ms, session.end_reason) == (None, None)
    assert session.started_at_ms == bench.clock.wall_ms()
    assert second.run.generation == 2
    assert bench.story(behind=ended.head_sequence) == [
        "session ENDED>CREATED",
        "input again",
        "run none>PENDING",
    ]


async def test_a_closing_session_ends_its_rest_and_resumes(bench: Bench) -> None:
    """StartRun on a CLOSING session cuts the claimed run, rejects what waits, and begins the next generation."""
    active = await bench.running()
    await bench.publish(active.run_id, "so far")
    queued = await bench.start()
    session = bench.session()
    await bench.write(lambda tx, _: tx.save_session(replace(session, state=SessionState.CLOSING)))
    started = await bench.start(text="next")
    assert started.disposition is RunDisposition.PENDING
    assert ending(bench.check_end(active.run_id).run_terminal) == "INTERRUPTED/SESSION_ENDED"
    assert bench.run(active.run_id).terminal
    assert ending(bench.check_end(queued.run.run_id).run_terminal) == "REJECTED/SESSION_ENDED"
    after = bench.session()
    assert (after.state, after.generation, after.active_run_id) == (
        SessionState.CREATED,
        2,
        started.run.run_id,
    )
    assert after.queued_run_count == 0
    closed = [each for each in bench.log() if each.session_changed.to_state == SESSION_STATE_ENDED]
    assert [each.session_changed.cause for each in closed] == [SESSION_CAUSE_CLOSED]
    assert bench.story(behind=session.head_sequence) == [
        "run QUEUED>FINISHED",
        "terminal REJECTED/SESSION_ENDED",
        "run RUNNING>FINISHED",
        "terminal INTERRUPTED/SESSION_ENDED",
        "session CLOSING>ENDED",
        "session ENDED>CREATED",
        "input next",
        "run none>PENDING",
    ]


async def test_a_final_session_never_runs_again(bench: Bench) -> None:
    """StartRun by the id of a final session is SESSION_ENDED, with its successor."""
    session = (await bench.resolve()).view.session
    final = replace(
        session,
        state=SessionState.ENDED,
        final=True,
        superseded_by="ses_next",
        end_reason=SessionCause.SUPERSEDED,
    )
    await bench.write(lambda tx, _: tx.save_session(final))
    error = await bench.refused(SessionEnded, bench.start(session.session_id))
    assert error.details == {"session_id": session.session_id, "successor": "ses_next"}


@pytest.mark.parametrize(
    "state", [SessionState.CREATED, SessionState.ACTIVE, SessionState.DETACHED, SessionState.SUSPENDED]
)
async def test_a_start_moves_no_live_session(bench: Bench, state: SessionState) -> None:
    """In a live state a start puts the run into the lane and leaves the session where it is."""
    session = (await bench.resolve()).view.session
    await bench.write(lambda tx, _: tx.save_session(replace(session, state=state)))
    await bench.start()
    assert bench.session().state is state
    assert bench.story(behind=2) == ["input ", "run none>PENDING"]


async def test_the_next_in_line_is_promoted(bench: Bench) -> None:
    """When the lane gets free, the first in line may be claimed, in the same transaction."""
    active = await bench.running()
    two, three = await bench.start(), await bench.start()
    await bench.finish(active.run_id)
    session = bench.session()
    assert (session.active_run_id, session.queued_run_count) == (two.run.run_id, 1)
    promoted = bench.run(two.run.run_id)
    assert (promoted.state, promoted.pending_since_ms) == (RunState.PENDING, bench.clock.wall_ms())
    assert promoted.due_at_ms == bench.clock.wall_ms() + START_MS
    assert promoted.lane_sequence == session.head_sequence
    assert bench.view(three.run.run_id).queue_position == 1
    assert bench.story()[-2:] == ["terminal SUCCEEDED/RUNNER", "run QUEUED>PENDING"]


async def test_a_run_that_ends_in_line_frees_its_place_only(bench: Bench) -> None:
    """Ending a queued run leaves the lane alone and moves those behind it up."""
    active, two, three = await bench.start(), await bench.start(), await bench.start()
    await bench.interrupt(run_id=two.run.run_id)
    session = bench.session()
    assert (session.active_run_id, session.queued_run_count) == (active.run.run_id, 1)
    assert bench.view(three.run.run_id).queue_position == 1
    bench.check_end(two.run.run_id)


async def test_when_a_first_run_dies_the_next_one_goes_on(bench: Bench) -> None:
    """A session whose first run ended unclaimed stays CREATED while another waits, and ends with the last."""
    one, two = await bench.start(), await bench.start()
    await bench.interrupt(run_id=one.run.run_id)
    assert bench.session().state is SessionState.CREATED
    await bench.interrupt(run_id=two.run.run_id)
    session = bench.session()
    assert (session.state, session.end_reason) == (SessionState.ENDED, SessionCause.RUN_ENDED)


async def test_a_session_that_was_heard_outlives_its_runs(bench: Bench) -> None:
    """A session past STARTING does not end with its last run."""
    run = await bench.running()
    await bench.finish(run.run_id)
    session = bench.session()
    assert (session.state, session.running) == (SessionState.DETACHED, False)


async def test_an_unknown_run_is_refused(bench: Bench) -> None:
    """There is no run of an id that nobody was given, nor of another namespace."""
    run_id = (await bench.start()).run.run_id
    with pytest.raises(RunNotFound):
        bench.run("run_unknown")
    with pytest.raises(RunNotFound):
        bench.plane.read(lambda tx: runs.get_run(tx, "other", run_id))


@pytest.mark.parametrize(
    ("text", "bytes_max", "cut"),
    [
        ("abc", 3, ("abc", True)),
        ("abcd", 3, ("abc", False)),
        ("aé", 2, ("a", False)),
        ("aé", 3, ("aé", True)),
        ("🙂🙂", 7, ("🙂", False)),
        ("", 0, ("", True)),
    ],
)
def test_text_is_cut_between_two_characters(text: str, bytes_max: int, cut: tuple[str, bool]) -> None:
    """A cut text has at most so many bytes of UTF-8, no half character, and says whether it is whole."""
    assert cut_text(text, bytes_max) == cut


async def test_an_end_says_how_long_the_run_has_ended(bench: Bench) -> None:
    """The row, the event and the terminal have the moment of the end."""
    run = await bench.running()
    bench.clock.advance(1_234)
    finished = await bench.finish(run.run_id, "done", outcome=RunOutcome.FAILED)
    assert finished.run.finished_at_ms == bench.clock.wall_ms()
    terminal = bench.check_end(run.run_id)
    assert terminal.run_terminal.finish_time.ToMilliseconds() == bench.clock.wall_ms()
