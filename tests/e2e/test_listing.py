"""Lists of sessions over the wire: filters, hidden sessions, and pages that are cut by what they looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import VISIBILITY_INTERNAL
from tests.support.refusals import refused
from tests.support.serving import Served, serving
from tests.support.wire import Wire

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def listed(wire: Wire, text: str = "", **asked: Any) -> list[str]:
    """Read a list to its end and return what its keys say behind the agent, by name."""
    found: list[str] = []
    request = pb.ListSessionsRequest(filter=text, **asked)
    while True:
        page = await wire.sessions.ListSessions(request)
        found += [session.key.split(":", 2)[2] for session in page.sessions]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return sorted(found)


async def populate(wire: Wire) -> None:
    """A few sessions that differ."""
    await wire.resolve("plain")
    await wire.resolve("cron:daily", labels={"team": "billing"})
    await wire.resolve("agent:support:telegram:direct:42", labels={"team": "care", "ticket": "7"})
    await wire.resolve("handover", visibility=VISIBILITY_INTERNAL)
    await wire.start("busy")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", ["busy", "cron:daily", "plain", "telegram:direct:42"]),
        ("state = CREATED AND running = true", ["busy"]),
        ("state = SESSION_STATE_ENDED", []),
        ("kind = cron OR kind = direct", ["cron:daily", "telegram:direct:42"]),
        ("agent != support AND (kind = cron OR kind = direct)", ["cron:daily"]),
        ("key = Plain", ["plain"]),
        ('key : "agent:main:cron:*"', ["cron:daily"]),
        ("labels.team:*", ["cron:daily", "telegram:direct:42"]),
        ("labels.team != care AND labels.team:*", ["cron:daily"]),
        ("update_time > 2020-01-01T00:00:00Z AND create_time < 2020-01-01T00:00:00Z", []),
    ],
)
async def test_a_list_holds_what_its_filter_wants(server: Served, text: str, keys: list[str]) -> None:
    """The text is AIP-160's; hidden sessions are in no list that does not ask for them."""
    await populate(server.wire)
    assert await listed(server.wire, text) == keys
    assert await listed(server.wire, text, page_size=1) == keys


async def test_internal_sessions_are_listed_on_request(server: Served) -> None:
    """An operator may look at what hand-overs made."""
    await populate(server.wire)
    assert await listed(server.wire, 'key : "agent:main:h*"') == []
    assert await listed(server.wire, 'key : "agent:main:h*"', show_internal=True) == ["handover"]


async def test_a_filter_that_cannot_be_read_is_refused_by_its_place(server: Served) -> None:
    """The sentence says where, for people; the metadata says it for programs."""
    request = pb.ListSessionsRequest(filter="state = ACTIVE AND colour = red")
    refusal = await refused(server.wire.sessions.ListSessions(request))
    assert (refusal.code, refusal.reason) == (INVALID, "FILTER_INVALID")
    assert "at character 20, 'colour' is no field of a filter; use one of state," in refusal.message
    assert refusal.metadata is not None
    assert (refusal.metadata["field"], refusal.metadata["position"]) == ("filter", "20")


async def test_a_page_token_belongs_to_its_filter(server: Served) -> None:
    """Another filter, or other visibility, is another list; another page size is the same one."""
    await populate(server.wire)
    first = pb.ListSessionsRequest(filter="agent = main", page_size=1)
    token = (await server.wire.sessions.ListSessions(first)).next_page_token
    for asked in ({"filter": "agent != x"}, {"filter": "agent = main", "show_internal": True}, {}):
        request = pb.ListSessionsRequest(page_token=token, **asked)
        refusal = await refused(server.wire.sessions.ListSessions(request))
        assert (refusal.code, refusal.reason) == (INVALID, "PAGE_TOKEN_INVALID")
    rest = pb.ListSessionsRequest(filter="agent = main", page_size=9, page_token=token)
    assert len((await server.wire.sessions.ListSessions(rest)).sessions) == 2


async def test_a_page_may_be_empty_and_go_on(tmp_path: Path) -> None:
    """A rare wish among many sessions costs no page more than the bound, and the last page still comes."""
    async with serving(tmp_path / "plane.db", limits={"page_examined_max": 3}) as server:
        await server.wire.resolve("wanted", labels={"rare": ""})
        for number in range(7):
            await server.wire.resolve(f"other-{number}")
        request = pb.ListSessionsRequest(filter="labels.rare:*")
        counts = []
        while True:
            page = await server.wire.sessions.ListSessions(request)
            counts.append(len(page.sessions))
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        assert counts == [0, 0, 1]
