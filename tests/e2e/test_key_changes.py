"""A start under other key settings, as an operator meets it: looked at, refused, accepted."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Ended, command, start
from tests.support.forked import Forked
from tests.support.rows import rows
from tests.support.serving import serving

OPS = {"SESSIONPLANE_DEFAULT_AGENT": "ops", "SESSIONPLANE_AGENTS": "ops,main"}
ONLY_OPS = {**OPS, "SESSIONPLANE_AGENTS": "ops"}


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
    ended = await command("serve", "--listen", "127.0.0.1:0", "--db", str(database), **ONLY_OPS)
    assert ended.code == 78
    told(
        ended.err,
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
    assert "Traceback" not in ended.err
    assert rows(database) == before


async def test_a_look_beforehand_shows_the_same(database: Path) -> None:
    """Also while a server runs on the file, and it changes nothing; unchanged settings are fine."""
    async with serving(database) as server:
        before = rows(database)
        ended = await command("keys", "check", "--db", str(database), **OPS)
        assert (ended.code, ended.err) == (
            1,
            "`sessionplane serve --accept-key-changes` does all of this in one transaction.\n",
        )
        told(
            ended.out,
            "default_agent: main -> ops",
            "Of its 4 keys, 2 are touched.",
            "agent:main:notes -> agent:ops:notes",
            "Keys that stay, while another spelling that reached them leads elsewhere (1):",
            "agent:main:full: full -> agent:ops:full",
        )
        same = await command("keys", "check", "--db", str(database))
        assert same == Ended(0, "None of 4 keys would change.\n", "")
        assert rows(database) == before
        await server.wire.resolve("notes")


async def test_a_look_at_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """It is not made by looking."""
    database = tmp_path / "none.db"
    ended = await command("keys", "check", "--db", str(database))
    assert (ended.code, ended.out) == (1, "")
    assert "holds no database" in ended.err
    assert not database.exists()


async def test_accepted_changes_are_done_and_reported(database: Path) -> None:
    """The server serves, the report says what was done, and the next start has nothing to say."""
    serve = ("serve", "--listen", "127.0.0.1:0", "--db", str(database))
    err = await _until_ready(await start(*serve, "--accept-key-changes", **ONLY_OPS))
    told(err, "keys.settled", "agent:main:notes -> agent:ops:notes", "This was accepted and is done.")
    held = {row[1]: row[2] for row in rows(database)["keys"]}
    assert sorted(held) == ["agent:main:full", "agent:ops:notes", "agent:ops:other"]
    err = await _until_ready(await start(*serve, **ONLY_OPS))
    assert "keys" not in err


async def test_settings_that_touch_no_key_are_only_recorded(database: Path) -> None:
    """One line in the log, and the server serves."""
    settings: dict[str, Any] = {"agents": frozenset({"main", "ops", "later"})}
    async with serving(database, **settings) as server:
        assert server.running.key_changes is None
    facts = dict(rows(database)["meta"])
    assert '"agents": ["later", "main", "ops"]' in facts["key_settings"]
    assert facts["key_rules_version"] == "1"


async def _until_ready(process: Forked) -> str:
    """Read the standard error up to the readiness, then stop the server and make sure that it went well."""
    assert process.stderr is not None
    said = ""
    while line := (await process.stderr.readline()).decode():
        said += line
        if "server.ready" in line:
            process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0, said
    return said
