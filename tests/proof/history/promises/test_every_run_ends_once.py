"""Histories in which a run has no end, two, or a wrong one: that promise is broken, and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionplane.v1 import event_pb2, run_pb2
from tests.support.tale import Tale


def under_way(tale: Tale) -> None:
    """A run that its runner works on."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1")
    tale.publish("run-1", "a ", "b ")


def a_second_end(tale: Tale) -> None:
    """The reaper writes a terminal behind the runner's."""
    under_way(tale)
    tale.finish("run-1")
    end = tale.runs["run-1"].terminal
    assert end is not None
    tale.log(tale.held("chat"), run_id="run-1", run_terminal=end.run_terminal)


def something_behind_the_end(tale: Tale) -> None:
    """The terminal is not the run's last event."""
    under_way(tale)
    tale.finish("run-1")
    tale.take("run-1", "more")


def an_end_that_never_came(tale: Tale) -> None:
    """The run's runner is gone, the key could not be resolved, and nobody wrote the terminal."""
    under_way(tale)
    tale.over()


def a_text_that_was_lost(tale: Tale) -> None:
    """The run was stopped, and the text so far is not in its terminal."""
    under_way(tale)
    tale.now += tale.told.limits.lease_s
    tale.end(tale.runs["run-1"], "LOST", "LEASE_EXPIRED", "")


def a_text_that_was_cut(tale: Tale) -> None:
    """Of what was published only a part is in the terminal."""
    under_way(tale)
    tale.finish("run-1")
    for end in (tale.logs["ses_1"][-1], tale.told.calls[-1].answer.terminal):
        (end.run_terminal if isinstance(end, event_pb2.Event) else end).output_text = "a "


def another_end_for_somebody(tale: Tale) -> None:
    """One caller is told that the run failed, the log says that it succeeded."""
    under_way(tale)
    tale.finish("run-1")
    tale.look("run-1").answer.run.terminal.outcome = run_pb2.RUN_OUTCOME_FAILED


def another_end_for_the_runner(tale: Tale) -> None:
    """The second report is answered with itself, not with the first."""
    under_way(tale)
    tale.finish("run-1").answer.terminal.output_text = "something else"


def an_end_before_its_time(tale: Tale) -> None:
    """The run is lost a moment after its runner was heard."""
    under_way(tale)
    tale.end(tale.runs["run-1"], "LOST", "LEASE_EXPIRED")
    tale.look("run-1")


def an_end_that_took_too_long(tale: Tale) -> None:
    """The runner has been silent for a minute, and the run is still shown as running."""
    under_way(tale)
    tale.over()
    tale.now += 60
    tale.look("run-1")
    tale.end(tale.runs["run-1"], "LOST", "LEASE_EXPIRED")


def an_end_that_nobody_reported(tale: Tale) -> None:
    """The runner reported a failure, and the log has a success."""
    under_way(tale)
    call = tale.finish("run-1")
    call.request.outcome = run_pb2.RUN_OUTCOME_FAILED


def a_wait_that_says_both(tale: Tale) -> None:
    """The wait is over, it says, and the run goes on."""
    under_way(tale)
    tale.look("run-1", method="WaitRun").answer.finished = True


def a_wait_that_nobody_ended(tale: Tale) -> None:
    """Everybody knows of the end, and who waits for it does not."""
    under_way(tale)
    call = tale.asked("WaitRun", tale.look("run-1", method="WaitRun").request, "anna")
    tale.finish("run-1")
    seen = tale.look("run-1")
    tale.now += 5
    waited = tale.look("run-1", method="WaitRun").answer
    tale.told.calls.pop()
    tale.answer(call, waited)
    assert seen.ended_at < call.ended_at


def an_input_that_was_done_twice(tale: Tale) -> None:
    """The runner took the input, and it became a run as well."""
    under_way(tale)
    tale.inject("run-1", "more")
    tale.take("run-1", "more")
    tale.finish("run-1")
    tale.give_back("more")


def an_input_that_was_forgotten(tale: Tale) -> None:
    """The run ended, and the input that waited for it came to nothing."""
    under_way(tale)
    tale.inject("run-1", "more")
    tale.finish("run-1")
    tale.over()


@pytest.mark.parametrize(
    "story",
    [
        a_second_end,
        something_behind_the_end,
        an_end_that_never_came,
        a_text_that_was_lost,
        a_text_that_was_cut,
        another_end_for_somebody,
        another_end_for_the_runner,
        an_end_before_its_time,
        an_end_that_took_too_long,
        an_end_that_nobody_reported,
        a_wait_that_says_both,
        a_wait_that_nobody_ended,
        an_input_that_was_done_twice,
        an_input_that_was_forgotten,
    ],
    ids=lambda story: str(story.__name__),
)
def test_a_run_that_does_not_end_as_it_should_is_seen(story: Callable[[Tale], None]) -> None:
    """Exactly this promise is found broken."""
    tale = Tale()
    story(tale)
    assert tale.broken == {"Every run ends, once, for everyone"}
