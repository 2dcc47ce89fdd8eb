"""Every way in which sessionplane says no.

An error is a class with a stable `reason`; its docstring is the message that callers read, with the
details filled in. Domain and store raise them, `rpc.status` has the one table to gRPC codes, and the
list in docs/protocol.md is generated from here. A message never carries payloads, lease tokens or
text of other exceptions, and quotes no more than a bounded piece of what it was given: it travels in
the headers of an answer, three times over and percent-encoded, and the transports of some languages
take no more than 8 KiB of headers.
"""

from __future__ import annotations

from typing import ClassVar

DETAIL_BYTES_MAX = 640
"""A canonical key is the longest that a program must be able to read in full."""

MESSAGE_BYTES_MAX = 800


class SessionPlaneError(Exception):
    """The request was refused."""

    reason: ClassVar[str] = ""

    def __init__(self, **details: object) -> None:
        self.details = {name: _cut(str(value), DETAIL_BYTES_MAX) for name, value in details.items()}
        message = (type(self).__doc__ or "").format_map(_Details(self.details))
        super().__init__(_cut(message, MESSAGE_BYTES_MAX))


def _cut(text: str, bytes_max: int) -> str:
    """Return a text that fits, its end replaced if it did not."""
    data = text.encode()
    if len(data) <= bytes_max:
        return text
    return data[: bytes_max - len("…".encode())].decode(errors="ignore") + "…"


class _Details(dict[str, str]):
    """Fills a message; a detail that was not given shows as its name instead of failing the refusal."""

    def __missing__(self, name: str) -> str:
        return f"({name})"


class Malformed(SessionPlaneError):
    """The request is not a valid protobuf message of this method. Check the client's stubs and its text for bad UTF-8."""

    reason = "MALFORMED"


class LimitExceeded(SessionPlaneError):
    """{field} is over its limit: {actual}, at most {limit}. Send less."""

    reason = "LIMIT_EXCEEDED"


class FieldInvalid(SessionPlaneError):
    """{field} cannot be used: {problem}."""

    reason = "FIELD_INVALID"


class KeyInvalid(SessionPlaneError):
    """{field} is not a usable key: {problem}."""

    reason = "KEY_INVALID"


class AgentMismatch(SessionPlaneError):
    """{field} names agent {agent}, and that does not fit: {problem}."""

    reason = "AGENT_MISMATCH"


class FilterInvalid(SessionPlaneError):
    """The filter cannot be used: {problem}."""

    reason = "FILTER_INVALID"


class TokenInvalid(SessionPlaneError):
    """The resume token cannot be used: {problem}. Send a token as it came, or none."""

    reason = "TOKEN_INVALID"


class PageTokenInvalid(SessionPlaneError):
    """The page token does not belong to this request. Send it with the arguments of the page before, or begin again."""

    reason = "PAGE_TOKEN_INVALID"


class RequestIdReused(SessionPlaneError):
    """This request_id was used for another request at {first_seen_at}. Use a new one for a new request."""

    reason = "REQUEST_ID_REUSED"


class SessionNotFound(SessionPlaneError):
    """There is no session {session_id}. Resolve the key to find the session that holds it."""

    reason = "SESSION_NOT_FOUND"


class SessionExists(SessionPlaneError):
    """The key is held by session {session_id} already, and the conflict policy is FAIL. Use that session."""

    reason = "SESSION_EXISTS"


class RunNotFound(SessionPlaneError):
    """There is no run {run_id}. Check the id; ListRuns has the runs of a session."""

    reason = "RUN_NOT_FOUND"


class InterruptNotFound(SessionPlaneError):
    """There is no interrupt {interrupt_id}. Check the id; a run that was interrupted names its interrupt."""

    reason = "INTERRUPT_NOT_FOUND"


class InputNotFound(SessionPlaneError):
    """Run {run_id} was never given an input {input_id}. Acknowledge the inputs of its own commands."""

    reason = "INPUT_NOT_FOUND"


class SubscriberNotFound(SessionPlaneError):
    """There is no open stream {subscriber_id}. It may have ended; ListSubscribers has those that are open."""

    reason = "SUBSCRIBER_NOT_FOUND"


class KeyNotBound(SessionPlaneError):
    """No session holds the key {canonical_key}. ResolveSession creates one."""

    reason = "KEY_NOT_BOUND"


class KeyNeverBound(KeyNotBound):
    """Session {session_id} never had a key, so there is none to move. Bind one to it with ResolveSession first."""


class InvalidTransition(SessionPlaneError):
    """{subject} cannot go from {from} to {to}. Nothing was changed; read how it stands, then decide again."""

    reason = "INVALID_TRANSITION"


class SessionEnded(SessionPlaneError):
    """Session {session_id} is final and cannot run again. Go on with the session that holds its key now."""

    reason = "SESSION_ENDED"


class EndedPolicyFails(SessionEnded):
    """The key's session {session_id} has ended, and the ended policy is FAIL. A StartRun brings it back, CREATE_NEW leaves it behind."""


class RunIdReused(SessionPlaneError):
    """The run id {run_id} is in use for another session or other content. Use a new run id for new work."""

    reason = "RUN_ID_REUSED"


class KeyMismatch(SessionPlaneError):
    """Session {session_id} holds another key and cannot be bound to this one. Bind a session that never had a key."""

    reason = "KEY_MISMATCH"


class KeyBound(SessionPlaneError):
    """The key is held by session {session_id} already. Go on in that session, or delete it before you bind another."""

    reason = "KEY_BOUND"


class RunFinished(SessionPlaneError):
    """Run {run_id} has ended ({outcome}). Stop working on it."""

    reason = "RUN_FINISHED"


class LeaseLost(SessionPlaneError):
    """The lease token is not the current one of run {run_id}. Stop working on it."""

    reason = "LEASE_LOST"


class RunSequenceGap(SessionPlaneError):
    """Events are missing: the next run_sequence is {expected}. Publish from there."""

    reason = "RUN_SEQUENCE_GAP"


class StoreReplaced(SessionPlaneError):
    """The resume token is of another database. Begin without a token."""

    reason = "STORE_REPLACED"


class RunInProgress(SessionPlaneError):
    """Run {active_run_id} is active in this session and the policy is REJECT. Wait for its end, or enqueue."""

    reason = "RUN_IN_PROGRESS"


class EtagMismatch(SessionPlaneError):
    """The session has changed: its etag is {current} now. Read it again, then decide again."""

    reason = "ETAG_MISMATCH"


class SessionReplaced(SessionPlaneError):
    """The key is not held by the session that was expected, but by {current}. Nothing was changed; look at that one, then decide again."""

    reason = "SESSION_REPLACED"


class SessionGone(SessionReplaced):
    """The key is not held by the session that was expected, nor by any other. Nothing was changed; ResolveSession creates one."""


class TokenCompacted(SessionPlaneError):
    """What came after this resume token was removed by retention. Go on with `floor_token`, or without a token if there is none."""

    reason = "TOKEN_COMPACTED"


class LogBehindToken(SessionPlaneError):
    """The server knows less than this resume token has seen: something was lost on its disk. Begin without a token."""

    reason = "LOG_BEHIND_TOKEN"


class Checksum(SessionPlaneError):
    """Session {session_id} has another past at sequence {sequence}: its log is damaged, or a copy was restored."""

    reason = "CHECKSUM"


class Damaged(SessionPlaneError):
    """A record in the database is damaged: {what} {name}. Nothing was changed; whoever runs the server has to look."""

    reason = "DAMAGED"


class RunQueueFull(SessionPlaneError):
    """{limit} {what} wait in this session already. Wait until one of its runs has finished."""

    reason = "RUN_QUEUE_FULL"


class LogFull(SessionPlaneError):
    """The log of session {session_id} is full ({limit}), and a run under way holds all of it. Finish that run; its terminal is accepted."""

    reason = "LOG_FULL"


class StreamLimit(SessionPlaneError):
    """Too many streams are open ({limit} {scope}). Close one, or try again later."""

    reason = "STREAM_LIMIT"


class SlowConsumer(SessionPlaneError):
    """The stream was not read for {seconds} s. Open it again; a subscriber goes on with its newest token."""

    reason = "SLOW_CONSUMER"


class StorageFull(SessionPlaneError):
    """The server's disk is full. Nothing was changed; try again when there is space."""

    reason = "STORAGE_FULL"


class Overloaded(SessionPlaneError):
    """The server has more work waiting than it accepts. Nothing was changed; try again shortly."""

    reason = "OVERLOADED"


class Draining(SessionPlaneError):
    """The server is stopping. Try again: another process may have taken over."""

    reason = "DRAINING"


class StoreBusy(SessionPlaneError):
    """The database is held by another process. Nothing was changed; try again shortly."""

    reason = "STORE_BUSY"


class StoreFailed(SessionPlaneError):
    """The database failed and the server is stopping. Try again: what became of this call, its request_id tells."""

    reason = "STORE_FAILED"


class MaxAge(SessionPlaneError):
    """The stream has reached the age at which the server renews it. Resume with the newest token."""

    reason = "MAX_AGE"


class TimedOut(SessionPlaneError):
    """The caller's timeout is over. What was asked may be done or not: ask again, under the same request id."""

    reason = "TIMED_OUT"


class Credential(SessionPlaneError):
    """The credential is not, or no longer, good. Get a new one."""

    reason = "CREDENTIAL"


class Disconnected(SessionPlaneError):
    """This stream was replaced by a newer one, or ended by an operator. Do not come back unasked."""

    reason = "DISCONNECTED"


def leaves() -> list[type[SessionPlaneError]]:
    """Every error that can reach a caller and has a reason of its own, in the order of this file."""
    return [error for error in SessionPlaneError.__subclasses__() if error.reason]


def variants() -> list[type[SessionPlaneError]]:
    """Every error that shares the reason of the leaf it derives from, and has a message and maybe a code of its own:
    to programs it is the same finding, about something else.
    """
    return [error for leaf in leaves() for error in leaf.__subclasses__()]
