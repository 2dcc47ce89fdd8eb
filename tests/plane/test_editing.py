"""Labels and names: people's own, in whatever state a session is, without an event and without a lost update."""

from __future__ import annotations

import pytest

from sessionplane.domain.errors import EtagMismatch, KeyNotBound, RequestIdReused, SessionNotFound
from tests.support.planes import Bench

UNKNOWN = "ses_" + "f" * 32


async def test_labels_and_name_are_replaced(bench: Bench) -> None:
    """What is given is all there is then; what is not given stays; what is empty is cleared."""
    await bench.resolve(labels={"team": "a", "old": "1"}, display_name="Chat")
    changed = await bench.update(" MAIN ", labels={"team": "b"})
    assert (dict(changed.labels), changed.display_name) == ({"team": "b"}, "Chat")
    assert (await bench.update(display_name="")).display_name == ""
    assert dict((await bench.update(labels={})).labels) == {}
    assert bench.session().labels == {}


async def test_a_change_is_seen_but_is_no_event(bench: Bench) -> None:
    """The update time, the change number and the etag move; the log and the last interaction do not."""
    before = (await bench.resolve()).view.session
    bench.clock.advance(1_000)
    after = await bench.update(display_name="Chat")
    assert after.updated_at_ms == before.updated_at_ms + 1_000
    assert after.change_number > before.change_number
    assert after.etag != before.etag
    assert (after.head_sequence, after.head_hash) == (before.head_sequence, before.head_hash)
    assert after.last_interaction_at_ms == before.last_interaction_at_ms
    assert after == bench.session()


async def test_what_is_so_already_is_not_written(bench: Bench) -> None:
    """Nothing moves, and the request id is free for another call."""
    await bench.resolve(labels={"team": "a"})
    before = bench.contents()
    await bench.update(labels={"team": "a"}, request_id="r1")
    await bench.update()
    assert bench.contents() == before
    await bench.update(labels={}, request_id="r1")


async def test_a_change_based_on_an_old_reading_is_refused(bench: Bench) -> None:
    """Of two that read the same session one changes it; the other is given the etag that it has now."""
    read = (await bench.resolve()).view.session
    now = await bench.update(labels={"a": "1"}, etag=read.etag)
    error = await bench.refused(EtagMismatch, bench.update(labels={"b": "2"}, etag=read.etag))
    assert error.details == {"current": now.etag}
    assert dict((await bench.update(labels={"b": "2"}, etag=now.etag)).labels) == {"b": "2"}


async def test_a_run_changes_the_etag_and_output_does_not(bench: Bench) -> None:
    """It is about what `update_time` shows."""
    before = (await bench.resolve()).view.session.etag
    run = await bench.running()
    await bench.publish(run.run_id, "first")
    busy = bench.session().etag
    assert busy != before
    await bench.publish(run.run_id, "second")
    assert bench.session().etag == busy


async def test_a_final_session_keeps_its_people(bench: Bench) -> None:
    """Labels are row data: they can be changed after the end, by id."""
    old = (await bench.resolve()).view.session.session_id
    await bench.reset()
    changed = await bench.update(old, labels={"kept": "yes"}, display_name="Then")
    assert (changed.final, dict(changed.labels)) == (True, {"kept": "yes"})
    assert bench.session().labels == {}


async def test_what_is_not_there_is_not_changed(bench: Bench) -> None:
    """Neither a key that nobody holds nor an unknown id makes a session."""
    await bench.refused(KeyNotBound, bench.update(display_name="x"))
    await bench.refused(SessionNotFound, bench.update(UNKNOWN, display_name="x"))


@pytest.mark.parametrize("etag", [False, True])
async def test_a_repeated_change_has_no_second_effect(bench: Bench, etag: bool) -> None:
    """The session as it is now, also if the etag of the first call is long out of date."""
    read = (await bench.resolve()).view.session
    given = {"labels": {"a": "1"}, **({"etag": read.etag} if etag else {})}
    await bench.update(request_id="r1", **given)
    await bench.update(labels={"a": "2"})
    before = bench.contents()
    assert dict((await bench.update(request_id="r1", **given)).labels) == {"a": "2"}
    assert bench.contents() == before
    await bench.refused(RequestIdReused, bench.update(request_id="r1", labels={"a": "3"}))
