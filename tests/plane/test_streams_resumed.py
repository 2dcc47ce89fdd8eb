"""Streams and pages that begin at a token: the same log as the token saw, or one named refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sessionplane.domain.errors import (
    Checksum,
    KeyNotBound,
    LogBehindToken,
    PageTokenInvalid,
    SessionNotFound,
    StoreReplaced,
    TokenCompacted,
    TokenInvalid,
)
from sessionplane.domain.events import EventKind, Place
from sessionplane.domain.streams import Filter, Start, Until
from sessionplane.domain.tokens import ResumeToken, parse_resume_token, stamp
from sessionplane.plane import streams
from sessionplane.plane.resolving import ResolveRequest
from sessionplane.plane.streams import Opening, StreamRequest
from sessionplane.store import codec
from tests.support.planes import KEY, NAMESPACE, Bench, call, custom, ref


def asked(name: str = KEY, **given: Any) -> StreamRequest:
    """A stream of a session."""
    return StreamRequest(namespace=NAMESPACE, session=ref(name), **given)


def of_run(run_id: str, **given: Any) -> StreamRequest:
    """A stream of a run."""
    return StreamRequest(namespace=NAMESPACE, run_id=run_id, **given)


def resolving(name: str = KEY, **given: Any) -> StreamRequest:
    """A stream of whatever a resolve finds."""
    resolve = ResolveRequest(call=call("ResolveSession"), session=ref(name))
    return StreamRequest(namespace=NAMESPACE, resolve=resolve, **given)


async def opened(bench: Bench, request: StreamRequest) -> Opening:
    """Open it as an attached subscriber does."""
    return await bench.do(streams.open_stream, request)


def token_at(bench: Bench, sequence: int, name: str = KEY, **changed: Any) -> ResumeToken:
    """The token behind a sequence of a session's log."""
    session = bench.session(name)
    place = bench.plane.read(lambda tx: tx.place(session.session_id, sequence))
    assert place is not None
    made = ResumeToken(
        store_id=bench.store.store_id,
        session_id=session.session_id,
        sequence=sequence,
        chain=stamp(place.chain),
    )
    return replace(made, **changed)


async def test_a_token_goes_on_where_it_was(bench: Bench) -> None:
    """With a token a stream is RESUMED and begins behind it, whatever start says."""
    await bench.running()
    opening = await opened(bench, asked(token=token_at(bench, 3), start=Start.OLDEST))
    assert (opening.resumed, opening.plan.begin.sequence) == (True, 3)
    assert stamp(opening.plan.begin.chain) == token_at(bench, 3).chain
    assert (await opened(bench, asked(token=token_at(bench, 0)))).plan.begin == Place(0, b"")


async def test_a_token_of_the_head_is_in_order(bench: Bench) -> None:
    """Whoever has seen everything may wait for more."""
    await bench.start()
    assert (await opened(bench, asked(token=token_at(bench, 4)))).plan.begin.sequence == 4


async def test_a_token_knows_which_run_was_in_the_lane(bench: Bench) -> None:
    """RUN_END with a token means the run that was in the lane there, though another is now."""
    first = await bench.running()
    await bench.publish(first.run_id, "a")
    at = bench.session().head_sequence
    await bench.finish(first.run_id)
    second = await bench.running()
    opening = await opened(bench, asked(token=token_at(bench, at), until=Until.RUN_END))
    assert opening.plan.until_run_id == first.run_id
    between = bench.run(first.run_id).terminal_sequence
    opening = await opened(bench, asked(token=token_at(bench, between), until=Until.RUN_END))
    assert (opening.plan.until_run_id, opening.plan.discover_after) == ("", between)
    assert second.first_sequence > between


async def test_session_end_with_a_token_is_the_first_end_behind_it(bench: Bench) -> None:
    """A resumed stream waits for whatever end comes first."""
    await bench.start()
    plan = (await opened(bench, asked(token=token_at(bench, 2), until=Until.SESSION_END))).plan
    assert (plan.until_generation, plan.goal) == (0, None)


async def test_a_token_never_resolves(bench: Bench) -> None:
    """With a token, key and resolve only name the session: nothing is created."""
    await bench.resolve()
    opening = await opened(bench, resolving(token=token_at(bench, 2)))
    assert (opening.resolution, opening.resumed) == (None, True)
    await bench.refused(TokenInvalid, opened(bench, resolving("new", token=token_at(bench, 2))))


async def test_a_token_belongs_to_its_session(bench: Bench) -> None:
    """A token of another session than the target's is TOKEN_INVALID, by key, by id and by run."""
    await bench.resolve()
    other = await bench.start("other")
    token = token_at(bench, 2)
    for request in (
        asked("other", token=token),
        asked(other.view.session.session_id, token=token),
        of_run(other.run.run_id, token=token),
    ):
        await bench.refused(TokenInvalid, opened(bench, request))


async def test_a_token_of_a_run_stream_fits(bench: Bench) -> None:
    """A stream of a run resumes with the token of its session."""
    run = await bench.running()
    opening = await opened(bench, of_run(run.run_id, token=token_at(bench, 4)))
    assert (opening.plan.begin.sequence, opening.plan.until_run_id) == (4, run.run_id)


async def test_a_token_of_another_database_is_refused(bench: Bench) -> None:
    """A token that another store wrote is STORE_REPLACED, before anything is looked up."""
    await bench.resolve()
    token = token_at(bench, 2, store_id="0" * 32, session_id="ses_" + "f" * 32)
    error = await bench.refused(StoreReplaced, opened(bench, asked(token=token)))
    assert error.details == {"store_epoch": bench.store.store_id}


async def test_a_token_of_an_unknown_session_is_refused(bench: Bench) -> None:
    """A token of a session that is gone is SESSION_NOT_FOUND."""
    await bench.resolve()
    token = token_at(bench, 2, session_id="ses_" + "f" * 32)
    await bench.refused(SessionNotFound, opened(bench, asked(token=token)))


@pytest.mark.parametrize("sequence", [3, 2**63 - 1, 2**64 - 1])
async def test_a_token_ahead_of_the_log_is_refused(bench: Bench, sequence: int) -> None:
    """A log that is shorter than what a token has seen has lost events, and says so."""
    await bench.resolve()
    token = replace(token_at(bench, 2), sequence=sequence)
    error = await bench.refused(LogBehindToken, opened(bench, asked(token=token)))
    assert (error.details["head"], error.details["token"]) == ("2", str(sequence))


async def test_a_token_of_another_past_is_refused(bench: Bench) -> None:
    """A token whose chain is not the log's names the place that differs."""
    await bench.resolve()
    token = token_at(bench, 2, chain=b"another!")
    error = await bench.refused(Checksum, opened(bench, asked(token=token)))
    assert error.details["sequence"] == "2"


async def test_a_token_below_the_floor_is_refused(bench: Bench) -> None:
    """Where retention removed what follows, the refusal carries the floor's token, which works."""
    await bench.start()
    floor, old = token_at(bench, 3), token_at(bench, 2)
    await bench.remove(3)
    error = await bench.refused(TokenCompacted, opened(bench, asked(token=old)))
    assert parse_resume_token(error.details["floor_token"]) == floor
    assert (await opened(bench, asked(token=floor))).plan.begin.sequence == 3
    assert (await opened(bench, asked(start=Start.OLDEST))).plan.begin.sequence == 3


def page(bench: Bench, name: str = KEY, **given: Any) -> streams.LogPage:
    """Read a page of a log."""
    values: dict[str, Any] = {
        "resumed": None,
        "after": None,
        "wanted": Filter(),
        "limit": 3,
        "bytes_max": 1 << 20,
    }
    return bench.plane.read(lambda tx: streams.list_events(tx, NAMESPACE, ref(name), **(values | given)))


async def test_a_log_is_read_in_pages(bench: Bench) -> None:
    """Pages follow each other without a gap, and the last one says that nothing follows."""
    await bench.running()
    one = page(bench)
    two = page(bench, after=(one.through.sequence, one.session_id))
    assert ([entry.sequence for entry in one.entries], one.more) == ([1, 2, 3], True)
    assert ([entry.sequence for entry in two.entries], two.more) == ([4, 5, 6], False)
    assert two.through == Place(6, bench.session().head_hash)
    assert page(bench, after=(6, one.session_id)).entries == []


async def test_pages_of_a_key_stay_in_one_log(bench: Bench) -> None:
    """If the key moves between two pages, the next one is refused: it would come from another session's log."""
    await bench.running()
    one = page(bench)
    await bench.reset()
    await bench.running()
    with pytest.raises(PageTokenInvalid):
        page(bench, after=(one.through.sequence, one.session_id))
    rest = page(bench, one.session_id, after=(one.through.sequence, one.session_id))
    assert [entry.sequence for entry in rest.entries] == [4, 5, 6]


async def test_a_filtered_page_says_how_far_it_was_read(bench: Bench) -> None:
    """A page may be empty and yet not the last."""
    await bench.running()
    read = page(bench, wanted=Filter(kinds=frozenset({EventKind.CUSTOM})))
    assert (read.entries, read.through.sequence, read.more) == ([], 3, True)


async def test_a_page_may_hold_custom_events_of_some_types_only(bench: Bench) -> None:
    """A list is filtered by types as a stream is."""
    run = await bench.running()
    await bench.publish(run.run_id, custom("tool.call"), custom("picture"), "text")
    wanted = Filter(kinds=frozenset({EventKind.CUSTOM}), custom_types=frozenset({"picture"}))
    read = page(bench, wanted=wanted, limit=100)
    assert [codec.custom_type(entry) for entry in read.entries] == ["picture"]


async def test_pages_may_begin_behind_a_resume_token(bench: Bench) -> None:
    """A resume token is a place to list from, judged as for a stream."""
    await bench.running()
    read = page(bench, resumed=token_at(bench, 4))
    assert [entry.sequence for entry in read.entries] == [5, 6]
    with pytest.raises(StoreReplaced):
        page(bench, resumed=token_at(bench, 4, store_id="0" * 32))


async def test_a_place_that_the_log_does_not_reach_is_no_page(bench: Bench) -> None:
    """A page token beyond the log is refused."""
    await bench.resolve()
    with pytest.raises(PageTokenInvalid):
        page(bench, after=(3, bench.session().session_id))


async def test_what_does_not_exist_has_no_pages(bench: Bench) -> None:
    """Listing an unbound key or an unknown id is refused like reading it."""
    with pytest.raises(KeyNotBound):
        page(bench, "nobody")
    with pytest.raises(SessionNotFound):
        page(bench, "ses_" + "f" * 32)
