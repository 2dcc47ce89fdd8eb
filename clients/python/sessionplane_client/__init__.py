"""The Python client of sessionplane: `Client`, what it returns and what it raises.

Importing this package imports nothing else; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .aio import Client
    from .backoff import Backoff
    from .errors import (
        Disconnected,
        EtagMismatch,
        InvalidTransition,
        KeyInvalid,
        KeyNotBound,
        LeaseLost,
        LogBehindToken,
        RunFinished,
        RunInProgress,
        RunNotFound,
        RunQueueFull,
        SessionEnded,
        SessionExists,
        SessionNotFound,
        SessionPlaneError,
        SessionReplaced,
        StoreReplaced,
        StreamGap,
        SubscriberNotFound,
        TokenCompacted,
        TokenInvalid,
        Unavailable,
    )
    from .inputs import Input, Inputs
    from .runner import Claim, Runner
    from .stream import EventStream
    from .watch import SessionWatch

__all__ = [
    "Backoff",
    "Claim",
    "Client",
    "Disconnected",
    "EtagMismatch",
    "EventStream",
    "Input",
    "Inputs",
    "InvalidTransition",
    "KeyInvalid",
    "KeyNotBound",
    "LeaseLost",
    "LogBehindToken",
    "RunFinished",
    "RunInProgress",
    "RunNotFound",
    "RunQueueFull",
    "Runner",
    "SessionEnded",
    "SessionExists",
    "SessionNotFound",
    "SessionPlaneError",
    "SessionReplaced",
    "SessionWatch",
    "StoreReplaced",
    "StreamGap",
    "SubscriberNotFound",
    "TokenCompacted",
    "TokenInvalid",
    "Unavailable",
]

_ELSEWHERE = {
    "Client": "aio",
    "Backoff": "backoff",
    "Input": "inputs",
    "Inputs": "inputs",
    "Claim": "runner",
    "Runner": "runner",
    "EventStream": "stream",
    "SessionWatch": "watch",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ELSEWHERE.get(name, 'errors')}", __name__), name)
