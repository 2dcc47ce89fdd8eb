"""What `sessionplane serve` says of a file that it cannot serve: one sentence, an exit code, and nothing is touched."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sessionplane.store.sqlite import open_store
from tests.faults.conftest import Start
from tests.support.disks import fill, mounted
from tests.support.processes import READY_S, Exited, ServerProcess


@pytest.fixture
async def whole(database: Path) -> Path:
    """A database of ours, closed."""
    await open_store(database).close()
    return database


def check_refusal(refused: Exited, database: Path, *, code: int, says: str) -> None:
    """Assert that it is one line that names the file, in words for whoever started the server."""
    assert refused.code == code, refused
    assert refused.errors.startswith("sessionplane: ")
    assert refused.errors.count("\n") == 1
    assert str(database) in refused.errors
    assert says in refused.errors


CONTENTS = {
    "zeros": lambda whole: bytes(len(whole)),
    "text": lambda _: b"Dear diary, " * 1_000,
    "a header": lambda whole: whole[:100],
    "half a file": lambda whole: whole[: len(whole) // 2],
    "half a page": lambda whole: whole[:-2048],
    "garbage behind the header": lambda whole: whole[:100] + b"\xff" * (len(whole) - 100),
}


def spoil(database: Path, content: str) -> bytes:
    """Put something else in the place of a database; returns what."""
    database.write_bytes(CONTENTS[content](database.read_bytes()))
    return database.read_bytes()


def check_untouched(database: Path, before: bytes) -> None:
    """Assert that nobody wrote to it."""
    assert database.read_bytes() == before


@pytest.mark.parametrize("content", CONTENTS)
async def test_a_file_that_is_no_whole_database_is_refused(start: Start, whole: Path, content: str) -> None:
    """Nor is it written to: whoever put it there may want it back."""
    before = spoil(whole, content)
    check_refusal(await start(whole), whole, code=78, says="backup")
    check_untouched(whole, before)


async def test_a_folder_is_no_database(start: Start, tmp_path: Path) -> None:
    """It says so instead of asking SQLite."""
    check_refusal(await start(tmp_path), tmp_path, code=78, says="is a folder")


async def test_a_database_with_two_names_is_refused(start: Start, whole: Path) -> None:
    """Under the other one it has another lock and another log, and two servers would not notice each other."""
    other = whole.with_name("other.db")
    other.hardlink_to(whole)
    for name in (whole, other):
        check_refusal(await start(name), name, code=78, says="second name")


@contextmanager
def held(database: Path, *statements: str) -> Iterator[None]:
    """Hold a database as another program does."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()
        yield


@pytest.mark.parametrize(
    "statements", [["BEGIN IMMEDIATE"], ["PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"]]
)
async def test_a_database_that_another_program_holds_is_worth_another_try(
    start: Start, whole: Path, statements: list[str]
) -> None:
    """After two seconds, with the exit code that says so."""
    with held(whole, *statements):
        check_refusal(await start(whole), whole, code=75, says="held by another process")


@pytest.mark.parametrize("leave_kib", [0, 4, 8, 36, 48, 64])
async def test_a_new_database_that_finds_no_space_is_worth_another_try(
    start: Start, tmp_path: Path, leave_kib: int
) -> None:
    """Wherever in the first start the disk is full; with space the same start makes the database."""
    with mounted(tmp_path / "disk", kib=1024) as disk:
        filler = fill(disk, leave_kib=leave_kib)
        database = disk / "plane.db"
        check_refusal(await start(database), database, code=75, says="disk is full")
        filler.unlink()
        await open_store(database).close()


async def test_a_database_on_a_full_disk_is_worth_another_try(
    start: Start, whole: Path, tmp_path: Path
) -> None:
    """What is there stays as it is."""
    with mounted(tmp_path / "disk", kib=1024) as disk:
        database = disk / "plane.db"
        shutil.copy(whole, database)
        filler = fill(disk)
        check_refusal(await start(database), database, code=75, says="disk is full")
        filler.unlink()
        await open_store(database).close()


class Unprivileged(ServerProcess):
    """A server that may not do what only root may."""

    @staticmethod
    async def _begin(*arguments: str, errors: int, environment: Mapping[str, str]) -> Process:
        without: tuple[str, ...] = ()
        if os.geteuid() == 0:
            without = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
            if not shutil.which("setpriv"):
                pytest.skip("root may write everything, and setpriv is not there to take that away")
        program = (*without, sys.executable, "-m", "sessionplane", *arguments)
        return await asyncio.create_subprocess_exec(*program, stderr=errors, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["file", "folder"])
async def test_what_may_not_be_written_is_named(whole: Path, closed: str) -> None:
    """The path that the server may not write, and that the log needs the folder."""
    whole.with_name(f"{whole.name}.lock").touch()
    server = Unprivileged(whole)
    path, mode, says = {
        "file": (whole, 0o400, "Permission denied"),
        "folder": (whole.parent, 0o500, "folder must be writable"),
    }[closed]
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        await server.spawn()
        check_refusal(await asyncio.wait_for(server.exited(), READY_S), whole, code=78, says=says)
    finally:
        path.chmod(before)
