"""What every store promises of logs: sequences without a gap, places, pages and the output of a run."""

from __future__ import annotations

import pytest

from sessionplane.domain.errors import RunNotFound
from sessionplane.domain.events import Place
from sessionplane.store.contract import Store, Tx
from sessionplane.v1.session_service_pb2 import EventBatch
from tests.support.contract import ALL, ONE, START, add, log, refused, say
from tests.support.values import NAMESPACE, NOW_MS, created, delta, run, session, session_id


class TestLogs:
    async def test_sequences_are_one_more_each_time(self, store: Store) -> None:
        """Without a gap, within a use case and across them, for each session by itself."""
        await add(store, session(1), session(2))

        def use_case(tx: Tx) -> list[int]:
            return [tx.append(ONE, created(), at_ms=NOW_MS) for _ in range(70)]

        assert await store.submit(use_case) == list(range(1, 71))
        assert await store.submit(use_case) == list(range(71, 141))
        assert await store.submit(lambda tx: tx.append(session_id(2), created(), at_ms=NOW_MS)) == 1
        assert [each.sequence for each in log(store)] == list(range(1, 141))

    async def test_an_undone_use_case_leaves_no_gap(self, store: Store) -> None:
        """Its sequences are given again."""
        await add(store, session(1))

        def use_case(tx: Tx) -> None:
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.head(ONE)
            tx.append(ONE, created(), at_ms=NOW_MS)
            raise RunNotFound

        await refused(store, use_case, RunNotFound)
        await say(store, "x")
        assert [each.sequence for each in log(store)] == [1]

    async def test_joined_entries_are_a_batch(self, store: Store) -> None:
        """Concatenation is the frame of a stream."""
        await add(store, session(1))
        await say(store, "a", "b", "c")
        joined = b"".join(each.data for each in log(store))
        assert [each.output_delta.text for each in EventBatch.FromString(joined).events] == [
            "a",
            "b",
            "c",
        ]

    async def test_appending_to_an_unknown_session_is_refused(self, store: Store) -> None:
        """There is no log to move."""
        await refused(store, lambda tx: tx.append(ONE, created(), at_ms=NOW_MS), KeyError)
        with pytest.raises(KeyError):
            store.read(lambda tx: tx.head(ONE))

    async def test_reads_of_a_use_case_see_what_it_wrote(self, store: Store) -> None:
        """Head, row, entries and text, at any point of the transaction."""
        await add(store, session(1), run(1))

        def use_case(tx: Tx) -> None:
            tx.append(ONE, delta("ab"), at_ms=NOW_MS, run_id=run(1).run_id)
            found = tx.session(NAMESPACE, ONE)
            assert found is not None
            assert (found.head_sequence, tx.head(ONE).sequence) == (1, 1)
            tx.append(ONE, delta("cd"), at_ms=NOW_MS, run_id=run(1).run_id)
            assert tx.output_text(run(1, first_output_sequence=1), bytes_max=10) == ("abcd", True)
            assert [each.sequence for each in tx.entries(ONE, after=START, **ALL)] == [1, 2]
            assert tx.place(ONE, 2) == tx.head(ONE)

        await store.submit(use_case)

    async def test_every_place_of_a_log_is_known(self, store: Store) -> None:
        """From before the first event to the head, and none behind it."""
        await add(store, session(1))
        await say(store, "a", "b")
        entries = log(store)

        def place(sequence: int) -> Place | None:
            return store.read(lambda tx: tx.place(ONE, sequence))

        assert [place(0), place(1), place(2), place(3)] == [
            START,
            Place(1, entries[0].chain),
            Place(2, entries[1].chain),
            None,
        ]
        assert store.read(lambda tx: tx.head(ONE)) == place(2)
        assert store.read(lambda tx: tx.place(session_id(2), 0)) is None

    async def test_the_floor_is_the_first_place_that_is_known(self, store: Store) -> None:
        """What retention removed is no place any more."""
        await add(store, session(1))
        await say(store, "a", "b", "c")
        second = log(store)[1]
        await store.submit(lambda tx: tx.remove_events(ONE, through=2, bytes_max=1 << 20))
        assert store.read(lambda tx: tx.place(ONE, 2)) == Place(2, second.chain)
        assert store.read(lambda tx: tx.place(ONE, 1)) is None
        assert store.read(lambda tx: tx.place(ONE, 0)) is None

    async def test_entries_come_in_pages_behind_a_place(self, store: Store) -> None:
        """Bounded by number and by bytes; a single larger one comes alone."""
        await add(store, session(1))
        await say(store, "a", "b", "x" * 5_000, "c")
        entries = log(store)
        size = len(entries[0].data)

        def page(after: int, limit: int, bytes_max: int) -> list[int]:
            place = store.read(lambda tx: tx.place(ONE, after))
            assert place is not None
            found = store.read(lambda tx: tx.entries(ONE, after=place, limit=limit, bytes_max=bytes_max))
            assert found == entries[after : after + len(found)]
            return [each.sequence for each in found]

        assert page(0, 1, 1 << 20) == [1]
        assert page(0, 10, 2 * size) == [1, 2]
        assert page(0, 10, 2 * size - 1) == [1]
        assert page(2, 10, 10) == [3]
        assert page(4, 10, 1 << 20) == []

    async def test_output_is_the_run_s_own_deltas(self, store: Store) -> None:
        """In order, from the first output on, without other runs' and other events."""
        await add(store, session(1))
        await say(store, "early")
        await say(store, "no", number=2)
        await say(store, "größe ", "und")
        await store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS))
        await say(store, " mehr")
        text = store.read(lambda tx: tx.output_text(run(1, first_output_sequence=2), bytes_max=100))
        assert text == ("größe und mehr", True)
        assert store.read(lambda tx: tx.output_text(run(1), bytes_max=100)) == ("", True)

    @pytest.mark.parametrize(
        ("bytes_max", "expected"),
        [(7, ("aé€", False)), (6, ("aé€", False)), (5, ("aé", False)), (2, ("a", False)), (0, ("", False))],
    )
    async def test_output_is_cut_between_two_characters(
        self, store: Store, bytes_max: int, expected: tuple[str, bool]
    ) -> None:
        """The bound is bytes of UTF-8, and half a character is none."""
        await add(store, session(1))
        await say(store, "aé", "€𝄞")
        found = store.read(lambda tx: tx.output_text(run(1, first_output_sequence=1), bytes_max=bytes_max))
        assert found == expected

    async def test_output_that_fits_exactly_is_whole(self, store: Store) -> None:
        """The bound itself is within the bound."""
        await add(store, session(1))
        await say(store, "aé", "€")
        found = store.read(lambda tx: tx.output_text(run(1, first_output_sequence=1), bytes_max=6))
        assert found == ("aé€", True)
