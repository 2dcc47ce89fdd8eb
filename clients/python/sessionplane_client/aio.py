"""The asyncio client: sessions, runs and events of one server over one channel.

Each group of calls is a class of its own over the one `connection`; here they are one object.
"""

from __future__ import annotations

from .admin_calls import AdminCalls
from .event_calls import EventCalls
from .run_calls import RunCalls
from .runner_calls import RunnerCalls
from .session_calls import SessionCalls


class Client(SessionCalls, RunCalls, EventCalls, RunnerCalls, AdminCalls):
    """A connection to one server. Use it as `async with Client(target) as client`, inside a running loop.

    `timeout_s` is the deadline of each unary call that does not wait. Without `credentials` the channel is
    not encrypted. Sessions are named by exactly one of `key` (any spelling) and `session_id`; `agent` is the
    agent that a bare key belongs to.

    All unary calls share one stream, SessionService.Exchange, which costs both sides a fraction of a call each; where
    there is no such method, and with `exchange=False`, they are calls. Their meaning is the same.

    Every method raises SessionPlaneError with the server's reason. The generated stubs are the attributes
    `session_service`, `runner_service` and `admin_service`; what their unary methods return can be awaited and
    cancelled, and has nothing else of a call.
    """
