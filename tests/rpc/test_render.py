"""To the wire: every enum is total, and every field of a row is shown where it belongs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sessionplane.domain.interrupts import InterruptMode, InterruptStage
from sessionplane.domain.routing import ROUTES, Verb
from sessionplane.domain.runs import FinishResult, RunDisposition, RunOutcome, RunState
from sessionplane.domain.sessions import Resolution, SessionCause, SessionState, Visibility
from sessionplane.domain.streams import ClosingReason
from sessionplane.domain.tokens import parse_resume_token, stamp
from sessionplane.rpc import render
from sessionplane.store import codec
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from tests.support import values
from tests.support.planes import KEY, LEASE_MS, Bench

ENUMS: list[tuple[Any, Mapping[Any, int], Any]] = [
    (SessionState, render.SESSION_STATES, session_pb2.SessionState),
    (SessionCause, render.SESSION_CAUSES, session_pb2.SessionCause),
    (Visibility, render.VISIBILITIES, session_pb2.Visibility),
    (Resolution, render.RESOLUTIONS, session_pb2.Resolution),
    (RunState, render.RUN_STATES, run_pb2.RunState),
    (RunDisposition, render.DISPOSITIONS, run_pb2.RunDisposition),
    (FinishResult, render.FINISH_RESULTS, run_pb2.FinishResult),
    (InterruptMode, render.MODES, run_pb2.InterruptMode),
    (InterruptStage, render.STAGES, run_pb2.InterruptStage),
    (ClosingReason, render.CLOSINGS, pb.ClosingReason),
]


@pytest.mark.parametrize(("kind", "numbers", "wire"), ENUMS, ids=[kind.__name__ for kind, _, _ in ENUMS])
def test_every_member_has_its_number(kind: Any, numbers: Mapping[Any, int], wire: Any) -> None:
    """Each member is shown by the number of its own name, and none as the unspecified one."""
    assert set(numbers) == set(kind)
    for member, number in numbers.items():
        assert number != 0
        assert wire.Name(number).endswith(f"_{member.value}")
    assert set(numbers.values()) == set(wire.values()) - {0}


def test_every_route_can_be_shown() -> None:
    """Each cell of start_run has a value of its own on the wire, and nothing else is a route."""
    assert set(render.ROUTES) == set(ROUTES[Verb.START_RUN].values())
    assert set(render.ROUTES.values()) == set(session_pb2.Route.values()) - {0}


@pytest.mark.parametrize(
    ("at_ms", "seconds", "nanos"), [(0, 0, 0), (1, 0, 1_000_000), (1_999, 1, 999_000_000)]
)
def test_a_moment_is_shown_to_the_millisecond(at_ms: int, seconds: int, nanos: int) -> None:
    """Times keep their milliseconds."""
    shown = render.timestamp(at_ms)
    assert shown is not None
    assert (shown.seconds, shown.nanos) == (seconds, nanos)


def test_an_absent_moment_stays_absent() -> None:
    """What has not happened has no time."""
    assert render.timestamp(None) is None


async def test_a_session_is_shown_whole(bench: Bench) -> None:
    """Every field of the row, and how many are attached, is in the answer."""
    row = values.session(
        key=values.key("direct:ada"),
        state=SessionState.ENDED,
        final=True,
        generation=3,
        active_run_id="run_1",
        queued_run_count=2,
        labels={"a": "b"},
        display_name="Ada",
        visibility=Visibility.INTERNAL,
        started_at_ms=2_000,
        last_interaction_at_ms=3_000,
        updated_at_ms=4_000,
        ended_at_ms=5_000,
        end_reason=SessionCause.SUPERSEDED,
        previous_session_id="ses_0",
        superseded_by="ses_2",
        change_number=255,
        head_sequence=9,
        floor_sequence=4,
    )
    shown = render.session(bench.plane, row)
    assert (shown.session_id, shown.key, shown.kind) == (row.session_id, "agent:main:direct:ada", "direct")
    assert shown.state == session_pb2.SESSION_STATE_ENDED
    assert shown.end_reason == session_pb2.SESSION_CAUSE_SUPERSEDED
    assert (shown.generation, shown.running, shown.final) == (3, True, True)
    assert (shown.active_run_id, shown.queued_run_count, shown.attached_count) == ("run_1", 2, 0)
    assert (shown.head_sequence, shown.floor_sequence, shown.etag) == (9, 4, "ff")
    assert (dict(shown.labels), shown.display_name) == ({"a": "b"}, "Ada")
    assert shown.visibility == session_pb2.VISIBILITY_INTERNAL
    assert (shown.previous_session_id, shown.superseded_by) == ("ses_0", "ses_2")
    times = [
        shown.create_time,
        shown.start_time,
        shown.last_interaction_time,
        shown.update_time,
        shown.end_time,
    ]
    assert [time.ToMilliseconds() for time in times] == [row.created_at_ms, 2_000, 3_000, 4_000, 5_000]


async def test_what_a_session_has_not_is_absent(bench: Bench) -> None:
    """Without a key, an end or an interaction these fields are not set."""
    shown = render.session(bench.plane, values.session())
    assert (shown.key, shown.kind, shown.end_reason) == ("", "", session_pb2.SESSION_CAUSE_UNSPECIFIED)
    assert not shown.HasField("end_time")
    assert not shown.HasField("last_interaction_time")


async def test_attached_streams_are_shown(bench: Bench) -> None:
    """attached_count is the live count."""
    session = (await bench.resolve()).view.session
    await bench.attach(session.session_id)
    assert render.session(bench.plane, session).attached_count == 1


async def test_a_run_is_shown_whole_or_small(bench: Bench) -> None:
    """Input, result and text are shown only where one run is asked for."""
    run = await bench.running(KEY, "hello", pool="gpu", labels={"a": "b"})
    await bench.publish(run.run_id, "text")
    await bench.finish(run.run_id, result=run_pb2.Payload(text="r").SerializeToString())
    view = bench.view(run.run_id)
    whole, small = render.run(bench.plane, view, whole=True), render.run(bench.plane, view)
    assert (whole.input.text, whole.terminal.output_text, whole.terminal.result.text) == (
        "hello",
        "text",
        "r",
    )
    assert not small.HasField("input")
    assert (small.terminal.output_text, small.terminal.HasField("result")) == ("", False)
    assert small.terminal.outcome == run_pb2.RUN_OUTCOME_SUCCEEDED
    for shown in (whole, small):
        assert (shown.run_id, shown.session_id, shown.session_key) == (run.run_id, run.session_id, KEY)
        assert (shown.pool, dict(shown.labels), shown.runner_id, shown.lease_epoch) == (
            "gpu",
            {"a": "b"},
            "runner",
            1,
        )
        assert (shown.generation, shown.state, shown.last_run_sequence) == (1, run_pb2.RUN_STATE_FINISHED, 1)
        assert shown.HasField("end_time")
        assert not shown.HasField("deadline")
        assert not shown.HasField("lease_expire_time")


async def test_a_claimed_run_shows_its_times(bench: Bench) -> None:
    """Who reads a claimed run sees when its lease and its time run out, and never its lease token."""
    run = await bench.running()
    shown = render.run(bench.plane, bench.view(run.run_id))
    assert shown.lease_expire_time.ToMilliseconds() == bench.clock.wall_ms() + LEASE_MS
    assert shown.deadline.ToMilliseconds() == run.run_deadline_ms
    assert bench.tokens[run.run_id] not in str(shown)
    assert not shown.HasField("terminal")


async def test_a_queued_run_shows_its_place(bench: Bench) -> None:
    """Position 1 is next, and 0 is nobody's place in line."""
    active, queued = await bench.start(), await bench.start()
    assert render.run(bench.plane, bench.view(queued.run.run_id)).queue_position == 1
    assert render.run(bench.plane, bench.view(active.run.run_id)).queue_position == 0


async def test_a_run_of_a_session_without_a_key_shows_none(bench: Bench) -> None:
    """A key that there is not is the empty text."""
    started = await bench.start(None)
    assert render.run(bench.plane, bench.view(started.run.run_id)).session_key == ""


async def test_a_token_is_the_place_in_the_log(bench: Bench) -> None:
    """The token in an answer is the head of the session's log."""
    session = (await bench.resolve()).view.session
    token = parse_resume_token(render.head_token(bench.plane, session))
    assert (token.store_id, token.session_id) == (bench.store.store_id, session.session_id)
    assert (token.sequence, token.chain) == (2, stamp(session.head_hash))


async def test_no_active_run_is_shown_as_none(bench: Bench) -> None:
    """A free lane shows nothing, a taken one a small run."""
    assert render.run_or_none(bench.plane, None) is None
    started = await bench.start(text="hello")
    shown = render.run_or_none(bench.plane, started.view.active_run)
    assert shown is not None
    assert (shown.run_id, shown.HasField("input")) == (started.run.run_id, False)


def test_a_terminal_is_shown_as_it_was_written() -> None:
    """The stored bytes are what is shown; without them there is no terminal."""
    encoded = codec.encode_terminal(values.terminal(outcome=RunOutcome.FAILED, output_text="half"))
    whole = render.terminal(encoded, whole=True)
    assert whole is not None
    assert whole.SerializeToString() == encoded
    assert render.terminal(b"", whole=True) is None


def test_an_interrupt_is_shown_whole() -> None:
    """Callers see every field, and the runner sees what it is to do until when."""
    row = values.interrupt(reason="stop", escalate_at_ms=9_000, mode=InterruptMode.FORCE)
    shown = render.interrupt(row)
    assert (shown.interrupt_id, shown.run_id, shown.session_id) == (
        row.interrupt_id,
        row.run_id,
        row.session_id,
    )
    assert (shown.stage, shown.mode, shown.reason) == (
        run_pb2.INTERRUPT_STAGE_ACCEPTED,
        run_pb2.INTERRUPT_MODE_FORCE,
        "stop",
    )
    assert shown.escalate_time.ToMilliseconds() == 9_000
    stop = render.stop_command(row).interrupt
    assert (stop.interrupt_id, stop.mode, stop.reason) == (
        row.interrupt_id,
        run_pb2.INTERRUPT_MODE_FORCE,
        "stop",
    )
    assert stop.deadline.ToMilliseconds() == 9_000
    assert not render.interrupt(replace(row, escalate_at_ms=None)).HasField("escalate_time")


async def test_a_runner_is_told_what_to_do(bench: Bench) -> None:
    """Commands are a list on the wire: the interrupt if there is one, then the inputs."""
    run = await bench.running()
    assert render.commands(await bench.heartbeat(run.run_id)) == []
    await bench.inject("more", "mine")
    await bench.interrupt(KEY)
    stop, taken = render.commands(await bench.heartbeat(run.run_id))
    assert stop.interrupt.interrupt_id == bench.run(run.run_id).interrupt_id
    assert (taken.input.input_id, taken.input.input.text) == ("mine", "more")


async def test_a_lease_is_shown_to_its_holder(bench: Bench) -> None:
    """Token, epoch and times of a lease are in the answer to whoever holds it."""
    run = await bench.running()
    heard = await bench.heartbeat(run.run_id)
    shown = render.lease(heard.lease)
    assert (shown.token, shown.epoch) == (bench.tokens[run.run_id], 1)
    assert shown.expire_time.ToMilliseconds() == heard.lease.expires_at_ms
    assert shown.next_heartbeat_time.ToMilliseconds() == heard.lease.next_heartbeat_at_ms
