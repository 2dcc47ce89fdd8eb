"""When to try again, and how long to wait before.

Pure: chance is given, waiting is left to the caller. What is tried again is the table below and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from grpc import StatusCode

from .errors import SessionPlaneError

# Said by our server or by the transport: the same call may work on the next attempt.
_TRANSIENT_CODES = frozenset({StatusCode.UNAVAILABLE, StatusCode.CANCELLED})
# Transient if the transport or a proxy said it. From our server, with a reason, each of them is an answer.
_TRANSPORT_CODES = frozenset({StatusCode.INTERNAL, StatusCode.UNKNOWN, StatusCode.DEADLINE_EXCEEDED})
_TRANSIENT_REASONS = frozenset({"SLOW_CONSUMER", "OVERLOADED", "STREAM_LIMIT", "RATE_LIMITED"})
_FINAL_REASONS = frozenset({"CLIENT_CLOSED"})  # CANCELLED, but by ourselves

_ASKED_S_MAX = 60.0


def is_transient(error: SessionPlaneError) -> bool:
    """Whether the same call, made again, may work without anybody doing anything."""
    if error.reason in _FINAL_REASONS:
        return False
    if error.reason in _TRANSIENT_REASONS or error.code in _TRANSIENT_CODES:
        return True
    return error.code in _TRANSPORT_CODES and not error.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Bounded exponential waiting: the n-th wait in a row is half to all of first * factor^n, at most max.

    `attempts_max` bounds the failures in a row before the last error is raised; None: never give up.
    The default waits about half a minute in all, which outlives the restart of a server.
    """

    first_s: float = 0.1
    factor: float = 2.0
    max_s: float = 2.0
    attempts_max: int | None = 20

    def __post_init__(self) -> None:
        if not (0 < self.first_s <= self.max_s and self.factor >= 1):
            raise ValueError("0 < first_s <= max_s and factor >= 1 are needed")

    def delay_s(self, failures: int, chance: float) -> float:
        """How long to wait after this many failures in a row (1, 2, ...); `chance` is in [0, 1)."""
        # The exponent is bounded too: a float overflows long before patience without a limit ends.
        full_s = min(self.max_s, self.first_s * self.factor ** min(failures - 1, 64))
        return full_s * (0.5 + 0.5 * chance)


class Patience:
    """Counts failures in a row against one `Backoff`."""

    def __init__(self, backoff: Backoff, random: Callable[[], float]) -> None:
        self._backoff = backoff
        self._random = random
        self.failures = 0

    def succeeded(self) -> None:
        """Something went well: the next failure is the first again."""
        self.failures = 0

    def failed(self, error: SessionPlaneError) -> float:
        """Returns how many seconds to wait before the next attempt.

        A server that asks for a longer wait gets it, up to a minute. Raises `error` itself if it is final or
        the attempts are used up.
        """
        self.failures += 1
        attempts_max = self._backoff.attempts_max
        if not is_transient(error) or (attempts_max is not None and self.failures > attempts_max):
            raise error
        delay_s = self._backoff.delay_s(self.failures, self._random())
        return max(delay_s, min(error.retry_delay_s or 0.0, _ASKED_S_MAX))
