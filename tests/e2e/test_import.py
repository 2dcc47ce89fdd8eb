"""Imports as people make them: files, a real server, and the command line."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from sessionplane.cli.importing import Import
from sessionplane.cli.openclaw import read_store
from sessionplane.v1.admin_service_pb2 import ImportOutcome, ImportResult
from tests.support.commands import command
from tests.support.openclaw import Fate, Store, fates, large, wild
from tests.support.rows import rows
from tests.support.serving import Served, serving
from tests.support.story import check_log

KEYS = 40
"""How many keys the large store has, times ten."""


def outcome(result: ImportResult) -> str:
    return ImportOutcome.Name(result.outcome).removeprefix("IMPORT_OUTCOME_")


def check(results: list[ImportResult], expected: list[Fate]) -> None:
    """Hold what was answered against the rule."""
    assert [outcome(each) for each in results] == [each.outcome for each in expected]
    for result, fate in zip(results, expected, strict=True):
        if fate.outcome == "ALREADY_IMPORTED":
            assert fate.keeper is not None
            assert result.session_id == results[fate.keeper].session_id
        elif fate.keeper is not None:
            assert result.other_session_id == results[fate.keeper].session_id


def plain(results: list[ImportResult]) -> list[tuple[str, str, str]]:
    return [(outcome(each), each.canonical_key, each.reason) for each in results]


async def test_every_spelling_of_the_wild_finds_its_session(server: Served, tmp_path: Path) -> None:
    """What is mapped is reached by its canonical key afterwards; what is refused has a reason and left nothing."""
    store = wild()
    found = read_store(store.write(tmp_path / "sessions.json"))
    results = await Import(server.client, found).run(dry_run=False)
    check(results, fates(store, now_ms=time.time_ns() // 1_000_000))
    for result, (raw, entry), key in zip(results, store.entries, store.keys, strict=True):
        if key is None:
            assert result.reason, raw
            assert result.problem, raw
            continue
        assert result.canonical_key == key
        mine = (await server.wire.get(session_id=result.session_id)).session
        assert mine.labels["imported.session_id"] == entry["sessionId"]
        assert mine.update_time.ToMilliseconds() == entry["updatedAt"]
        assert mine.final == (outcome(result) == "MERGED_LOSER")
        if not mine.final:
            assert (await server.wire.resolve(key)).session.session_id == result.session_id
    kept = [result for result in results if outcome(result) != "REFUSED"]
    assert len(rows(server.database)["sessions"]) == len({each.session_id for each in kept}) == len(kept)


@pytest.mark.parametrize(
    ("entries", "seed"),
    [(1_000, 0), *(pytest.param(5_000, seed, marks=pytest.mark.slow) for seed in range(6))],
)
async def test_a_large_store_becomes_what_the_rule_says(
    server: Served, tmp_path: Path, entries: int, seed: int
) -> None:
    """Many entries with many collisions: the dry run says what is done, the rule says the same, and doing it again
    does nothing.
    """
    store = large(entries, seed=seed, now_ms=time.time_ns() // 1_000_000 - 60_000, keys=KEYS * 10)
    found = read_store(store.write(tmp_path / "sessions.json"))
    before = rows(server.database)
    rehearsed = await Import(server.client, found).run(dry_run=True)
    assert rows(server.database) == before
    done = await Import(server.client, found).run(dry_run=False)
    assert plain(rehearsed) == plain(done)
    check(done, fates(store, now_ms=time.time_ns() // 1_000_000))
    imported = rows(server.database)
    keepers = {each.canonical_key: each.session_id for each in done if outcome(each) == "CREATED"}
    assert {row[1]: row[2] for row in imported["keys"]} == keepers
    again = await Import(server.client, found).run(dry_run=False)
    assert {outcome(each) for each in again} == {"ALREADY_IMPORTED", "REFUSED"}
    assert [each.session_id for each in again] == [each.session_id for each in done]
    assert rows(server.database) == imported


async def test_more_spellings_of_one_key_than_a_call_takes_still_have_one_keeper(
    server: Served, tmp_path: Path
) -> None:
    """The best claim goes along with each part, so the dry run and the import agree."""
    store = Store()
    for number in range(400):
        entry = {"sessionId": f"s{number}", "updatedAt": 1_000 + number * 7 % 401}
        store.add(f"agent:main:{'agent:main:' * (number % 60)}{' ' * (number // 60)}k", "agent:main:k", entry)
    store.entries = [(raw.replace(" ", "") + " " * raw.count(" "), entry) for raw, entry in store.entries]
    found = read_store(store.write(tmp_path / "sessions.json"))
    rehearsed = await Import(server.client, found).run(dry_run=True)
    done = await Import(server.client, found).run(dry_run=False)
    assert plain(rehearsed) == plain(done)
    check(done, fates(store, now_ms=time.time_ns() // 1_000_000))


async def test_an_import_beside_live_traffic_hurts_nobody(server: Served, tmp_path: Path) -> None:
    """Callers race with it for the same keys: each key has one session, every run its end, nothing is lost."""
    store = large(1_500, seed=7, now_ms=time.time_ns() // 1_000_000 - 60_000, keys=100)
    found = read_store(store.write(tmp_path / "sessions.json"))
    keys = sorted({key for key in store.keys if key})

    async def caller(number: int) -> list[str]:
        """Use every fifth key while the import goes on."""
        runs = []
        for key in keys[number::5]:
            started = await server.wire.start(key)
            await server.wire.run_through(started.run.run_id, "live")
            runs.append(started.run.run_id)
        return runs

    importing = asyncio.create_task(Import(server.client, found).run(dry_run=False))
    runs = [run for some in await asyncio.gather(*map(caller, range(5))) for run in some]
    results = await importing
    assert len(runs) == len(keys)
    for run_id in runs:
        run = await server.wire.get_run(run_id)
        assert run.terminal.output_text == "live"
        check_log(await server.wire.log(session_id=run.session_id))
    merged = [each for each in results if outcome(each).startswith("MERGED")]
    for each in merged[::50]:
        check_log(await server.wire.log(session_id=each.session_id))
    assert {outcome(each) for each in await Import(server.client, found).run(dry_run=False)} == {
        "ALREADY_IMPORTED",
        "REFUSED",
    }


async def test_an_import_is_known_again_after_the_settings_changed(tmp_path: Path) -> None:
    """Its entries have other keys by then; they are the same sessions all the same."""
    store = Store()
    for raw, key in (("Notes", "agent:main:notes"), ("agent:main:notes", "agent:main:notes"), ("home", "x")):
        store.add(raw, key, {"sessionId": raw, "updatedAt": 5})
    found = read_store(store.write(tmp_path / "sessions.json"))
    async with serving(tmp_path / "plane.db") as server:
        first = await Import(server.client, found).run(dry_run=False)
    for settings in ({"default_agent": "ops"}, {"default_agent": "ops", "main_key": "home"}, {}):
        async with serving(tmp_path / "plane.db", accept_key_changes=True, **settings) as server:
            again = await Import(server.client, found).run(dry_run=False)
        assert [each.session_id for each in again] == [each.session_id for each in first]
        assert {outcome(each) for each in again} == {"ALREADY_IMPORTED"}


# The command


async def test_the_command_rehearses_unless_it_is_told(server: Served, tmp_path: Path) -> None:
    """It counts what would be done, shows what met and what is refused, and exits with 1 for the latter."""
    file = wild().write(tmp_path / "sessions.json")
    before = rows(server.database)
    dry = await command("import", str(file), "--target", server.address)
    assert (dry.code, dry.err) == (1, "This was a dry run: nothing has been changed. --apply does it.\n")
    assert rows(server.database) == before
    expected = fates(wild(), now_ms=time.time_ns() // 1_000_000)
    refused = sum(fate.outcome == "REFUSED" for fate in expected)
    assert f"{refused}  refused" in dry.out
    assert '"global": KEY_INVALID: raw_key is not a usable key: global was one conversation' in dry.out
    assert '"nul\\u0000": KEY_INVALID' in dry.out
    assert '"dm:Bo" as agent:main:direct:bo: another one of the file' in dry.out
    applied = await command("import", str(file), "--target", server.address, "--apply")
    assert (applied.code, applied.err) == (1, "")
    assert applied.out.splitlines()[:5] == dry.out.splitlines()[:5]
    assert len(rows(server.database)["sessions"]) == len(expected) - refused


async def test_the_command_prints_each_result_for_programs(server: Served, tmp_path: Path) -> None:
    """One object on each line, in the order of the file; nothing refused is 0."""
    store = Store()
    store.add("a", "agent:ops:a", {"sessionId": "s"})
    store.add("agent:main:b", "agent:main:b", {"sessionId": "t"})
    file = store.write(tmp_path / "sessions.json")
    done = await command(
        "import", str(file), "--apply", "--json", "--agent", "ops", "--target", server.address
    )
    assert (done.code, done.err) == (0, "")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["canonical_key"] for line in lines] == ["agent:ops:a", "agent:main:b"]
    assert {line["outcome"] for line in lines} == {"IMPORT_OUTCOME_CREATED"}


async def test_a_bad_file_is_refused_before_anything_is_sent(server: Served, tmp_path: Path) -> None:
    """With a sentence, and an exit code of its own."""
    file = tmp_path / "sessions.json"
    file.write_text("[]")
    bad = await command("import", str(file), "--target", server.address)
    assert (bad.code, bad.out) == (2, "")
    assert bad.err == f"{file} holds no JSON object. A sessions.json is one: raw key -> entry.\n"
    none = await command("import", str(tmp_path / "none.json"), "--target", server.address)
    assert none.code == 2
    assert "does not exist" in none.err
