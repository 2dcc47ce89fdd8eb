"""The command line for whoever looks on: sessions as they change, who reads, and the end of a reader."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from contextlib import suppress

import pytest

from tests.support.commands import begun, command, line_with
from tests.support.serving import Served


async def test_a_watch_prints_a_line_for_each_change(server: Served) -> None:
    """Into a pipe: what there is, what changes, and what is gone, each on a line of its own."""
    wire, target = server.wire, {"SESSIONPLANE_TARGET": server.address}
    session = (await wire.resolve("chat")).session
    async with begun("sessions", "--watch", **target) as watching:
        assert session.session_id in await line_with(watching.stdout, "agent:main:chat")
        run_id = (await wire.start("chat")).run.run_id
        assert "CREATED" in await line_with(watching.stdout, run_id[-8:])
        await wire.delete("chat")
        assert "gone" in await line_with(watching.stdout, f"{session.session_id}  agent:main:chat  gone")
        watching.send_signal(signal.SIGTERM)
        assert await watching.wait() == 130
        assert watching.stderr is not None
        assert await watching.stderr.read() == b""


async def test_a_watch_prints_json_for_programs(server: Served) -> None:
    """One object a line: sessions as lists show them; of what is gone the id and the key."""
    wire, target = server.wire, {"SESSIONPLANE_TARGET": server.address}
    await wire.resolve("chat", labels={"a": "b"})
    async with begun("sessions", "--watch", "--json", **target) as watching:
        shown = json.loads(await line_with(watching.stdout, "chat"))
        assert (shown["key"], shown["labels"], shown["state"]) == (
            "agent:main:chat",
            {"a": "b"},
            "SESSION_STATE_CREATED",
        )
        await wire.delete("chat")
        gone = json.loads(await line_with(watching.stdout, "chat"))
        assert gone == {"session_id": shown["session_id"], "key": "agent:main:chat"}


async def test_a_watch_on_a_terminal_is_a_table_that_is_current(server: Served) -> None:
    """A person sees rows come, change and go."""
    await server.wire.resolve("chat")
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sessionplane", "sessions", "--watch"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ
        | {"SESSIONPLANE_TARGET": server.address, "TERM": "xterm", "COLUMNS": "160", "LINES": "30"},
    )
    os.close(theirs)
    try:
        seen = await _until(ours, b"agent:main:chat")
        assert b"ATTACHED" in seen
        await server.wire.resolve("other")
        await _until(ours, b"agent:main:other")
        process.send_signal(signal.SIGINT)
        await _until(ours, b"\x1b[?25h")  # the cursor is back
        assert await process.wait() == 130
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        os.close(ours)


async def _until(terminal: int, text: bytes) -> bytes:
    """Read a terminal until it shows a text."""
    seen = b""
    async with asyncio.timeout(20):
        while text not in seen:
            seen += await asyncio.to_thread(os.read, terminal, 65_536)
    return seen


async def test_a_watch_takes_no_filter(server: Served) -> None:
    """It would look as if what fell out of the filter had been deleted."""
    ended = await command("sessions", "--watch", "--running", SESSIONPLANE_TARGET=server.address)
    assert (ended.code, "--watch shows all sessions" in ended.err) == (2, True)


async def test_subscribers_are_listed_and_ended(server: Served) -> None:
    """Who reads what, how far, since when and from where; and one of them no more."""
    wire, target = server.wire, {"SESSIONPLANE_TARGET": server.address}
    await wire.resolve("chat")
    await wire.resolve("other")
    async with wire.stream("chat", subscriber_name="bell\x07") as stream, wire.watch():
        table = await command("subscribers", **target)
        rows = table.out.splitlines()
        assert (table.code, len(rows)) == (0, 3)
        assert "agent:main:chat" in rows[1]
        assert "ATTACHED" in rows[1]
        assert "\x07" not in table.out
        assert " sessions " in rows[2]
        lines = await command("subscribers", "chat", "--json", **target)
        (found,) = [json.loads(line) for line in lines.out.splitlines()]
        assert found["session_key"] == "agent:main:chat"
        assert (await command("subscribers", "other", **target)).err == "There are no open streams.\n"
        ended = await command("disconnect", found["subscriber_id"], **target)
        assert (ended.code, ended.out, ended.err) == (0, "", "")
        await stream.rest()
    assert stream.ended_by == "DISCONNECTED"
    again = await command("disconnect", found["subscriber_id"], **target)
    assert (again.code, again.err.split(":")[0]) == (1, "SUBSCRIBER_NOT_FOUND")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_a_stream_that_is_stopped_leaves_a_token(server: Served, how: signal.Signals) -> None:
    """Ctrl-C and SIGTERM alike: exit code 130, and how to go on."""
    wire, target = server.wire, {"SESSIONPLANE_TARGET": server.address}
    await wire.resolve("chat")
    async with begun("stream", "chat", **target) as following:
        await line_with(following.stderr, "Following")
        following.send_signal(how)
        token = (await line_with(following.stderr, "--from ")).rpartition("--from ")[2].strip()
        assert await following.wait() == 130
    await wire.start("chat", text="later")
    later = await command("stream", "chat", "--from", token, "--until", "caught-up", **target)
    assert (later.code, "later" in later.out, "CREATED (CREATED)" in later.out) == (0, True, False)


async def test_a_stream_shows_custom_events_of_some_types(server: Served) -> None:
    """--type chooses among them and may be given more than once; a wildcard is refused with a reason."""
    target = {"SESSIONPLANE_TARGET": server.address}
    claim = await server.client.claim_run((await server.client.start_run(key="chat")).run.run_id)
    assert claim is not None
    async with server.client.run(claim) as run:
        for kind in ("tool.call", "tool.result", "picture"):
            await run.custom(kind, kind)
    whole = ("stream", "chat", "--from", "oldest", "--until", "caught-up")
    shown = await command(*whole, "--type", "tool.call", "--type", "picture", **target)
    assert ["tool.call" in shown.out, "picture" in shown.out, "tool.result" in shown.out] == [
        True,
        True,
        False,
    ]
    refused = await command(*whole, "--type", "tool.*", **target)
    assert (refused.code, refused.err.split(":")[0]) == (1, "FILTER_INVALID")
