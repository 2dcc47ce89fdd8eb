"""The commands of whoever looks after a database, as processes, beside a running server."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sessionplane.store.invariants import INVARIANTS
from sessionplane.v1.admin_service_pb2 import CheckInvariantsRequest
from tests.support.commands import command
from tests.support.refusals import refused
from tests.support.serving import Served, serving


async def busy(server: Served) -> None:
    """Do something of everything."""
    held = await server.wire.hold((await server.wire.start("chat")).run.run_id)
    await server.wire.work(held, "done")


def break_something(database: Path) -> None:
    """Damage a closed file."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE runs SET due_at_ms = NULL")
        connection.execute("UPDATE events SET data = zeroblob(length(data)) WHERE sequence = 3")
        connection.commit()


async def test_a_server_checks_itself(server: Served) -> None:
    """Every invariant is asked and holds, and each names its promise."""
    await busy(server)
    answer = await server.wire.admin.CheckInvariants(CheckInvariantsRequest())
    assert [each.name for each in answer.results] == list(INVARIANTS)
    assert not [each for each in answer.results if each.violation_count or each.examples]
    assert all(each.promise and each.description and each.HasField("duration") for each in answer.results)
    some = await server.wire.admin.CheckInvariants(CheckInvariantsRequest(names=["log_has_no_gap"]))
    assert [each.name for each in some.results] == ["log_has_no_gap"]


async def test_an_unknown_invariant_is_refused_with_those_that_are_known(server: Served) -> None:
    """Whoever mistypes a name must not believe that it holds."""
    refusal = await refused(server.wire.admin.CheckInvariants(CheckInvariantsRequest(names=["all_is_well"])))
    assert refusal.reason == "FIELD_INVALID"
    assert "log_has_no_gap" in refusal.message


async def test_check_prints_a_line_for_each_invariant(server: Served) -> None:
    """And exits with 0 as long as all of them hold."""
    await busy(server)
    checked = await command("check", "--target", server.address)
    assert (checked.code, checked.err) == (0, "")
    assert [line.split() for line in checked.out.splitlines()] == [["holds", name] for name in INVARIANTS]
    one = await command("check", "--target", server.address, "--only", "log_has_no_gap", "--json")
    assert json.loads(one.out)["name"] == "log_has_no_gap"


async def test_check_says_what_is_broken_and_exits_with_1(tmp_path: Path) -> None:
    """With the promise that it belongs to, and where."""
    async with serving(tmp_path / "plane.db") as server:
        await server.wire.start("chat", run_id="stuck")
    break_something(tmp_path / "plane.db")
    with pytest.raises(AssertionError):
        async with serving(tmp_path / "plane.db") as server:
            checked = await command("check", "--target", server.address, "--only", "run_ends_by_itself")
    assert checked.code == 1
    assert checked.out.startswith("BROKEN  run_ends_by_itself: 1 times.")
    assert "Every run ends, once, for everyone" in checked.out
    assert checked.out.splitlines()[-1].strip() == "stuck"


async def test_verify_reads_a_file_that_is_in_use(server: Served) -> None:
    """The server goes on meanwhile; the file is named by --db or the environment."""
    await busy(server)
    read = await command("verify", SESSIONPLANE_DB=str(server.database))
    assert (read.code, read.err) == (0, "")
    assert read.out.startswith("1 sessions with ")
    await busy(server)


async def test_verify_names_what_is_damaged_and_exits_with_1(tmp_path: Path) -> None:
    """One changed byte is enough."""
    async with serving(tmp_path / "plane.db") as server:
        await busy(server)
    break_something(tmp_path / "plane.db")
    read = await command("verify", "--db", str(tmp_path / "plane.db"))
    assert read.code == 1
    assert "its log is damaged" in read.out
    assert "Restore a backup" in read.err


async def test_a_backup_of_a_running_server_is_whole_and_serves(server: Served, tmp_path: Path) -> None:
    """It has every session, and an identity of its own."""
    await busy(server)
    session_id = (await server.wire.get("chat")).session.session_id
    copy = tmp_path / "copy.db"
    copied = await command("backup", str(copy), "--db", str(server.database))
    assert (copied.code, copied.err) == (0, "")
    assert (await command("verify", "--db", str(copy))).code == 0
    async with serving(copy) as other:
        assert (await other.wire.get("chat")).session.session_id == session_id
        assert other.running.store.store_id in copied.out
        assert other.running.store.store_id != server.running.store.store_id


async def test_what_cannot_be_copied_or_read_is_a_sentence(tmp_path: Path) -> None:
    """No traceback, exit code 1, and no half of a copy."""
    for arguments in (("verify",), ("backup", str(tmp_path / "copy.db"))):
        ended = await command(*arguments, "--db", str(tmp_path / "none.db"))
        assert ended.code == 1
        assert "holds no database" in ended.err
        assert len(ended.err.splitlines()) == 1
    assert not any((tmp_path / name).exists() for name in ("copy.db", "none.db"))
