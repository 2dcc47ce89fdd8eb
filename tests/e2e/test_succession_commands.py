"""Resolve, reset, delete and label as people use them: real processes against a real server."""

from __future__ import annotations

import json
from typing import Any

from tests.support.commands import Ended, command
from tests.support.serving import Served


async def run(server: Served, *arguments: str) -> Ended:
    """Run a command against the server."""
    return await command(*arguments, SESSIONPLANE_TARGET=server.address)


async def answer(server: Served, *arguments: str) -> Any:
    """Run a command that must be answered, as programs do."""
    ended = await run(server, arguments[0], "--json", *arguments[1:])
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


async def test_a_session_is_replaced_with_a_run(server: Served) -> None:
    """The policies, labels and a run of a resolve are flags; what was done is printed."""
    old = await answer(server, "resolve", "chat", "--label", "team=a", "--name", "Chat")
    assert old["session"]["labels"] == {"team": "a"}
    told = await run(
        server,
        "resolve",
        "chat",
        "--conflict",
        "replace",
        "--expect",
        old["session"]["session_id"],
        "--run",
        "hi",
    )
    assert told.code == 0, told.err
    for each in ("REPLACED", old["session"]["session_id"], ", PENDING", '"Chat"'):
        assert each in told.out
    assert (await server.wire.get("chat")).session.active_run_id


async def test_a_policy_that_refuses_is_an_exit_code(server: Served) -> None:
    """The reason and its words are on stderr, and nothing is on stdout."""
    missing = await run(server, "resolve", "chat", "--missing", "fail")
    assert (missing.code, missing.out) == (1, "")
    assert missing.err.startswith("KEY_NOT_BOUND: ")
    await server.wire.resolve("chat")
    assert (await run(server, "resolve", "chat", "--conflict", "fail")).err.startswith("SESSION_EXISTS: ")


async def test_flags_that_need_others_say_so(server: Served) -> None:
    """Before anything is sent."""
    for arguments in (
        ("resolve", "chat", "--expect", "ses_1"),
        ("resolve", "chat", "--pool", "gpu"),
        ("resolve", "chat", "--label", "team"),
        ("reset",),
        ("delete", "chat", "--session-id", "ses_1"),
        ("label", "chat", "team"),
    ):
        assert (await run(server, *arguments)).code == 2


async def test_a_hidden_session_is_made_and_shown(server: Served) -> None:
    """`--hidden` makes one that lists leave out; whoever resolves it afterwards shows it."""
    hidden = await run(server, "resolve", "chat", "--hidden")
    assert "INTERNAL" in hidden.out
    assert (await run(server, "sessions")).out.count("chat") == 0
    assert "INTERNAL" not in (await run(server, "resolve", "chat", "--system")).out
    assert "agent:main:chat" in (await run(server, "sessions")).out


async def test_a_key_is_reset(server: Served) -> None:
    """The new session and the old one are printed; by the old one's id it is refused."""
    old = (await server.wire.resolve("chat")).session.session_id
    new = await answer(server, "reset", "chat", "--expect", old)
    assert new["previous_session_id"] == old
    refused = await run(server, "reset", "--session-id", old)
    assert refused.code == 1
    assert refused.err.startswith("SESSION_ENDED: ")
    assert new["session"]["session_id"] in (await run(server, "reset", "chat")).out


async def test_a_hint_is_for_who_named_a_key(server: Served) -> None:
    """A key that nobody holds is to be resolved; a session that never had one is not, though the reason is the same."""
    assert "`sessionplane resolve KEY`" in (await run(server, "label", "nobody")).err
    nameless = (await server.wire.start()).session.session_id
    refused = await run(server, "reset", "--session-id", nameless)
    assert refused.err.startswith("KEY_NOT_BOUND: ")
    assert refused.err.count("\n") == 1


async def test_a_session_is_deleted(server: Served) -> None:
    """What was deleted is printed; what was deleted before, or never was, is said and no failure."""
    session_id = (await server.wire.resolve("chat")).session.session_id
    assert session_id in (await run(server, "delete", "Chat")).out
    again = await run(server, "delete", "--session-id", session_id)
    assert (again.code, again.out) == (0, "")
    assert "was deleted before" in again.err
    assert "nothing to delete" in (await run(server, "delete", "chat")).err
    assert (await answer(server, "delete", "chat")) == {}


async def test_labels_are_set_and_removed(server: Served) -> None:
    """NAME=VALUE sets, -NAME removes, --name names; the rest stays as it is."""
    await server.wire.resolve("chat", labels={"trial": "yes", "team": "a"}, display_name="Chat")
    told = await run(server, "label", "chat", "team=billing", "-trial", "-none", "plan=a=b")
    assert told.code == 0, told.err
    assert 'plan="a=b"\nteam="billing"\n' in told.out
    session = (await server.wire.get("chat")).session
    assert (dict(session.labels), session.display_name) == ({"team": "billing", "plan": "a=b"}, "Chat")
    renamed = await answer(server, "label", "-plan", "chat", "--name", "-Talk-")
    assert (renamed["labels"], renamed["display_name"]) == ({"team": "billing"}, "-Talk-")
    cleared = await answer(server, "label", "--session-id", session.session_id, "h=1", "--name", "")
    assert (cleared["labels"], cleared.get("display_name")) == ({"team": "billing", "h": "1"}, None)
    assert "h" not in (await answer(server, "label", "chat", "--", "-h"))["labels"]


async def test_labels_are_shown_without_a_change(server: Served) -> None:
    """Without a change nothing is written, and a key that nobody holds stays nobody's."""
    before = (await server.wire.resolve("chat", labels={"a": "\x1b[31m"})).session
    shown = await run(server, "label", "chat")
    assert "\x1b" not in shown.out
    assert (await server.wire.get("chat")).session.etag == before.etag
    assert (await run(server, "label", "nobody", "a=b")).err.startswith("KEY_NOT_BOUND: ")
