"""Streams of what retention has removed: a terminal is always to be had, and a hole is never passed off as one."""

from __future__ import annotations

from typing import Any

import pytest

from sessionplane.domain.errors import Checksum, TokenCompacted
from sessionplane.domain.events import Entry, EventKind
from sessionplane.domain.runs import Run
from sessionplane.domain.streams import ClosingReason, Filter, Presence, Start, Until
from sessionplane.domain.tokens import ResumeToken, parse_resume_token, stamp
from sessionplane.plane import streams
from sessionplane.plane.streams import Opening, StreamRequest
from tests.support.planes import KEY, NAMESPACE, Bench, ref


async def opened(bench: Bench, **given: Any) -> Opening:
    """Open a stream of the session as an attached subscriber does; `run_id` makes it one of that run."""
    target = {} if "run_id" in given else {"session": ref(KEY)}
    return await bench.do(streams.open_stream, StreamRequest(namespace=NAMESPACE, **(target | given)))


def entries(bench: Bench) -> list[Entry]:
    """The log, or what is left of it."""
    session = bench.session()
    return bench.plane.read(
        lambda tx: tx.entries(
            session.session_id, after=tx.floor(session.session_id).place, limit=1_000, bytes_max=1 << 30
        )
    )


def token_at(bench: Bench, sequence: int) -> ResumeToken:
    """The token behind a sequence."""
    session = bench.session()
    place = bench.plane.read(lambda tx: tx.place(session.session_id, sequence))
    assert place is not None
    return ResumeToken(
        store_id=bench.store.store_id,
        session_id=session.session_id,
        sequence=sequence,
        chain=stamp(place.chain),
    )


async def finished(bench: Bench, text: str = "text") -> tuple[Run, bytes]:
    """Let a run come and go; returns it, and its terminal as it stands in the log."""
    run = await bench.running()
    await bench.publish(run.run_id, text)
    await bench.finish(run.run_id)
    (data,) = [
        each.data
        for each in entries(bench)
        if (each.run_id, each.kind) == (run.run_id, EventKind.RUN_TERMINAL)
    ]
    return bench.run(run.run_id), data


MEANT: dict[str, dict[str, Any]] = {
    "the target": {"run_id": "run"},
    "until_run_id": {"until": Until.RUN_END, "until_run_id": "run"},
    "the filter": {"until": Until.RUN_END, "filter": Filter(run_id="run")},
    "until_run_id from the oldest event": {
        "until": Until.RUN_END,
        "until_run_id": "run",
        "start": Start.OLDEST,
    },
}


def named(asked: dict[str, Any], run_id: str) -> dict[str, Any]:
    """Put the run's id where the request names it."""
    filled = {name: run_id if value == "run" else value for name, value in asked.items()}
    return filled | ({"filter": Filter(run_id=run_id)} if "filter" in asked else {})


@pytest.mark.parametrize("how", MEANT)
async def test_a_late_reader_of_a_compacted_run_is_given_its_terminal(bench: Bench, how: str) -> None:
    """However the run is named: first its terminal, at the floor, byte for byte as it was; then the end."""
    run, terminal = await finished(bench)
    await bench.start()
    await bench.remove(run.terminal_sequence)
    plan = (await opened(bench, **named(MEANT[how], run.run_id))).plan
    assert (plan.outside, plan.begin.sequence) == (terminal, run.terminal_sequence)
    assert (plan.until_run_id, plan.goal, plan.goal_reason) == (
        run.run_id,
        plan.begin.sequence,
        ClosingReason.RUN_END,
    )


@pytest.mark.parametrize("how", MEANT)
async def test_a_run_of_which_the_beginning_is_gone_is_read_to_its_end(bench: Bench, how: str) -> None:
    """From the floor on, with what is left, and to its terminal in its place: each event once, in order."""
    run, _ = await finished(bench)
    await bench.remove(run.first_sequence)
    plan = (await opened(bench, **named(MEANT[how], run.run_id))).plan
    assert (plan.outside, plan.begin.sequence) == (b"", run.first_sequence)
    assert (plan.until_run_id, plan.goal) == (run.run_id, None)


async def test_a_run_above_the_floor_is_read_from_the_log(bench: Bench) -> None:
    """Its first event is there, so all of it is."""
    run, _ = await finished(bench)
    await bench.remove(run.first_sequence - 1)
    plan = (await opened(bench, run_id=run.run_id)).plan
    assert (plan.outside, plan.begin.sequence, plan.goal) == (b"", run.first_sequence - 1, None)


async def test_a_stream_that_goes_on_is_given_the_terminal_first(bench: Bench) -> None:
    """A stream of a compacted run that waits for something else delivers what there is of the run, and goes on."""
    run, terminal = await finished(bench)
    await bench.remove(run.terminal_sequence)
    opening = await opened(bench, filter=Filter(run_id=run.run_id))
    assert (opening.plan.outside, opening.plan.goal) == (terminal, None)
    caught_up = (await opened(bench, run_id=run.run_id, until=Until.CAUGHT_UP)).plan
    assert (caught_up.outside, caught_up.goal_reason) == (terminal, ClosingReason.CAUGHT_UP)


async def test_a_stream_that_goes_on_finds_a_terminal_that_is_left_in_its_place(bench: Bench) -> None:
    """What the log still has is delivered once, in order."""
    run, _ = await finished(bench)
    await bench.remove(run.first_sequence)
    assert (await opened(bench, filter=Filter(run_id=run.run_id))).plan.outside == b""


async def test_a_terminal_passes_no_other_run_s_filter(bench: Bench) -> None:
    """Waiting for one run while another one's events are wanted ends without either's terminal."""
    run, _ = await finished(bench)
    other = await bench.running()
    await bench.remove(run.terminal_sequence)
    plan = (
        await opened(
            bench,
            until=Until.RUN_END,
            until_run_id=run.run_id,
            filter=Filter(run_id=other.run_id),
            start=Start.OLDEST,
        )
    ).plan
    assert (plan.outside, plan.goal_reason) == (b"", ClosingReason.RUN_END)


@pytest.mark.parametrize("start", [Start.LATEST, Start.SNAPSHOT, Start.ACTIVE_RUN])
async def test_who_wants_only_what_comes_is_shown_nothing_old(bench: Bench, start: Start) -> None:
    """Also where the whole log was removed and now is the floor."""
    run, _ = await finished(bench)
    await bench.remove(bench.session().head_sequence)
    asked = {"until": Until.RUN_END, "until_run_id": run.run_id, "presence": Presence.OBSERVER}
    plan = (await opened(bench, start=start, **asked)).plan
    assert plan.begin.sequence == bench.session().floor_sequence
    assert (plan.outside, plan.goal_reason) == (b"", ClosingReason.RUN_END)


@pytest.mark.parametrize("start", [None, *Start])
async def test_a_compacted_run_of_a_deleted_session_is_given_its_terminal(
    bench: Bench, start: Start | None
) -> None:
    """Wherever the stream would begin: how a run ended is all that is left to be shown."""
    run, terminal = await finished(bench)
    await bench.remove(bench.session().head_sequence)
    await bench.delete()
    plan = (await opened(bench, run_id=run.run_id, start=start)).plan
    assert (plan.outside, plan.goal_reason) == (terminal, ClosingReason.RUN_END)


async def test_the_floor_s_token_leads_to_the_terminal(bench: Bench) -> None:
    """Who was told TOKEN_COMPACTED goes on with the floor's token, and still hears how the run ended."""
    run, terminal = await finished(bench)
    old = token_at(bench, run.first_sequence)
    await bench.start()
    await bench.remove(run.terminal_sequence)
    asked = {"until": Until.RUN_END, "until_run_id": run.run_id}
    refusal = await bench.refused(TokenCompacted, opened(bench, token=old, **asked))
    floor = parse_resume_token(refusal.details["floor_token"])
    opening = await opened(bench, token=floor, **asked)
    assert opening.resumed
    assert (opening.plan.outside, opening.plan.goal_reason) == (terminal, ClosingReason.RUN_END)


async def test_a_token_behind_the_floor_has_seen_the_terminal(bench: Bench) -> None:
    """What was accounted for is not repeated."""
    run, _ = await finished(bench)
    await bench.start()
    await bench.remove(run.terminal_sequence)
    behind = token_at(bench, bench.session().head_sequence)
    plan = (await opened(bench, token=behind, until=Until.RUN_END, until_run_id=run.run_id)).plan
    assert (plan.outside, plan.goal_reason) == (b"", ClosingReason.RUN_END)


async def test_an_event_that_is_missing_above_the_floor_is_damage(bench: Bench) -> None:
    """A token at an event that is not there is CHECKSUM; only one below the floor is TOKEN_COMPACTED."""
    await finished(bench)
    below, missing = token_at(bench, 2), token_at(bench, 5)
    await bench.remove(3)
    await bench.write(lambda tx, _: tx._connection.execute("DELETE FROM events WHERE sequence = 5"))  # type: ignore[attr-defined]
    await bench.refused(Checksum, opened(bench, token=missing))
    await bench.refused(TokenCompacted, opened(bench, token=below))


def page(bench: Bench, **given: Any) -> streams.LogPage:
    """Read a page of the log."""
    values: dict[str, Any] = {"resumed": None, "after": None, "wanted": Filter(), "limit": 3}
    return bench.plane.read(
        lambda tx: streams.list_events(tx, NAMESPACE, ref(KEY), bytes_max=1 << 20, **(values | given))
    )


async def test_pages_begin_at_the_floor(bench: Bench) -> None:
    """The first page has the oldest event that is kept; a token of the floor leads to the same."""
    await finished(bench)
    await bench.remove(4)
    assert [entry.sequence for entry in page(bench).entries] == [5, 6, 7]
    assert page(bench, resumed=token_at(bench, 4)).entries == page(bench).entries


async def test_a_page_whose_place_was_removed_meanwhile_is_refused(bench: Bench) -> None:
    """Pages would have a hole: the refusal names the floor, from which they go on."""
    await finished(bench)
    await bench.remove(4)
    with pytest.raises(TokenCompacted) as refusal:
        page(bench, after=(3, bench.session().session_id))
    assert parse_resume_token(refusal.value.details["floor_token"]) == token_at(bench, 4)
    behind = page(bench, after=(4, bench.session().session_id))
    assert [entry.sequence for entry in behind.entries] == [5, 6, 7]


async def test_a_stream_that_is_overtaken_by_retention_says_so(bench: Bench) -> None:
    """A reader whose next page was removed while it read gets the floor's token; what memory holds it still gets."""
    run = await bench.running()
    request = StreamRequest(namespace=NAMESPACE, session=ref(KEY), start=Start.OLDEST)
    async with bench.plane.stream(request) as (_, behind), bench.plane.stream(request) as (_, ahead):
        first = await ahead.next()
        assert first.through.sequence == run.first_sequence + 3
        await bench.publish(run.run_id, "a")
        await bench.remove(bench.session().head_sequence)
        with pytest.raises(TokenCompacted) as refusal:
            await behind.next()
        floor = parse_resume_token(refusal.value.details["floor_token"])
        assert floor.sequence == bench.session().floor_sequence
        # Its next events are in the tail, so it does not need the log.
        assert (await ahead.next()).through.sequence == floor.sequence
