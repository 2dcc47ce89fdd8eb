"""What a client asks about sessions, against a scripted server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from sessionplane.v1 import session_service_pb2 as service
from sessionplane_client import Backoff, Client, InvalidTransition
from tests.support.scripted import Refusal, Scripted, scripted

AT_ONCE = Backoff(first_s=0.001, max_s=0.001)


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as server:
        yield server


@pytest.fixture
async def client(server: Scripted) -> AsyncIterator[Client]:
    async with Client(server.target, backoff=AT_ONCE) as client:
        yield client


async def test_a_session_is_put_to_rest(server: Scripted, client: Client) -> None:
    """Spans are seconds, and what is not given is left to the server; a refusal says which state was the trouble."""
    server.answers = {
        "SuspendSession": [
            service.SuspendSessionResponse(),
            Refusal(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"),
        ],
        "CloseSession": service.CloseSessionResponse(),
    }
    await client.suspend_session(key="k", agent="ops", grace_period_s=1.5)
    with pytest.raises(InvalidTransition):
        await client.suspend_session(session_id="ses_1")
    await client.close_session(session_id="ses_1", close_timeout_s=0, reason="enough")
    await client.close_session(key="k")
    suspended, refused = server.named("SuspendSession")
    assert (suspended.session.agent, suspended.grace_period.ToMilliseconds()) == ("ops", 1_500)
    assert (refused.session.session_id, refused.HasField("grace_period")) == ("ses_1", False)
    closed, bare = server.named("CloseSession")
    assert (closed.reason, closed.HasField("close_timeout")) == ("enough", True)
    assert (bare.reason, bare.HasField("close_timeout")) == ("", False)
