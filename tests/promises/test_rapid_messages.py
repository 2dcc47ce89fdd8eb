"""rapid-messages: messages that come quickly for one key share its session, and every one of them is served.

Seen in the wild: the idempotency key of each message was used as a session id, so each message minted a session; and
messages behind a first one that failed to start were thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1.run_pb2 import RUN_OUTCOME_FAILED, RUN_OUTCOME_SUCCEEDED
from tests.support.refusals import read, refused
from tests.support.rows import rows
from tests.support.serving import Served, serving
from tests.support.story import check_log, story, terminals
from tests.support.wire import Held, Wire, span

POOL = "workers"


async def test_rapid_messages_for_a_new_key_share_one_session(server: Served) -> None:
    """Twenty messages at once, each with its own request id, make one session and wait in it as one line."""
    calls = [server.wire.start("chat", text=str(n), request_id=f"message-{n}") for n in range(20)]
    started = await asyncio.gather(*calls)
    assert len({answer.session.session_id for answer in started}) == 1
    assert len({answer.run.run_id for answer in started}) == 20
    positions = sorted(answer.run.queue_position for answer in started)
    assert positions == list(range(20))
    assert len(rows(server.database)["sessions"]) == 1


async def test_rapid_messages_never_lend_a_session_their_request_id(server: Served, tmp_path: Path) -> None:
    """The same request id leads to another session under another key, another method and in another database."""
    request_id = "0190a0b0c0d07e0f8a9b0c1d2e3f4a5b"
    by_resolve = await server.wire.resolve("chat", request_id=request_id)
    by_start = await server.wire.start("other", request_id=request_id)
    async with serving(tmp_path / "second.db") as second:
        elsewhere = await second.wire.resolve("chat", request_id=request_id)
    ids = [answer.session.session_id for answer in (by_resolve, by_start, elsewhere)]
    assert len(set(ids)) == 3
    assert not any(request_id in each for each in [*ids, by_start.run.run_id])


async def test_rapid_messages_that_bear_a_session_id_as_request_id_stay_where_their_key_says(
    server: Served,
) -> None:
    """A request id that looks like a session's id has no meaning."""
    first = await server.wire.resolve("first")
    second = await server.wire.start("second", request_id=first.session.session_id)
    assert second.session.session_id != first.session.session_id
    assert second.session.key == "agent:main:second"


@pytest.mark.parametrize("key", ["chat", ""])
async def test_rapid_retries_of_one_message_are_one_run(server: Served, key: str) -> None:
    """Retries that race with their first attempt get its ids, with a key and without, and start nothing."""
    calls = [server.wire.start(key, request_id="message") for _ in range(20)]
    started = await asyncio.gather(*calls)
    assert len({(answer.session.session_id, answer.run.run_id) for answer in started}) == 1
    assert len(rows(server.database)["runs"]) == 1


async def test_rapid_retries_of_one_resolve_are_one_session(server: Served) -> None:
    """A resolve that is repeated while it is under way names the same session."""
    resolved = await asyncio.gather(*[server.wire.resolve("chat", request_id="one") for _ in range(20)])
    assert len({answer.session.session_id for answer in resolved}) == 1


async def test_rapid_resolves_with_one_request_id_and_different_content_are_told_apart(
    server: Served,
) -> None:
    """One of them is what the request id stands for; the others are refused, though they wait for the same session."""
    calls = [server.wire.resolve("chat", request_id="one", labels={"n": str(n)}) for n in range(10)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refusals = [read(answer) for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert [refusal.reason for refusal in refusals] == ["REQUEST_ID_REUSED"] * 9


async def test_rapid_retries_that_cross_a_restart_are_one_run(tmp_path: Path) -> None:
    """A message that is sent again after the server came back is known, with its present state."""
    async with serving(tmp_path / "plane.db") as server:
        first = await server.wire.start("chat", request_id="message")
        await server.wire.run_through(first.run.run_id, "done")
    async with serving(tmp_path / "plane.db") as server:
        again = await server.wire.start("chat", request_id="message")
        assert again.run.run_id == first.run.run_id
        assert again.run.state == run_pb2.RUN_STATE_FINISHED
        assert again.disposition == first.disposition


async def test_rapid_messages_with_a_used_request_id_and_other_content_are_refused(server: Served) -> None:
    """A request id that comes with other content is a mistake of the caller's, and changes nothing."""
    await server.wire.start("chat", text="hello", request_id="message")
    before = rows(server.database)
    for other in (
        server.wire.start("chat", text="goodbye", request_id="message"),
        server.wire.start("elsewhere", text="hello", request_id="message"),
        server.wire.start("chat", text="hello", request_id="message", pool=POOL),
    ):
        refusal = await refused(other)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert rows(server.database) == before


async def test_rapid_messages_with_a_used_request_id_and_another_spelling_are_repeats(server: Served) -> None:
    """Another spelling of the same key is the same request."""
    first = await server.wire.start("settings2", request_id="message")
    for spelling in ("agent:main:settings2", " SETTINGS2 ", "Agent:MAIN:settings2"):
        again = await server.wire.start(spelling, request_id="message")
        assert again.run.run_id == first.run.run_id
    resolved = await server.wire.resolve("settings2", request_id="resolve")
    respelled = await server.wire.resolve("AGENT:main:Settings2", request_id="resolve")
    assert respelled.session.session_id == resolved.session.session_id


async def test_a_claim_whose_answer_was_lost_is_repeated_with_the_same_lease(server: Served) -> None:
    """A runner that asks again under its request id holds the run it already holds; another one does not get it."""
    await server.wire.start("chat", pool=POOL)
    await server.wire.start("other", pool=POOL)
    claims = await asyncio.gather(*[server.wire.claim(pool=POOL, request_id="mine") for _ in range(5)])
    assert len({(claim.run.run_id, claim.lease.token, claim.lease.epoch) for claim in claims}) == 1
    theirs = await server.wire.claim(pool=POOL, request_id="theirs")
    assert theirs.run.run_id != claims[0].run.run_id


async def _claimed_and_never_heard(wire: Wire, run_id: str) -> None:
    """The claim's answer was lost on its way to the runner."""
    await wire.claim(run_id, lease_s=0.1)


async def _claimed_heard_and_dead(wire: Wire, run_id: str) -> None:
    """The runner said that it lives, and died."""
    await wire.heartbeat(await wire.hold(run_id, lease_s=0.4))


async def _interrupted_before_its_claim(wire: Wire, run_id: str) -> None:
    await wire.interrupt(run_id=run_id)


async def _failed_at_once(wire: Wire, run_id: str) -> None:
    await wire.finish(await wire.hold(run_id), RUN_OUTCOME_FAILED)


async def _given_back(wire: Wire, run_id: str) -> None:
    await wire.release(await wire.hold(run_id))


async def _never_claimed(_wire: Wire, _run_id: str) -> None:
    """Its start_timeout, which is short in these tests' first run, does it."""


Fate = Callable[[Wire, str], Awaitable[None]]


@pytest.mark.parametrize(
    ("fate", "ending"),
    [
        (_claimed_and_never_heard, "SUCCEEDED/RUNNER"),
        (_given_back, "SUCCEEDED/RUNNER"),
        (_claimed_heard_and_dead, "LOST/LEASE_EXPIRED"),
        (_interrupted_before_its_claim, "INTERRUPTED/INTERRUPT"),
        (_failed_at_once, "FAILED/RUNNER"),
        (_never_claimed, "REJECTED/DEADLINE"),
    ],
)
async def test_rapid_messages_behind_a_run_that_dies_early_are_served_in_order(
    server: Served, fate: Fate, ending: str
) -> None:
    """Whatever becomes of the first run before its first event, each message behind it gets its turn."""
    wire = server.wire
    patience = span(0.1) if fate is _never_claimed else None
    first = await wire.start("chat", text="0", start_timeout=patience)
    waiting = [await wire.start("chat", text=str(n), pool=POOL) for n in range(1, 4)]
    await fate(wire, first.run.run_id)
    if ending.startswith("SUCCEEDED"):
        await wire.run_through(first.run.run_id, "0")
    served = []
    for _ in waiting:
        claim = await wire.claim(pool=POOL, wait_s=20)
        served.append(claim.run.run_id)
        await wire.work(Held(claim.run.run_id, claim.lease.token), "done")
    assert served == [answer.run.run_id for answer in waiting]
    log = await wire.log("chat")
    check_log(log)
    assert terminals(log) == [ending, *["SUCCEEDED/RUNNER"] * 3]


async def test_a_run_that_was_never_heard_is_offered_again_and_the_old_lease_is_worth_nothing(
    server: Served,
) -> None:
    """A claim whose answer may have been lost costs time, never the run: the next claim has a newer epoch."""
    wire = server.wire
    started = await wire.start("chat")
    lost = await wire.claim(started.run.run_id, lease_s=0.1)
    found = await wire.claim(started.run.run_id, wait_s=20)
    assert found.claimed
    assert found.lease.epoch > lost.lease.epoch
    assert found.lease.token != lost.lease.token
    log = await wire.log("chat")
    assert terminals(log) == []
    assert story(log, run_id=started.run.run_id).count("run RUNNING>PENDING") == 1


async def test_an_interrupt_before_the_claim_ends_the_run_and_the_next_message_is_served(
    server: Served,
) -> None:
    """A session whose only run was stopped before it began has ended, and the next message brings it back."""
    wire = server.wire
    stopped = await wire.start("chat")
    answer = await wire.interrupt(run_id=stopped.run.run_id)
    assert answer.interrupt.stage == run_pb2.INTERRUPT_STAGE_COMPLETED
    assert (await wire.get("chat")).session.state == session_pb2.SESSION_STATE_ENDED
    assert not (await wire.claim(stopped.run.run_id)).claimed
    following = await wire.start("chat")
    assert following.session.session_id == stopped.session.session_id
    assert (await wire.run_through(following.run.run_id, "hi")).outcome == RUN_OUTCOME_SUCCEEDED
    assert terminals(await wire.log("chat")) == ["INTERRUPTED/INTERRUPT", "SUCCEEDED/RUNNER"]


async def test_a_full_line_refuses_the_next_message_and_keeps_the_others(server: Served) -> None:
    """Overload is said aloud: nothing is dropped to make room, and nothing of the refused call stays."""
    for n in range(21):
        await server.wire.start("chat", text=str(n))
    before = rows(server.database)
    refusal = await refused(server.wire.start("chat", text="one too many", request_id="late"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RUN_QUEUE_FULL")
    assert refusal.retry_after_s
    assert rows(server.database) == before
