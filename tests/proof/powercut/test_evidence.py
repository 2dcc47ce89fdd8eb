"""Evidence: what was let known counts from the call that sent it, and what is missing or half there is found."""

from __future__ import annotations

import pytest

from sessionplane.domain.tokens import ResumeToken
from sessionplane.proof.powercut.evidence import (
    Answer,
    Fact,
    Kept,
    NeverSent,
    expectations,
    finished,
    piece,
    place,
    request,
)
from sessionplane.proof.powercut.trace import Create, Sent

SESSION = "ses_" + "5" * 32
CHAIN = bytes(range(16))


def answer(raw: bytes, *facts: Fact) -> Answer:
    """An answer of these bytes."""
    return Answer(rpc="Rpc", raw=raw, facts=facts)


def token(sequence: int) -> bytes:
    """A resume token as it stands in a message: behind its length."""
    written = ResumeToken(store_id="ab" * 16, session_id=SESSION, sequence=sequence, chain=CHAIN).encode()
    return bytes([len(written)]) + written.encode()


def test_an_answer_counts_from_the_call_that_sent_the_last_of_it() -> None:
    """Whenever its client read it."""
    happened = [Sent(b"..first a"), Create("x"), Sent(b"nswer."), Create("y"), Sent(b"first answer")]
    assert expectations(happened, [answer(b"first answer", finished("r"))]) == [(2, finished("r"))]


def test_a_fact_counts_from_the_first_answer_that_says_it() -> None:
    """A repeated call changes nothing."""
    happened = [Sent(b"one"), Sent(b"two")]
    said = [answer(b"two", finished("r")), answer(b"one", finished("r"))]
    assert expectations(happened, said) == [(0, finished("r"))]


def test_an_answer_that_is_not_in_the_trace_is_an_error() -> None:
    """A recording that overlooks what was sent would prove nothing."""
    with pytest.raises(NeverSent):
        expectations([Sent(b"one")], [answer(b"two")])


def test_every_resume_token_that_was_sent_says_how_far_its_log_went() -> None:
    """Also where no client reads it; the token of an empty log says nothing, and what looks like one is none."""
    broken = token(3).replace(b"A", b"B")
    happened = [Sent(b"GA" + token(0)), Sent(broken), Sent(b"\n" + token(7) + b"G"), Sent(token(7))]
    assert expectations(happened, []) == [(2, place(SESSION, 7, CHAIN))]


def test_a_fact_that_is_not_there_is_missing() -> None:
    """Each kind, and each of its columns."""
    kept = Kept(facts={request("Rpc", "id", "ses_1"), finished("r")}, floors={})
    other = [request("Rpc", "id", "ses_2"), request("Rpc", "other", "ses_1"), finished("q")]
    assert kept.missing([request("Rpc", "id", "ses_1"), finished("r")]) == []
    assert kept.missing(other) == other


@pytest.mark.parametrize(
    ("floor", "missing"),
    [
        (0, [place("s", 1, CHAIN), place("s", 2, CHAIN), piece("s", 1, 1, 3)]),
        (1, [place("s", 2, CHAIN)]),
        (2, []),
        (None, []),
    ],
)
def test_what_retention_removed_is_not_missing(floor: int | None, missing: list[Fact]) -> None:
    """Up to the floor of its log, or with its session; but never a session that is gone altogether."""
    wanted = [place("s", 1, CHAIN), place("s", 2, CHAIN), piece("s", 1, 1, 3)]
    assert Kept(floors={"s": floor}).missing(wanted) == missing
    assert Kept(floors={}).missing(wanted) == wanted


def test_a_publication_that_is_there_in_part_is_found() -> None:
    """In a log that retention did not touch."""
    whole = {piece("s", 1, number, 3) for number in (1, 2, 3)}
    half = {piece("s", 2, number, 3) for number in (1, 2)}
    assert Kept(facts=whole, floors={"s": 0}).halves() == []
    assert Kept(facts=whole | half, floors={"s": 0}).halves() == ["publication 2 of s: 2 of 3"]
    assert Kept(facts=half, floors={"s": 5}).halves() == []
