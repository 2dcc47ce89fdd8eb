"""What every store promises of what goes: a log's beginning, or all of a session, asked through the contract only."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from sessionplane.domain.errors import TokenCompacted
from sessionplane.domain.events import Fold, Place
from sessionplane.domain.runs import RunFailure, RunState
from sessionplane.domain.sessions import SessionState
from sessionplane.domain.tokens import parse_resume_token, stamp
from sessionplane.store import codec
from sessionplane.store.contract import Extent, Floor, Store, Tx
from sessionplane.v1.run_pb2 import Payload
from tests.support.contract import ALL, ONE, START, add, change_number, log, say
from tests.support.values import (
    NAMESPACE,
    NOW_MS,
    changed,
    created,
    delta,
    interrupt,
    moved,
    run,
    session,
    session_id,
    terminal,
)

TWO = session_id(2)


def floor_of(store: Store) -> Place:
    """Return where the log of session 1 begins."""
    return store.read(lambda tx: tx.floor(ONE)).place


async def refused(store: Store, use_case: Callable[[Tx], object], error: type[Exception]) -> None:
    """Run a use case that must fail."""
    with pytest.raises(error):
        await store.submit(use_case)


async def test_removing_moves_the_floor_with_what_it_added_up_to(store: Store) -> None:
    """Events go from the beginning, the floor's place, bytes and fold say which, and the rest fits behind them."""
    await add(store, session(1))

    def use_case(tx: Tx) -> None:
        tx.append(ONE, created(), at_ms=NOW_MS)
        tx.append(ONE, moved("a", holds=True), at_ms=NOW_MS)
        tx.append(ONE, delta("text"), at_ms=NOW_MS, run_id=run(1).run_id)
        tx.append(ONE, changed(SessionState.STARTING, generation=2), at_ms=NOW_MS)
        tx.append(ONE, moved("a", holds=False), at_ms=NOW_MS)

    await store.submit(use_case)
    entries = log(store)
    sizes = [len(entry.data) for entry in entries]
    fold = Fold(state="CREATED", generation=1, key="agent:main:a")
    expected = {
        1: Fold(state="CREATED", generation=1),
        3: fold,
        4: fold._replace(state="STARTING", generation=2),
        5: fold._replace(state="STARTING", generation=2, key=""),
    }
    at = 0
    for through, added_up in expected.items():
        gone = await store.submit(
            lambda tx, upto=through: tx.remove_events(ONE, through=upto, bytes_max=1 << 20)
        )
        assert gone == Extent(through - at, sum(sizes[at:through]))
        place = Place(through, entries[through - 1].chain)
        assert store.read(lambda tx: tx.floor(ONE)) == Floor(place, sum(sizes[:through]), added_up)
        assert log(store, place) == entries[through:]
        at = through
    found = store.read(lambda tx: tx.session(NAMESPACE, ONE))
    assert found is not None
    assert (found.floor_sequence, found.floor_hash, found.floor_log_bytes) == (
        5,
        entries[4].chain,
        sum(sizes),
    )
    assert (found.head_sequence, found.log_bytes) == (5, sum(sizes))


async def test_a_log_goes_on_behind_its_floor(store: Store) -> None:
    """Numbers, hashes and sizes are those of a log of which nothing was removed."""
    await add(store, session(1), session(2))
    for of in (ONE, TWO):
        await store.submit(lambda tx, of=of: tx.append(of, created(), at_ms=NOW_MS))
    await store.submit(lambda tx: tx.remove_events(ONE, through=1, bytes_max=1 << 20))
    await say(store, "a")
    assert [entry.sequence for entry in log(store, floor_of(store))] == [2]
    assert store.read(lambda tx: tx.head(ONE)).sequence == 2


async def test_a_step_is_bounded_by_bytes(store: Store) -> None:
    """Fewer events go if they are large, and a single larger one goes alone."""
    await add(store, session(1))
    await say(store, "a", "b", "x" * 5_000, "c")
    size = len(log(store)[0].data)

    async def removed(bytes_max: int) -> int:
        gone = await store.submit(lambda tx: tx.remove_events(ONE, through=4, bytes_max=bytes_max))
        return gone.events

    assert [await removed(2 * size) for _ in range(3)] == [2, 1, 1]
    assert await removed(2 * size) == 0


async def test_removing_nothing_changes_nothing(store: Store) -> None:
    """A place at or below the floor is behind us."""
    await add(store, session(1))
    await say(store, "a", "b")
    await store.submit(lambda tx: tx.remove_events(ONE, through=1, bytes_max=1 << 20))
    before = store.read(lambda tx: tx.session(NAMESPACE, ONE))
    for through in (0, 1):
        gone = await store.submit(lambda tx, upto=through: tx.remove_events(ONE, through=upto, bytes_max=1))
        assert gone == Extent(0, 0)
    assert store.read(lambda tx: tx.session(NAMESPACE, ONE)) == before


async def test_removing_from_an_unknown_log_is_refused(store: Store) -> None:
    """There is none."""
    await refused(store, lambda tx: tx.remove_events(ONE, through=1, bytes_max=1), KeyError)
    with pytest.raises(KeyError):
        store.read(lambda tx: tx.floor(ONE))


async def test_what_is_behind_the_floor_is_named_to_whoever_asks(store: Store) -> None:
    """Entries behind a place below the floor are refused with the floor's token, also when nothing is left."""
    await add(store, session(1))
    await say(store, "a", "b", "c")
    first = log(store)[0]
    for through in (2, 3):
        await store.submit(lambda tx, upto=through: tx.remove_events(ONE, through=upto, bytes_max=1 << 20))
        floor = floor_of(store)
        for place in (START, Place(1, first.chain)):
            with pytest.raises(TokenCompacted) as refusal:
                log(store, place)
            token = parse_resume_token(refusal.value.details["floor_token"])
            assert (token.session_id, token.sequence, token.chain) == (ONE, through, stamp(floor.chain))
        assert [entry.sequence for entry in log(store, floor)] == list(range(through + 1, 4))


async def test_a_terminal_outlives_its_event(store: Store) -> None:
    """It is made from the run's row, byte for byte as it was in the log."""
    await add(store, session(1), run(1))
    result = Payload()
    result.structured.update({f"name {number}": number for number in range(50)})
    ended = terminal(result=result.SerializeToString(), failure=RunFailure(reason="X"), interrupt_id="int_1")
    await store.submit(lambda tx: tx.finish_run(run(1), ended))
    (event,) = log(store)
    await store.submit(lambda tx: tx.remove_events(ONE, through=1, bytes_max=1 << 20))
    finished = store.read(lambda tx: tx.run(NAMESPACE, run(1).run_id))
    assert finished is not None
    assert store.read(lambda tx: tx.terminal_data(finished)) == event.data
    decoded = codec.decode(event.data)
    assert (decoded.sequence, decoded.run_id, decoded.time.ToMilliseconds()) == (1, run(1).run_id, NOW_MS)
    assert decoded.run_terminal == codec.decode_terminal(finished.terminal)
    assert len(decoded.run_terminal.result.structured) == 50


async def test_the_first_run_that_is_kept_begins_where_nothing_may_go(store: Store) -> None:
    """Of the runs recorded in a stretch, the first that is unfinished or whose end is kept since later."""
    await add(store, session(1), session(2))
    finished = {"state": RunState.FINISHED}
    await add(
        store,
        run(1, first_sequence=3, kept_from_ms=100, **finished),
        run(2, first_sequence=5, kept_from_ms=200, **finished),
        run(3, first_sequence=7),
        run(4, first_sequence=2, session_id=TWO),
    )

    def kept(after: int, through: int, ended_after_ms: int | None) -> tuple[int, int | None] | None:
        return store.read(
            lambda tx: tx.first_kept(ONE, after=after, through=through, ended_after_ms=ended_after_ms)
        )

    assert kept(0, 10, 99) == kept(2, 3, 99) == (3, 100)
    assert kept(0, 10, 100) == kept(3, 10, 0) == (5, 200)
    assert kept(0, 10, 200) == kept(0, 10, None) == kept(0, 7, None) == (7, None)
    assert kept(0, 6, None) is kept(0, 2, 0) is kept(7, 10, 0) is None

    def behind(sequence: int) -> bool:
        return store.read(lambda tx: tx.has_run_behind(ONE, sequence))

    assert [behind(6), behind(7)] == [True, False]


async def test_the_last_terminal_is_the_newest_in_the_log(store: Store) -> None:
    """Whatever lies behind it, and whichever run it ends."""
    await add(store, session(1), run(1), run(2))
    assert store.read(lambda tx: tx.last_terminal(ONE)) == 0
    for number in (2, 1):
        await store.submit(lambda tx, of=number: tx.finish_run(run(of), terminal()))
    await say(store, "behind")
    assert store.read(lambda tx: tx.last_terminal(ONE)) == 2
    await store.submit(lambda tx: tx.remove_events(ONE, through=2, bytes_max=1 << 20))
    assert store.read(lambda tx: tx.last_terminal(ONE)) == 0


async def test_a_session_is_removed_piece_by_piece(store: Store) -> None:
    """Everything that hangs on it, its log at the end, then its row; nothing of another session."""
    await add(store, session(1), session(2))
    for number in (1, 2):
        of = session_id(number)
        await add(store, *(run(10 * number + each, session_id=of, input=b"in") for each in range(3)))
        await store.submit(lambda tx, of=of, n=number: tx.add_interrupt(interrupt(n, session_id=of)))
        await store.submit(lambda tx, of=of: [tx.append(of, created(), at_ms=NOW_MS) for _ in range(3)])

    async def step() -> int:
        return await store.submit(lambda tx: tx.remove_rows(ONE, limit=2, bytes_max=1 << 20))

    assert [await step() for _ in range(8)] == [2, 1, 1, 2, 1, 2, 1, 0]
    gone = store.read(lambda tx: tx.session(NAMESPACE, ONE))
    assert gone is not None
    await store.submit(lambda tx: tx.remove_session(gone))
    assert store.read(lambda tx: tx.session(NAMESPACE, ONE)) is None
    assert store.read(lambda tx: tx.run(NAMESPACE, run(10).run_id)) is None
    assert store.read(lambda tx: tx.interrupt(NAMESPACE, interrupt(1).interrupt_id)) is None
    kept = store.read(lambda tx: [tx.run(NAMESPACE, run(20 + each).run_id) for each in range(3)])
    assert [each and each.input for each in kept] == [b"in"] * 3
    assert store.read(lambda tx: tx.interrupt(NAMESPACE, interrupt(2).interrupt_id)) is not None
    assert len(store.read(lambda tx: tx.entries(TWO, after=START, **ALL))) == 3


async def test_a_session_on_which_something_hangs_is_not_removed(store: Store) -> None:
    """A run without its session would be found, and nothing about it be true."""
    await add(store, session(1), run(1))
    await refused(store, lambda tx: tx.remove_session(session(1)), sqlite3.IntegrityError)
    await refused(store, lambda tx: tx.remove_session(session(2)), KeyError)


async def test_pieces_are_bounded_by_bytes(store: Store) -> None:
    """Fewer rows go if they are large, and a single larger one goes alone."""
    await add(store, session(1), *(run(each, input=b"x" * 1_000) for each in range(3)))
    for expected in (2, 1):
        assert await store.submit(lambda tx: tx.remove_rows(ONE, limit=9, bytes_max=2_500)) == expected


async def test_a_removed_session_has_no_log(store: Store) -> None:
    """Nothing can be appended to it, though it was a moment ago."""
    await add(store, session(1))
    await say(store, "a")
    found = store.read(lambda tx: tx.session(NAMESPACE, ONE))
    assert found is not None
    await store.submit(lambda tx: tx.remove_rows(ONE, limit=9, bytes_max=1 << 20))
    await store.submit(lambda tx: tx.remove_session(found))
    await refused(store, lambda tx: tx.append(ONE, created(), at_ms=NOW_MS), KeyError)


async def test_an_id_of_a_removed_session_begins_anew(store: Store) -> None:
    """Nothing of it is remembered, though its change number is never given again."""
    await add(store, session(1))
    await store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS))
    found = store.read(lambda tx: tx.session(NAMESPACE, ONE))
    assert found is not None
    while await store.submit(lambda tx: tx.remove_rows(ONE, limit=9, bytes_max=1 << 20)):
        pass
    await store.submit(lambda tx: tx.remove_session(found))
    await add(store, session(1))
    assert store.read(lambda tx: tx.head(ONE)) == START
    assert change_number(store) == found.change_number + 1
