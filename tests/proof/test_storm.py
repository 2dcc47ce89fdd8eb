"""What the judgement of a storm sees: answers that are broken by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from sessionplane.proof.caller import Answer
from sessionplane.proof.storm import KEY, judged
from sessionplane.v1.session_pb2 import (
    RESOLUTION_CREATED,
    RESOLUTION_EXISTING,
    RESOLUTION_JOINED,
    RESOLUTION_REPLACED,
)


def answer(
    resolution: int = RESOLUTION_EXISTING, *, session_id: str = "ses_1", key: str = KEY, generation: int = 1
) -> Answer:
    return Answer("storm", "OK", "", session_id, key, generation, resolution)


CREATED = answer(RESOLUTION_CREATED)


def test_a_storm_with_one_creator_and_one_session_is_fine() -> None:
    """One call creates, others join it or find it."""
    assert not judged({CREATED: 1, answer(RESOLUTION_JOINED): 4, answer(): 5}, 10)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({CREATED: 1, Answer("storm", "CANCELLED", "queue is full"): 9}, "9 calls were refused: CANCELLED"),
        ({CREATED: 1, answer(): 8}, "10 calls were made and 9 were answered"),
        ({CREATED: 1, answer(session_id="ses_2"): 9}, "one key got 2 sessions: ses_1, ses_2"),
        ({CREATED: 1, answer(key="storm"): 9}, "was called 'storm'"),
        ({CREATED: 1, answer(generation=2): 9}, "in its generation 1, not 2"),
        ({CREATED: 2, answer(): 8}, "2 callers were told that they had created"),
        ({answer(): 10}, "0 callers were told that they had created"),
        ({CREATED: 1, answer(RESOLUTION_REPLACED): 9}, "answered with resolution 4"),
    ],
)
def test_whatever_is_wrong_with_a_storm_is_said_and_nothing_else(
    answers: dict[Answer, int], said: str
) -> None:
    """Each way to break the answers gives one sentence, about just that."""
    (failure,) = judged(Counter(answers), 10)
    assert said in failure


def test_a_storm_without_a_single_answer_is_a_failure() -> None:
    """Nothing refused, nothing doubled, and nothing shown either."""
    assert judged({}, 10)
