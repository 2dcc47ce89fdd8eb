"""The runs of a session in pages: newest first, small, and none twice or never."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from sessionplane.v1 import run_pb2
from sessionplane.v1.run_pb2 import RUN_STATE_FINISHED, RUN_STATE_PENDING, RUN_STATE_QUEUED
from sessionplane.v1.session_service_pb2 import ListRunsResponse
from tests.support.refusals import refused
from tests.support.serving import Served, serving
from tests.support.wire import Wire


async def _start(wire: Wire, count: int, key: str = "chat") -> list[str]:
    """Start runs; return their ids, newest first."""
    return [(await wire.start(key, text=str(n))).run.run_id for n in range(count)][::-1]


async def _pages(wire: Wire, **asked: object) -> list[list[str]]:
    """Read page by page; return the ids of each."""
    pages, token = [], ""
    while True:
        page = await wire.list_runs("chat", page_token=token, **asked)
        pages.append(_ids(page))
        token = page.next_page_token
        if not token:
            return pages


def _ids(page: ListRunsResponse) -> list[str]:
    return [run.run_id for run in page.runs]


async def test_runs_are_listed_newest_first(server: Served) -> None:
    """Each run of the session and no other one's, in pages of the size that was asked for."""
    wire = server.wire
    ids = await _start(wire, 5)
    await _start(wire, 2, "other")
    assert await _pages(wire) == [ids]
    assert await _pages(wire, page_size=2) == [ids[:2], ids[2:4], ids[4:]]
    assert await _pages(wire, page_size=5) == [ids]
    session_id = (await wire.get("chat")).session.session_id
    assert _ids(await wire.list_runs(session_id=session_id)) == ids


async def test_a_page_is_not_moved_by_what_is_new(server: Served) -> None:
    """What is recorded while somebody turns the pages neither repeats nor hides a run."""
    wire = server.wire
    ids = await _start(wire, 4)
    first = await wire.list_runs("chat", page_size=2)
    await _start(wire, 3)
    second = await wire.list_runs("chat", page_size=2, page_token=first.next_page_token)
    assert _ids(first) + _ids(second) == ids


async def test_runs_are_listed_by_their_states(server: Served) -> None:
    """One or several states; none means all."""
    wire = server.wire
    *queued, pending, finished = await _start(wire, 4)
    await wire.run_through(finished)

    async def listed(*states: run_pb2.RunState.ValueType) -> list[str]:
        return _ids(await wire.list_runs("chat", states=states))

    assert await listed(RUN_STATE_QUEUED) == queued
    assert await listed(RUN_STATE_FINISHED, RUN_STATE_PENDING, RUN_STATE_PENDING) == [pending, finished]
    assert await listed(run_pb2.RUN_STATE_RUNNING) == []


async def test_listed_runs_are_small_and_current(server: Served) -> None:
    """Places, inputs that wait and how a run ended are shown; input, text and result are not."""
    wire = server.wire
    held = await wire.hold((await wire.start("chat")).run.run_id)
    await wire.work(held, "text")
    held = await wire.hold((await wire.start("chat")).run.run_id)
    await wire.start("chat", run_id="mine", policy=run_pb2.RUN_POLICY_INJECT)
    await wire.start("chat", run_id="last")
    page = await wire.list_runs("chat")
    last, active, first = page.runs
    assert (last.queue_position, list(active.waiting_input_ids)) == (1, ["mine"])
    assert (first.terminal.outcome, first.terminal.output_text) == (run_pb2.RUN_OUTCOME_SUCCEEDED, "")
    assert [run for run in page.runs if run.HasField("input")] == []
    whole = await wire.get_run(first.run_id)
    whole.ClearField("input")
    whole.terminal.ClearField("output_text")
    assert first == whole
    assert page.resume_token == (await wire.get("chat")).resume_token


async def test_a_page_ends_before_it_is_too_large(tmp_path: Path) -> None:
    """Runs of any size are listed, and no page is larger than its bound, but for one larger run."""
    async with serving(tmp_path / "plane.db", limits={"page_bytes_max": 1_000}) as server:
        labels = {"note": "x" * 400}
        ids = [(await server.wire.start("chat", labels=labels)).run.run_id for _ in range(3)][::-1]
        pages = await _pages(server.wire)
    assert [each for page in pages for each in page] == ids
    assert len(pages) > 1


async def test_a_page_token_belongs_to_its_arguments(server: Served) -> None:
    """Another session, other states, or the session that holds the key by now: PAGE_TOKEN_INVALID."""
    wire = server.wire
    await _start(wire, 3)
    await _start(wire, 1, "other")
    token = (await wire.list_runs("chat", page_size=1)).next_page_token
    for call in (
        wire.list_runs("other", page_token=token),
        wire.list_runs("chat", states=[RUN_STATE_QUEUED], page_token=token),
        wire.list_runs("chat", page_token=token + "x"),
    ):
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
    await wire.reset("chat")
    assert (await refused(wire.list_runs("chat", page_token=token))).reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"key": "nobody"}, "KEY_NOT_BOUND"),
        ({"session_id": "ses_" + "f" * 32}, "SESSION_NOT_FOUND"),
        ({"key": "chat", "page_size": -1}, "FIELD_INVALID"),
        ({"key": "chat", "states": [0]}, "FIELD_INVALID"),
        ({"key": "chat", "states": [99]}, "FIELD_INVALID"),
    ],
)
async def test_what_cannot_be_listed_is_refused(
    server: Served, asked: dict[str, object], reason: str
) -> None:
    """Each refusal has its reason, and a session without runs is an empty page."""
    await server.wire.resolve("chat")
    assert list((await server.wire.list_runs("chat")).runs) == []
    assert (await refused(server.wire.list_runs(**asked))).reason == reason
