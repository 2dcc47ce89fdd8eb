"""Seats: bounded in all and in a session, listed by age, ended by whoever may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sessionplane.domain.errors import StreamLimit, SubscriberNotFound
from sessionplane.domain.limits import Limits
from sessionplane.domain.streams import ClosingReason, Presence
from sessionplane.live.seats import Seat, Seats

LIMITS = Limits(server_streams_max=5, session_streams_max=2)


class Occupant:
    """A stream that writes down why it is to end."""

    through = 3
    lag = 1

    def __init__(self) -> None:
        self.ended: list[ClosingReason] = []

    def end(self, reason: ClosingReason) -> None:
        self.ended.append(reason)


def seat(number: int, namespace: str = "default") -> Seat:
    return Seat(
        subscriber_id=f"sub_{number:04}",
        namespace=namespace,
        presence=Presence.ATTACHED,
        connected_at_ms=number,
    )


@pytest.fixture
def seats() -> Seats:
    return Seats(LIMITS)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def numbers(found: list[Seat]) -> list[int]:
    return [each.connected_at_ms for each in found]


def page(seats: Seats, **given: object) -> list[int]:
    arguments: dict[str, object] = {"session_id": "", "after": "", "limit": 10} | given
    return numbers(seats.page("default", **arguments))  # type: ignore[arg-type]


def test_a_server_has_so_many_seats_and_no_more(seats: Seats) -> None:
    """The one over the bound is refused by name, and one that was left can be had again."""
    with ExitStack() as stack:
        for number in range(5):
            stack.enter_context(seats.take(seat(number)))
        with pytest.raises(StreamLimit) as refused, seats.take(seat(5)):
            raise AssertionError
        assert refused.value.details == {"limit": "5", "scope": "in this server"}
        assert len(seats) == 5
    assert len(seats) == 0
    with seats.take(seat(6)):
        assert len(seats) == 1


def test_a_session_has_so_many_places_and_no_more(seats: Seats, stack: ExitStack) -> None:
    """Places are counted for each session; a refused one is not counted, and its seat stays where it was."""
    one, two, three = [stack.enter_context(seats.take(seat(number))) for number in range(3)]
    seats.place(one, "ses_1")
    seats.place(one, "ses_1")
    seats.place(two, "ses_1")
    with pytest.raises(StreamLimit) as refused:
        seats.place(three, "ses_1")
    assert refused.value.details == {"limit": "2", "scope": "in this session"}
    assert three.session_id == ""
    seats.place(three, "ses_2")
    assert page(seats, session_id="ses_1") == [0, 1]
    assert page(seats, session_id="ses_2") == [2]


def test_who_moves_or_leaves_makes_room(seats: Seats, stack: ExitStack) -> None:
    """A seat has one place, and gives it up when it finds another or is left."""
    one, two = [stack.enter_context(seats.take(seat(number))) for number in range(2)]
    with seats.take(seat(2)) as three:
        for each in (one, three):
            seats.place(each, "ses_1")
        seats.place(one, "ses_2")
        seats.place(two, "ses_1")
    seats.place(one, "ses_1")
    assert page(seats, session_id="ses_1") == [0, 1]
    stack.close()
    assert seats._in_session == {}


def test_seats_are_listed_by_age_in_pages(seats: Seats, stack: ExitStack) -> None:
    """Behind an id come the later ones, as many as are wanted, of this namespace only."""
    for number in (3, 1, 2):
        stack.enter_context(seats.take(seat(number)))
    stack.enter_context(seats.take(seat(4, "other")))
    assert page(seats) == [1, 2, 3]
    assert page(seats, limit=2) == [1, 2]
    assert page(seats, after="sub_0002") == [3]


def test_a_seat_is_found_by_its_id_in_its_namespace(seats: Seats, stack: ExitStack) -> None:
    """An unknown id, one that is gone and one of another namespace are the same refusal."""
    mine = stack.enter_context(seats.take(seat(1)))
    stack.enter_context(seats.take(seat(2, "other")))
    with seats.take(seat(3)):
        pass
    assert seats.find("default", "sub_0001") is mine
    for unknown in ("sub_0002", "sub_0003", ""):
        with pytest.raises(SubscriberNotFound) as refused:
            seats.find("default", unknown)
        assert refused.value.details == {"subscriber_id": unknown}


def test_an_end_reaches_the_stream_once_it_sits(seats: Seats, stack: ExitStack) -> None:
    """An end before the stream is open wakes who waits, and ends the stream later; the first reason stays."""
    waiting = stack.enter_context(seats.take(seat(1)))
    woken: list[int] = []
    waiting.wake = lambda: woken.append(1)
    waiting.end(ClosingReason.DISCONNECTED)
    waiting.end(ClosingReason.DRAINING)
    occupant = Occupant()
    waiting.occupy(occupant)
    assert (woken, waiting.ended, occupant.ended) == (
        [1, 1],
        ClosingReason.DISCONNECTED,
        [ClosingReason.DISCONNECTED],
    )


def test_all_are_ended_together(seats: Seats, stack: ExitStack) -> None:
    """Draining reaches every stream of every namespace."""
    occupants = [Occupant() for _ in range(3)]
    for number, occupant in enumerate(occupants):
        stack.enter_context(seats.take(seat(number, f"n{number}"))).occupy(occupant)
    seats.end_all(ClosingReason.DRAINING)
    assert [each.ended for each in occupants] == [[ClosingReason.DRAINING]] * 3
