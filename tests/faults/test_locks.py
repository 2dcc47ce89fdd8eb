"""Another program holds the database of a server: callers wait, or are told to come again, and nothing is lost."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest

from tests.support.refusals import refused
from tests.support.serving import serving


@contextmanager
def held(database: Path, how: str) -> Iterator[sqlite3.Connection]:
    """Hold a database for writing."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(f"BEGIN {how}")
        yield connection


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
async def test_a_lock_that_goes_soon_is_waited_for(database: Path, how: str) -> None:
    """Reads go on meanwhile, and the call that waits is answered as if nothing had been."""
    async with serving(database) as server:
        session_id = (await server.wire.resolve("chat")).session.session_id
        with held(database, how) as other:
            waiting = asyncio.ensure_future(server.wire.start("chat"))
            assert (await server.wire.get("chat")).session.session_id == session_id
            assert not waiting.done()
            other.execute("ROLLBACK")
            assert (await waiting).session.session_id == session_id


async def test_a_lock_that_stays_is_refused_and_the_call_can_be_made_again(database: Path) -> None:
    """STORE_BUSY says when to come again; the same request id then starts one run."""
    async with serving(database) as server:
        await server.wire.resolve("chat")
        with held(database, "IMMEDIATE"):
            refusal = await refused(server.wire.start("chat", request_id="again"))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_BUSY")
            assert refusal.retry_after_s
        started = await server.wire.start("chat", request_id="again")
        assert (await server.wire.start("chat", request_id="again")).run.run_id == started.run.run_id
        await server.wire.run_through(started.run.run_id, "done")
