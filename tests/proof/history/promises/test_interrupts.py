"""Histories in which an interrupt is forgotten or comes to nothing: that promise is broken, and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionplane.v1 import run_pb2
from tests.support.tale import Tale


def interrupted(tale: Tale) -> None:
    """A run that was asked to stop."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")
    tale.interrupt("run-1", "enough")


def a_wish_that_was_lost_in_a_crash(tale: Tale) -> None:
    """It was answered before it was written."""
    interrupted(tale)
    del tale.logs["ses_1"][-2:]


def a_stage_that_goes_back(tale: Tale) -> None:
    """The runner said that it heard, and then it is told again."""
    interrupted(tale)
    tale.beat("run-1", acknowledge=True)
    tale.reach(tale.runs["run-1"], run_pb2.INTERRUPT_STAGE_DELIVERED)


def an_answer_that_goes_back(tale: Tale) -> None:
    """A later answer shows an earlier stage."""
    interrupted(tale)
    tale.beat("run-1", acknowledge=True)
    tale.look_at_interrupt("run-1")
    tale.look_at_interrupt("run-1").answer.interrupt.stage = run_pb2.INTERRUPT_STAGE_ACCEPTED


def two_outcomes(tale: Tale) -> None:
    """It is COMPLETED twice."""
    interrupted(tale)
    tale.reach(tale.runs["run-1"], run_pb2.INTERRUPT_STAGE_COMPLETED)
    tale.finish("run-1", "INTERRUPTED")


def no_outcome(tale: Tale) -> None:
    """The run ended, and the interrupt is still on its way."""
    interrupted(tale)
    tale.runs["run-1"].interrupt_id = ""
    tale.finish("run-1", "INTERRUPTED")


def an_outcome_of_a_run_that_goes_on(tale: Tale) -> None:
    """It is COMPLETED, and the run is not."""
    interrupted(tale)
    tale.reach(tale.runs["run-1"], run_pb2.INTERRUPT_STAGE_COMPLETED)


def force_that_only_asks(tale: Tale) -> None:
    """Force was wanted, and the answer is that somebody will be told."""
    interrupted(tale)
    tale.told.calls[-1].request.mode = run_pb2.INTERRUPT_MODE_FORCE


def a_runner_that_is_not_told(tale: Tale) -> None:
    """The runner is heard again and again, and nobody tells it."""
    interrupted(tale)
    del tale.beat("run-1").answer.commands[:]


def nothing_to_stop_where_something_was(tale: Tale) -> None:
    """The run was on its way, and the interrupt is a NO_OP."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")
    tale.no_op("run-1", "enough")


def nothing_to_stop_with_a_run(tale: Tale) -> None:
    """A NO_OP bears the id of a run, so that the run's terminal would not be its last event."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.no_op("run-1", "enough").request.ClearField("run_id")
    tale.logs["ses_1"][-1].run_id = "run-1"


@pytest.mark.parametrize(
    "story",
    [
        nothing_to_stop_with_a_run,
        a_wish_that_was_lost_in_a_crash,
        a_stage_that_goes_back,
        an_answer_that_goes_back,
        two_outcomes,
        no_outcome,
        an_outcome_of_a_run_that_goes_on,
        force_that_only_asks,
        a_runner_that_is_not_told,
        nothing_to_stop_where_something_was,
    ],
    ids=lambda story: str(story.__name__),
)
def test_an_interrupt_that_fails_is_seen(story: Callable[[Tale], None]) -> None:
    """Exactly this promise is found broken."""
    tale = Tale()
    story(tale)
    assert tale.broken == {"An interrupt is durable intent"}
