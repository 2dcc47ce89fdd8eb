"""What a client asks about sessions, against a scripted server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as service
from sessionplane_client import Backoff, Client, EtagMismatch, InvalidTransition, SessionReplaced
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


async def test_a_resolve_says_what_to_do(server: Scripted, client: Client) -> None:
    """Policies, what is expected, who may see it and what to run go out as they are given; else nothing does."""
    server.answers = {"ResolveSession": service.ResolveSessionResponse()}
    await client.resolve(key="k")
    await client.resolve(
        key="k",
        missing=session_pb2.MISSING_POLICY_FAIL,
        conflict=session_pb2.CONFLICT_POLICY_REPLACE,
        ended=session_pb2.ENDED_POLICY_CREATE_NEW,
        expected_session_id="ses_1",
        visibility=session_pb2.VISIBILITY_INTERNAL,
        run="hello",
    )
    await client.resolve(key="k", run=run_pb2.RunSpec(run_id="mine", pool="gpu"))
    bare, full, mine = server.named("ResolveSession")
    assert not bare.HasField("run")
    assert (bare.missing_policy, bare.conflict_policy, bare.ended_policy, bare.visibility) == (0, 0, 0, 0)
    assert (full.missing_policy, full.conflict_policy, full.ended_policy) == (2, 3, 2)
    assert (full.expected_session_id, full.visibility, full.run.input.text) == ("ses_1", 2, "hello")
    assert (mine.run.run_id, mine.run.pool) == ("mine", "gpu")


async def test_an_update_names_what_it_changes(server: Scripted, client: Client) -> None:
    """What is None is not in the mask, what is empty is: so it is cleared."""
    server.answers = {
        "UpdateSession": [
            service.UpdateSessionResponse(session=session_pb2.Session(etag="2")),
            service.UpdateSessionResponse(),
            Refusal(grpc.StatusCode.ABORTED, "ETAG_MISMATCH"),
        ]
    }
    assert (await client.update_session(key="k", labels={"a": "b"})).etag == "2"
    await client.update_session(key="k", labels={}, display_name="", etag="2")
    with pytest.raises(EtagMismatch):
        await client.update_session(session_id="ses_1", display_name="K", etag="1")
    first, cleared, renamed = server.named("UpdateSession")
    assert (list(first.update_mask.paths), dict(first.labels)) == (["labels"], {"a": "b"})
    assert (list(cleared.update_mask.paths), cleared.etag) == (["labels", "display_name"], "2")
    assert (list(renamed.update_mask.paths), renamed.display_name) == (["display_name"], "K")


async def test_a_key_is_taken_from_its_session(server: Scripted, client: Client) -> None:
    """Reset and delete name a session in either way, and can be repeated; a refusal says who holds the key."""
    replaced = Refusal(grpc.StatusCode.ABORTED, "SESSION_REPLACED", current="ses_2")
    server.answers = {
        "ResetSession": [service.ResetSessionResponse(previous_session_id="ses_1"), replaced],
        "DeleteSession": service.DeleteSessionResponse(deleted=True),
    }
    assert (await client.reset_session(key="k", agent="ops")).previous_session_id == "ses_1"
    with pytest.raises(SessionReplaced) as refused:
        await client.reset_session(session_id="ses_1", expected_session_id="ses_1")
    assert refused.value.metadata == {"current": "ses_2"}
    assert (await client.delete_session(session_id="ses_2")).deleted
    by_key, by_id = server.named("ResetSession")
    assert (by_key.session.key, by_key.session.agent, by_id.session.session_id) == ("k", "ops", "ses_1")
    assert by_id.expected_session_id == "ses_1"
    (deleted,) = server.named("DeleteSession")
    assert all(each.request_id for each in (by_key, by_id, deleted))
