"""Resolving by policies: what becomes of a key that has no session, a live one or an ended one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sessionplane.domain.errors import (
    KeyNotBound,
    LimitExceeded,
    RequestIdReused,
    SessionEnded,
    SessionExists,
    SessionPlaneError,
    SessionReplaced,
)
from sessionplane.domain.sessions import (
    ConflictPolicy,
    EndedPolicy,
    Interaction,
    MissingPolicy,
    Resolution,
    SessionState,
    Visibility,
)
from sessionplane.plane.resolving import Resolved
from tests.support.planes import KEY, Bench, open_bench
from tests.support.resolving import at_once, ended
from tests.support.stores import HeldWriter
from tests.support.story import check_log, ending

REPLACE = ConflictPolicy.REPLACE
INTERNAL = Visibility.INTERNAL


def ids(answers: list[Resolved | BaseException]) -> list[str]:
    """The sessions that were found."""
    return [each.view.session.session_id for each in answers if isinstance(each, Resolved)]


async def test_a_missing_session_may_be_refused(bench: Bench) -> None:
    """FAIL makes nothing for a key that nobody holds, and names its canonical form."""
    error = await bench.refused(KeyNotBound, bench.resolve(" Nobody ", missing=MissingPolicy.FAIL))
    assert error.details == {"canonical_key": "agent:main:nobody"}
    await bench.resolve()
    assert (await bench.resolve(missing=MissingPolicy.FAIL)).resolution is Resolution.EXISTING


async def test_a_live_session_may_be_refused(bench: Bench) -> None:
    """FAIL names the session that is there, and creates one where none is."""
    created = await bench.resolve(conflict=ConflictPolicy.FAIL)
    assert created.resolution is Resolution.CREATED
    error = await bench.refused(SessionExists, bench.resolve(conflict=ConflictPolicy.FAIL))
    assert error.details == {"session_id": created.view.session.session_id}


async def test_an_ended_session_is_no_conflict(bench: Bench) -> None:
    """What has ended is under the policy for ended sessions, and under no other."""
    session_id = await ended(bench)
    for conflict in ConflictPolicy:
        found = await bench.resolve(conflict=conflict)
        assert (found.resolution, found.view.session.session_id) == (Resolution.EXISTING, session_id)


async def test_a_live_session_may_be_replaced(bench: Bench) -> None:
    """REPLACE moves the key to a new session, as a reset does: the old one's runs end and its labels go on."""
    old = (await bench.resolve(labels={"team": "a", "kept": "1"}, display_name="Chat")).view.session
    run = await bench.running()
    await bench.publish(run.run_id, "so far")
    replaced = await bench.resolve(conflict=REPLACE, labels={"team": "b"})
    new = replaced.view.session
    assert (replaced.resolution, replaced.previous_session_id) == (Resolution.REPLACED, old.session_id)
    assert new.session_id != old.session_id
    assert (dict(new.labels), new.display_name) == ({"team": "b", "kept": "1"}, "Chat")
    assert bench.session().session_id == new.session_id
    gone = bench.session(old.session_id)
    assert (gone.final, gone.superseded_by) == (True, new.session_id)
    assert ending(bench.check_end(run.run_id).run_terminal) == "INTERRUPTED/SESSION_ENDED"
    assert bench.story(new.session_id) == ["session none>CREATED", "key REPLACED"]
    check_log(bench.log(old.session_id))


async def test_a_key_that_nobody_holds_is_not_replaced_but_created(bench: Bench) -> None:
    """REPLACE without a session to replace is CREATED."""
    assert (await bench.resolve(conflict=REPLACE)).resolution is Resolution.CREATED


async def test_only_the_expected_session_is_replaced(bench: Bench) -> None:
    """Whoever expects another session than the key's is told which one that is; nobody holds it is an answer too."""
    old = (await bench.resolve()).view.session.session_id
    expecting = {"conflict": REPLACE, "expected_session_id": old}
    new = (await bench.resolve(**expecting)).view.session.session_id
    error = await bench.refused(SessionReplaced, bench.resolve(**expecting))
    assert error.details == {"current": new}
    error = await bench.refused(SessionReplaced, bench.resolve("other", **expecting))
    assert error.details == {"current": ""}
    assert "nor by any other" in str(error)


async def test_what_has_ended_is_expected_like_what_lives(bench: Bench) -> None:
    """The expected session may have ended; another one that has ended is refused all the same."""
    session_id = await ended(bench)
    found = await bench.resolve(conflict=REPLACE, expected_session_id=session_id)
    assert found.resolution is Resolution.EXISTING
    await bench.refused(SessionReplaced, bench.resolve(conflict=REPLACE, expected_session_id="ses_other"))


async def test_an_ended_session_is_found_or_refused_or_left_behind(bench: Bench) -> None:
    """RESUME returns it as it is, FAIL names it, CREATE_NEW moves the key to a new session and makes it final."""
    old = await ended(bench)
    assert (await bench.resolve()).view.session.state is SessionState.ENDED
    error = await bench.refused(SessionEnded, bench.resolve(ended=EndedPolicy.FAIL))
    assert error.details == {"session_id": old}
    assert "the ended policy is FAIL" in str(error)
    fresh = await bench.resolve(ended=EndedPolicy.CREATE_NEW)
    assert (fresh.resolution, fresh.previous_session_id) == (Resolution.CREATED, old)
    assert bench.session().session_id == fresh.view.session.session_id != old
    assert bench.session(old).final
    assert bench.story(fresh.view.session.session_id)[1:] == ["key CREATE_NEW"]


@pytest.mark.parametrize("ended_policy", [EndedPolicy.CREATE_NEW, EndedPolicy.FAIL])
async def test_the_policy_for_ended_sessions_is_not_about_live_ones(
    bench: Bench, ended_policy: EndedPolicy
) -> None:
    """A session that has not ended is EXISTING under each of them."""
    await bench.resolve()
    assert (await bench.resolve(ended=ended_policy)).resolution is Resolution.EXISTING


async def test_an_id_names_its_session_whatever_the_policies_say(bench: Bench) -> None:
    """Policies are about keys: by its id even a final session is found, and nothing moves."""
    old = (await bench.resolve()).view.session.session_id
    await bench.resolve(conflict=REPLACE)
    before = bench.contents()
    for conflict in ConflictPolicy:
        found = await bench.resolve(
            old, conflict=conflict, ended=EndedPolicy.CREATE_NEW, missing=MissingPolicy.FAIL
        )
        assert (found.resolution, found.view.session.session_id) == (Resolution.EXISTING, old)
    assert bench.contents() == before


async def test_a_final_session_is_never_bound_again(bench: Bench) -> None:
    """Not even to the key that it once held, although nobody holds that now."""
    old = (await bench.resolve()).view.session.session_id
    new = (await bench.resolve(conflict=REPLACE)).view.session

    def free(tx: Any, _: object) -> None:
        tx.release_key(new.namespace, new.key, new.session_id)

    await bench.write(free)
    error = await bench.refused(SessionEnded, bench.resolve(bind=old))
    assert error.details == {"session_id": old, "successor": new.session_id}


async def test_refusals_cost_the_writer_nothing(tmp_path: Any) -> None:
    """What a policy refuses is refused by the reader, also while the writer is busy."""
    async with open_bench(tmp_path / "plane.db") as bench:
        await bench.resolve()
        await ended(bench, "ended")
        async with HeldWriter(bench.store):
            refused: list[tuple[type[SessionPlaneError], str, dict[str, Any]]] = [
                (SessionExists, KEY, {"conflict": ConflictPolicy.FAIL}),
                (SessionReplaced, KEY, {"conflict": REPLACE, "expected_session_id": "ses_x"}),
                (SessionEnded, "ended", {"ended": EndedPolicy.FAIL}),
                (KeyNotBound, "none", {"missing": MissingPolicy.FAIL}),
            ]
            for kind, name, given in refused:
                with pytest.raises(kind):
                    await bench.resolve(name, **given)


# Races


async def test_two_replacements_at_once_both_replace(bench: Bench) -> None:
    """One after the other, each with a session of its own: the second one replaces what the first one made."""
    old = (await bench.resolve()).view.session.session_id
    first, second = await at_once(bench, bench.resolve(conflict=REPLACE), bench.resolve(conflict=REPLACE))
    assert isinstance(first, Resolved)
    assert isinstance(second, Resolved)
    assert first.resolution is second.resolution is Resolution.REPLACED
    assert first.previous_session_id == old
    assert second.previous_session_id == first.view.session.session_id
    assert bench.session().session_id == second.view.session.session_id
    assert bench.session(first.view.session.session_id).final


async def test_of_two_replacements_of_the_same_session_one_wins(bench: Bench) -> None:
    """The other one is told who holds the key now."""
    old = (await bench.resolve()).view.session.session_id
    expecting = {"conflict": REPLACE, "expected_session_id": old}
    first, second = await at_once(bench, bench.resolve(**expecting), bench.resolve(**expecting))
    assert isinstance(first, Resolved)
    assert isinstance(second, SessionReplaced)
    assert second.details == {"current": first.view.session.session_id}
    assert bench.session().session_id == first.view.session.session_id


async def test_resolves_beside_a_replacement_get_sessions_that_were_there(bench: Bench) -> None:
    """Of a new key: one is created, one replaces it, and who only waited gets either, as it was when it came."""
    answers = await at_once(bench, bench.resolve(), bench.resolve(conflict=REPLACE), bench.resolve())
    assert [each.resolution for each in answers if isinstance(each, Resolved)] == [
        Resolution.CREATED,
        Resolution.REPLACED,
        Resolution.JOINED,
    ]
    first, second, joined = ids(answers)
    assert joined in {first, second}
    assert bench.session().session_id == second


@pytest.mark.parametrize("order", [1, -1])
async def test_a_resolve_that_wants_to_be_first_creates_or_is_refused(bench: Bench, order: int) -> None:
    """Conflict FAIL beside a creation: there is one session, and whoever did not create it hears of it."""
    asked = [bench.resolve(conflict=ConflictPolicy.FAIL), bench.resolve()][::order]
    answers = await at_once(bench, *asked)
    strict, easy = answers[::order]
    assert isinstance(easy, Resolved)
    if isinstance(strict, Resolved):
        assert (strict.resolution, easy.resolution) == (Resolution.CREATED, Resolution.JOINED)
    else:
        assert isinstance(strict, SessionExists)
        assert strict.details == {"session_id": easy.view.session.session_id}
    assert isinstance(strict, Resolved) is (order == 1)
    assert bench.ids.counts["ses_"] == 1


async def test_a_resolve_of_an_ended_session_beside_a_new_one_joins_it(bench: Bench) -> None:
    """Two that find a session ended and want a new one get the same one: the second finds it live."""
    old = await ended(bench)
    fresh = {"ended": EndedPolicy.CREATE_NEW}
    answers = await at_once(bench, bench.resolve(**fresh), bench.resolve(**fresh))
    assert [each.resolution for each in answers if isinstance(each, Resolved)] == [
        Resolution.CREATED,
        Resolution.JOINED,
    ]
    assert len(set(ids(answers)) | {old}) == 2


# Request ids


@pytest.mark.parametrize(
    ("given", "resolution"),
    [
        ({"conflict": REPLACE}, Resolution.REPLACED),
        ({"conflict": ConflictPolicy.FAIL}, Resolution.CREATED),
        ({"ended": EndedPolicy.CREATE_NEW}, Resolution.CREATED),
    ],
)
async def test_a_repeat_says_what_the_first_call_did(
    bench: Bench, given: dict[str, Any], resolution: Resolution
) -> None:
    """The same ids again, whoever holds the key by now, and no second effect."""
    if "ended" in given:
        await ended(bench)
    elif given["conflict"] is REPLACE:
        await bench.resolve()
    first = await bench.resolve(request_id="r1", **given)
    assert first.resolution is resolution
    later = await bench.resolve(conflict=REPLACE)
    before = bench.contents()
    again = await bench.resolve(request_id="r1", **given)
    assert (again.resolution, again.previous_session_id) == (resolution, first.previous_session_id)
    assert again.view.session.session_id == first.view.session.session_id
    assert again.view.session.superseded_by == later.view.session.session_id
    assert bench.contents() == before


async def test_a_repeat_is_no_interaction(bench: Bench) -> None:
    """A call that is sent again because its answer was lost keeps nothing alive."""
    await bench.resolve(request_id="r1")
    bench.clock.advance(500)
    await bench.resolve(request_id="r1")
    assert not bench.plane.sweeper._visits


# Visibility


async def test_machinery_finds_a_session_or_makes_a_hidden_one(bench: Bench) -> None:
    """INTERNAL is never a user's interaction, finds what is there, and hides nothing that was visible."""
    created = await bench.resolve(visibility=INTERNAL)
    session = created.view.session
    assert (created.resolution, session.visibility) == (Resolution.CREATED, INTERNAL)
    assert session.last_interaction_at_ms is None
    assert (await bench.resolve(visibility=INTERNAL)).resolution is Resolution.EXISTING
    assert not bench.plane.sweeper._visits
    await bench.resolve("seen")
    assert (await bench.resolve("seen", visibility=INTERNAL)).view.session.visibility is Visibility.VISIBLE


@pytest.mark.parametrize("interaction", Interaction)
@pytest.mark.parametrize("by_id", [False, True])
async def test_a_visible_resolve_shows_a_hidden_session(
    bench: Bench, interaction: Interaction, by_id: bool
) -> None:
    """In one write and without an event, whoever asks; the next one writes nothing."""
    session = (await bench.resolve(visibility=INTERNAL)).view.session
    name = session.session_id if by_id else KEY
    shown = await bench.resolve(name, interaction=interaction)
    assert (shown.resolution, shown.view.session.visibility) == (Resolution.EXISTING, Visibility.VISIBLE)
    now = bench.session()
    assert (now.visibility, now.change_number) == (Visibility.VISIBLE, session.change_number + 1)
    assert now.head_sequence == session.head_sequence
    before = bench.contents()
    await bench.resolve(name)
    assert bench.contents() == before


async def test_what_shows_a_session_is_remembered(bench: Bench) -> None:
    """It is a write, so its request id cannot be used for anything else."""
    await bench.resolve(visibility=INTERNAL)
    await bench.resolve(request_id="r1")
    assert (await bench.resolve(request_id="r1")).resolution is Resolution.EXISTING
    await bench.refused(RequestIdReused, bench.resolve("other", request_id="r1"))


@pytest.mark.parametrize(
    ("bounds", "limit"), [({"labels_max": 3}, "3"), ({"labels_bytes_max": 7}, "7 bytes")]
)
async def test_labels_do_not_pile_up_from_session_to_session(
    tmp_path: Path, bounds: dict[str, int], limit: str
) -> None:
    """What is carried over and what is given are bounded together, as the labels of any session; else all stays."""
    async with open_bench(tmp_path / "plane.db", **bounds) as bench:
        old = (await bench.resolve(labels={"a": "1", "b": "1"})).view.session
        refusal = await bench.refused(
            LimitExceeded, bench.resolve(conflict=REPLACE, labels={"c": "1", "d": "1"})
        )
        assert (refusal.details["field"], refusal.details["limit"]) == ("labels", limit)
        replaced = await bench.resolve(conflict=REPLACE, labels={"b": "2", "c": "1"})
        assert dict(replaced.view.session.labels) == {"a": "1", "b": "2", "c": "1"}
        assert replaced.previous_session_id == old.session_id
