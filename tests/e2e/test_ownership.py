"""One file, one server: a second one says why it does not start, and the first does not notice."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.processes import ServerProcess, server_process
from tests.support.wire import wired


async def test_a_second_server_on_the_same_file_exits_and_the_first_is_unaffected(tmp_path: Path) -> None:
    """It says which file is held, in one line without a traceback, with the code for `try again later`."""
    async with server_process(tmp_path / "plane.db") as first, wired(first.address) as wire:
        session_id = (await wire.resolve("chat")).session.session_id
        second = ServerProcess(first.database)
        await second.spawn()
        exited = await asyncio.wait_for(second.exited(), 20)
        assert exited.code == 75
        assert str(first.database) in exited.errors
        assert "process" in exited.errors
        assert "Traceback" not in exited.errors
        assert (await wire.resolve("chat")).session.session_id == session_id
        await wire.run_through((await wire.start("chat")).run.run_id, "still here")


async def test_a_second_server_on_the_same_port_exits_and_the_first_is_unaffected(tmp_path: Path) -> None:
    """Two servers never share a port silently: the second one says that it cannot have it."""
    async with server_process(tmp_path / "plane.db") as first, wired(first.address) as wire:
        second = ServerProcess(tmp_path / "second.db", port=first.port)
        await second.spawn()
        exited = await asyncio.wait_for(second.exited(), 20)
        assert exited.code == 78
        assert first.address in exited.errors
        assert "Traceback" not in exited.errors
        for n in range(20):
            assert (await wire.resolve(f"chat-{n}")).session.session_id


async def test_a_killed_server_leaves_its_file_to_the_next_one(tmp_path: Path) -> None:
    """There is no stale lock: after kill -9 another process on another port takes the file over at once."""
    async with server_process(tmp_path / "plane.db") as first:
        async with wired(first.address) as wire:
            session_id = (await wire.resolve("chat")).session.session_id
        await first.kill()
        async with server_process(first.database) as second, wired(second.address) as wire:
            assert (await wire.get("chat")).session.session_id == session_id
