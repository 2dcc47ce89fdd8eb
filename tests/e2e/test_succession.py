"""Policies, reset, delete and update over the wire: what each answer carries."""

from __future__ import annotations

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.run_pb2 import Payload, RunSpec
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.refusals import refused
from tests.support.serving import Served

REPLACE = session_pb2.CONFLICT_POLICY_REPLACE


async def test_a_replacement_is_told_with_its_run(server: Served) -> None:
    """One call moves the key and starts the run; the answer has both, and whom they replaced."""
    wire = server.wire
    old = (await wire.resolve("chat", labels={"team": "a"})).session
    answer = await wire.resolve(
        "chat", conflict_policy=REPLACE, run=RunSpec(run_id="mine", input=Payload(text="hi"))
    )
    assert answer.resolution == session_pb2.RESOLUTION_REPLACED
    assert answer.previous_session_id == answer.session.previous_session_id == old.session_id
    assert (answer.run.run_id, answer.input_id, answer.active_run.run_id) == ("mine", "mine", "mine")
    assert answer.run_disposition == run_pb2.RUN_DISPOSITION_PENDING
    assert answer.route == session_pb2.ROUTE_ADMIT
    assert dict(answer.session.labels) == {"team": "a"}
    assert not answer.run.HasField("input")
    gone = (await wire.get(session_id=old.session_id)).session
    assert (gone.final, gone.superseded_by) == (True, answer.session.session_id)


async def test_a_plain_resolve_says_nothing_of_runs(server: Served) -> None:
    """Without a run in the request these fields are not set."""
    answer = await server.wire.resolve("chat")
    assert not answer.HasField("run")
    assert (answer.run_disposition, answer.input_id, answer.previous_session_id) == (0, "", "")


async def test_a_stream_resolves_starts_and_follows_in_one_call(server: Served) -> None:
    """The stream of a resolve with a run begins with that run and ends with it, though another one is active."""
    wire = server.wire
    active = (await wire.start("chat")).run.run_id
    spec = RunSpec(run_id="mine", input=Payload(text="hi"))
    resolve = pb.ResolveSessionRequest(session=SessionRef(key="chat"), run=spec)
    async with wire.stream(resolve=resolve, until=pb.STREAM_UNTIL_RUN_END) as stream:
        assert (stream.opened.run.run_id, stream.opened.until_run_id) == ("mine", "mine")
        await wire.run_through(active, "first")
        await wire.run_through("mine", "second")
        await stream.rest()
    assert [event.run_id for event in stream.events if event.HasField("run_terminal")][-1] == "mine"
    assert stream.events[0].input_recorded.input_id == "mine"


async def test_a_reset_is_told_with_whom_it_replaced(server: Served) -> None:
    """The new session, the old one, and where to follow from."""
    wire = server.wire
    old = (await wire.resolve("chat")).session
    answer = await wire.reset(" CHAT ", request_id="r1")
    assert answer.previous_session_id == old.session_id
    assert answer.session.key == "agent:main:chat"
    assert answer.route == session_pb2.ROUTE_ADMIT
    assert (await wire.reset("chat", request_id="r1")) == answer
    started = await wire.start("chat")
    seen = await wire.stream("chat", resume_token=answer.resume_token, until=pb.STREAM_UNTIL_CAUGHT_UP).rest()
    assert seen.events[0].input_recorded.input_id == started.run.run_id


async def test_a_deletion_is_told_once_and_known_for_a_while(server: Served) -> None:
    """What this call deleted, what was deleted before, and nothing at all are three answers."""
    wire = server.wire
    session = (await wire.resolve("chat")).session
    gone = await wire.delete("Chat")
    assert (gone.deleted, gone.session_id) == (True, session.session_id)
    assert gone.HasField("delete_time")
    again = await wire.delete(session_id=session.session_id)
    assert (again.deleted, again.session_id, again.delete_time) == (False, gone.session_id, gone.delete_time)
    nothing = await wire.delete("chat")
    assert nothing == pb.DeleteSessionResponse()
    refusal = await refused(wire.get(session_id=session.session_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    deleted_at = gone.delete_time.ToDatetime().strftime("%Y-%m-%dT%H:%M:%S+00:00")
    assert (refusal.metadata or {})["deleted_at"] == deleted_at
    listed = await wire.sessions.ListSessions(pb.ListSessionsRequest())
    assert not listed.sessions


async def test_an_update_changes_what_its_mask_names(server: Served) -> None:
    """Without a mask what is not empty is meant; with one also what is empty, which is how it is cleared."""
    wire = server.wire
    await wire.resolve("chat", labels={"team": "a"}, display_name="Chat")
    unmasked = (await wire.update("chat", display_name="Talk")).session
    assert (dict(unmasked.labels), unmasked.display_name) == ({"team": "a"}, "Talk")
    masked = (await wire.update("chat", update_mask=FieldMask(paths=["labels"]), display_name="No")).session
    assert (dict(masked.labels), masked.display_name) == ({}, "Talk")
    both = FieldMask(paths=["display_name", "labels"])
    cleared = (await wire.update("chat", update_mask=both, labels={"b": "2"}, etag=masked.etag)).session
    assert (dict(cleared.labels), cleared.display_name) == ({"b": "2"}, "")
    assert cleared.update_time.ToMilliseconds() >= unmasked.update_time.ToMilliseconds()
    assert (await wire.get("chat")).session.etag == cleared.etag
