"""The recorder of real clients: what is called and seen is written down as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import count
from pathlib import Path

import grpc
import pytest

from sessionplane.proof.history.judge import judge
from sessionplane.proof.history.line import Line, Lost, Refused
from sessionplane.proof.history.records import Recorder
from sessionplane.proof.kill.play import read
from sessionplane.v1 import run_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.event_pb2 import OutputDelta
from sessionplane.v1.run_pb2 import RunSpec
from sessionplane.v1.runner_service_pb2 import ClaimRunRequest, NewEvent
from sessionplane.v1.session_pb2 import MISSING_POLICY_FAIL, SessionRef
from tests.support.processes import free_port
from tests.support.serving import Served, serving

CHAT = SessionRef(key="chat")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A server in this process."""
    async with serving(tmp_path / "plane.db") as served:
        yield served


@pytest.fixture
async def line(served: Served) -> AsyncIterator[Line]:
    """A client of it, whose clock counts what is recorded."""
    moments = count()
    async with grpc.aio.insecure_channel(served.address) as channel:
        yield Line(channel, Recorder(lambda: float(next(moments))), "anna")


async def test_an_answer_is_recorded_with_its_call(line: Line) -> None:
    """Who called what, when, and when which answer came."""
    request = pb.ResolveSessionRequest(session=CHAT, request_id="once")
    answer = await line.call("ResolveSession", request)
    [call] = line.recorder.history.calls
    assert (call.client, call.method, call.request, call.request_id) == (
        "anna",
        "ResolveSession",
        request,
        "once",
    )
    assert (call.answer, call.called_at, call.returned_at) == (answer, 0.0, 1.0)


async def test_a_refusal_is_recorded_with_its_reason(line: Line) -> None:
    """A code, a reason, and what it says besides."""
    request = pb.ResolveSessionRequest(session=CHAT, missing_policy=MISSING_POLICY_FAIL)
    with pytest.raises(Refused, match="KEY_NOT_BOUND"):
        await line.call("ResolveSession", request)
    [call] = line.recorder.history.calls
    assert call.refusal is not None
    assert (call.refusal.code, call.refusal.reason) == ("NOT_FOUND", "KEY_NOT_BOUND")
    assert call.refusal.details == {"canonical_key": "agent:main:chat"}


async def test_a_call_that_nobody_answers_is_lost() -> None:
    """No server, no word: the call has no return, and may have been done."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{free_port()}") as channel:
        line = Line(channel, Recorder(lambda: 0.0), "anna")
        with pytest.raises(Lost):
            await line.call("GetSession", pb.GetSessionRequest(session=CHAT), timeout_s=0.05)
    [call] = line.recorder.history.calls
    assert (call.returned_at, call.answer, call.refusal) == (None, None, None)
    assert call.ended_at == float("inf")


async def test_a_stream_is_recorded_to_its_end(line: Line) -> None:
    """Its frames, and that the server closed it with OK."""
    await line.call("ResolveSession", pb.ResolveSessionRequest(session=CHAT))
    request = pb.StreamEventsRequest(
        session=CHAT, start=pb.STREAM_START_OLDEST, until=pb.STREAM_UNTIL_CAUGHT_UP
    )
    frames = [frame async for frame in line.follow(request)]
    [stream] = line.recorder.history.streams
    assert [frame.message for frame in stream.frames] == frames
    assert (stream.closed_at is not None, stream.refusal, stream.left_at) == (True, None, None)


async def test_a_stream_that_is_left_is_no_end(line: Line) -> None:
    """Who goes away was not sent away."""
    await line.call("ResolveSession", pb.ResolveSessionRequest(session=CHAT))
    async with aclosing(line.follow(pb.StreamEventsRequest(session=CHAT))) as frames:
        await anext(frames)
    [stream] = line.recorder.history.streams
    assert (stream.closed_at, stream.left_at is not None, stream.cut) == (None, True, False)


async def test_a_stream_that_is_refused_is_recorded_so(line: Line) -> None:
    """No frame, and the reason."""
    with pytest.raises(Refused):
        async for _ in line.follow(pb.StreamEventsRequest(session=CHAT)):
            pass
    [stream] = line.recorder.history.streams
    assert stream.refusal is not None
    assert (stream.frames, stream.refusal.reason) == ([], "KEY_NOT_BOUND")


async def test_a_driven_run_is_recorded_as_the_unary_calls_that_mean_the_same(
    served: Served, line: Line
) -> None:
    """A sign of life, a publication, a report; judged against the file, they are as good as unary ones."""
    await line.call("StartRun", pb.StartRunRequest(session=CHAT, run=RunSpec(run_id="run-1")))
    claim = await line.call("ClaimRun", ClaimRunRequest(run_id="run-1"))
    events = [NewEvent(output_delta=OutputDelta(text="hello "))]
    with pytest.raises(Lost):
        async with line.drive("run-1", claim.lease.token) as drive:
            await drive.publish(events, 1)
            await line.call(
                "Interrupt", pb.InterruptRequest(run_id="run-1", mode=run_pb2.INTERRUPT_MODE_FORCE)
            )
            await drive.finish(run_pb2.RUN_OUTCOME_SUCCEEDED)
    history = line.recorder.history
    assert [(call.method, call.answer is not None) for call in history.calls[2:]] == [
        ("HeartbeatRun", True),
        ("PublishEvents", True),
        ("Interrupt", True),
        ("FinishRun", False),
    ]
    history.logs, damage = read(served.database)
    assert (judge(history), damage) == ([], [])
