"""Use cases of a runner that holds a run: publish, stay alive, finish."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessionplane.domain.errors import InterruptNotFound, RunNotFound, RunSequenceGap
from sessionplane.domain.interrupts import InterruptStage
from sessionplane.domain.runs import FinishResult, RunFailure, RunOutcome, RunState
from sessionplane.domain.sessions import SessionState
from sessionplane.plane import runners
from sessionplane.store.codec import run_pb2
from tests.support.planes import KEY, LEASE_MS, Bench, custom
from tests.support.story import ending


def payload(text: str) -> bytes:
    return run_pb2.Payload(text=text).SerializeToString()


async def test_events_are_numbered_and_placed(bench: Bench) -> None:
    """Published events count from 1 for the run, and each text knows at which byte it begins."""
    run = await bench.running()
    await bench.publish(run.run_id, "aé", custom("step"))
    heard = await bench.publish(run.run_id, "🙂", "z")
    events = [event for event in bench.log() if event.run_sequence]
    assert [event.run_sequence for event in events] == [1, 2, 3, 4]
    assert [event.output_delta.offset for event in events if event.HasField("output_delta")] == [0, 3, 7]
    assert (heard.last_run_sequence, heard.last_sequence) == (4, bench.session().head_sequence)
    after = bench.run(run.run_id)
    assert (after.output_bytes, after.first_output_sequence) == (8, events[0].sequence)


async def test_a_runner_that_nobody_watches_works_detached(bench: Bench) -> None:
    """The first event moves STARTING to ACTIVE and on to DETACHED, before the event, once."""
    run = await bench.running()
    await bench.publish(run.run_id, "a")
    await bench.publish(run.run_id, "b")
    assert bench.story(behind=6) == ["session STARTING>ACTIVE", "session ACTIVE>DETACHED", "text a", "text b"]


async def test_a_runner_that_is_watched_works_actively(bench: Bench) -> None:
    """With a subscriber attached the first event leaves the session ACTIVE."""
    run = await bench.running()
    await bench.attach(run.session_id)
    await bench.publish(run.run_id, "a")
    assert bench.story(behind=6) == ["session STARTING>ACTIVE", "text a"]


async def test_a_heartbeat_is_no_event(bench: Bench) -> None:
    """Staying alive keeps a session STARTING and writes nothing into the log."""
    run = await bench.running()
    head = bench.session().head_sequence
    await bench.heartbeat(run.run_id)
    assert (bench.session().state, bench.session().head_sequence) == (SessionState.STARTING, head)


async def test_an_empty_publication_is_a_sign_of_life(bench: Bench) -> None:
    """Publishing nothing extends and confirms the lease, and is no first event."""
    run = await bench.running()
    bench.clock.advance(5_000)
    heard = await bench.publish(run.run_id)
    assert heard.lease.expires_at_ms == bench.clock.wall_ms() + LEASE_MS
    assert bench.run(run.run_id).lease_confirmed
    assert bench.session().state is SessionState.STARTING


@pytest.mark.parametrize(
    ("first", "texts", "duplicates", "expected"),
    [
        (1, "ab", 2, "abc"),
        (2, "bcd", 2, "abcd"),
        (3, "cde", 1, "abcde"),
        (4, "de", 0, "abcde"),
        (0, "d", 0, "abcd"),
        (1, "", 0, "abc"),
    ],
)
async def test_repeats_are_skipped(
    bench: Bench, first: int, texts: str, duplicates: int, expected: str
) -> None:
    """With first_run_sequence what is there already is skipped, and the rest appended."""
    run = await bench.running()
    await bench.publish(run.run_id, *"abc")
    heard = await bench.publish(run.run_id, *texts, first=first)
    assert (heard.duplicate_count, heard.last_run_sequence) == (duplicates, len(expected))
    written = "".join(e.output_delta.text for e in bench.log() if e.HasField("output_delta"))
    assert written == expected


async def test_a_gap_is_refused(bench: Bench) -> None:
    """Events that would leave a hole are refused with the number that is expected, and extend nothing."""
    run = await bench.running()
    await bench.publish(run.run_id, "a")
    bench.clock.advance(1_000)
    error = await bench.refused(RunSequenceGap, bench.publish(run.run_id, "c", first=3))
    assert error.details == {"expected": "2"}


async def test_a_heartbeat_confirms_and_extends(bench: Bench) -> None:
    """The first sign of life confirms the lease, and each one grants it in full again."""
    run = await bench.running()
    bench.clock.advance(10_000)
    heard = await bench.heartbeat(run.run_id)
    assert bench.run(run.run_id).lease_confirmed
    assert heard.lease.expires_at_ms == bench.clock.wall_ms() + LEASE_MS
    before = bench.contents() | {"leases": None}
    bench.clock.advance(10_000)
    heard = await bench.heartbeat(run.run_id)
    assert heard.lease.expires_at_ms == bench.clock.wall_ms() + LEASE_MS
    assert bench.contents() | {"leases": None} == before


async def test_opening_a_drive_is_a_sign_of_life(bench: Bench) -> None:
    """A stream's opening confirms the lease and hands out the run with its input."""
    run = await bench.running(text="hello")
    view, heard = await bench.do(runners.open_drive, bench.holder(run.run_id))
    assert view.run.lease_confirmed
    assert run_pb2.Payload.FromString(view.run.input).text == "hello"
    assert heard.lease.token == bench.tokens[run.run_id]


async def test_an_acknowledgement_must_be_of_the_runs_interrupt(bench: Bench) -> None:
    """Acknowledging what is not the run's is INTERRUPT_NOT_FOUND, and the runner was not heard."""
    run = await bench.running()
    await bench.refused(InterruptNotFound, bench.heartbeat(run.run_id, acknowledged="int_unknown"))
    assert not bench.run(run.run_id).lease_confirmed


async def test_an_unknown_run_is_refused(bench: Bench) -> None:
    """There is nothing to publish to under an id that nobody was given."""
    await bench.refused(RunNotFound, bench.publish("run_unknown", "x"))


async def test_a_report_becomes_the_terminal(bench: Bench) -> None:
    """What the runner reports stands in the row, the event and the answer: the first terminal of the run."""
    run = await bench.running()
    failure = RunFailure(reason="QUOTA", message="No more.", retryable=True)
    finished = await bench.finish(
        run.run_id, "half", outcome=RunOutcome.FAILED, failure=failure, result=payload("r")
    )
    assert finished.result is FinishResult.RECORDED
    terminal = bench.check_end(run.run_id).run_terminal
    assert (ending(terminal), terminal.output_text) == ("FAILED/RUNNER", "half")
    assert terminal.output_complete
    assert terminal.result.text == "r"
    assert (terminal.failure.reason, terminal.failure.message, terminal.failure.retryable) == (
        "QUOTA",
        "No more.",
        True,
    )


@pytest.mark.parametrize(
    ("outcome", "complete"),
    [(RunOutcome.SUCCEEDED, True), (RunOutcome.FAILED, False), (RunOutcome.INTERRUPTED, False)],
)
async def test_without_a_text_the_deltas_are_joined(
    bench: Bench, outcome: RunOutcome, complete: bool
) -> None:
    """The joined text is complete if the run succeeded."""
    run = await bench.running()
    await bench.publish(run.run_id, "one ", custom("step"), "two")
    await bench.finish(run.run_id, outcome=outcome)
    terminal = bench.check_end(run.run_id).run_terminal
    assert (terminal.output_text, terminal.output_complete) == ("one two", complete)


async def test_an_empty_text_is_a_text(bench: Bench) -> None:
    """A runner that gives the empty text means it: nothing is joined."""
    run = await bench.running()
    await bench.publish(run.run_id, "draft")
    await bench.finish(run.run_id, "", outcome=RunOutcome.FAILED)
    terminal = bench.check_end(run.run_id).run_terminal
    assert (terminal.output_text, terminal.output_complete) == ("", True)


@pytest.mark.parametrize("given", [True, False], ids=["given", "joined"])
async def test_a_long_text_is_cut_at_a_character(bench: Bench, given: bool) -> None:
    """The text of a terminal is at most 256 KiB, ends between two characters, and says that it was cut."""
    bytes_max = bench.limits.terminal_text_bytes_max
    text = "a" + "é" * (bytes_max // 2)
    run = await bench.running()
    if not given:
        half = len(text) // 2
        await bench.publish(run.run_id, text[:half], text[half:])
    await bench.finish(run.run_id, text if given else None)
    terminal = bench.check_end(run.run_id).run_terminal
    assert terminal.output_text == text[: bytes_max // 2]
    assert len(terminal.output_text.encode()) == bytes_max - 1
    assert not terminal.output_complete


async def test_the_texts_of_two_runs_do_not_mix(bench: Bench) -> None:
    """A terminal joins the deltas of its own run only."""
    for text in ("first", "second"):
        run = await bench.running()
        await bench.publish(run.run_id, text)
        await bench.finish(run.run_id)
        assert bench.check_end(run.run_id).run_terminal.output_text == text


async def test_the_same_report_twice_is_a_duplicate(bench: Bench) -> None:
    """A repeat is DUPLICATE with the terminal, and writes nothing."""
    run = await bench.running()
    first = await bench.finish(run.run_id, "done")
    before = bench.contents()
    again = await bench.finish(run.run_id, "done")
    assert (again.result, again.run) == (FinishResult.DUPLICATE, first.run)
    assert bench.contents() == before


async def test_another_report_is_kept_beside_the_end(bench: Bench) -> None:
    """A different late report is SUPERSEDED: the terminal stands, and its result is a late_result, once."""
    run = await bench.running()
    await bench.finish(run.run_id, "first")
    terminal = bench.check_end(run.run_id)
    failure = RunFailure(reason="LATE")
    late = await bench.finish(run.run_id, "second", outcome=RunOutcome.FAILED, failure=failure)
    assert (late.result, late.run.terminal_sequence) == (FinishResult.SUPERSEDED, terminal.sequence)
    assert bench.check_end(run.run_id) == terminal
    event = bench.log()[-1]
    assert (event.run_id, event.late_result.run_id, event.late_result.output_text) == (
        "",
        run.run_id,
        "second",
    )
    assert event.late_result.failure.reason == "LATE"
    before = bench.contents()
    again = await bench.finish(run.run_id, "second", outcome=RunOutcome.FAILED, failure=failure)
    assert again.result is FinishResult.SUPERSEDED
    assert bench.contents() == before


async def test_a_late_text_is_bounded(bench: Bench) -> None:
    """The text of a late result is cut like a terminal's."""
    run = await bench.running()
    await bench.finish(run.run_id)
    await bench.finish(run.run_id, "x" * (bench.limits.terminal_text_bytes_max + 1))
    late = bench.log()[-1].late_result
    assert len(late.output_text) == bench.limits.terminal_text_bytes_max


async def test_the_last_holder_of_a_lost_run_may_still_report(bench: Bench) -> None:
    """A runner whose run was ended elsewhere learns how, and what it has is kept."""
    run = await bench.running()
    await bench.heartbeat(run.run_id)
    await bench.pass_time(LEASE_MS + 1_000)
    assert ending(bench.check_end(run.run_id).run_terminal) == "LOST/LEASE_EXPIRED"
    late = await bench.finish(run.run_id, "I was only slow")
    assert late.result is FinishResult.SUPERSEDED
    assert bench.story()[-1] == "late SUCCEEDED"


async def test_finishing_counts_as_the_first_event(bench: Bench) -> None:
    """A run that ends without publishing anything still brought its session to life."""
    run = await bench.running()
    await bench.finish(run.run_id)
    assert bench.story(behind=6) == [
        "session STARTING>ACTIVE",
        "session ACTIVE>DETACHED",
        "run RUNNING>FINISHED",
        "terminal SUCCEEDED/RUNNER",
    ]


async def test_finishing_a_closing_session_ends_it(bench: Bench) -> None:
    """The claimed run of a CLOSING session may finish, and the session ends behind it."""
    run = await bench.running()
    session = bench.session()
    await bench.write(lambda tx, _: tx.save_session(replace(session, state=SessionState.CLOSING)))
    await bench.publish(run.run_id, "bye")
    await bench.finish(run.run_id)
    assert ending(bench.check_end(run.run_id).run_terminal) == "SUCCEEDED/RUNNER"
    assert bench.story()[-1] == "session CLOSING>ENDED"


async def test_a_run_that_is_to_stop_may_finish_as_it_likes(bench: Bench) -> None:
    """Of an INTERRUPTING run the runner's report is the end, and it completes the interrupt."""
    run = await bench.running()
    made = await bench.interrupt(KEY)
    await bench.finish(run.run_id, "all of it")
    terminal = bench.check_end(run.run_id).run_terminal
    assert (ending(terminal), terminal.interrupt_id) == ("SUCCEEDED/RUNNER", made.interrupt.interrupt_id)
    assert bench.story()[-3:] == [
        "interrupt COMPLETED",
        "run INTERRUPTING>FINISHED",
        "terminal SUCCEEDED/RUNNER",
    ]


async def test_what_is_handed_out_is_delivered(bench: Bench) -> None:
    """An interrupt is in every answer until it is acknowledged, and DELIVERED with the first."""
    run = await bench.running()
    assert (await bench.heartbeat(run.run_id)).interrupt is None
    made = (await bench.interrupt(KEY)).interrupt
    for heard in (await bench.publish(run.run_id, "a"), await bench.heartbeat(run.run_id)):
        assert heard.interrupt is not None
        assert (heard.interrupt.interrupt_id, heard.interrupt.stage) == (
            made.interrupt_id,
            InterruptStage.DELIVERED,
        )
    heard = await bench.heartbeat(run.run_id, acknowledged=made.interrupt_id)
    assert heard.interrupt is None
    told = [line for line in bench.story() if line.startswith("interrupt")]
    assert told == ["interrupt ACCEPTED", "interrupt DELIVERED", "interrupt ACKNOWLEDGED"]
    assert bench.run(run.run_id).state is RunState.INTERRUPTING


async def test_a_stream_says_itself_what_it_delivered(bench: Bench) -> None:
    """With deliver False the interrupt is shown, and its stage is left to whoever writes it."""
    run = await bench.running()
    await bench.interrupt(KEY)
    heard = await bench.do(runners.heartbeat, bench.holder(run.run_id), deliver=False)
    assert heard.interrupt is not None
    assert heard.interrupt.stage is InterruptStage.ACCEPTED
