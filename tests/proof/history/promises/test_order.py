"""Histories in which a log has a gap or the wrong order: that promise is broken, and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.runner_service_pb2 import PublishEventsRequest
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.tale import Tale


def under_way(tale: Tale) -> None:
    """A run that its runner works on."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")


def published_unheard(tale: Tale, *texts: str) -> None:
    """A publication that nobody hears the answer of; what comes of it is for the log to show."""
    request = PublishEventsRequest(run_id="run-1", lease_token="run-1 lease 1")
    for text in texts:
        request.events.add().output_delta.text = text
    tale.recorder.lost(tale.asked("PublishEvents", request, "rita"), "crash")


def a_number_that_is_missing(tale: Tale) -> None:
    """The log counts 1, 2, 4."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    for event in tale.logs["ses_1"][2:]:
        event.sequence += 1
    tale.told.calls.pop()


def a_number_that_comes_twice(tale: Tale) -> None:
    """The log counts 1, 2, 2."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.logs["ses_1"][2].sequence = 2
    tale.told.calls.pop()


def half_a_publication(tale: Tale) -> None:
    """Two of three events were committed before the crash."""
    under_way(tale)
    published_unheard(tale, "a ", "b ", "c ")
    tale.published(tale.runs["run-1"], "a ", "b ")


def two_publications_in_one_another(tale: Tale) -> None:
    """Another one's event stands between two that were published together."""
    under_way(tale)
    published_unheard(tale, "a ", "b ")
    published_unheard(tale, "x ")
    tale.published(tale.runs["run-1"], "a ", "x ", "b ")


def a_publication_that_is_not_numbered(tale: Tale) -> None:
    """The runner's own numbers have a gap."""
    under_way(tale)
    tale.published(tale.runs["run-1"], "a ", "b ")
    tale.logs["ses_1"][-1].run_sequence = 3


def a_text_at_the_wrong_place(tale: Tale) -> None:
    """Whoever joins the texts by their offsets gets something else."""
    under_way(tale)
    tale.published(tale.runs["run-1"], "a ", "b ")
    tale.logs["ses_1"][-1].output_delta.offset = 1


def an_event_that_overtook_another(tale: Tale) -> None:
    """What was published later stands before what had been shown before."""
    under_way(tale)
    tale.published(tale.runs["run-1"], "first ")
    tale.get("chat")
    published_unheard(tale, "second ")
    tale.published(tale.runs["run-1"], "second ")
    first, second = tale.logs["ses_1"][-2:]
    first.output_delta.text, second.output_delta.text = "second ", "first "
    second.output_delta.offset = len("second ")


def an_answer_from_the_past(tale: Tale) -> None:
    """A reader that lags behind shows a log shorter than was acknowledged."""
    old = tale.resolve("chat").answer
    tale.begin("chat", "run-1")
    call = tale.asked("GetSession", pb.GetSessionRequest(session=SessionRef(key="chat")), "bert")
    tale.answer(call, pb.GetSessionResponse(session=old.session, route=old.route))


@pytest.mark.parametrize(
    "story",
    [
        a_number_that_is_missing,
        a_number_that_comes_twice,
        half_a_publication,
        two_publications_in_one_another,
        a_publication_that_is_not_numbered,
        a_text_at_the_wrong_place,
        an_event_that_overtook_another,
        an_answer_from_the_past,
    ],
    ids=lambda story: str(story.__name__),
)
def test_a_log_out_of_order_is_seen(story: Callable[[Tale], None]) -> None:
    """Exactly this promise is found broken."""
    tale = Tale()
    story(tale)
    assert tale.broken == {"Order without gaps"}
