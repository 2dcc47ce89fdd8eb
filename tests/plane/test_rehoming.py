"""Other key settings on a database that has keys: who moves, who meets whom, and that nothing is discarded."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.key_changes import KeyRecord
from sessionplane.domain.key_report import KeyChanges
from sessionplane.domain.keys import KeySettings, SessionKey, canonical
from sessionplane.domain.merging import rank
from sessionplane.domain.runs import RunState
from sessionplane.domain.sessions import Session, SessionCause, SessionState
from sessionplane.plane import rehoming
from sessionplane.plane.resolving import ResolveRequest
from sessionplane.plane.sessions import SessionRef
from tests.support.planes import NAMESPACE, Bench, call
from tests.support.rows import rows
from tests.support.story import check_log

PLAIN = KeySettings()
OPS = KeySettings(default_agent="ops")
ONLY_OPS = KeySettings(default_agent="ops", agents=frozenset({"ops"}))
HOME = KeySettings(main_key="home")
FOLDING = KeySettings(opaque_peers=())


def survey(bench: Bench, settings: KeySettings, **more: Any) -> KeyChanges:
    """Look at what these settings would change."""
    record = KeyRecord(settings=settings)
    return bench.plane.read(lambda tx: rehoming.survey(tx, record, **more))


async def change(bench: Bench, settings: KeySettings) -> KeyChanges:
    """Start under other settings, and accept what they change."""
    changes = survey(bench, settings)
    await bench.write(lambda tx, use: rehoming.accept(tx, changes, use))
    assert bench.plane.read(lambda tx: rehoming.is_recorded(tx, changes.after))
    return changes


async def resolve(bench: Bench, raw: str, settings: KeySettings = PLAIN, *, after_ms: int = 0) -> str:
    """Resolve a spelling under some settings, a while later; return the session's id."""
    bench.clock.advance(after_ms)
    key = canonical(raw, settings=settings)
    request = ResolveRequest(call=call("ResolveSession"), session=SessionRef(key=key))
    return (await bench.plane.resolve(request)).view.session.session_id


def holder(bench: Bench, text: str) -> str | None:
    """Return who holds a canonical key."""
    pointer = bench.plane.read(lambda tx: tx.pointer(NAMESPACE, canonical(text, settings=FOLDING)))
    return None if pointer is None else pointer.session_id


def moves(bench: Bench, session_id: str) -> list[tuple[str, str, str, str, bool]]:
    """Return what a log says about its session's key: reason, key, key before, other session, held."""
    log = bench.log(session_id)
    check_log(log)
    names = type(log[0].session_moved).DESCRIPTOR.fields_by_name["reason"].enum_type.values_by_number
    return [
        (
            names[moved.reason].name.removeprefix("MOVE_REASON_"),
            moved.key,
            moved.previous_key,
            moved.other_session_id,
            moved.holds,
        )
        for moved in (event.session_moved for event in log if event.HasField("session_moved"))
    ]


async def test_a_new_database_records_its_settings(bench: Bench) -> None:
    """There is nothing to accept, and the next start with them has nothing to look at."""
    assert bench.plane.read(rehoming.recorded) is None
    changes = await change(bench, OPS)
    assert not changes.touched
    recorded = bench.plane.read(rehoming.recorded)
    assert recorded is not None
    assert recorded.facts() == changes.after.facts()
    assert not bench.plane.read(lambda tx: rehoming.is_recorded(tx, KeyRecord(settings=PLAIN)))
    other_rules = KeyRecord(settings=OPS, rules_version=0)
    assert not bench.plane.read(lambda tx: rehoming.is_recorded(tx, other_rules))


async def test_looking_changes_nothing(bench: Bench) -> None:
    """A survey only reads, however much it finds, and says how far it has come."""
    await change(bench, PLAIN)
    for number in range(2_001):
        await resolve(bench, f"k{number}")
    before, heard = bench.contents(), []
    changes = survey(bench, OPS, note=heard.append)
    assert (changes.key_count, len(changes.moves)) == (2_001, 2_001)
    assert heard == [1_000, 2_000]
    assert bench.contents() == before


async def test_a_key_that_becomes_another_takes_its_session_along(bench: Bench) -> None:
    """The pointer and the label move, the log says so, and nothing else of the session changes."""
    await change(bench, PLAIN)
    session_id = await resolve(bench, "Notes")
    before = bench.session(session_id)
    bench.clock.advance(1_000)
    await change(bench, OPS)
    after = bench.session(session_id)
    assert after.key is not None
    assert after.key.text == "agent:ops:notes"
    assert (holder(bench, "agent:ops:notes"), holder(bench, "agent:main:notes")) == (session_id, None)
    assert moves(bench, session_id)[1:] == [("RENAMED", "agent:ops:notes", "agent:main:notes", "", True)]
    assert after.change_number > before.change_number
    kept = ("state", "final", "generation", "updated_at_ms", "last_interaction_at_ms", "due_at_ms")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]


async def test_a_run_under_way_does_not_notice_that_its_session_has_another_key(bench: Bench) -> None:
    """Runs hang on session ids; the runner goes on with its lease."""
    await change(bench, PLAIN)
    run = await bench.running("notes")
    await change(bench, OPS)
    await bench.publish(run.run_id, "still here")
    await bench.finish(run.run_id)
    bench.check_end(run.run_id)
    again = await bench.start("agent:ops:notes")
    assert again.run.session_id == run.session_id


async def test_an_ended_session_that_still_holds_its_key_goes_on_under_the_new_one(bench: Bench) -> None:
    """It is resumed as before."""
    await change(bench, PLAIN)
    run = (await bench.start("notes")).run
    await bench.interrupt(run_id=run.run_id)
    assert bench.session("notes").state is SessionState.ENDED
    await change(bench, OPS)
    again = await bench.start("agent:ops:notes")
    assert (again.run.session_id, again.run.generation) == (run.session_id, 2)


async def test_where_two_sessions_meet_the_one_that_changed_last_keeps_the_key(bench: Bench) -> None:
    """The other one ends with everything in it and stays readable; each side of the log names the other."""
    await change(bench, PLAIN)
    active = await bench.running("notes")
    await bench.publish(active.run_id, "so far")
    waiting = (await bench.start("notes")).run
    loser_id = active.session_id
    winner_id = await resolve(bench, "agent:ops:notes", after_ms=1)
    changes = await change(bench, OPS)
    assert [(each.keeper_id, each.loser_ids) for each in changes.meetings] == [(winner_id, (loser_id,))]
    assert holder(bench, "agent:ops:notes") == winner_id
    loser = bench.session(loser_id)
    assert (loser.state, loser.final, loser.superseded_by) == (SessionState.ENDED, True, winner_id)
    assert loser.end_reason is SessionCause.SUPERSEDED
    log = bench.log(loser_id)
    assert bench.check_end(active.run_id, log).run_terminal.output_text == "so far"
    assert [each.split()[-1] for each in bench.story(loser_id) if each.startswith("terminal")] == [
        "REJECTED/SESSION_ENDED",
        "INTERRUPTED/SESSION_ENDED",
    ]
    assert bench.run(waiting.run_id).state is RunState.FINISHED
    assert bench.story(loser_id)[-1] == "key MERGED"
    assert moves(bench, loser_id)[-1] == ("MERGED", "agent:main:notes", "", winner_id, False)
    assert moves(bench, winner_id)[1:] == []


async def test_a_session_that_takes_a_key_from_its_holder_says_from_whom(bench: Bench) -> None:
    """It comes under another key and changed last, so the session that was there becomes final."""
    await change(bench, PLAIN)
    loser_id = await resolve(bench, "agent:ops:notes")
    winner_id = await resolve(bench, "notes", after_ms=1)
    await change(bench, OPS)
    assert holder(bench, "agent:ops:notes") == winner_id
    assert moves(bench, winner_id)[1:] == [("MERGED", "agent:ops:notes", "agent:main:notes", loser_id, True)]
    assert moves(bench, loser_id)[1:] == [("MERGED", "agent:ops:notes", "", winner_id, False)]


async def test_of_two_that_changed_at_once_the_canonical_spelling_keeps_the_key(bench: Bench) -> None:
    """Whoever wrote it out in full meant just this key."""
    await change(bench, PLAIN)
    await resolve(bench, "notes")
    winner_id = await resolve(bench, "agent:ops:notes")
    await change(bench, OPS)
    assert holder(bench, "agent:ops:notes") == winner_id


async def test_of_two_equal_claims_the_older_session_keeps_the_key(bench: Bench) -> None:
    """Neither spelling is canonical, and both changed at the same moment."""
    await change(bench, FOLDING)
    await change(bench, PLAIN)
    older = await resolve(bench, "signal:group:ABC")
    younger = await resolve(bench, "signal:group:AbC")
    await change(bench, FOLDING)
    assert holder(bench, "signal:group:abc") == older
    assert bench.session(younger).superseded_by == older


async def test_several_sessions_meet_at_once(bench: Bench) -> None:
    """One keeps the key, and all others name it."""
    await change(bench, PLAIN)
    ids = [await resolve(bench, f"signal:group:{each}", after_ms=1) for each in ("abc", "ABC", "Abc")]
    changes = await change(bench, FOLDING)
    assert holder(bench, "signal:group:abc") == ids[2]
    assert [bench.session(each).superseded_by for each in ids] == [ids[2], ids[2], ""]
    assert len(changes.meetings[0].loser_ids) == 2


async def test_a_key_may_be_taken_by_who_comes_from_another_one_that_moves(bench: Bench) -> None:
    """Keys that follow each other round a corner do not meet."""
    await change(bench, HOME)
    main = await resolve(bench, "home", HOME)
    desk = await resolve(bench, "desk", HOME)
    changes = await change(bench, KeySettings(main_key="desk"))
    assert changes.meetings == ()
    assert (holder(bench, "agent:main:home"), holder(bench, "agent:main:main")) == (main, desk)


async def test_a_refused_key_keeps_its_session(bench: Bench) -> None:
    """It is still there by id and in lists, and by key again once the settings accept it."""
    await change(bench, PLAIN)
    session_id = await resolve(bench, "agent:main:notes")
    changes = await change(bench, ONLY_OPS)
    assert (changes.refused.count, changes.moves) == (1, ())
    assert holder(bench, "agent:main:notes") == session_id
    assert bench.session(session_id).state is SessionState.CREATED
    assert not survey(bench, KeySettings(default_agent="ops", agents=frozenset({"ops", "a"}))).touched
    assert not (await change(bench, PLAIN)).moves
    assert holder(bench, "agent:main:notes") == session_id


async def test_there_and_back_again_is_where_it_began(bench: Bench) -> None:
    """Pointers, labels and times are as they were; the logs know of the journey."""
    await change(bench, PLAIN)
    ids = [
        await resolve(bench, raw, after_ms=1)
        for raw in ("notes", "agent:main:x", "home", "signal:group:AbC", "main")
    ]
    before = rows(bench.database)["keys"]
    for settings in (OPS, KeySettings(default_agent="ops", main_key="home"), OPS, PLAIN):
        bench.clock.advance(1_000)
        await change(bench, settings)
    after = rows(bench.database)["keys"]
    gone = [each for each in ids if bench.session(each).final]
    assert after == [row for row in before if row[2] not in gone]
    assert len(gone) == 1, "home and main met on the way, and that stays"


async def test_a_change_that_fails_changes_nothing(bench: Bench) -> None:
    """All of it is one transaction: after a crash the next start finds the old settings and the old keys."""
    await change(bench, PLAIN)
    await resolve(bench, "notes")
    await resolve(bench, "agent:ops:notes", after_ms=1)
    changes = survey(bench, OPS)

    def fail(tx: Any, context: Any) -> None:
        rehoming.accept(tx, changes, context)
        raise SessionPlaneError

    await bench.refused(SessionPlaneError, bench.write(fail))


# Against a model

SPELLINGS = (
    *(
        "Main",
        "home",
        "desk",
        "Notes",
        "notes",
        "signal:group:AbC",
        "signal:group:abc",
        "matrix:channel:!R:x",
    ),
    *("agent:main:home", "agent:main:notes", "agent:ops:main", "agent:ops:notes", "Agent:Ops:Desk"),
    *("agent:a:main", "agent:a:signal:group:ABC", "agent:main:agent:main:notes", "matrix:channel:!r:x"),
)
SETTINGS = (
    *(PLAIN, OPS, ONLY_OPS, HOME, FOLDING),
    KeySettings(main_key="desk", opaque_peers=()),
    KeySettings(default_agent="a", agents=frozenset({"a", "main"})),
    KeySettings(default_agent="ops", main_key="notes"),
)


def attempt(spelling: str, settings: KeySettings) -> SessionKey | None:
    try:
        return canonical(spelling, settings=settings)
    except SessionPlaneError:
        return None


def expected(
    held: dict[str, tuple[str, Session]], settings: KeySettings
) -> tuple[dict[str, str], dict[str, str]]:
    """Say who holds which key under other settings, and who lost to whom: the merge rule, written once more."""
    claims: dict[str, list[tuple[Any, str]]] = {}
    for text, (spelling, session) in held.items():
        target = str(attempt(spelling, settings) or attempt(text, settings) or text)
        claim = rank(
            updated_at_ms=session.updated_at_ms,
            was_canonical=spelling == target,
            since_ms=session.created_at_ms,
        )
        claims.setdefault(target, []).append(((claim, session.session_id), session.session_id))
    keepers = {text: min(each)[1] for text, each in claims.items()}
    lost = {loser: keepers[text] for text, each in claims.items() for _, loser in each}
    return keepers, {loser: keeper for loser, keeper in lost.items() if loser != keeper}


@pytest.mark.parametrize("seed", range(12))
async def test_any_way_through_settings_ends_where_the_rule_says(bench: Bench, seed: int) -> None:
    """Whatever is resolved between whatever changes: who holds which key is what the rule alone says."""
    dice = random.Random(seed)
    settings = PLAIN
    await change(bench, settings)
    for _ in range(6):
        for spelling in dice.sample(SPELLINGS, 6):
            if attempt(spelling, settings):
                await resolve(bench, spelling, settings, after_ms=dice.choice([0, 0, 1]))
        held = {row[1]: (row[3], bench.session(row[2])) for row in rows(bench.database)["keys"]}
        everybody = {row[0] for row in rows(bench.database)["sessions"]}
        settings = dice.choice(SETTINGS)
        keepers, lost = expected(held, settings)
        await change(bench, settings)
        assert {row[1]: row[2] for row in rows(bench.database)["keys"]} == keepers
        for loser, keeper in lost.items():
            assert (bench.session(loser).superseded_by, bench.session(loser).final) == (keeper, True)
        assert {row[0] for row in rows(bench.database)["sessions"]} == everybody
        assert survey(bench, settings).touched is False
