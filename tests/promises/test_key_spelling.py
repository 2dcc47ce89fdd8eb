"""key-spelling: every spelling of a key reaches the same session, on every path, before and after a restart.

Seen in the wild: writes used the key as it was sent and reads its canonical form, so that a session was there until the
process restarted, and was an orphan afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from sessionplane import app
from sessionplane.cli.importing import Import
from sessionplane.cli.openclaw import read_store
from sessionplane.domain.keys import DEFAULT_OPAQUE_PEERS, OpaquePeer
from sessionplane.domain.legacy_keys import modern
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.run_pb2 import RunSpec
from sessionplane.v1.session_pb2 import CONFLICT_POLICY_FAIL, RESOLUTION_EXISTING, SessionRef
from tests.support.openclaw import wild
from tests.support.refusals import refused
from tests.support.rows import rows
from tests.support.serving import Served, serving
from tests.support.story import check_log, terminals
from tests.support.wire import Wire

CANONICAL = "agent:main:settings2"
SPELLINGS = [
    "settings2",
    CANONICAL,
    "AGENT:Main:Settings2",
    " settings2\t",
    "agent:main:agent:main:settings2",
]


async def _resolve(wire: Wire, key: str) -> str:
    return (await wire.resolve(key)).session.session_id


async def _get(wire: Wire, key: str) -> str:
    return (await wire.get(key)).session.session_id


async def _start(wire: Wire, key: str) -> str:
    return (await wire.start(key)).session.session_id


async def _interrupt(wire: Wire, key: str) -> str:
    return (await wire.interrupt(key)).interrupt.session_id


async def _follow(wire: Wire, key: str) -> str:
    async with wire.stream(key) as stream:
        return stream.opened.session.session_id


async def _resolve_and_follow(wire: Wire, key: str) -> str:
    async with wire.stream(resolve=pb.ResolveSessionRequest(session=SessionRef(key=key))) as stream:
        return stream.opened.session.session_id


async def _resume(wire: Wire, key: str) -> str:
    token = (await wire.get(CANONICAL)).resume_token
    async with wire.stream(key, resume_token=token) as stream:
        return stream.opened.session.session_id


async def _list_events(wire: Wire, key: str) -> str:
    return (await wire.log(key))[0].session_id


async def _bind_again(wire: Wire, key: str) -> str:
    session_id = (await wire.get(CANONICAL)).session.session_id
    answer = await wire.resolve(key, bind_session_id=session_id)
    assert answer.resolution == RESOLUTION_EXISTING
    return answer.session.session_id


async def _label(wire: Wire, key: str) -> str:
    return (await wire.update(key, labels={"by": key.strip()})).session.session_id


async def _refuse(wire: Wire, key: str) -> str:
    refusal = await refused(wire.resolve(key, conflict_policy=CONFLICT_POLICY_FAIL))
    return (refusal.metadata or {})["session_id"]


async def _reset_another(wire: Wire, key: str) -> str:
    refusal = await refused(wire.reset(key, expected_session_id="ses_another"))
    return (refusal.metadata or {})["current"]


async def _resolve_and_start(wire: Wire, key: str) -> str:
    return (await wire.resolve(key, run=RunSpec())).run.session_id


Reach = Callable[[Wire, str], Awaitable[str]]
PATHS = [
    _resolve,
    _get,
    _start,
    _interrupt,
    _follow,
    _resolve_and_follow,
    _resume,
    _list_events,
    _bind_again,
    _label,
    _refuse,
    _reset_another,
    _resolve_and_start,
]


@pytest.mark.parametrize("path", PATHS)
async def test_every_spelling_reaches_the_session_on_every_path(server: Served, path: Reach) -> None:
    """Whatever names a session by its key reads the key in the same way."""
    session_id = (await server.wire.resolve("settings2")).session.session_id
    assert {await path(server.wire, spelling) for spelling in SPELLINGS} == {session_id}
    assert len(rows(server.database)["sessions"]) == 1


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_every_spelling_moves_and_frees_the_key(server: Served, spelling: str) -> None:
    """A reset and a deletion under any spelling are of the one session, and are repeated under any other."""
    wire = server.wire
    first = (await wire.resolve("settings2")).session.session_id
    reset = await wire.reset(spelling, request_id="r1")
    assert reset.previous_session_id == first
    assert (await wire.reset("settings2", request_id="r1")).session == reset.session
    assert (await wire.get(CANONICAL)).session.session_id == reset.session.session_id
    assert (await wire.delete(spelling, request_id="r2")).session_id == reset.session.session_id
    assert (await wire.delete("settings2", request_id="r2")).deleted
    assert rows(server.database)["keys"] == []


@pytest.mark.parametrize("written", SPELLINGS)
async def test_another_spelling_after_a_restart_finds_the_session_and_its_log(
    tmp_path: Path, written: str
) -> None:
    """What was written under one spelling is read under all others when the server came back."""
    async with serving(tmp_path / "plane.db") as server:
        started = await server.wire.start(written)
        await server.wire.run_through(started.run.run_id, "done")
        before = await server.wire.log(written)
    async with serving(tmp_path / "plane.db") as server:
        for spelling in SPELLINGS:
            assert (await server.wire.resolve(spelling)).session.session_id == started.session.session_id
            assert await server.wire.log(spelling) == before
        again = await server.wire.start("Settings2")
        assert again.session.session_id == started.session.session_id
        await server.wire.run_through(again.run.run_id)
        log = await server.wire.log(CANONICAL)
    check_log(log)
    assert terminals(log) == ["SUCCEEDED/RUNNER"] * 2


async def test_a_run_under_way_is_found_under_another_spelling_after_a_restart(tmp_path: Path) -> None:
    """A subscriber that comes back with its own spelling sees the end of the run that it left."""
    async with serving(tmp_path / "plane.db") as server:
        started = await server.wire.start("settings2")
        held = await server.wire.hold(started.run.run_id)
        await server.wire.publish(held, "before ")
    async with (
        serving(tmp_path / "plane.db") as server,
        server.wire.stream(" SETTINGS2", until=pb.STREAM_UNTIL_RUN_END) as stream,
    ):
        assert stream.opened.run.run_id == started.run.run_id
        await server.wire.publish(held, "after")
        await server.wire.finish(held)
        await stream.rest()
    assert stream.ended_by == "RUN_END"
    assert stream.events[-1].run_terminal.output_text == "before after"


async def test_only_the_canonical_form_is_kept_and_shown(server: Served) -> None:
    """Answers, events and rows name the canonical key, whatever was sent; beside its pointer stands what made it."""
    started = await server.wire.start(" SETTINGS2")
    assert started.session.key == started.run.session_key == CANONICAL
    assert (await server.wire.get_run(started.run.run_id)).session_key == CANONICAL
    moved = [
        event.session_moved.key
        for event in await server.wire.log("settings2")
        if event.HasField("session_moved")
    ]
    assert moved == [CANONICAL]
    kept = rows(server.database)
    assert kept.pop("keys") == [("default", CANONICAL, started.session.session_id, "SETTINGS2")]
    assert b"SETTINGS2" not in repr(kept).encode()


async def test_an_echoed_key_is_always_accepted(server: Served) -> None:
    """The key of an answer, sent back, names the same session, for every kind of key."""
    for raw in (
        "main",
        "Direct:Ann",
        "telegram:group:-1",
        "signal:group:AbC=",
        "cron:nightly",
        "ÄPFEL",
        "thread:topic:4",
    ):
        first = (await server.wire.resolve(raw)).session
        again = (await server.wire.resolve(first.key)).session
        assert (again.key, again.session_id) == (first.key, first.session_id)


async def test_the_agent_hint_and_the_agent_in_the_key_are_the_same_agent(server: Served) -> None:
    """A bare key belongs to the hint's agent, and another agent's key of the same name is another session."""
    hinted = SessionRef(key="notes", agent="Work")
    by_hint = await server.wire.sessions.ResolveSession(pb.ResolveSessionRequest(session=hinted))
    assert by_hint.session.key == "agent:work:notes"
    assert (await server.wire.resolve("AGENT:work:Notes")).session.session_id == by_hint.session.session_id
    assert (await server.wire.resolve("notes")).session.session_id != by_hint.session.session_id


async def test_letters_that_only_look_alike_are_different_keys(server: Served) -> None:
    """Composed and decomposed text is one key; a letter of another script makes another one."""
    composed = await server.wire.resolve("caf\N{LATIN SMALL LETTER E WITH ACUTE}")
    decomposed = await server.wire.resolve("cafe\N{COMBINING ACUTE ACCENT}")
    cyrillic = await server.wire.resolve("c\N{CYRILLIC SMALL LETTER A}f\N{LATIN SMALL LETTER E WITH ACUTE}")
    assert composed.session.session_id == decomposed.session.session_id
    assert composed.session.session_id != cyrillic.session.session_id


NO_KEYS = [
    "agent:main",
    "agent:main::x",
    "two words",
    "nul\0",
    "agent:bad id!:x",
    "global",
    "zero\N{ZERO WIDTH SPACE}",
]


@pytest.mark.parametrize(
    "path", [_resolve, _get, _start, _interrupt, _follow, _resolve_and_follow, _list_events]
)
async def test_a_key_that_is_none_is_refused_on_every_path(server: Served, path: Reach) -> None:
    """No path repairs a key, and none guesses: each refuses it by name and changes nothing."""
    before = rows(server.database)
    for key in NO_KEYS:
        refusal = await refused(path(server.wire, key))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "KEY_INVALID")
        assert (refusal.metadata or {})["field"].endswith("session.key")
    assert rows(server.database) == before


# Settings that change between two starts


@dataclass(frozen=True)
class Start:
    """One start of the server: its key settings, and whether what they change is accepted."""

    default_agent: str = "main"
    main_key: str = "main"
    opaque_peers: tuple[OpaquePeer, ...] = DEFAULT_OPAQUE_PEERS

    def serve(self, database: Path) -> AbstractAsyncContextManager[Served]:
        """Serve under them."""
        return serving(
            database,
            accept_key_changes=True,
            default_agent=self.default_agent,
            main_key=self.main_key,
            opaque_peers=self.opaque_peers,
        )


WRITTEN = (
    *("Settings2", "agent:ops:Notes", "telegram:direct:7", "signal:group:AbC"),
    *("matrix:channel:!R:example.org", "desk", "AGENT:Main:Home", "agent:main:agent:main:x"),
)
JOURNEYS = (
    (Start(default_agent="ops"), Start(default_agent="work")),
    (Start(default_agent="ops"), Start()),
    (Start(main_key="desk"), Start(main_key="home")),
    (Start(main_key="desk"), Start()),
    (Start(opaque_peers=()), Start()),
    (Start(default_agent="ops", main_key="home", opaque_peers=()), Start(default_agent="ops"), Start()),
)


@pytest.mark.parametrize("journey", JOURNEYS)
async def test_what_was_written_reaches_its_session_after_changes_of_the_settings(
    tmp_path: Path, journey: tuple[Start, ...]
) -> None:
    """Through two changes in a row, and there and back again, with a restart each: whoever writes what they always
    wrote finds their session, its log and a way to go on.
    """
    database = tmp_path / "plane.db"
    async with Start().serve(database) as server:
        ids = {raw: (await server.wire.start(raw, text=raw)).session.session_id for raw in WRITTEN}
    for start in journey:
        async with start.serve(database) as server:
            for raw in WRITTEN:
                assert await _get(server.wire, raw) == ids[raw], raw
                log = await server.wire.log(raw)
                check_log(log)
                assert log[2].input_recorded.input.text == raw
    async with journey[-1].serve(database) as server:
        for raw in WRITTEN:
            assert await _start(server.wire, raw) == ids[raw]
    assert len(rows(database)["sessions"]) == len(WRITTEN)


async def test_a_change_of_the_settings_is_never_silent(tmp_path: Path) -> None:
    """Until somebody accepts it, the server does not start under settings that lead anybody elsewhere."""
    database = tmp_path / "plane.db"
    async with serving(database) as server:
        await server.wire.resolve("agent:main:settings2")
    before = rows(database)
    for given in ({"default_agent": "ops"}, {"agents": frozenset({"ops"}), "default_agent": "ops"}):
        with pytest.raises(app.KeysWouldChange):
            async with serving(database, **given):
                pytest.fail("it must not serve")
    assert rows(database) == before
    async with serving(database) as server:
        assert (await server.wire.resolve("settings2")).resolution == RESOLUTION_EXISTING


async def test_a_subscriber_comes_back_with_its_token_to_a_session_of_another_key(tmp_path: Path) -> None:
    """The log goes on; where the session lost its key to another one, the subscriber is told which."""
    database = tmp_path / "plane.db"
    async with serving(database) as server:
        kept = (await server.wire.resolve("settings2")).resume_token
        lost = await server.wire.start("notes")
        winner = (await server.wire.resolve("agent:ops:notes")).session.session_id
    async with serving(database, default_agent="ops", accept_key_changes=True) as server:
        renamed = server.wire.stream("settings2", resume_token=kept, until=pb.STREAM_UNTIL_CAUGHT_UP)
        async with renamed as stream:
            await stream.rest()
        assert [event.session_moved.key for event in stream.events] == ["agent:ops:settings2"]
        ids = {"session_id": lost.session.session_id, "resume_token": lost.resume_token}
        async with server.wire.stream(**ids) as stream:
            await stream.rest()
        assert stream.ended_by == "SESSION_FINAL"
        assert stream.closing.successor_session_id == winner
        assert terminals(stream.events) == ["REJECTED/SESSION_ENDED"]


async def test_imported_sessions_are_reached_by_what_was_always_written(tmp_path: Path) -> None:
    """After an import of raw keys and a restart every spelling of them reaches the session that keeps the key; under
    other settings the spelling of that session itself still does.
    """
    database, store = tmp_path / "plane.db", wild()
    found = read_store(store.write(tmp_path / "sessions.json"))
    async with serving(database) as server:
        results = await Import(server.client, found).run(dry_run=False)
    reached, kept = {}, {}
    for (raw, _), key, result in zip(store.entries, store.keys, results, strict=True):
        if key is not None and modern(raw, field="raw_key") == raw.strip():
            reached[raw] = result.other_session_id or result.session_id
            if not result.other_session_id:
                kept[raw] = result.session_id
    assert len(reached) > len(kept) > 15
    for settings in ({}, {"default_agent": "ops"}, {"main_key": "home"}, {}):
        async with serving(database, accept_key_changes=True, **settings) as server:
            for raw, session_id in (kept if settings else reached).items():
                assert await _get(server.wire, raw) == session_id, (raw, settings)
                check_log(await server.wire.log(raw))
