"""The rules of the documentation, written once more: a judge that asked the service's tables would share its errors.

Words are those of the wire without their prefix; `none` stands for what is not there yet.
"""

from __future__ import annotations

from typing import Any

NONE = "none"


def word(kind: Any, number: int) -> str:
    """Name a value of an enum of the wire without its prefix; the one that says nothing is `none`."""
    return str(kind.Name(number)).removeprefix(kind.Name(0).removesuffix("UNSPECIFIED")) if number else NONE


def _rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.strip().splitlines()]


SESSION_CHANGES = {
    (before, cause, after)
    for cause, after, *states in _rows(
        """
        CREATED         CREATED   none
        RUN_CLAIMED     STARTING  CREATED
        RUN_STARTED     ACTIVE    STARTING
        ATTACHED        ACTIVE    DETACHED SUSPENDED
        DETACHED        DETACHED  ACTIVE
        SUSPENDED       SUSPENDED ACTIVE DETACHED
        SUSPEND_EXPIRED DETACHED  SUSPENDED
        CLOSE_REQUESTED CLOSING   ACTIVE DETACHED SUSPENDED
        RUN_ENDED       ENDED     CREATED STARTING CLOSING
        CLOSED          ENDED     CREATED STARTING ACTIVE DETACHED SUSPENDED CLOSING
        CLOSE_EXPIRED   ENDED     CLOSING
        EXPIRED         ENDED     CREATED DETACHED
        SUPERSEDED      ENDED     CREATED STARTING ACTIVE DETACHED SUSPENDED CLOSING
        DELETED         ENDED     CREATED STARTING ACTIVE DETACHED SUSPENDED CLOSING
        RESUMED         CREATED   ENDED
        """
    )
    for before in states
}
"""Every (state, cause, next state) of a session; in the table, the states that a cause leads away from stand last."""

RUN_CHANGES = {
    (before, after)
    for before, *rest in _rows(
        """
        none         QUEUED PENDING
        QUEUED       PENDING FINISHED
        PENDING      RUNNING FINISHED
        RUNNING      PENDING INTERRUPTING FINISHED
        INTERRUPTING FINISHED
        """
    )
    for after in rest
}
"""Every (state, next state) of a run."""

RUN_ENDS = {
    (outcome, cause)
    for outcome, *causes in _rows(
        """
        SUCCEEDED   RUNNER
        FAILED      RUNNER
        INTERRUPTED RUNNER INTERRUPT FORCED SESSION_ENDED
        LOST        LEASE_EXPIRED
        TIMED_OUT   DEADLINE
        REJECTED    DEADLINE SESSION_ENDED POLICY
        """
    )
    for cause in causes
}
"""Every (outcome, cause) of a terminal."""

INTERRUPT_STAGES = {
    (before, after)
    for before, *rest in _rows(
        """
        none         ACCEPTED NO_OP
        ACCEPTED     DELIVERED ACKNOWLEDGED COMPLETED
        DELIVERED    ACKNOWLEDGED COMPLETED
        ACKNOWLEDGED COMPLETED
        """
    )
    for after in rest
}
"""Every (stage, next stage) of an interrupt."""

OPEN = frozenset({"CREATED", "STARTING", "ACTIVE", "DETACHED", "SUSPENDED"})
"""The states in which a session takes a run in, and gives one out."""

ROUTES = dict.fromkeys(OPEN, "ADMIT") | {
    "CLOSING": "END_THEN_RESUME",
    "ENDED": "RESUME",
    "FINAL": "REFUSED",
}
"""state -> what StartRun would do. A session that is final has that for a state."""

REFUSALS = {
    (reason, code)
    for code, *reasons in _rows(
        """
        INVALID_ARGUMENT    MALFORMED LIMIT_EXCEEDED FIELD_INVALID KEY_INVALID AGENT_MISMATCH FILTER_INVALID
        INVALID_ARGUMENT    TOKEN_INVALID PAGE_TOKEN_INVALID
        ALREADY_EXISTS      REQUEST_ID_REUSED SESSION_EXISTS RUN_ID_REUSED
        NOT_FOUND           SESSION_NOT_FOUND RUN_NOT_FOUND INTERRUPT_NOT_FOUND INPUT_NOT_FOUND SUBSCRIBER_NOT_FOUND
        NOT_FOUND           KEY_NOT_BOUND
        FAILED_PRECONDITION KEY_NOT_BOUND KEY_MISMATCH KEY_BOUND INVALID_TRANSITION SESSION_ENDED
        FAILED_PRECONDITION RUN_FINISHED LEASE_LOST RUN_SEQUENCE_GAP STORE_REPLACED
        ABORTED             RUN_IN_PROGRESS ETAG_MISMATCH SESSION_REPLACED DISCONNECTED
        OUT_OF_RANGE        TOKEN_COMPACTED
        RESOURCE_EXHAUSTED  RUN_QUEUE_FULL LOG_FULL STREAM_LIMIT SLOW_CONSUMER STORAGE_FULL OVERLOADED
        DEADLINE_EXCEEDED   TIMED_OUT
        UNAVAILABLE         DRAINING STORE_BUSY STORE_FAILED MAX_AGE
        UNAUTHENTICATED     CREDENTIAL
        """
    )
    for reason in reasons
}
"""Every (reason, code) that a server in order may refuse a call with. DATA_LOSS and INTERNAL are none of them."""

OF_TROUBLE = frozenset({"STORAGE_FULL", "STORE_BUSY", "STORE_FAILED"})
"""Reasons that name what is wrong with the machine."""

OF_STOPPING = frozenset({"DRAINING"})
"""Reasons that name that the server is about to stop."""

UNDECIDED = frozenset({"STORE_FAILED"})
"""Reasons that leave open what became of the call."""
