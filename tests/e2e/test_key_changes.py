"""A start under other key settings, as an operator meets it: looked at, refused, accepted."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import pytest

from tests.support.rows import rows
from tests.support.serving import serving

OPS = {"SESSIONPLANE_DEFAULT_AGENT": "ops", "SESSIONPLANE_AGENTS": "ops,main"}
ONLY_OPS = {**OPS, "SESSIONPLANE_AGENTS": "ops"}


async def command(*arguments: str, **environment: str) -> Process:
    """Start `sessionplane` with some arguments and variables."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sessionplane",
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, **environment},
    )


async def ended(*arguments: str, **environment: str) -> tuple[int | None, str, str]:
    """Run it to its end."""
    process = await command(*arguments, **environment)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """A database with keys of several kinds, written under the default settings."""
    async with serving(tmp_path / "plane.db") as server:
        for key in ("Notes", "agent:main:full", "agent:ops:other", "agent:ops:notes"):
            await server.wire.resolve(key)
    return tmp_path / "plane.db"


def told(text: str, *lines: str) -> None:
    """Assert that these lines stand in a text, in this order."""
    place = 0
    for line in lines:
        assert line in text[place:], f"{line!r} is not behind {place} of:\n{text}"
        place = text.index(line, place)


async def test_the_server_refuses_to_start_and_says_what_would_change(database: Path) -> None:
    """Nothing has been changed, and it says what to do."""
    before = rows(database)
    code, _, err = await ended("serve", "--listen", "127.0.0.1:0", "--db", str(database), **ONLY_OPS)
    assert code == 78
    told(
        err,
        "The key settings are not those that the database was written under.",
        "default_agent: main -> ops",
        'agents: any -> ["ops"]',
        "Of its 4 keys, 2 are touched.",
        "Keys that become another (1):",
        "agent:main:notes -> agent:ops:notes",
        "Keys under which sessions meet (1):",
        "agent:ops:notes: ses_",
        "Keys that are refused (1):",
        "agent:main:full: this server does not serve it",
        "Nobody can reach them by key until",
        "--accept-key-changes",
    )
    assert "Traceback" not in err
    assert rows(database) == before


async def test_a_look_beforehand_shows_the_same(database: Path) -> None:
    """Also while a server runs on the file, and it changes nothing; unchanged settings are fine."""
    async with serving(database) as server:
        before = rows(database)
        code, out, err = await ended("keys", "check", "--db", str(database), **OPS)
        assert (code, err) == (
            1,
            "`sessionplane serve --accept-key-changes` does all of this in one transaction.\n",
        )
        told(
            out,
            "default_agent: main -> ops",
            "Of its 4 keys, 2 are touched.",
            "agent:main:notes -> agent:ops:notes",
            "Keys that stay, while another spelling that reached them leads elsewhere (1):",
            "agent:main:full: full -> agent:ops:full",
        )
        same = await ended("keys", "check", "--db", str(database))
        assert same == (0, "None of 4 keys would change.\n", "")
        assert rows(database) == before
        await server.wire.resolve("notes")


def test_a_look_at_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """It is not made by looking."""
    code, out, err = asyncio.run(ended("keys", "check", "--db", str(tmp_path / "none.db")))
    assert (code, out) == (1, "")
    assert "holds no database" in err
    assert list(tmp_path.iterdir()) == []


async def test_accepted_changes_are_done_and_reported(database: Path) -> None:
    """The server serves, the report says what was done, and the next start has nothing to say."""
    process = await command(
        "serve", "--listen", "127.0.0.1:0", "--db", str(database), "--accept-key-changes", **ONLY_OPS
    )
    err = await _until_ready(process)
    told(err, "keys.settled", "agent:main:notes -> agent:ops:notes", "This was accepted and is done.")
    held = {row[1]: row[2] for row in rows(database)["keys"]}
    assert sorted(held) == ["agent:main:full", "agent:ops:notes", "agent:ops:other"]
    again = await command("serve", "--listen", "127.0.0.1:0", "--db", str(database), **ONLY_OPS)
    err = await _until_ready(again)
    assert "keys" not in err


async def test_settings_that_touch_no_key_are_only_recorded(database: Path) -> None:
    """One line in the log, and the server serves."""
    settings: dict[str, Any] = {"agents": frozenset({"main", "ops", "later"})}
    async with serving(database, **settings) as server:
        assert server.running.key_changes is None
    facts = dict(rows(database)["meta"])
    assert '"agents": ["later", "main", "ops"]' in facts["key_settings"]
    assert facts["key_rules_version"] == "1"


async def _until_ready(process: Process) -> str:
    """Read the standard error up to the readiness, then stop the server and make sure that it went well."""
    assert process.stderr is not None
    said = ""
    while line := (await process.stderr.readline()).decode():
        said += line
        if "server.ready" in line:
            process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0, said
    return said
