"""Tokens: one that the server did not write for this very place is refused by name, and leads nowhere else."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from struct import Struct
from zlib import crc32

import grpc
import pytest

from sessionplane.domain.tokens import ResumeToken, parse_resume_token
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.session_pb2 import SessionRef
from tests.support.refusals import Refusal, refused
from tests.support.rows import rows
from tests.support.serving import Served, serving
from tests.support.wire import Wire

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def _both_ways(wire: Wire, key: str, token: str) -> Refusal:
    """Use a token on a stream and on a page; both must refuse it alike."""
    by_stream = await refused(wire.stream(key, resume_token=token).__aenter__())
    by_page = await refused(wire.log(key, resume_token=token))
    assert (by_stream.code, by_stream.reason) == (by_page.code, by_page.reason)
    return by_stream


async def _token(wire: Wire, key: str = "chat") -> str:
    """A good token, of a log with a few events."""
    await wire.run_through((await wire.start(key)).run.run_id, "done")
    return (await wire.get(key)).resume_token


SPOILED: dict[str, Callable[[str], str]] = {
    "garbage": lambda _: "garbage",
    "not ASCII": lambda _: "\N{EURO SIGN}" * 40,
    "very long": lambda token: token * 1_000,
    "cut": lambda token: token[:-1],
    "changed at its end": lambda token: token[:-1] + ("A" if token[-1] != "A" else "E"),
    "changed in the middle": lambda token: token[:20] + ("A" if token[20] != "A" else "B") + token[21:],
    "twice": lambda token: token + token,
    "empty but for padding": lambda _: "==",
}


@pytest.mark.parametrize("spoil", SPOILED)
async def test_a_spoiled_resume_token_is_refused(server: Served, spoil: str) -> None:
    """A token that was cut, changed or invented is TOKEN_INVALID, whatever is wrong with it."""
    token = await _token(server.wire)
    before = rows(server.database)
    refusal = await _both_ways(server.wire, "chat", SPOILED[spoil](token))
    assert (refusal.code, refusal.reason) == (INVALID, "TOKEN_INVALID")
    assert token not in refusal.message
    assert rows(server.database) == before


async def test_a_token_of_another_session_is_refused(server: Served) -> None:
    """A token and a target that name different sessions are a mistake, by key, by id, by run and by resolve."""
    token = await _token(server.wire)
    other = await server.wire.start("other")
    before = rows(server.database)
    refusal = await _both_ways(server.wire, "other", token)
    assert (refusal.code, refusal.reason) == (INVALID, "TOKEN_INVALID")
    for target in (
        {"session_id": other.session.session_id},
        {"run_id": other.run.run_id},
        {"resolve": pb.ResolveSessionRequest(session=SessionRef(key="other"))},
    ):
        refusal = await refused(server.wire.stream(resume_token=token, **target).__aenter__())
        assert (refusal.code, refusal.reason) == (INVALID, "TOKEN_INVALID")
    assert rows(server.database) == before


async def test_a_token_beside_a_resolve_creates_nothing(server: Served) -> None:
    """With a token a resolve only names: a key that nobody holds is not created by it."""
    token = await _token(server.wire)
    before = rows(server.database)
    resolve = pb.ResolveSessionRequest(session=SessionRef(key="nobody"))
    refusal = await refused(server.wire.stream(resolve=resolve, resume_token=token).__aenter__())
    assert (refusal.code, refusal.reason) == (INVALID, "TOKEN_INVALID")
    assert rows(server.database) == before


async def test_a_token_of_another_database_is_refused_by_name(server: Served, tmp_path: Path) -> None:
    """A subscriber whose server was given a new file hears STORE_REPLACED, and which one it talks to."""
    await server.wire.resolve("chat")
    async with serving(tmp_path / "second.db") as second:
        token = await _token(second.wire)
    refusal = await _both_ways(server.wire, "chat", token)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STORE_REPLACED")
    assert (refusal.metadata or {})["store_epoch"] == server.running.store.store_id


def _forged(token: str, **changes: int | bytes) -> str:
    parsed: ResumeToken = parse_resume_token(token)
    return replace(parsed, **changes).encode()  # type: ignore[arg-type]


async def test_a_token_ahead_of_the_log_is_data_loss(server: Served) -> None:
    """A log that is shorter than what a subscriber has seen lost acknowledged events: that is said, not hidden."""
    token = await _token(server.wire)
    ahead = _forged(token, sequence=parse_resume_token(token).sequence + 1)
    for seen_more in (ahead, _forged(token, sequence=2**64 - 1)):
        refusal = await _both_ways(server.wire, "chat", seen_more)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "LOG_BEHIND_TOKEN")


async def test_a_token_of_a_log_with_another_past_is_data_loss(server: Served) -> None:
    """The chain hash in a token notices a log whose events are not the ones that the subscriber saw."""
    token = await _token(server.wire)
    refusal = await _both_ways(server.wire, "chat", _forged(token, chain=bytes(8)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DATA_LOSS, "CHECKSUM")


async def test_a_page_token_belongs_to_its_method_and_arguments(server: Served) -> None:
    """A page goes on only where its list began: other arguments, another key and another method are refused."""
    await _token(server.wire, "chat")
    await _token(server.wire, "other")
    chat, other = SessionRef(key="chat"), SessionRef(key="other")
    of_events = await server.wire.sessions.ListEvents(pb.ListEventsRequest(session=chat, page_size=2))
    of_sessions = await server.wire.sessions.ListSessions(pb.ListSessionsRequest(page_size=1))
    token = of_events.next_page_token
    calls = [
        server.wire.sessions.ListEvents(pb.ListEventsRequest(session=other, page_token=token)),
        server.wire.sessions.ListEvents(
            pb.ListEventsRequest(session=chat, page_token=token, filter=pb.EventFilter(kinds=[9]))
        ),
        server.wire.sessions.ListEvents(
            pb.ListEventsRequest(session=chat, page_token=of_sessions.next_page_token)
        ),
        server.wire.sessions.ListSessions(pb.ListSessionsRequest(page_token=token)),
        server.wire.sessions.ListSessions(pb.ListSessionsRequest(page_token=token[:-2])),
    ]
    for call in calls:
        refusal = await refused(call)
        assert (refusal.code, refusal.reason) == (INVALID, "PAGE_TOKEN_INVALID")


@pytest.mark.parametrize("method", ["ListSessions", "ListEvents"])
@pytest.mark.parametrize(("number", "row_id"), [(2**64 - 1, b""), (2**63, b"ses_"), (1, b"\xff\xfe")])
async def test_a_forged_page_token_is_refused_and_nothing_breaks(
    server: Served, method: str, number: int, row_id: bytes
) -> None:
    """A page token with a checksum that fits, but with numbers and texts of no row, is no error of the server's."""
    for n in range(2):
        await _token(server.wire, f"chat-{n}")
    request = {
        "ListSessions": pb.ListSessionsRequest(page_size=1),
        "ListEvents": pb.ListEventsRequest(session=SessionRef(key="chat-0"), page_size=1),
    }[method]
    call = getattr(server.wire.sessions, method)
    honest = (await call(request)).next_page_token
    arguments = urlsafe_b64decode(honest + "=" * (-len(honest) % 4))[:8]
    packed = Struct(">8sQ").pack(arguments, number) + row_id
    request.page_token = urlsafe_b64encode(packed + Struct(">I").pack(crc32(packed))).rstrip(b"=").decode()
    refusal = await refused(call(request))
    assert (refusal.code, refusal.reason) == (INVALID, "PAGE_TOKEN_INVALID")


async def test_a_page_of_large_sessions_is_cut_and_goes_on(tmp_path: Path) -> None:
    """A page ends at its bytes, so that a stub with gRPC's own bound can read every one; the next goes on behind."""
    async with serving(tmp_path / "small.db", limits={"page_bytes_max": 2_000}) as server:
        keys = {f"agent:main:k{number}" for number in range(9)}
        for key in keys:
            await server.wire.resolve(key, labels={"about": "x" * 500})
        seen: list[str] = []
        page_token = ""
        while len(seen) < len(keys):
            page = await server.wire.sessions.ListSessions(pb.ListSessionsRequest(page_token=page_token))
            assert page.ByteSize() < 2_200
            seen.extend(session.key for session in page.sessions)
            page_token = page.next_page_token
            assert bool(page_token) == (len(seen) < len(keys))
        assert set(seen) == keys
