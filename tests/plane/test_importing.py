"""Sessions of another system: who keeps a key, who becomes final beside it, and that nothing is discarded."""

from __future__ import annotations

from typing import Any

import pytest

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.keys import KeySettings, canonical
from sessionplane.domain.merging import ImportOutcome
from sessionplane.domain.sessions import SessionCause, SessionState
from sessionplane.plane.importing import Imported, ImportEntry, ImportRequest
from tests.support.clock import FakeClock
from tests.support.planes import NAMESPACE, Bench
from tests.support.rows import rows
from tests.support.story import check_log, story

CREATED, ALREADY = ImportOutcome.CREATED, ImportOutcome.ALREADY_IMPORTED
WINNER, LOSER = ImportOutcome.MERGED_WINNER, ImportOutcome.MERGED_LOSER
TEXT = "agent:main:notes"
HOUR = 3_600_000
NOW = FakeClock().wall


def entry(source_id: str, updated_at_ms: int = 0, raw: str = "notes", **more: Any) -> ImportEntry:
    """A session of another system."""
    key = canonical(raw, settings=KeySettings())
    return ImportEntry(raw_key=raw, key=key, source_id=source_id, updated_at_ms=updated_at_ms, **more)


async def bring(bench: Bench, *entries: ImportEntry, dry_run: bool = False) -> list[Imported]:
    """Import entries in one call."""
    request = ImportRequest(namespace=NAMESPACE, entries=entries, dry_run=dry_run)
    return list(await bench.plane.import_sessions(request))


def outcomes(results: list[Imported]) -> list[ImportOutcome]:
    return [each.outcome for each in results]


async def test_an_imported_session_keeps_its_times_name_and_labels(bench: Bench) -> None:
    """It is as old as it was there, can be told by its id there, and takes runs like any other."""
    now = bench.clock.wall
    given = entry(
        "there-1",
        now - 2 * HOUR,
        started_at_ms=now - 9 * HOUR,
        last_interaction_at_ms=now - 3 * HOUR,
        display_name="Notes",
        labels={"imported.session_id": "there-1"},
    )
    (result,) = await bring(bench, given)
    session = bench.session("notes")
    assert result == Imported(outcome=CREATED, session_id=session.session_id)
    assert "there-1" not in session.session_id
    assert (session.state, session.final, session.generation) == (SessionState.CREATED, False, 1)
    assert (session.started_at_ms, session.updated_at_ms) == (now - 9 * HOUR, now - 2 * HOUR)
    assert session.last_interaction_at_ms == now - 3 * HOUR
    assert (session.display_name, session.labels) == ("Notes", {"imported.session_id": "there-1"})
    assert bench.story("notes") == ["session none>CREATED", "key CREATED"]
    run = await bench.running("notes")
    await bench.finish(run.run_id)
    assert run.session_id == session.session_id


async def test_an_imported_session_expires_from_its_import_on(bench: Bench) -> None:
    """However old it is, it is kept as long as one that was born just now."""
    await bring(bench, entry("s", 1))
    assert bench.session("notes").due_at_ms == bench.clock.wall + bench.limits.detached_ttl_ms


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (-5, (0, 0, 0)),
        (0, (0, 0, 0)),
        (NOW + 24 * HOUR, (NOW, NOW, NOW)),
        (NOW + 24 * HOUR + 1, (0, 0, None)),
    ],
)
async def test_times_that_cannot_be_are_mended(
    bench: Bench, given: int, kept: tuple[int | None, ...]
) -> None:
    """Nothing happened before 1970; a clock may have been fast by hours, but what lies further ahead is no time."""
    await bring(bench, entry("s", given, started_at_ms=given, last_interaction_at_ms=given))
    session = bench.session("notes")
    assert (session.started_at_ms, session.updated_at_ms, session.last_interaction_at_ms) == kept


async def test_a_session_without_times_was_there_before_everything_else(bench: Bench) -> None:
    """It began when it changed, and nobody was there."""
    await bring(bench, entry("s"))
    session = bench.session("notes")
    assert (session.started_at_ms, session.updated_at_ms, session.last_interaction_at_ms) == (0, 0, None)


async def test_of_entries_that_meet_the_one_that_changed_last_keeps_the_key(bench: Bench) -> None:
    """The others are sessions too: final, readable by id, with their own times, and with a log that says why."""
    given = [entry("a", 10), entry("b", 30, "Notes"), entry("c", 20, TEXT)]
    results = await bring(bench, *given)
    assert outcomes(results) == [LOSER, CREATED, LOSER]
    keeper = bench.session("notes")
    assert keeper.session_id == results[1].session_id
    for result, each in ((results[0], given[0]), (results[2], given[2])):
        assert result.other_session_id == keeper.session_id
        loser = bench.session(result.session_id)
        assert (loser.state, loser.final, loser.superseded_by) == (
            SessionState.ENDED,
            True,
            keeper.session_id,
        )
        assert (loser.end_reason, loser.updated_at_ms) == (SessionCause.SUPERSEDED, each.updated_at_ms)
        assert str(loser.key) == TEXT
        log = bench.log(result.session_id)
        check_log(log)
        assert story(log) == ["session none>CREATED", "session CREATED>ENDED", "key MERGED"]
        moved = log[-1].session_moved
        assert (moved.key, moved.other_session_id, moved.holds) == (TEXT, keeper.session_id, False)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (entry("a", 5, TEXT), entry("b", 5, "notes", started_at_ms=1)),
        (entry("a", 5, started_at_ms=1), entry("b", 5, "Notes", started_at_ms=2)),
        (entry("a", 5), entry("b", 5, "Notes")),
    ],
)
async def test_ties_are_broken_by_the_rule(bench: Bench, first: ImportEntry, second: ImportEntry) -> None:
    """The canonical spelling, then the older one, then the one that is named first."""
    assert outcomes(await bring(bench, first, second)) == [CREATED, LOSER]


async def test_who_comes_first_in_the_file_does_not_matter_otherwise(bench: Bench) -> None:
    """Nobody gets a key only to lose it in the same call."""
    assert outcomes(await bring(bench, entry("b", 5, "Notes"), entry("a", 5, TEXT))) == [LOSER, CREATED]


async def test_a_session_that_changed_since_keeps_its_key(bench: Bench) -> None:
    """What happened here after the export is newer; the imported one stands beside it."""
    run = await bench.running("notes")
    before = bench.log("notes")
    (result,) = await bring(bench, entry("s", bench.clock.wall - 1))
    assert result.outcome is LOSER
    assert result.other_session_id == run.session_id == bench.session("notes").session_id
    assert bench.log("notes") == before
    await bench.finish(run.run_id)


async def test_an_imported_session_that_changed_later_takes_the_key(bench: Bench) -> None:
    """The session that held it ends with everything in it, and both logs say so."""
    await bench.resolve("notes", labels={"here": "1"}, display_name="Here")
    run = await bench.running("notes")
    await bench.publish(run.run_id, "so far")
    queued = (await bench.start("notes")).run
    old = bench.session("notes")
    bench.clock.advance(1_000)
    (result,) = await bring(bench, entry("s", bench.clock.wall))
    new = bench.session("notes")
    assert result == Imported(outcome=WINNER, session_id=new.session_id, other_session_id=old.session_id)
    assert (new.previous_session_id, new.display_name, new.labels) == (old.session_id, "", {})
    gone = bench.session(old.session_id)
    assert (gone.final, gone.superseded_by, gone.state) == (True, new.session_id, SessionState.ENDED)
    log = bench.log(old.session_id)
    assert bench.check_end(run.run_id, log).run_terminal.output_text == "so far"
    bench.check_end(queued.run_id, log)
    assert (log[-1].session_moved.other_session_id, log[-1].session_moved.holds) == (new.session_id, False)
    assert bench.story("notes") == ["session none>CREATED", "key MERGED"]
    assert bench.log("notes")[1].session_moved.other_session_id == old.session_id


async def test_an_import_that_is_repeated_changes_nothing(bench: Bench) -> None:
    """Whatever became of an entry, the next time it is there already; also after its key went to another session."""
    await bench.resolve("other")
    given = [entry("a", 10), entry("b", 20, "Notes"), entry("c", 5, "other"), entry("d", 5, "direct:x")]
    first = await bring(bench, *given)
    before = bench.contents()
    again = await bring(bench, *reversed(given))
    assert outcomes(again) == [ALREADY] * 4
    assert [each.session_id for each in reversed(again)] == [each.session_id for each in first]
    assert bench.contents() == before


async def test_what_was_deleted_stays_deleted_when_it_is_imported_again(bench: Bench) -> None:
    """A repeated import brings nothing back."""
    await bring(bench, entry("s", 10))
    await bench.delete("notes")
    assert outcomes(await bring(bench, entry("s", 99))) == [ALREADY]
    assert rows(bench.database)["keys"] == []


async def test_one_id_under_two_spellings_of_a_key_is_one_session(bench: Bench) -> None:
    """The entry that changed last is it; under another key the id is another session."""
    results = await bring(bench, entry("s", 1), entry("s", 2, "Notes"), entry("s", 3, "other"))
    assert outcomes(results) == [ALREADY, CREATED, CREATED]
    assert results[0].session_id == results[1].session_id != results[2].session_id
    assert bench.session("notes").updated_at_ms == 2


async def test_a_rehearsal_says_what_would_be_done_and_does_nothing(bench: Bench) -> None:
    """Also to runs under way, leases and waiting subscribers; ids that nobody has yet are left out."""
    run = await bench.running("notes")
    await bench.attach(run.session_id)
    await bring(bench, entry("known", 1, "known"))
    bench.clock.advance(1_000)
    given = [
        entry("a", bench.clock.wall),
        entry("b", 1, "Notes"),
        entry("known", 1, "known"),
        entry("c", 1, "new"),
        entry("d", 0, "NEW"),
    ]
    before = bench.contents()
    rehearsed = await bring(bench, *given, dry_run=True)
    assert bench.contents() == before
    await bench.heartbeat(run.run_id)
    done = await bring(bench, *given)
    assert outcomes(rehearsed) == outcomes(done) == [WINNER, LOSER, ALREADY, CREATED, LOSER]
    assert [each.session_id for each in rehearsed] == ["", "", done[2].session_id, "", ""]
    assert [each.other_session_id for each in rehearsed] == [run.session_id, "", "", "", ""]


async def test_an_import_that_fails_brings_nothing(bench: Bench) -> None:
    """One call is one transaction."""
    from sessionplane.plane import importing

    def fail(tx: Any, context: Any) -> None:
        request = ImportRequest(namespace=NAMESPACE, entries=[entry("a", 1), entry("b", 2)])
        importing.import_sessions(tx, request, context)
        raise SessionPlaneError

    await bench.refused(SessionPlaneError, bench.write(fail))
