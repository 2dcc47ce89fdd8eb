"""Histories in which an old lease is good for something: that promise is broken, and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.tale import Tale

OLD = "run-1 lease 1"


def a_second_lease(tale: Tale) -> None:
    """A run that was offered again, and has a second runner."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    tale.claim("run-1", by="rita")
    tale.lapse("run-1")
    tale.claim("run-1", by="ruth")


def a_late_publication(tale: Tale) -> None:
    """The first runner's text is taken in under the second one's lease."""
    a_second_lease(tale)
    tale.publish("run-1", "zombie ").request.lease_token = OLD


def a_late_publication_that_was_not_answered(tale: Tale) -> None:
    """The same, and only the log shows it."""
    a_second_lease(tale)
    call = tale.publish("run-1", "zombie ")
    call.request.lease_token = OLD
    call.answer = call.returned_at = None


def a_late_sign_of_life(tale: Tale) -> None:
    """The first runner keeps the second one's lease alive."""
    a_second_lease(tale)
    tale.beat("run-1").request.lease_token = OLD


def a_late_report(tale: Tale) -> None:
    """The first runner ends the second one's run."""
    a_second_lease(tale)
    tale.finish("run-1").request.lease_token = OLD


def a_lease_for_two(tale: Tale) -> None:
    """Two runners hold one lease."""
    tale.resolve("chat")
    tale.begin("chat", "run-1")
    first = tale.claim("run-1", by="rita")
    second = tale.asked("ClaimRun", first.request, "ruth")
    second.request.request_id = "ruth claims run-1"
    tale.answer(second, first.answer)


def an_epoch_that_does_not_rise(tale: Tale) -> None:
    """The second claim has the number of the first, and another token."""
    a_second_lease(tale)
    tale.told.calls[-1].answer.lease.epoch = 1
    tale.logs["ses_1"][-1].run_changed.lease_epoch = 1


def an_epoch_that_falls(tale: Tale) -> None:
    """Leases are numbered backwards."""
    a_second_lease(tale)
    tale.told.calls[-1].answer.lease.epoch = 0
    tale.logs["ses_1"][-1].run_changed.lease_epoch = 0


def an_epoch_that_falls_in_the_log(tale: Tale) -> None:
    """Whoever claimed got the right numbers, and the log has others."""
    a_second_lease(tale)
    tale.logs["ses_1"][-1].run_changed.lease_epoch = 1


def an_epoch_that_falls_in_the_answers(tale: Tale) -> None:
    """The log is right, and the second runner got the lease that the first one should have."""
    a_second_lease(tale)
    first, second = [call.answer.lease for call in tale.told.calls if call.method == "ClaimRun"]
    first.epoch, second.epoch = second.epoch, first.epoch


@pytest.mark.parametrize(
    "story",
    [
        an_epoch_that_falls_in_the_log,
        an_epoch_that_falls_in_the_answers,
        a_late_publication,
        a_late_publication_that_was_not_answered,
        a_late_sign_of_life,
        a_late_report,
        a_lease_for_two,
        an_epoch_that_does_not_rise,
        an_epoch_that_falls,
    ],
    ids=lambda story: str(story.__name__),
)
def test_an_old_lease_that_is_accepted_is_seen(story: Callable[[Tale], None]) -> None:
    """Exactly this promise is found broken."""
    tale = Tale()
    story(tale)
    assert tale.broken == {"Fencing"}
