"""One file, one server: a second one says why it does not start, and the first does not notice."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.processes import READY_S, Exited, ServerProcess, server_process
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
