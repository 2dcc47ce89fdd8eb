"""One flipped bit, in every kind of page and in the log: it is found and named, or the database answers as it did."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from sessionplane import app
from sessionplane.settings import Settings
from sessionplane.store.failures import StoreUnusable
from sessionplane.store.verifying import Verifier
from sessionplane.v1 import session_service_pb2 as pb
from tests.faults.conftest import Start
from tests.faults.pages import Pages
from tests.support.refusals import refused
from tests.support.rows import rows
from tests.support.serving import serving
from tests.support.wire import Wire, named, wired

KINDS = (
    "schema",
    "table interior",
    "table leaf",
    "index interior",
    "index leaf",
    "overflow",
    "freelist",
)

NOT_TOLD_TWICE = {
    # Labels, names and times are of the rows alone, and so is what a repeated call is recognised by.
    "sessions": "labels display_name created_at_ms started_at_ms last_interaction_at_ms updated_at_ms ended_at_ms"
    " quiet_since_ms deadline_at_ms due_at_ms deleted_at_ms compact_at_ms end_reason previous_session_id"
    " superseded_by change_number log_bytes",
    "runs": "labels created_at_ms start_timeout_ms run_timeout_ms pending_ms pending_since_ms claimed_at_ms"
    " finished_at_ms kept_from_ms due_at_ms runner_id lease_token lease_ms lease_epoch lease_confirmed pool place"
    " fingerprint report_fingerprint late_fingerprint output_bytes last_run_sequence first_sequence lane_sequence"
    " first_output_sequence generation injected",
    "inputs": "run_id place created_at_ms fingerprint spec",
    "interrupts": "mode reason created_at_ms escalate_at_ms run_id interrupt_id",
    "requests": "*",
    "imports": "*",
    "meta": "*",
    "namespaces": "*",
    "keys": "spelling",
    "_sqlite_migrations": "*",
}
"""table -> the columns in which a changed byte may go unseen: nothing else in the file says what it was."""


@dataclass(frozen=True)
class Whole:
    """A closed database with everything in it, its pages, and every row."""

    pages: Pages
    rows: dict[str, list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    database = tmp_path_factory.mktemp("whole") / "plane.db"
    asyncio.run(_fill(database))
    return Whole(Pages(database), as_bytes(database))


async def _fill(database: Path) -> None:
    """Let sessions come and go, until there is a page of every kind."""
    async with serving(database, limits={"deleted_ttl_ms": 1}) as server:
        wire = server.wire
        await asyncio.gather(*[_talk(wire, f"talk-{number}") for number in range(40)])
        await wire.start("long", text="long " * 3_000)
        await wire.start("waits")
        for number in range(20):
            await wire.delete(f"talk-{number}")
        while len(rows(database)["sessions"]) > 22:
            await asyncio.gather(server.running.plane.compactor.retain())


async def _talk(wire: Wire, key: str) -> None:
    held = await wire.hold((await wire.start(key, text="question " * 50)).run.run_id)
    await wire.publish(held, *[f"answer {number} " * 20 for number in range(12)])
    await wire.finish(held)


def flipped(whole: Whole, kind: str, seed: int) -> tuple[bytes, str]:
    """Return the file with one bit flipped in a page of this kind, and where."""
    chance = random.Random(f"{kind} {seed}")
    page = chance.choice(whole.pages.kinds[kind])
    at = (page - 1) * whole.pages.size + chance.randrange(whole.pages.size)
    data = bytearray(whole.pages.data)
    data[at] ^= 1 << chance.randrange(8)
    return bytes(data), f"{kind}, page {page}, byte {at % whole.pages.size}"


def found(database: Path) -> list[str]:
    """Return what `sessionplane verify` finds."""
    try:
        with Verifier(database) as verifier:
            problems = list(verifier.problems())
            return problems + [each.problem for each in verifier.sessions() if each.problem]
    except StoreUnusable as unusable:
        return [str(unusable)]


def unseen(whole: Whole, database: Path) -> Iterator[str]:
    """Return what differs, and should have been found."""
    now = as_bytes(database)
    for table, before in whole.rows.items():
        free = NOT_TOLD_TWICE.get(table, "").split()
        names = columns(database, table)
        for row, other in zip(before, now[table], strict=True):
            differs = {name for name, one, two in zip(names, row, other, strict=True) if one != two}
            yield from (f"{table}.{name}" for name in differs if free != ["*"] and name not in free)


def as_bytes(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, also where a text is none."""
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = bytes
        found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        names = [name.decode() for (name,) in found]
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}


def columns(database: Path, table: str) -> list[str]:
    """Return the names of a table's columns."""
    with closing(sqlite3.connect(database)) as connection:
        return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def check_flip(whole: Whole, database: Path, kind: str, seed: int) -> None:
    """Flip a bit, and assert that it is found, or changed nothing that is told twice."""
    data, where = flipped(whole, kind, seed)
    database.write_bytes(data)
    problems = found(database)
    assert all(problems), where
    if not problems:
        assert list(unseen(whole, database)) == [], where


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_or_changes_nothing(whole: Whole, tmp_path: Path, kind: str) -> None:
    """In each kind of page; what `verify` says is a sentence and never a trace."""
    for seed in range(12):
        check_flip(whole, tmp_path / f"{seed}.db", kind, seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_goes_unseen(whole: Whole, tmp_path: Path, kind: str) -> None:
    """The same, hundreds of times."""
    for seed in range(12, 400):
        check_flip(whole, tmp_path / "plane.db", kind, seed)


async def damaged(database: Path, statement: str) -> None:
    """Make a database with one session and a run under way, and change a row of it as no release does."""
    async with serving(database) as server:
        await server.wire.hold((await server.wire.start("chat", run_id="run")).run.run_id)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute(statement).rowcount == 1
        connection.commit()


DAMAGES = {
    "a state that is none": "UPDATE sessions SET visibility = 'VISIBLU'",
    "text that is none": "UPDATE sessions SET display_name = CAST(x'ff' AS TEXT)",
    "labels that are none": "UPDATE sessions SET labels = '{'",
    "a message that is none": "UPDATE inputs SET input = x'ff'",
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_record_that_cannot_be_read_is_data_loss(database: Path, damage: str) -> None:
    """Whoever asks for it is told that it is damaged, the log says so, and everybody else is served."""
    await damaged(database, DAMAGES[damage])
    settings = Settings(listen="127.0.0.1:0", db=database)
    async with app.running(settings) as server, wired(server.address) as wire:
        request = pb.GetRunRequest(run_id="run")
        asked = wire.get("chat") if "sessions" in DAMAGES[damage] else wire.sessions.GetRun(request)
        with capture_logs() as said:
            refusal = await refused(asked)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "DAMAGED")
        assert [line["event"] for line in said] == ["data.damaged"]
        await wire.run_through((await wire.start("other")).run.run_id, "served")
    assert found(database)


async def test_damage_that_a_start_meets_is_a_sentence(database: Path, start: Start) -> None:
    """The key settings that the database was written under are read before anybody is served."""
    await damaged(database, "UPDATE meta SET value = '{' WHERE name = 'key_settings'")
    refusal = await start(database)
    assert refusal.code == 78
    assert refusal.errors.count("\n") == 1
    assert str(database) in refusal.errors


async def crashed(folder: Path) -> Path:
    """Copy a database as kill -9 would leave it now: much of it stands in the log only."""
    async with serving(folder / "alive.db") as server:
        for number in range(5):
            await server.wire.resolve(f"chat-{number}")
        for end in ("", "-wal"):
            shutil.copy(f"{server.database}{end}", f"{folder / 'plane.db'}{end}")
    return folder / "plane.db"


@pytest.mark.parametrize("at", [9, 33, 50, 32 + 24 + 100])
async def test_a_flipped_bit_in_the_log_is_refused(start: Start, tmp_path: Path, at: int) -> None:
    """In the log's header, a frame's header and its page: SQLite would drop all commits behind it without a word."""
    database = await crashed(tmp_path)
    spoil(Path(f"{database}-wal"), at)
    for _ in range(2):
        refusal = await start(database)
        assert refusal.code == 78
        assert refusal.errors.count("\n") == 1
        assert "-wal is damaged" in refusal.errors


async def test_a_token_tells_that_the_last_commit_is_damaged(tmp_path: Path) -> None:
    """Nobody can know from the file whether it was acknowledged; whoever was told knows, and is not told otherwise."""
    database = await crashed(tmp_path)
    async with serving(database) as server:
        held = await server.wire.hold((await server.wire.start("chat-0")).run.run_id)
        await server.wire.publish(held, "the last")
        token = (await server.wire.get("chat-0")).resume_token
        for end in ("", "-wal"):
            shutil.copy(f"{database}{end}", f"{tmp_path / 'cut.db'}{end}")
    log = tmp_path / "cut.db-wal"
    spoil(log, log.stat().st_size - 100)
    async with serving(tmp_path / "cut.db") as server:
        request = pb.StreamEventsRequest(session=named("chat-0"), resume_token=token)
        refusal = await refused(server.wire.sessions.StreamEvents(request).read())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "LOG_BEHIND_TOKEN")


def spoil(path: Path, at: int) -> None:
    """Flip a bit."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
