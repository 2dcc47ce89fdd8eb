"""Histories in which every promise is kept, however it looks: no validator fires."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionplane.proof.history.judge import judge
from sessionplane.proof.history.records import Happening
from sessionplane.v1 import run_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.run_pb2 import RUN_STATE_PENDING
from sessionplane.v1.runner_service_pb2 import FinishRunRequest, FinishRunResponse, PublishEventsRequest
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.tale import Tale


def an_ordinary_day(tale: Tale) -> None:
    """Two messages, one answer each, a subscriber who sees it all, an interrupt, a crash."""
    tale.resolve("settings2")
    tale.resolve("AGENT:main:settings2 ", by="bert")
    stream = tale.follow("ses_1")
    tale.begin("settings2", "run-1")
    tale.begin("settings2", "run-2")
    tale.claim("run-1")
    tale.publish("run-1", "a ", "b ")
    tale.deliver(stream)
    tale.beat("run-1")
    tale.finish("run-1")
    tale.happened(Happening.CRASHED)
    tale.happened(Happening.READY)
    tale.claim("run-2")
    tale.publish("run-2", "c ")
    tale.interrupt("run-2", "enough")
    tale.publish("run-2", "d ")
    tale.beat("run-2", acknowledge=True)
    tale.look_at_interrupt("run-2")
    tale.finish("run-2", "INTERRUPTED")
    tale.look("run-2")
    tale.look("run-2", method="WaitRun")
    tale.deliver(stream)
    tale.over()
    tale.recorder.left(stream)


def a_race_for_a_new_key(tale: Tale) -> None:
    """Three call at once; one makes the session, and the others are given it."""
    calls = [
        tale.asked("ResolveSession", pb.ResolveSessionRequest(session=SessionRef(key="new")), by)
        for by in "abc"
    ]
    tale.resolve("New", by="first")
    for call in calls:
        tale.answer(call, tale.resolved(tale.held("new"), "JOINED"))


def a_look_that_overlaps_a_reset(tale: Tale) -> None:
    """Whoever asks while a key moves may be shown either session."""
    tale.resolve("chat")
    early = tale.asked("GetSession", pb.GetSessionRequest(session=SessionRef(key="chat")), "early")
    old = tale.shown(tale.held("chat"))
    tale.reset("chat")
    tale.answer(early, pb.GetSessionResponse(session=old, route=tale.route(tale.chats["ses_2"])))
    tale.get("chat")


def a_lost_answer_that_is_asked_for_again(tale: Tale) -> None:
    """The crash swallows the answers, not what was done; the same request id tells."""
    asked = {"session": SessionRef(key="chat"), "request_id": "once"}
    tale.asked("ResolveSession", pb.ResolveSessionRequest(**asked), "anna")
    tale.new_chat("agent:main:chat")
    tale.happened(Happening.CRASHED)
    tale.happened(Happening.READY)
    again = tale.asked("ResolveSession", pb.ResolveSessionRequest(**asked), "anna")
    tale.answer(again, tale.resolved(tale.held("chat"), "CREATED"))


def a_request_that_never_came(tale: Tale) -> None:
    """What nobody heard the answer of may as well not have been done."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")
    request = PublishEventsRequest(run_id="run-1", lease_token="run-1 lease 1", first_run_sequence=1)
    request.events.add().output_delta.text = "lost "
    tale.recorder.lost(tale.asked("PublishEvents", request, "rita"), "cut")
    tale.happened(Happening.CRASHED)
    tale.happened(Happening.READY)
    tale.publish("run-1", "lost ", "found ")


def a_key_that_is_free_again(tale: Tale) -> None:
    """After a deletion the key has nobody, and then somebody new."""
    tale.resolve("chat")
    tale.delete("chat")
    tale.refuse(tale.asked("GetSession", pb.GetSessionRequest(session=SessionRef(key="chat")), "anna"),
                "NOT_FOUND", "KEY_NOT_BOUND", canonical_key="agent:main:chat")  # fmt: skip
    tale.resolve("chat")
    tale.get("chat")


def a_runner_that_was_never_heard(tale: Tale) -> None:
    """Its run is given to another one, and it is fenced."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1", by="rita")
    tale.lapse("run-1")
    tale.claim("run-1", by="ruth")
    request = PublishEventsRequest(run_id="run-1", lease_token="run-1 lease 1", first_run_sequence=1)
    request.events.add().output_delta.text = "zombie "
    tale.refuse(tale.asked("PublishEvents", request, "rita"), "FAILED_PRECONDITION", "LEASE_LOST")
    tale.publish("run-1", "alive ", by="ruth")
    tale.finish("run-1", by="ruth")


def a_runner_that_died(tale: Tale) -> None:
    """Its run is lost when its lease has run out, with the text so far."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")
    tale.publish("run-1", "so far ")
    tale.look("run-1")
    tale.now += tale.told.limits.lease_s + tale.told.limits.sweep_s
    tale.end(tale.runs["run-1"], "LOST", "LEASE_EXPIRED")
    tale.look("run-1")
    tale.over()


def a_report_that_comes_twice(tale: Tale) -> None:
    """The second one is answered with the first."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")
    tale.publish("run-1", "a ")
    answer = tale.finish("run-1", output_text="the whole").answer
    other = FinishRunRequest(run_id="run-1", lease_token="run-1 lease 1", outcome=run_pb2.RUN_OUTCOME_FAILED)
    late = FinishRunResponse()
    late.CopyFrom(answer)
    late.finish_result = run_pb2.FINISH_RESULT_SUPERSEDED
    tale.answer(tale.asked("FinishRun", other, "rita"), late)


def a_subscriber_that_comes_back(tale: Tale) -> None:
    """From its token it sees each later event once."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    stream = tale.follow("ses_1")
    tale.deliver(stream)
    tale.recorder.cut(stream, "the server is gone")
    tale.happened(Happening.CRASHED)
    tale.happened(Happening.READY)
    tale.claim("run-1")
    tale.finish("run-1")
    again = tale.follow("ses_1", token=stream.frames[-1].message.resume_token, until=pb.STREAM_UNTIL_RUN_END,
                        until_run_id="run-1")  # fmt: skip
    tale.deliver(again, closing="RUN_END")
    tale.over()


def a_refusal_that_was_overcome(tale: Tale) -> None:
    """What is refused at first may be done when it is asked for again."""
    tale.resolve("chat")
    request = pb.StartRunRequest(session=SessionRef(key="chat"))
    request.run.run_id, request.run.input.text, request.request_id = "run-1", "run-1", "run-1"
    tale.happened(Happening.TROUBLE)
    tale.refuse(tale.asked("StartRun", request, "anna"), "RESOURCE_EXHAUSTED", "STORAGE_FULL")
    tale.happened(Happening.CALM)
    tale.begin("chat", "run-1")


def an_interrupt_that_came_too_late(tale: Tale) -> None:
    """There is nothing to stop, and that is on record."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")
    tale.finish("run-1")
    tale.no_op("run-1", "too late")


def an_interrupt_by_force(tale: Tale) -> None:
    """It is done when it is answered; a runner that goes on is told that its run has ended."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")
    tale.publish("run-1", "so far ")
    tale.interrupt("run-1", "now", force=True)
    request = PublishEventsRequest(run_id="run-1", lease_token="run-1 lease 1", first_run_sequence=2)
    request.events.add().output_delta.text = "more "
    tale.refuse(tale.asked("PublishEvents", request, "rita"), "FAILED_PRECONDITION", "RUN_FINISHED")


def an_input_that_nobody_took(tale: Tale) -> None:
    """It becomes a run, and ends as one."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")
    tale.inject("run-1", "more")
    tale.finish("run-1")
    tale.give_back("more")
    tale.change(tale.runs["more"], RUN_STATE_PENDING)
    tale.claim("more")
    tale.finish("more")
    tale.over()


@pytest.mark.parametrize(
    "story",
    [
        an_ordinary_day,
        a_race_for_a_new_key,
        a_look_that_overlaps_a_reset,
        a_lost_answer_that_is_asked_for_again,
        a_request_that_never_came,
        a_key_that_is_free_again,
        a_runner_that_was_never_heard,
        a_runner_that_died,
        a_report_that_comes_twice,
        a_subscriber_that_comes_back,
        a_refusal_that_was_overcome,
        an_interrupt_that_came_too_late,
        an_interrupt_by_force,
        an_input_that_nobody_took,
    ],
    ids=lambda story: str(story.__name__),
)
def test_a_good_history_breaks_nothing(story: Callable[[Tale], None]) -> None:
    """Retries, unknown outcomes, calls that overlap, deaths and refusals are no fault."""
    tale = Tale()
    story(tale)
    assert judge(tale.told) == []
