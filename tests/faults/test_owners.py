"""One file, one server, whatever name it is given; and a server whose file is taken away stops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Start
from tests.faults.files import check_file
from tests.support.processes import READY_S, Exited, ServerProcess, server_process
from tests.support.serving import serving
from tests.support.wire import wired


async def test_a_second_server_on_the_same_file_or_port_exits_and_the_first_is_unaffected(
    tmp_path: Path,
) -> None:
    """It says in one line which file or address is taken, with a code that tells the two apart."""
    async with server_process(tmp_path / "plane.db") as first, wired(first.address) as wire:
        session_id = (await wire.resolve("chat")).session.session_id
        same_file = await _refused_to_start(ServerProcess(first.database))
        assert same_file.code == 75
        assert str(first.database) in same_file.errors
        assert "another process" in same_file.errors
        same_port = await _refused_to_start(ServerProcess(tmp_path / "second.db", port=first.port))
        assert same_port.code == 78
        assert first.address in same_port.errors
        assert (await wire.resolve("chat")).session.session_id == session_id
        await wire.run_through((await wire.start("chat")).run.run_id, "still here")


async def _refused_to_start(server: ServerProcess) -> Exited:
    await server.spawn()
    exited = await asyncio.wait_for(server.exited(), READY_S)
    assert "Traceback" not in exited.errors
    return exited


async def test_a_second_server_finds_the_first_one_by_every_path_to_the_file(
    start: Start, database: Path
) -> None:
    """A relative path, a link to the file, a link to its folder: SQLite's log is the same, so the lock must be."""
    async with serving(database):
        for path in paths_to(database):
            refused = await start(path)
            assert (refused.code, refused.errors.count("\n")) == (75, 1), refused
            assert f"{path}: The database is held by another process" in refused.errors


def paths_to(database: Path) -> list[Path]:
    """Make other ways to reach a file."""
    link, folder = database.with_name("link.db"), database.with_name("elsewhere")
    link.symlink_to(database)
    folder.symlink_to(database.parent)
    return [Path(os.path.relpath(database)), link, folder / database.name]


def _replace(database: Path) -> None:
    """Put a copy in its place, as a restore does that forgot to stop the server."""
    copy = database.with_name("copy")
    copy.write_bytes(database.read_bytes())
    copy.replace(database)


LOSSES: dict[str, Callable[[Path], object]] = {
    "removed": lambda database: database.rename(database.with_name("away")),
    "replaced": _replace,
    "without its log": lambda database: database.with_name(f"{database.name}-wal").unlink(),
    "without its lock": lambda database: database.with_name(f"{database.name}.lock").unlink(),
}


@pytest.mark.parametrize(
    "loss", [pytest.param(loss, marks=[pytest.mark.slow] if loss != "removed" else []) for loss in LOSSES]
)
async def test_a_server_whose_file_is_taken_away_stops_and_says_so(database: Path, loss: str) -> None:
    """It would go on writing to a file without a name, and acknowledge what nobody would ever find."""
    async with server_process(database) as server, wired(server.address) as wire:
        await wire.resolve("chat")
        LOSSES[loss](database)
        exited = await asyncio.wait_for(server.exited(), READY_S)
    assert exited.code == 70
    assert "server.broken" in exited.errors
    assert "was removed or replaced while the server used it" in exited.errors
    assert "Traceback" not in exited.errors


async def test_a_file_that_is_put_back_is_served_with_all_that_was_acknowledged(database: Path) -> None:
    """The server that stopped has left it and its log as they were."""
    away = database.with_name("away")
    async with server_process(database) as server:
        async with wired(server.address) as wire:
            session_id = (await wire.resolve("chat")).session.session_id
            LOSSES["removed"](database)
            await asyncio.wait_for(server.exited(), READY_S)
        away.rename(database)
        await server.start()
        async with wired(server.address) as wire:
            assert (await wire.resolve("chat")).session.session_id == session_id
        await server.terminate()
    check_file(database)
