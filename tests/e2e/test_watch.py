"""WatchSessions: whoever keeps a copy of the sessions has what the server has, across reconnects and restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from sessionplane.domain.tokens import WatchTokenWriter
from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import Session
from tests.support.refusals import Refusal, read, refused
from tests.support.serving import Served, serving
from tests.support.wire import DEADLINE_S, Wire

INTERNAL = {"visibility": session_pb2.VISIBILITY_INTERNAL}


async def listed(wire: Wire, **asked: bool) -> dict[str, Session]:
    """All sessions, as a list shows them."""
    answer = await wire.sessions.ListSessions(pb.ListSessionsRequest(page_size=1_000, **asked))
    assert not answer.next_page_token
    return {session.session_id: session for session in answer.sessions}


async def _history(wire: Wire) -> None:
    """Sessions in many states: new, with a queue, ended, replaced, deleted, and hidden."""
    await wire.resolve("new")
    await wire.run_through((await wire.start("done")).run.run_id, "text")
    await wire.start("busy")
    await wire.start("busy")
    await wire.resolve("old", labels={"a": "b"})
    await wire.reset("old")
    await wire.resolve("gone")
    await wire.delete("gone")
    await wire.resolve("hidden", **INTERNAL)
    await wire.start()


async def test_a_watch_begins_with_every_session_and_goes_on_with_changes(server: Served) -> None:
    """First what exists, then that this was all, then each change as it comes."""
    wire = server.wire
    await wire.resolve("a")
    await wire.resolve("b")
    async with wire.watch() as watch:
        await watch.caught_up()
        assert watch.told() == ["a", "b", "caught up"]
        await wire.resolve("c")
        await watch.until(lambda frame: frame.session.key.endswith(":c"))
        run_id = (await wire.start("a")).run.run_id
        await watch.until(lambda frame: frame.session.active_run_id == run_id)
        await wire.run_through(run_id)
        await watch.until(lambda frame: frame.session.key.endswith(":a") and not frame.session.running)
        assert watch.copy == await listed(wire)


async def test_a_copy_is_what_the_list_shows(server: Served) -> None:
    """Whatever happened before, the rows of a fresh watch are those of the list, hidden ones on request."""
    await _history(server.wire)
    for asked in ({}, {"show_internal": True}):
        async with server.wire.watch(**asked) as watch:
            await watch.caught_up()
        assert watch.copy == await listed(server.wire, **asked)
        assert not any(frame.HasField("removed") for frame in watch.frames)
        assert ("hidden" in watch.told()) == bool(asked)


async def test_a_watch_resumes_at_every_token(server: Served) -> None:
    """Wherever a copy stopped, the next call brings it up to date, removals included."""
    wire = server.wire
    async with wire.watch(show_internal=True) as watch:
        await _history(wire)
        state = await listed(wire, show_internal=True)
        while watch.copy != state:
            assert await watch.frame() is not None
        frames = list(watch.frames)
    for place in range(len(frames)):
        resumed = wire.watch(resume_token=frames[place].resume_token, show_internal=True)
        for frame in frames[: place + 1]:
            resumed.keep(frame)
        async with resumed:
            await resumed.caught_up()
        assert resumed.copy == state


async def test_every_token_of_a_watch_outlives_a_restart(tmp_path: Path) -> None:
    """Numbers are the database's, not a process's; what changed while nobody watched is told of."""
    async with serving(tmp_path / "plane.db") as server:
        await server.wire.resolve("a")
        await server.wire.resolve("b")
        async with server.wire.watch() as watch:
            await watch.caught_up()
        await server.wire.delete("a")
    async with serving(tmp_path / "plane.db") as server:
        await server.wire.resolve("c")
        async with server.wire.watch(resume_token=watch.token) as resumed:
            await resumed.caught_up()
        assert resumed.told() == ["-a", "c", "caught up"]


async def test_a_session_that_changed_often_is_told_of_as_it_is(server: Served) -> None:
    """A watch that comes back tells of a busy session once."""
    wire = server.wire
    await wire.resolve("chat")
    async with wire.watch() as watch:
        await watch.caught_up()
    for name in "abcdefghij":
        await wire.update("chat", display_name=name)
    async with wire.watch(resume_token=watch.token) as resumed:
        await resumed.caught_up()
    assert resumed.told() == ["chat", "caught up"]
    assert resumed.frames[0].session.display_name == "j"


async def test_a_deleted_session_is_told_of_with_its_key(server: Served) -> None:
    """Who holds a copy hears that a session is gone, and that another has its key since."""
    wire = server.wire
    old = (await wire.resolve("chat")).session.session_id
    async with wire.watch() as watch:
        await watch.caught_up()
        await wire.delete("chat")
        await watch.until(lambda frame: frame.HasField("removed"))
        assert watch.frames[-1].removed == pb.SessionRemoved(session_id=old, key="agent:main:chat")
        new = (await wire.resolve("chat")).session.session_id
        await watch.until(lambda frame: frame.session.session_id == new)
        assert set(watch.copy) == {new}


async def test_a_hidden_session_that_is_shown_is_told_of(server: Served) -> None:
    """A session that its first user makes visible is new to who watches."""
    wire = server.wire
    await wire.resolve("chat", **INTERNAL)
    async with wire.watch() as watch:
        await watch.caught_up()
        assert watch.told() == ["caught up"]
        await wire.resolve("chat")
        await watch.until(lambda frame: frame.session.key == "agent:main:chat")
        assert watch.copy == await listed(wire)


async def test_who_comes_and_goes_is_told_to_nobody(server: Served) -> None:
    """The number of subscribers is shown as it is when a row is told of; its change alone is no change."""
    wire = server.wire
    await wire.resolve("chat")
    async with wire.watch() as watch:
        await watch.caught_up()
        async with wire.stream("chat"):
            async with wire.watch() as later:
                assert later.frames[0].session.attached_count == 1
            await wire.resolve("other")
            await watch.until(lambda frame: frame.session.key.endswith(":other"))
            await wire.update("chat", display_name="x")
            await watch.until(lambda frame: frame.session.display_name == "x")
            assert watch.frames[-1].session.attached_count == 1
    assert watch.told() == ["chat", "caught up", "other", "chat"]


async def test_a_silent_watch_shows_signs_of_life(tmp_path: Path) -> None:
    """After a while without a frame it is said again that all was told."""
    async with serving(tmp_path / "plane.db", limits={"progress_after_ms": 30}) as server:
        async with server.wire.watch() as watch:
            for _ in range(3):
                await watch.frame()
        assert watch.told() == ["caught up"] * 4


async def test_many_who_watch_see_the_same(server: Served) -> None:
    """However many watch, from wherever, each ends with the same copy."""
    wire = server.wire
    await _history(wire)
    watches = [wire.watch() for _ in range(20)]
    for watch in watches[:10]:
        await watch.__aenter__()
    await asyncio.gather(*(wire.start("busy") for _ in range(10)))
    for watch in watches[10:]:
        await watch.__aenter__()
    await wire.resolve("last")
    for watch in watches:
        await watch.until(lambda frame: frame.session.key.endswith(":last"))
        watch.leave()
    state = await listed(wire)
    assert all(watch.copy == state for watch in watches)


async def _token_of_a_log(wire: Wire) -> str:
    return (await wire.resolve("chat")).resume_token


async def test_a_token_that_cannot_be_gone_on_from_is_refused_by_name(server: Served) -> None:
    """Garbage, a log's token, another database's, and one that knows more than the server."""
    wire = server.wire
    log = await _token_of_a_log(wire)
    mine = WatchTokenWriter(store_id=server.running.store.store_id, namespace="default")
    elsewhere = WatchTokenWriter(store_id="ab" * 16, namespace="default")
    code = grpc.StatusCode
    for token, expected in {
        "rubbish": (code.INVALID_ARGUMENT, "TOKEN_INVALID"),
        log: (code.INVALID_ARGUMENT, "TOKEN_INVALID"),
        elsewhere.at(1): (code.FAILED_PRECONDITION, "STORE_REPLACED"),
        mine.at(2): (code.DATA_LOSS, "LOG_BEHIND_TOKEN"),
        mine.at(2**64 - 1): (code.DATA_LOSS, "LOG_BEHIND_TOKEN"),
    }.items():
        refusal = await refused(wire.watch(resume_token=token).__aenter__())
        assert (refusal.code, refusal.reason) == expected
    refusal = await refused(wire.stream("chat", resume_token=mine.at(1)).__aenter__())
    assert (refusal.code, refusal.reason) == (code.INVALID_ARGUMENT, "TOKEN_INVALID")


async def test_a_token_from_before_a_removal_is_compacted(tmp_path: Path) -> None:
    """What was removed for good can no longer be told; whoever may have missed it begins again, and others go on."""
    async with serving(tmp_path / "plane.db", limits={"deleted_ttl_ms": 50}) as server:
        wire = server.wire
        await wire.resolve("a")
        await wire.resolve("b")
        async with wire.watch() as watch:
            await watch.caught_up()
            old = watch.token
            await wire.delete("a")
            await watch.until(lambda frame: frame.HasField("removed"))
            async with asyncio.timeout(DEADLINE_S):
                while (refusal := await _refusal(wire, old)) is None:
                    continue
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "TOKEN_COMPACTED")
            await wire.resolve("c")
            await watch.until(lambda frame: frame.session.key.endswith(":c"))
        for request in ({}, {"resume_token": watch.token}):
            async with wire.watch(**request) as again:
                await again.caught_up()


async def _refusal(wire: Wire, token: str) -> Refusal | None:
    """How a token is refused; None if it is not."""
    watch = wire.watch(resume_token=token)
    try:
        async with watch:
            return None
    except grpc.aio.AioRpcError as error:
        return read(error)


@pytest.mark.parametrize("limits", [{"stream_age_ms": 50}, {}], ids=["age", "drain"])
async def test_a_watch_that_the_server_ends_can_be_gone_on_from(
    tmp_path: Path, limits: dict[str, int]
) -> None:
    """Its status says why, asks to come again, and the newest token goes on."""
    async with serving(tmp_path / "plane.db", limits=limits) as server:
        await server.wire.resolve("a")
        async with server.wire.watch() as watch:
            if not limits:
                server.running.plane.drain()
            await watch.rest()
    assert watch.refusal is not None
    assert (watch.refusal.code, watch.refusal.reason) == (
        grpc.StatusCode.UNAVAILABLE,
        "MAX_AGE" if limits else "DRAINING",
    )
    assert watch.refusal.retry_after_s is not None
    async with serving(tmp_path / "plane.db") as server:
        async with server.wire.watch(resume_token=watch.token) as resumed:
            await resumed.caught_up()
        assert {**watch.copy, **resumed.copy} == await listed(server.wire)


async def test_watches_count_as_streams_of_the_server(tmp_path: Path) -> None:
    """They share one bound with streams of events."""
    async with serving(tmp_path / "plane.db", limits={"server_streams_max": 2}) as server:
        wire = server.wire
        await wire.resolve("chat")
        async with wire.watch(), wire.stream("chat"):
            for over in (wire.watch(), wire.stream("chat")):
                refusal = await refused(over.__aenter__())
                assert (refusal.code, refusal.reason) == (
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "STREAM_LIMIT",
                )
